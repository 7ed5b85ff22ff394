"""Exact sums over 8-bit values, against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from defocus_ds.measure.values import value_sums


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (128, 128), (3, 4096)])
def test_sums_are_those_of_wide_integers(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for luma in (rng.integers(0, 256, shape).astype(np.uint8), np.full(shape, 255, np.uint8)):
        wide = luma.astype(np.int64)
        ends = int(((luma == 0) | (luma == 255)).sum())
        assert value_sums(luma) == (wide.sum(), (wide**2).sum(), ends)


def test_a_window_of_an_image_is_summed_as_its_copy() -> None:
    image = np.arange(10_000, dtype=np.int64).astype(np.uint8).reshape(100, 100)
    window = image[3:40, 5:77]
    assert value_sums(window) == value_sums(window.copy())
