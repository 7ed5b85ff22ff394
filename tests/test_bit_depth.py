"""Twelve bits in sixteen are named, refused until someone says which value is white, then right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from scenes import textured
from test_decode_image import png

from defocus_ds.config import ConfigError, load_config
from defocus_ds.dataset.importers import ImportOptions, import_images
from defocus_ds.errors import CaptureUnreadable, DatasetError, InputError
from defocus_ds.optics import blur_disk, to_encoded
from defocus_ds.pipeline.pair import load_pair
from defocus_ds.stages.bit_depth import few_bits
from defocus_ds.stages.ingest import survey
from defocus_ds_cli.main import cli
from defocus_ds_train.restore_photo import read_photo

Frames = list[np.ndarray]
CODES = ("original", "lbc", "mbc", "hbc")


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Four encoded captures in [0, 1], the brightest pixel of the sharp one white."""
    light = textured((320, 240), 4)
    return [np.asarray(to_encoded(blur_disk(light / light.max(), r))) for r in (0, 1.5, 3, 5)]


def bracket(folder: Path, frames: Frames, top: int, *, scene: str = "tea") -> Path:
    folder.mkdir(exist_ok=True)
    for code, frame in zip(CODES, frames, strict=True):
        pixels = np.round(frame * top).astype(np.uint16)
        tifffile.imwrite(folder / f"{scene}_{code}.tif", pixels, photometric="rgb")
    return folder


@pytest.mark.parametrize(("top", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14)])
def test_scan_refuses_few_bits_and_says_what_to_give(
    tmp_path: Path, frames: Frames, top: int, bits: int
) -> None:
    (error,) = survey(bracket(tmp_path, frames, top)).shoot.errors
    assert error.message.startswith(
        f"the highest value in all captures is {top} of 65535: {bits}-bit data? "
        f"Give --set develop.white={top};"
    )
    for white in (top, 65535):
        assert survey(tmp_path, white=white).shoot.errors == ()


def test_fifteen_bits_are_a_warning(tmp_path: Path, frames: Frames) -> None:
    found = survey(bracket(tmp_path, frames, 32767)).shoot
    assert len(found.brackets) == 1
    assert "develop.white=32767" in found.complaints[0].message


def test_sixteen_bits_are_silent_also_where_one_capture_is_dark(
    tmp_path: Path, frames: Frames
) -> None:
    assert survey(bracket(tmp_path, frames, 65535)).shoot.complaints == ()
    dim = [frames[0], *(0.2 * frame for frame in frames[1:])]
    assert survey(bracket(tmp_path, dim, 65535)).shoot.errors == ()


def test_linear_files_may_lie_low() -> None:
    found = few_bits([9000, 8000], declared=True)
    assert found is not None
    assert not found.certain
    assert few_bits([9000, None]) is None
    assert few_bits([]) is None


def test_the_setting_makes_the_pixels_of_sixteen_bits(tmp_path: Path, frames: Frames) -> None:
    few = bracket(tmp_path / "few", frames, 4095)
    full = bracket(tmp_path / "full", frames, 65535)
    config = load_config(settings=["develop.white=4095"])
    names = ("tea_original.tif", "tea_mbc.tif")
    found = load_pair(*(few / name for name in names), config=config)
    expected = load_pair(*(full / name for name in names))
    for one, other in ((found.sharp, expected.sharp), (found.blurred, expected.blurred)):
        assert np.abs(one.astype(int) - other).max() <= 1
    with pytest.raises(InputError, match="develop.white=4095"):
        load_pair(*(few / name for name in names))


def test_every_command_refuses_and_obeys(tmp_path: Path, frames: Frames) -> None:
    shoot = bracket(tmp_path / "shoot", frames, 4095)
    runner = CliRunner()
    refused: Callable[[list[str]], str] = lambda words: runner.invoke(cli, words).output  # noqa: E731
    assert "develop.white=4095" in refused(["scan", str(shoot)])
    assert "lens cap" not in refused(["build", str(shoot), "-o", str(tmp_path / "no")])
    assert "0 errors, 0 warnings" in refused(["scan", str(shoot), "--set", "develop.white=4095"])
    words = ["build", str(shoot), "-o", str(tmp_path / "out"), "--set", "develop.white=4095"]
    result = runner.invoke(cli, [*words, "--jobs", "1"])
    assert "3 pairs kept" in result.output, result.output


def test_a_photo_of_few_bits_is_not_restored_dark(tmp_path: Path, frames: Frames) -> None:
    path = bracket(tmp_path, frames, 4095) / "tea_original.tif"
    with pytest.raises(CaptureUnreadable, match=r"tea_original\.tif: the highest value is 4095"):
        read_photo(path, config=load_config())
    photo = read_photo(path, config=load_config(settings=["develop.white=4095"]))
    assert np.abs(photo.pixels / 65535 - frames[0]).max() < 1 / 4095


def test_import_refuses_few_bits(tmp_path: Path, frames: Frames) -> None:
    for side, frame in (("source", frames[2]), ("target", frames[0])):
        folder = tmp_path / "tree/test_c" / side
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(png(np.round(frame * 4095).astype(np.uint16)))
    with pytest.raises(DatasetError, match="12-bit data. Scale the samples to 16 bits first"):
        import_images("dpdd", tmp_path / "tree", tmp_path / "out", options=ImportOptions(size=64))


@pytest.mark.parametrize("value", ["1", "254", "65536", "-1"])
def test_white_has_limits(value: str) -> None:
    with pytest.raises(ConfigError, match="develop.white"):
        load_config(settings=[f"develop.white={value}"])
