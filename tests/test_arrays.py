"""Paths, open pictures and lists in the place of arrays: what is taken, and how to read a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scenes import true_pair

import defocus_ds
from defocus_ds.lut import apply_lut
from defocus_ds.measure.colour import colour_difference
from defocus_ds.measure.fidelity import peak_signal_to_noise_ratio, structural_similarity
from defocus_ds.optics import Warp
from defocus_ds.pipeline.pair import load_pair
from defocus_ds.resample import resample
from defocus_ds.stages.colour import ColourMap
from defocus_ds.stages.tile import luma

RGB = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
LUT = np.zeros((2, 2, 2, 3), np.float32)


@pytest.mark.parametrize("given", ["a.png", Path("a.png"), Image.fromarray(RGB), [[1, 2]], None])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda v: defocus_ds.register(v, RGB), "register: sharp"),
        (lambda v: defocus_ds.register(RGB, v), "register: blurred"),
        (lambda v: defocus_ds.match_colour(v, RGB), "match_colour: the blurred image"),
        (lambda v: defocus_ds.match_colour(RGB, v), "match_colour: the sharp image"),
        (lambda v: ColourMap(LUT).apply(v), "ColourMap.apply: image"),
        (lambda v: defocus_ds.sharpness_q(v), "luma"),
        (lambda v: luma(v), "luma: rgb"),
        (lambda v: resample(v, Warp.identity((9, 9))), "resample: image"),
        (lambda v: apply_lut(v, LUT), "apply_lut: image"),
        (lambda v: colour_difference(RGB, v), "colour_difference: reference"),
        (lambda v: peak_signal_to_noise_ratio(RGB, v), "reference"),
        (lambda v: structural_similarity(v, RGB), "image"),
    ],
)
def test_what_is_no_array_is_refused(call: Callable[[Any], Any], name: str, given: object) -> None:
    with pytest.raises(TypeError) as caught:
        call(given)
    kind = type(given).__name__
    assert str(caught.value).startswith(f"{name} is of type {kind}; give a NumPy array, (H, W")
    assert "load_pair(sharp, blurred)" in str(caught.value)


def test_the_reader_that_is_named_reads(tmp_path: Path) -> None:
    pair = true_pair((160, 120), radius_px=2.0, seed=3)
    names = [str(tmp_path / name) for name in ("sharp.png", "low.png")]
    for name, pixels in zip(names, (pair.sharp, pair.blurred), strict=True):
        Image.fromarray(pixels).save(name)
    loaded = load_pair(*names)
    assert np.array_equal(loaded.sharp, pair.sharp)
    assert np.array_equal(loaded.blurred, pair.blurred)
    assert defocus_ds.sharpness_q(luma(loaded.sharp)) > defocus_ds.sharpness_q(luma(loaded.blurred))


def test_a_path_is_no_crops() -> None:
    with pytest.raises(TypeError, match=r"as_torch: crops is the path 'release'; .*load_crops\("):
        defocus_ds.as_torch("release")  # type: ignore[arg-type]
