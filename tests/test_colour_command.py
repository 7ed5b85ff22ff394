"""``defocus-ds match-colour``: says what was done to the colours and how sure it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scenes
from click.testing import CliRunner

from defocus_ds.optics import to_encoded, to_linear
from defocus_ds.stages.colour.cube import read_cube
from defocus_ds.store import write_png
from defocus_ds_cli.match_colour import command

GAINS = np.array([1.08, 0.97, 0.85], np.float32)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    true = scenes.true_pair((480, 360), radius_px=3.0, seed=3)
    folder = tmp_path_factory.mktemp("pair")
    cast = np.round(to_encoded(to_linear(true.uncast) * GAINS).clip(0, 1) * 255).astype(np.uint8)
    write_png(folder / "sharp.png", true.sharp)
    write_png(folder / "low.png", cast)
    return folder / "sharp.png", folder / "low.png"


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_account_names_gains_matrix_displacement_clipping_and_difference(
    captures: tuple[Path, Path],
) -> None:
    text = run(*captures, "--aligned")
    for word in ("gains", "matrix", "LUT moves", "clipped", "CIEDE2000", "contrast", "correlation"):
        assert word in text
    gains = text.split("gains")[1].splitlines()[0].split(",")
    for shown, gain in zip(gains, 1 / GAINS, strict=True):
        value, error = (float(part) for part in shown.split("±"))
        assert value == pytest.approx(gain, rel=0.01)
        assert error < 0.01


def test_json_is_the_whole_record(captures: tuple[Path, Path]) -> None:
    record = json.loads(run(*captures, "--aligned", "--json"))
    assert {"gains", "gains_error", "matrix", "displacement_levels", "clipped_share"} <= set(record)
    assert record["ciede2000"]["after"] < 0.5 < 2 < record["ciede2000"]["before"]


def test_picture_and_cube_are_written(captures: tuple[Path, Path], tmp_path: Path) -> None:
    run(*captures, "--aligned", "-o", tmp_path / "a.png", "--cube", tmp_path / "a.cube")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert read_cube(tmp_path / "a.cube").shape == (65, 65, 65, 3)
