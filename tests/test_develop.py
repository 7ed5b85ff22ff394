"""One recipe for a bracket, decoded in a process that may die without harm."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from defocus_ds.config import DevelopConfig, LimitsConfig
from defocus_ds.errors import CaptureUnreadable, DevelopFailed, WorkerDied
from defocus_ds.frames import Bracket, Capture, Level, UInt8Image
from defocus_ds.optics import Transfer, to_encoded
from defocus_ds.simulate.cr2 import CaptureTags, cr2_bytes
from defocus_ds.stages.decode_image import to_uint8_rgb
from defocus_ds.stages.decode_raw import inspect
from defocus_ds.stages.decoding import Decoder, run_decoder
from defocus_ds.stages.develop import DevelopRecord, develop, plan_development
from defocus_ds.stages.ingest import read_header, scan

TAGS = CaptureTags(taken=datetime(2024, 5, 1, 10, 0, 0))
FIXED = DevelopConfig()
LIMITS = LimitsConfig()
SIZE = (480, 320)  # raw: 604x400


def mosaic(
    light: float | np.ndarray, *, tags: CaptureTags = TAGS, black: int = 2048, seed: int = 0
) -> np.ndarray:
    """A sensor that sees grey light of [0, 1] under the tags' white balance."""
    rng = np.random.default_rng(seed)
    raw = np.round(black + rng.normal(0, 6, (400, 604)))
    gains = np.array([[tags.white_balance[0], 1024], [1024, tags.white_balance[3]]]) / 1024
    signal = np.broadcast_to(light, (320, 480)) * 13440 / np.tile(gains, (160, 240))
    raw[80:, 122:-2] = 2048 + np.round(signal)
    return np.clip(raw, 0, 15488).astype(np.uint16)


def write(path: Path, raw: np.ndarray, tags: CaptureTags = TAGS) -> Capture:
    path.write_bytes(cr2_bytes(raw, info=tags))
    return capture(path)


def capture(path: Path, level: Level = Level.SHARP) -> Capture:
    return Capture(path, level, level.offset, read_header(path).info)


def developed(
    one: Capture, *, like: Capture | None = None, config: DevelopConfig = FIXED
) -> tuple[UInt8Image, DevelopRecord]:
    """Develop a capture by the plan of a bracket whose sharp frame is ``like``."""
    plan = plan_development(Bracket("s", (like or one,)), config)
    target = one.path.with_suffix(".npy")
    record = develop(one, development=plan, limits=LIMITS, target=target)
    return np.load(target, allow_pickle=False), record


def test_grey_light_becomes_the_grey_of_the_stated_curve(tmp_path: Path) -> None:
    steps = np.repeat(np.linspace(0.02, 0.9, 12), 40)
    image, record = developed(write(tmp_path / "a.CR2", mosaic(steps[None])))
    assert image.shape == (SIZE[1], SIZE[0], 3)
    expected = to_encoded(steps, Transfer.BT709) * 255
    inner = (np.arange(480) % 40 > 8) & (np.arange(480) % 40 < 32)  # away from the steps
    difference = image[20:-20].astype(float) - expected[None, :, None]
    assert np.abs(difference[:, inner]).max() <= 1.0
    assert (record.width, record.height, record.transfer) == (*SIZE, "bt709")
    assert record.black_measured == (2048,) * 4
    assert record.white_balance_read == (1956, 1024, 1626, 1024)
    assert (record.white_level, record.demosaic) == (15488, "AHD")


def test_the_hashes_are_those_of_the_file_and_the_pixels(tmp_path: Path) -> None:
    one = write(tmp_path / "a.CR2", mosaic(0.3))
    image, record = developed(one)
    assert record.source_sha256 == hashlib.sha256(one.path.read_bytes()).hexdigest()
    assert record.pixels_sha256 == hashlib.sha256(image.tobytes()).hexdigest()
    assert json.loads(json.dumps(record.to_record()))["libraw"].count(".") == 2


def test_the_fixed_recipe_does_not_see_other_white_balance_or_masked_pixels(
    tmp_path: Path,
) -> None:
    light = np.random.default_rng(2).uniform(0, 0.7, (320, 480))
    sharp = write(tmp_path / "sharp.CR2", mosaic(light))
    other_tags = replace(TAGS, white_balance=(2400, 1024, 1024, 1200), white=12000)
    raw = mosaic(light, black=2060, seed=9)  # same picture, other masked border
    low = write(tmp_path / "low.CR2", raw, other_tags)
    a, first = developed(sharp)
    b, second = developed(low, like=sharp)
    assert second.black_measured != first.black_measured
    assert second.white_balance_read != first.white_balance_read
    assert np.array_equal(a, b)
    free = DevelopConfig(recipe="libraw-defaults")
    a, first = developed(sharp, config=free)
    b, second = developed(low, like=sharp, config=free)
    assert not np.array_equal(a, b)


def test_the_fixed_recipe_keeps_a_change_of_light_that_libraw_would_level(
    tmp_path: Path,
) -> None:
    light = np.random.default_rng(2).uniform(0.05, 0.5, (20, 30)).repeat(16, 0).repeat(16, 1)
    bright = write(tmp_path / "bright.CR2", mosaic(light))
    dark = write(tmp_path / "dark.CR2", mosaic(light / 2))

    def ratio(config: DevelopConfig) -> float:
        a, b = (developed(one, like=bright, config=config)[0] for one in (bright, dark))
        return float(b.mean() / a.mean())

    curve = float(to_encoded(light / 2, Transfer.BT709).mean())
    expected = curve / float(to_encoded(light, Transfer.BT709).mean())
    assert ratio(FIXED) == pytest.approx(expected, abs=0.01)
    assert ratio(DevelopConfig(recipe="libraw-defaults")) > expected + 0.1


def test_the_plan_is_that_of_the_sharp_frame(tmp_path: Path) -> None:
    one = write(tmp_path / "a.CR2", mosaic(0.3))
    plan = plan_development(Bracket("s", (one,)), DevelopConfig(demosaic="LINEAR"))
    assert plan.to_record() == {
        "kind": "raw",
        "recipe": "fixed",
        "demosaic": "LINEAR",
        "white_balance": (1956 / 1024, 1.0, 1626 / 1024),
        "black_levels": (2048,) * 4,
        "black": 2048,
        "white": 15488,
        "transfer": "bt709",
    }
    blind = replace(one, info=replace(one.info, white_balance=None))
    with pytest.raises(DevelopFailed, match=r"a\.CR2: the sharp capture of s has the white bal"):
        plan_development(Bracket("s", (blind,)), FIXED)


def test_a_wrong_black_level_is_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.CR2", mosaic(0.3, black=2100))
    with pytest.raises(DevelopFailed, match=r"a\.CR2: the masked .* \[2100, .*need 2048 \+- 32"):
        developed(one)
    told = write(tmp_path / "b.CR2", mosaic(0.3), replace(TAGS, black=1900))
    with pytest.raises(DevelopFailed, match=r"b\.CR2: LibRaw reads black levels \[1900, "):
        developed(told)
    assert not one.path.with_suffix(".npy").exists()
    assert list(tmp_path.glob(".tmp-*")) == []


@pytest.mark.parametrize("left", [0, 2, 4])
def test_a_picture_that_leaves_no_masked_pixels_is_refused(tmp_path: Path, left: int) -> None:
    path = tmp_path / "a.CR2"
    data = bytearray(cr2_bytes(mosaic(0.3), info=TAGS))
    sensor = data.index(struct.pack("<HH", 0x00E0, 3))
    (at,) = struct.unpack_from("<I", data, sensor + 8)
    (width,) = struct.unpack_from("<H", data, at + 2)
    assert (width, *struct.unpack_from("<H", data, at + 10)) == (604, 122)
    struct.pack_into("<H", data, at + 10, left)
    path.write_bytes(data)
    with pytest.raises(
        DevelopFailed, match=rf"a\.CR2: the picture starts at column {left}, .*mask"
    ):
        developed(capture(path))


def test_sizes_that_contradict_the_header_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.CR2", mosaic(0.3))
    with pytest.raises(CaptureUnreadable, match="decodes to 480x320, but its header says 481x320"):
        developed(replace(one, info=replace(one.info, width=481)))


@pytest.mark.parametrize("suffix", [".CR2", ".jpg", ".png", ".tif"])
def test_a_capture_damaged_after_the_scan_fails_with_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".CR2":
        write(path, mosaic(0.3))
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        assert cv2.imwrite(str(path), pixels)
    one = capture(path)
    plan = plan_development(Bracket("s", (one,)), FIXED)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CaptureUnreadable) as caught:
        develop(one, development=plan, limits=LIMITS, target=tmp_path / "a.npy")
    assert str(caught.value).startswith(path.name)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 2000] ^= 4
    path.write_bytes(data)
    with pytest.raises(CaptureUnreadable, match="PNG chunk IDAT .* does not match its checksum"):
        developed(capture(path))


def test_a_decoder_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    one = write(tmp_path / "a.CR2", mosaic(0.3))
    plan = plan_development(Bracket("s", (one,)), FIXED)
    limits = LimitsConfig(decode_timeout_s=0.01)
    with pytest.raises(WorkerDied, match=r"a\.CR2: decoding took longer than 0\.01 s"):
        develop(one, development=plan, limits=limits, target=tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()


def test_a_decoder_that_wants_too_much_memory_dies_alone(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    assert cv2.imwrite(str(path), np.zeros((14000, 12000, 3), np.uint8))  # 504 MB, 1 MB as PNG
    one = capture(path)
    plan = plan_development(Bracket("s", (one,)), FIXED)
    with pytest.raises(WorkerDied, match=r"wide\.png: the decoder .* its limit being 500 MB"):
        develop(
            one,
            development=plan,
            limits=LimitsConfig(decode_memory_mb=500),
            target=tmp_path / "a.npy",
        )


def test_a_fault_of_the_decoder_is_not_called_a_lack_of_memory(tmp_path: Path) -> None:
    one = write(tmp_path / "a.CR2", mosaic(0.3))
    with pytest.raises(WorkerDied, match=r"a\.CR2: .* failed with KeyError: 'expected_") as caught:
        run_decoder(
            "develop", one.path, limits=LIMITS, kind="raw", development={}, size=[0, 0], target=""
        )
    assert "memory" not in str(caught.value)


def test_a_decoder_does_one_job_after_the_other(tmp_path: Path) -> None:
    one = write(tmp_path / "a.CR2", mosaic(0.3))
    (tmp_path / "b.CR2").write_bytes(one.path.read_bytes()[:4000])
    with Decoder(LIMITS) as decoder:
        first = decoder.run("inspect", one.path)
        with pytest.raises(CaptureUnreadable, match=r"b\.CR2"):
            decoder.run("inspect", tmp_path / "b.CR2")
        with pytest.raises(WorkerDied, match="failed with KeyError"):
            decoder.run("no such action", one.path)
        assert decoder.run("inspect", one.path) == first
    assert (first["width"], first["height"]) == SIZE


@pytest.mark.parametrize(
    ("death", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"died \(signal SIGSEGV\), its limit being 3000"),
        ("raise RuntimeError('no such thing')", r"exit status 1, RuntimeError: no such thing"),
        ("time.sleep(60)", r"took longer than 1 s and was stopped"),
    ],
)
def test_a_decoder_that_dies_names_the_file_it_was_at_and_starts_again(
    monkeypatch: pytest.MonkeyPatch, death: str, says: str
) -> None:
    script = (
        "import json, os, signal, sys, time\n"
        "for line in sys.stdin:\n"
        "    for name in json.loads(line)['names']:\n"
        "        print(json.dumps({'at': name}), flush=True)\n"
        f"        if name == 'bad.CR2': {death}\n"
        "    print(json.dumps({'result': {'done': True}}), flush=True)\n"
    )
    monkeypatch.setattr("defocus_ds.stages.decoding._COMMAND", (sys.executable, "-c", script))
    with Decoder(LimitsConfig(decode_timeout_s=1.0)) as decoder:
        for _ in range(2):
            with pytest.raises(WorkerDied, match=rf"^bad\.CR2: .*{says}"):
                decoder.run("x", Path("first.CR2"), names=["first.CR2", "bad.CR2", "last.CR2"])
        assert decoder.run("x", Path("a.CR2"), names=["a.CR2", "b.CR2"]) == {"done": True}


def test_a_rawpy_that_tells_neither_exposure_nor_lens_is_enough() -> None:
    sizes = SimpleNamespace(width=30, height=20)
    raw = SimpleNamespace(sizes=sizes, camera_whitebalance=[512, 256, 384, 0], white_level=1023)
    found = inspect(raw)
    assert (found["width"], found["height"], found["bits"], found["white"]) == (30, 20, 10, 1023)
    assert found["white_balance"] == [2.0, 1.0, 1.5]
    silent = ("iso", "exposure_s", "f_number", "focal_length_mm", "taken", "lens")
    assert [found[name] for name in silent] == [None] * 6
    raw.other = SimpleNamespace(iso_speed=0.0, shutter_speed=0.5, timestamp=datetime(2024, 5, 1))
    assert inspect(raw)["exposure_s"] == 0.5
    assert inspect(raw)["taken"] == "2024-05-01T00:00:00"
    assert inspect(raw)["iso"] is None


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_become_8_bit_rgb(
    tmp_path: Path, suffix: str, dtype: type[np.generic], channels: int
) -> None:
    path = tmp_path / f"a{suffix}"
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(1).integers(0, top, (24, 32, channels), dtype, endpoint=True)
    assert cv2.imwrite(str(path), pixels[..., 0] if channels == 1 else pixels)
    image, record = developed(capture(path))
    rgb = pixels[..., [0, 0, 0]] if channels == 1 else pixels[..., 2::-1]
    assert np.array_equal(image, np.round(rgb * (255 / float(top))))
    assert record.transfer == "srgb"
    assert record.black_measured is None


def test_16_bits_round_to_the_nearest_of_8() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    exact = np.round(every.astype(np.float64) * 255 / 65535)
    assert np.array_equal(to_uint8_rgb(every)[..., 1], exact)


def test_jpeg_pixels_are_as_stored_whatever_the_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32] = (200, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image, _ = developed(capture(tmp_path / "a.jpg"))
    assert image.shape == (32, 64, 3)
    assert np.abs(image[16, 8].astype(int) - (200, 40, 40)).max() <= 4
    Image.fromarray(pixels[..., 0]).save(tmp_path / "b.jpg")
    grey, _ = developed(capture(tmp_path / "b.jpg"))
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_every_simulated_capture_of_a_bracket_develops(small_shoot: Path, tmp_path: Path) -> None:
    bracket = scan(small_shoot).brackets[0]
    plan = plan_development(bracket, FIXED)
    records = [
        develop(one, development=plan, limits=LIMITS, target=tmp_path / f"{one.level}.npy")
        for one in bracket
    ]
    assert {(r.width, r.height) for r in records} == {(bracket.sharp.info.width, 496)}
    assert len({r.pixels_sha256 for r in records}) == 4


def test_a_real_raw_of_another_camera_gets_its_levels_from_libraw(
    real_data: Path, tmp_path: Path
) -> None:
    source = tmp_path / "CRW_0113.CRW"
    source.write_bytes((real_data / "canon" / source.name).read_bytes())
    found = scan(tmp_path)
    assert "1 capture " in str(found.errors[0])  # its time is known from rawpy 0.27 on
    one = capture(source)
    plan = plan_development(Bracket("s", (one,)), FIXED)
    assert (plan.black_levels, plan.white) == ((32,) * 4, 1023)
    assert plan.white_balance == pytest.approx((1819 / 990, 1.0, 1794 / 990))
    image, record = developed(one)
    assert image.shape == (1720, 2312, 3)
    assert 40 < image.mean() < 160
    assert record.white_balance_read == (1819, 990, 1794, 990)


_HANGS = """
import sys
from pathlib import Path
from defocus_ds.config import LimitsConfig
from defocus_ds.stages.decoding import Decoder

with Decoder(LimitsConfig()) as decoder:
    print(decoder._start().pid, flush=True)
    decoder.run("inspect", Path(sys.argv[1]))
"""


def runs(process: int) -> bool:
    """Whether it is there and not dead, waited for by nobody."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_a_decoder_ends_with_its_build(tmp_path: Path) -> None:
    fifo = tmp_path / "never.CR2"
    os.mkfifo(fifo)  # reading it takes as long as nobody writes
    with subprocess.Popen(
        [sys.executable, "-c", _HANGS, str(fifo)], stdout=subprocess.PIPE, text=True
    ) as build:
        assert build.stdout is not None
        decoder = int(build.stdout.readline())
        time.sleep(1)
        assert runs(decoder)
        build.kill()
    deadline = time.monotonic() + 20
    while runs(decoder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(decoder)
