"""Damaged captures: read, refused in one line, or nothing else; and never much memory."""

from __future__ import annotations

import io
import sys
import tracemalloc
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import complaint, edited, edits, fuzzed, nothing_runs
from PIL import Image

from defocus_ds.config import DevelopConfig, LimitsConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import Bracket, Capture, Level
from defocus_ds.simulate.cr2 import CaptureTags, cr2_bytes
from defocus_ds.stages import decoding
from defocus_ds.stages.develop import develop, plan_development
from defocus_ds.stages.ingest import read_header, scan

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz_captures  # noqa: E402
from fuzz_kinds import KINDS, damaged, huge_size  # noqa: E402
from fuzz_seeds import Seed  # noqa: E402

LIMITS = LimitsConfig()
SUFFIXES = (".CR2", ".tif", ".png", ".jpg")


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """A sound capture of every kind, by suffix."""
    rng = np.random.default_rng(1)
    raw = np.round(2048 + rng.normal(0, 6, (240, 364))).astype(np.uint16)
    raw[80:, 122:-2] += rng.integers(500, 9000, (20, 30)).repeat(8, 0).repeat(8, 1).astype("u2")
    found = {".CR2": cr2_bytes(raw, info=CaptureTags(taken=datetime(2024, 5, 1)))}
    picture = Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    for suffix, kind in ((".tif", "TIFF"), (".png", "PNG"), (".jpg", "JPEG")):
        file = io.BytesIO()
        picture.save(file, kind, exif=exif)
        found[suffix] = file.getvalue()
    return found


def read_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        with nothing_runs():
            header = read_header(path)
    except CaptureUnreadable as error:
        assert complaint(error).startswith(f"{path.name}: ")
    else:
        assert header.info.width * header.info.height <= LIMITS.max_megapixels * 1e6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_to_a_header_is_read_or_refused(
    tmp_path: Path, whole: dict[str, bytes], suffix: str
) -> None:
    @fuzzed(70)
    @given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 2**32 - 1))
    def of_a_kind(kind: str, seed: int) -> None:
        data = damaged(kind, whole[suffix], np.random.default_rng(seed))
        if data is not None:
            read_or_refuse(tmp_path / f"a{suffix}", data)

    @fuzzed(40)
    @given(changes=edits())
    def of_any_kind(changes: tuple[tuple[str, float, bytes], ...]) -> None:
        head, rest = whole[suffix][:2048], whole[suffix][2048:]
        read_or_refuse(tmp_path / f"b{suffix}", edited(head, changes) + rest)

    of_a_kind()
    of_any_kind()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_capture_that_declares_30000x30000_is_refused_before_anything_is_allocated(
    tmp_path: Path, whole: dict[str, bytes], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = huge_size(bytearray(whole[suffix]))
    assert data is not None
    path = tmp_path / f"wide{suffix}"
    path.write_bytes(data)
    says = r"^wide\.\w+: 30000x30000 .*900\.0 megapixels \(limit 200\)"
    tracemalloc.start()
    try:
        with pytest.raises(CaptureUnreadable, match=says):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + 2**20
    finally:
        tracemalloc.stop()

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a decoder was started")

    monkeypatch.setattr(decoding.subprocess, "Popen", start)
    [said] = [c for c in scan(tmp_path).complaints if c.where == path.name]
    assert said.message.startswith("30000x30000 ")


def test_damage_among_the_samples_is_laid_to_the_file(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """LibRaw finds it only when it unpacks, which rawpy does where one would not think so."""
    path = tmp_path / "a.CR2"
    path.write_bytes(whole[".CR2"])
    one = Capture(path, Level.SHARP, 0, read_header(path).info)
    plan = plan_development(Bracket("s", (one,)), DevelopConfig())
    data = bytearray(whole[".CR2"])
    data[-30_000:-20_000] = bytes(10_000)
    path.write_bytes(data)
    with pytest.raises(CaptureUnreadable, match=r"^a\.CR2: LibRaw cannot decode it \(.*ata error"):
        develop(one, development=plan, limits=LIMITS, target=tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()


def test_the_benchmark_tells_what_became_of_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    paths = []
    for name in ("sharp", "low"):
        paths.append(tmp_path / f"{name}.tif")
        picture = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(picture).save(paths[-1])
    data = paths[0].read_bytes()
    flipped = data.replace(picture_row := data[3000:3004], bytes(4), 1)
    assert picture_row != bytes(4)
    seed = Seed(paths[0], paths[1], 1)
    (tmp_path / "work").mkdir()
    intact = np.asarray(Image.open(paths[0]))
    made = [("none", data), ("1 to 16 bytes", flipped), ("truncated", data[:2000])]
    cases = fuzz_captures.judge(seed, made, tmp_path / "work", intact)
    assert [case.outcome for case in cases] == ["unharmed", "undetected", "refused"]
    assert 0 < cases[1].changed < 0.01
    assert cases[2].message.startswith("c2.tif: ")
    text = fuzz_captures.report(cases, {"largest worker, MB": 1, "seconds": 1}, {})
    assert "| truncated | 1 | 1 | 0 | 0 |" in text
    assert "| 1 to 16 bytes | 1 | 0 | 0 | 1 |" in text
