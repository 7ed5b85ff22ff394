"""Dead leaves: their sizes, their outlines, what covers what."""

from __future__ import annotations

import numpy as np
import pytest

from defocus_ds.simulate.leaves import Leaves, draw_leaves, paint, textures

PLAIN = np.zeros((8, 16, 16), np.float32)


def leaf(x: float, y: float, radius: float, *, aspect: float = 1.0, grey: float = 0.5) -> Leaves:
    """One smooth, untextured leaf without a shadow."""
    shape = np.array([[x, y, radius, aspect, np.cos(0.3), np.sin(0.3), 0, 0, 0, 0]])
    surface = np.array([[grey, grey, grey, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    return Leaves(shape, surface, np.zeros(1, np.int64))


def test_sizes_follow_a_power_law() -> None:
    """A Hill estimate of the exponent over the lower decade, where the cut-off hardly matters."""
    leaves = draw_leaves(
        np.random.default_rng(0), (3000, 2000), smallest_px=1.0, largest_px=400.0, coverage=2.0
    )
    radius = leaves.shape[:, 2]
    assert radius.min() >= 1.0
    assert radius.max() <= 400.0
    exponent = 1 + 1 / np.log(radius).mean()
    assert exponent == pytest.approx(2.75, abs=0.05)


def test_coverage_is_the_mean_number_of_leaves_over_a_pixel() -> None:
    rng = np.random.default_rng(1)
    leaves = draw_leaves(rng, (600, 400), smallest_px=3.0, largest_px=20.0, coverage=0.7)
    alpha = np.zeros((400, 600), np.float32)
    paint(np.zeros((400, 600, 3), np.float32), alpha, leaves, PLAIN)
    # a Poisson number of leaves over a pixel leaves exp(-0.7) of them bare
    assert alpha.mean() == pytest.approx(1 - np.exp(-0.7), abs=0.05)


@pytest.mark.parametrize("aspect", [1.0, 0.6])
@pytest.mark.parametrize("radius", [3.0, 11.3])
def test_an_ellipse_covers_its_area(radius: float, aspect: float) -> None:
    alpha = np.zeros((64, 64), np.float32)
    paint(np.zeros((64, 64, 3), np.float32), alpha, leaf(31.7, 30.2, radius, aspect=aspect), PLAIN)
    assert alpha.sum() == pytest.approx(np.pi * radius**2 * aspect, rel=0.03)
    x = (alpha * np.arange(64)).sum() / alpha.sum()
    y = (alpha.T * np.arange(64)).sum() / alpha.sum()
    assert (x, y) == pytest.approx((31.7, 30.2), abs=0.02)


def test_the_later_leaf_hides_the_earlier() -> None:
    colour = np.zeros((64, 64, 3), np.float32)
    paint(colour, None, leaf(32, 32, 20, grey=0.2), PLAIN)
    paint(colour, None, leaf(32, 32, 8, grey=0.7), PLAIN)
    assert colour[32, 32] == pytest.approx([0.7] * 3, abs=1e-5)
    assert colour[32, 46] == pytest.approx([0.2] * 3, abs=1e-5)
    assert colour[2, 2] == pytest.approx([0.0] * 3)


def test_textures_are_normalised_and_seamless() -> None:
    stack = textures(np.random.default_rng(3))
    assert stack.mean(axis=(1, 2)) == pytest.approx(np.zeros(8), abs=0.02)
    assert stack.std(axis=(1, 2)) == pytest.approx(np.ones(8), abs=0.03)
    inside = np.abs(np.diff(stack, axis=2)).mean(axis=(1, 2))
    seam = np.abs(stack[:, :, 0] - stack[:, :, -1]).mean(axis=1)
    assert (seam < 1.3 * inside).all()
