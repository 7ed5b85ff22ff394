"""Headers of captures: what a file says of itself, and what a damaged one must not do."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from defocus_ds.config import LimitsConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.simulate.cr2 import CaptureTags, cr2_bytes
from defocus_ds.stages.ingest.header import read_header
from defocus_ds.stages.ingest.source import ByteSource
from defocus_ds.stages.ingest.tiff import Tiff

TAGS = CaptureTags(
    taken=datetime(2024, 5, 1, 10, 20, 30),
    file_number=4711,
    exposure_s=1 / 125,
    iso=400,
    f_number=5.6,
    focal_length_mm=85,
    lens="EF85mm f/1.8 USM",
    serial=123456,
    focus_distance_upper_m=1.5,
    focus_distance_lower_m=1.25,
    white_balance=(2048, 1024, 1024, 1536),
)


@pytest.fixture(scope="module")
def cr2() -> bytes:
    mosaic = np.full((240, 320), 2048, np.uint16)
    mosaic[80:, 122:-2] = 6000
    return cr2_bytes(mosaic, info=TAGS)


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(CaptureUnreadable) as caught:
        read_header(path)
    text = str(caught.value)
    assert text.startswith(f"{path.name}: ")
    assert "\n" not in text
    return text


def tiff(data: bytes) -> Tiff:
    return Tiff(ByteSource(BytesIO(data), name="x.tif", start=0, size=len(data)))


def directory(*entries: tuple[int, int, int, int]) -> bytes:
    parts = [struct.pack("<H", len(entries))]
    parts += [struct.pack("<HHII", *entry) for entry in entries]
    return b"".join([*parts, bytes(4)])


def test_a_cr2_gives_back_every_field_it_was_written_with(tmp_path: Path, cr2: bytes) -> None:
    path = tmp_path / "IMG_4711.CR2"
    path.write_bytes(cr2)
    header = read_header(path)
    info = header.info
    assert (info.kind, info.width, info.height, info.bits) == ("raw", 196, 160, 14)
    assert (info.make, info.model) == ("Canon", "Canon EOS 5D Mark III")
    assert (info.serial, info.lens) == ("000000123456", "EF85mm f/1.8 USM")
    assert (info.focal_length_mm, info.iso, info.f_number) == (85.0, 400, 5.6)
    assert info.exposure_s == 1 / 125
    assert info.taken == "2024-05-01T10:20:30"
    assert info.file_number == 1004711
    assert info.focus_distance_m == (1.5, 1.25)
    assert info.white_balance == (2.0, 1.0, 1.5)
    assert (info.black, info.white) == (2048, 15488)
    assert header.raw_size == (320, 240)
    assert header.remarks == ()
    assert header.preview is not None
    at, size = header.preview
    assert cv2.imdecode(np.frombuffer(cr2[at : at + size], np.uint8), 1).shape == (30, 40, 3)


def test_infinite_focus_is_what_the_lens_reports(tmp_path: Path) -> None:
    tags = replace(TAGS, focus_distance_upper_m=700.0, focus_distance_lower_m=80.0)
    path = tmp_path / "a.CR2"
    path.write_bytes(cr2_bytes(np.full((240, 320), 2048, np.uint16), info=tags))
    assert read_header(path).info.focus_distance_m == (655.35, 80.0)


def test_text_of_a_damaged_header_stays_on_its_line(tmp_path: Path, cr2: bytes) -> None:
    damaged = cr2.replace(b"EF85mm f/1.8 USM", b"EF85\n f\x1b[2J \x7fUSM")
    assert damaged != cr2
    (tmp_path / "a.CR2").write_bytes(damaged)
    lens = read_header(tmp_path / "a.CR2").info.lens
    assert lens == "EF85\ufffd f\ufffd[2J \ufffdUSM"


def test_every_truncation_of_a_cr2_is_refused(tmp_path: Path, cr2: bytes) -> None:
    for keep in (1, 7, 15, 16, 200, 1000, 3000, len(cr2) // 2, len(cr2) - 2):
        text = refused(tmp_path / "cut.CR2", cr2[:keep])
        assert "opy" in text or "renamed" in text


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.CR2", b"", "empty (0 bytes)"),
        ("note.CR2", b"Dear diary, today I shot brackets.\n", "not a CR2 file"),
        ("empty.jpg", b"", "empty (0 bytes)"),
        ("note.png", b"Dear diary", "not a JPEG, PNG or TIFF file"),
        ("note.dng", b"Dear diary", "no TIFF header"),
        ("zeros.CR2", bytes(4096), "not a CR2 file"),
        ("big.tif", b"II+\0\x08\0\0\0" + bytes(32), "BigTIFF is not read"),
    ],
)
def test_files_that_are_not_what_they_are_named(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    assert says in refused(tmp_path / name, data)


def test_a_damaged_cr2_says_which_part_is_wrong(tmp_path: Path, cr2: bytes) -> None:
    path = tmp_path / "bad.CR2"
    sof = cr2.rindex(b"\xff\xc3\x00\x0e\x0e")

    def patched(at: int, data: bytes) -> bytes:
        return cr2[:at] + data + cr2[at + len(data) :]

    slices = cr2.index(struct.pack("<HHI", 0xC640, 3, 3))
    slices_at = struct.unpack_from("<I", cr2, slices + 8)[0]
    assert "do not add up to the raw width 320" in refused(path, patched(slices_at, b"\2"))
    assert "no lossless frame header" in refused(path, patched(sof, b"\xff\xda"))
    assert "sRAW" in refused(path, patched(sof + 9, b"\3"))
    strip = cr2.rindex(b"\xff\xd8", 0, sof)
    assert "do not start as lossless JPEG" in refused(path, patched(strip, b"\0"))
    end = cr2.rindex(b"\xff\xd9")
    assert "do not end with a JPEG end mark" in refused(path, patched(end, b"\0\0"))
    model = cr2.index(b"Canon EOS 5D Mark III")
    assert "no camera model" in refused(path, patched(model, bytes(21)))
    assert "one of them is wrong" in refused(path, patched(model, b"Canon EOS 5D Mark II\0"))
    colours = cr2.index(struct.pack("<HHI", 0x4001, 3, 1312))
    balance = struct.unpack_from("<I", cr2, colours + 8)[0] + 2 * 0x3F
    assert "no white balance" in refused(path, patched(balance, bytes(8)))
    tall = patched(sof + 5, struct.pack(">HH", 60000, 30000))
    assert "3600.0 megapixels (limit 200)" in refused(
        path, tall[:slices_at] + struct.pack("<HHH", 1, 30000, 30000) + tall[slices_at + 6 :]
    )


def test_the_size_limit_is_the_one_asked_for(tmp_path: Path, cr2: bytes) -> None:
    path = tmp_path / "a.CR2"
    path.write_bytes(cr2)
    with pytest.raises(CaptureUnreadable, match="limit 0.05"):
        read_header(path, limits=LimitsConfig(max_megapixels=0.05))
    assert read_header(path, limits=LimitsConfig(max_megapixels=0.08)).info.width == 196


def test_a_damaged_makernote_is_a_remark_where_it_is_not_needed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon PowerShot"
    exif.get_ifd(0x8769)[0x927C] = b"\xff\xff garbage that is no directory"
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30), (90, 80, 70)).save(path, exif=exif)
    header = read_header(path)
    assert header.info.model == "Canon PowerShot"
    assert len(header.remarks) == 1
    assert "makernote left out" in header.remarks[0]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_damage_to_a_header_does_anything_but_read_or_refuse(
    tmp_path: Path, cr2: bytes, edits: list[tuple[int, int]]
) -> None:
    data = bytearray(cr2)
    for at, value in edits:
        data[at] = value
    path = tmp_path / "fuzz.CR2"
    path.write_bytes(data)
    try:
        info = read_header(path).info
    except CaptureUnreadable as error:
        assert str(error).startswith("fuzz.CR2: ")
    else:
        assert info.width * info.height <= 200e6


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".jpg", ".png", ".tif", ".nef"]))
def test_random_bytes_are_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    start = {".jpg": b"\xff\xd8\xff", ".png": b"\x89PNG\r\n\x1a\n", ".tif": b"II*\0"}
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(start.get(suffix, b"MM\0*") + data)
    with contextlib.suppress(CaptureUnreadable):
        assert read_header(path).info.width == 0  # a TIFF-based raw may hold nothing but a tag


def test_a_declared_length_allocates_nothing() -> None:
    data = b"II*\0\x08\0\0\0" + directory((256, 4, 2**30, 8), (257, 3, 2, 500))
    found = tiff(data).directory(8)
    with pytest.raises(CaptureUnreadable, match="declared 4294967296 bytes"):
        found.integers(256)
    assert found.integers(257) == (500, 0)
    with pytest.raises(CaptureUnreadable, match="should be bytes"):
        tiff(b"II*\0\x08\0\0\0" + b"\xff\xff").directory(8)


def test_both_byte_orders_and_rationals() -> None:
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        data = mark + struct.pack(order + "I", 8)
        data += struct.pack(order + "HHHIIHHIII", 2, 0x829A, 5, 1, 38, 0x829D, 5, 1, 46, 0)
        data += struct.pack(order + "IIII", 1, 250, 28, 0)
        found = tiff(data).directory(8)
        assert found.number(0x829A) == 1 / 250
        assert found.number(0x829D) is None  # a zero below


def test_jpeg_exif_and_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Model X", 6
    ifd = exif.get_ifd(0x8769)
    ifd[0x829A], ifd[0x829D], ifd[0x8827], ifd[0x920A] = 0.01, 2.8, 800, 35.0
    ifd[0x9003], ifd[0x9291], ifd[0xA434] = "2023:01:02 03:04:05", "70", "35mm F2"
    path = tmp_path / "a.jpeg"
    Image.new("RGB", (64, 48), (90, 80, 70)).save(path, exif=exif)
    header = read_header(path)
    assert (header.info.width, header.info.height, header.orientation) == (64, 48, 6)
    assert header.info.taken == "2023-01-02T03:04:05.70"
    assert (header.info.iso, header.info.lens) == (800, "35mm F2")
    assert header.info.exposure_s == pytest.approx(0.01)
    assert header.info.focal_length_mm == 35.0
    assert "truncated" in refused(path, path.read_bytes()[:-30])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_png_and_tiff_size_depth_and_alpha(
    tmp_path: Path, dtype: type[np.generic], channels: int, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    shape = (20, 30) if channels == 1 else (20, 30, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    assert cv2.imwrite(str(path), pixels)
    header = read_header(path)
    bits = 8 * np.dtype(dtype).itemsize
    assert (header.info.width, header.info.height, header.info.bits) == (30, 20, bits)
    assert any("alpha" in r for r in header.remarks) == (channels == 4)
    refused(path, path.read_bytes()[: path.stat().st_size // 2])


def test_floating_point_tiff_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), np.zeros((8, 8), np.float32))
    assert "Convert it" in refused(path, path.read_bytes())


def test_real_canon_jpegs(real_data: Path) -> None:
    """Values as exiftool 12.57 prints them."""
    header = read_header(real_data / "canon" / "_K6A7941.JPG")
    info = header.info
    assert (info.width, info.height, info.bits, header.orientation) == (5760, 3840, 8, 1)
    assert (info.model, info.serial) == ("Canon EOS 5D Mark III", "302022000566")
    assert info.lens == "EF28-135mm f/3.5-5.6 IS USM"
    assert (info.exposure_s, info.f_number, info.iso) == (1 / 160, 5.6, 320)
    assert (info.focal_length_mm, info.taken) == (135.0, "2023-09-01T17:19:26.73")
    assert info.focus_distance_m == (0.47, 0.40)
    assert info.white_balance == (2208 / 1024, 1.0, 1376 / 1024)
    assert (info.black, info.white) == (2048, 11900)  # levels 2047 2047 2048 2048
    sizes = {
        f"_K6A794{n}.JPG": read_header(real_data / "canon" / f"_K6A794{n}.JPG") for n in range(2, 7)
    }
    assert [h.info.width for h in sizes.values()] == [5760, 3840, 2880, 1920, 720]
    assert [h.orientation for h in sizes.values()] == [1, 6, 6, 8, 6]


def test_real_truncated_cr2s(real_data: Path) -> None:
    with pytest.raises(CaptureUnreadable, match="bytes 3604996 to 22331531.* only 97952"):
        read_header(real_data / "canon" / "canon.raw.cr2")
    with pytest.raises(CaptureUnreadable, match="do not start as lossless JPEG"):
        read_header(real_data / "canon" / "CanonRaw.cr2")
