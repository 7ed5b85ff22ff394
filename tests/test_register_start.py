"""The rough start finds the map within its range; doubts measure what they are named after."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scenes import textured, true_pair

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Transfer, Warp, blur_disk, to_encoded
from defocus_ds.stages.register.alignment import ResidualGrid
from defocus_ds.stages.register.doubts import (
    contradicted_share,
    find_doubts,
    rival_shift,
    stretch,
)
from defocus_ds.stages.register.planes import pyramid
from defocus_ds.stages.register.radius import fit_radius, matched, role_ratio
from defocus_ds.stages.register.start import rough_candidates

SIZE = (320, 240)


def gray(size: tuple[int, int], seed: int = 0) -> FloatImage:
    return np.ascontiguousarray(to_encoded(textured(size, seed)[..., 1]))


@pytest.mark.parametrize(
    ("scale", "rotation_deg", "shift_px"),
    [(1.0, 0.0, (0.0, 0.0)), (1.08, 2.0, (20.0, -12.0)), (0.92, -2.0, (-18.0, 15.0))],
)
def test_first_candidate_is_near(
    scale: float, rotation_deg: float, shift_px: tuple[float, float]
) -> None:
    truth = true_pair(
        SIZE, radius_px=4.0, scale=scale, rotation_deg=rotation_deg, shift_px=shift_px, seed=2
    )
    planes = [pyramid(image, Transfer.SRGB) for image in (truth.sharp, truth.blurred)]
    candidates = rough_candidates(*planes)
    assert 1 <= len(candidates) <= 3
    assert candidates[0].mean_difference_px(truth.warp) < 4.0


@pytest.mark.parametrize("radius_px", [1.5, 3.0, 7.0])
def test_radius_guess_is_not_misled_by_light_that_fell_to_one_side(radius_px: float) -> None:
    truth = true_pair(SIZE, radius_px=radius_px, seed=1)
    light = np.linspace(1.0, 0.6, SIZE[0], dtype=np.float32)[None, :, None]
    dimmed = np.round(truth.blurred * light).astype(np.uint8)
    sharp, blurred = (pyramid(image, Transfer.SRGB) for image in (truth.sharp, dimmed))
    found = fit_radius(sharp, blurred, truth.warp, 1)
    assert found == pytest.approx(radius_px, rel=0.2)
    assert fit_radius(sharp, blurred, truth.warp, 1, most_px=1.0) <= 1.0


def test_what_is_kept_of_the_sharp_image_changes_nothing() -> None:
    truth = true_pair(SIZE, radius_px=4.0, seed=4)
    sharp, blurred = (pyramid(image, Transfer.SRGB) for image in (truth.sharp, truth.blurred))
    first = fit_radius(sharp, blurred, truth.warp, 1)
    assert sharp.blurs
    assert fit_radius(sharp, blurred, truth.warp, 1) == first


@pytest.mark.parametrize("strips", [((110, 160), (610, 660)), ((100, 140),)])
@pytest.mark.parametrize("radius_px", [1.5, 3.0])
def test_swapped_captures_are_told_by_strips_of_texture(
    strips: tuple[tuple[int, int], ...], radius_px: float
) -> None:
    truth = true_pair((600, 800), radius_px=radius_px, seed=3)
    rng = np.random.default_rng(4)
    walls = [
        np.clip(np.rint(rng.normal(128, 2, image.shape)), 0, 255).astype(np.uint8)
        for image in (truth.sharp, truth.blurred)
    ]
    for low, high in strips:
        for to, image in zip(walls, (truth.sharp, truth.blurred), strict=True):
            to[low:high] = image[low:high]
    planes = [pyramid(image, Transfer.SRGB) for image in walls]
    assert role_ratio(*planes, truth.warp, 1) < 1
    assert role_ratio(*reversed(planes), truth.warp, 1) > 1.25


def test_repeating_tiles_have_a_rival_a_tile_away() -> None:
    tile = gray((24, 20))
    wall = np.tile(tile, (12, 14))[:200, :300]
    shift = rival_shift(wall, wall, np.ones(wall.shape, np.bool_))
    assert shift is not None
    dx, dy = (value / period for value, period in zip(shift, (24, 20), strict=True))
    assert max(abs(dx), abs(dy)) >= 1
    assert (dx, dy) == pytest.approx((round(dx), round(dy)), abs=0.06)


def test_stripes_have_a_rival_along_them() -> None:
    profile = np.random.default_rng(0).random((1, 300), np.float32)
    wall = np.repeat(cv2.GaussianBlur(profile, (0, 0), 2), 200, axis=0)
    shift = rival_shift(wall, wall, np.ones(wall.shape, np.bool_))
    assert shift is not None
    assert abs(shift[1]) > 10 * abs(shift[0])


def test_a_scene_has_no_rival() -> None:
    scene = gray((300, 200))
    assert rival_shift(scene, scene, np.ones(scene.shape, np.bool_)) is None


def test_stretch_is_that_of_a_line() -> None:
    """A box of n pixels adds (n^2 - 1) / 12 to the variance along it, nothing across."""
    scene = blur_disk(gray((400, 300)), 4.0)
    inside = np.ones(scene.shape, np.bool_)
    assert stretch(scene, scene, inside, variance_px=4.0) == pytest.approx(0.0, abs=1e-6)
    along = cv2.blur(scene, (5, 1))
    mean = 4.0 + 2.0 / 2 + 1.0
    assert stretch(scene, along, inside, variance_px=4.0) == pytest.approx(2.0 / mean, rel=0.15)
    wider = blur_disk(gray((400, 300)), 4.5)
    assert stretch(scene, wider, inside, variance_px=4.0) < 0.05


def test_contradicted_cells_are_foreign_or_surely_displaced() -> None:
    zero = np.zeros((1, 5))
    nan = float("nan")
    shift = np.array([[0.1, nan, 3.0, 3.0, nan]])
    # deviations of 0.025, none, 0.025 and 2 px
    confidence = np.array([[0.99, 0.0, 0.99, 0.0154, 0.0]])
    left = np.array([[0.1, 0.9, 0.2, 0.2, nan]])
    grid = ResidualGrid(zero, zero, shift, zero, zero, confidence, left)
    assert contradicted_share(grid, tolerance_px=1.0) == pytest.approx(2 / 4)
    nothing = np.full((1, 5), nan)
    empty = ResidualGrid(zero, zero, nothing, nothing, nothing, zero, nothing)
    assert contradicted_share(empty, tolerance_px=1.0) == 0.0


def test_doubts_of_a_good_pair_are_small_and_clipping_is_counted() -> None:
    truth = true_pair(SIZE, radius_px=3.0, shift_px=(3.0, 2.0))
    half = truth.blurred.copy()
    half[: SIZE[1] // 2] = 255
    zero = np.zeros((1, 1))
    grid = ResidualGrid(zero, zero, zero, zero, zero, zero + 0.9, zero)
    for capture, clipped in ((truth.blurred, 0.0), (half, 0.5)):
        pair = pyramid(truth.sharp, Transfer.SRGB), pyramid(capture, Transfer.SRGB)
        warp = Warp.similarity(SIZE, shift_px=(3.0, 2.0))
        doubts = find_doubts(
            *pair,
            warp,
            grid,
            overlaid=matched(*pair, warp, 3.0, 1),
            ncc=0.99,
            radius_px=3.0,
            factor=1,
            tolerance_px=1.0,
            samples=20_000,
            seed=0,
        )
        assert doubts.clipped == pytest.approx(clipped, abs=0.05)
        assert doubts.contradicted == 0
        assert doubts.rival < 0.5
        if clipped == 0:
            assert doubts.stretch < 0.1
