"""Samples: the same light, taken at corresponding places of both captures."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

from defocus_ds.errors import ColourFailed
from defocus_ds.optics import Transfer, Warp, blur_disk, to_linear
from defocus_ds.stages.colour.radius import estimate_radius
from defocus_ds.stages.colour.samples import (
    Draw,
    as_integers,
    blur_matched_samples,
    plain_samples,
)

SIZE = (600, 420)
AREA = (20, 20, 580, 400)


@pytest.mark.parametrize("radius_px", [2.0, 5.0, 11.0])
@pytest.mark.parametrize("averaged", [None, 1, 2])
def test_both_colours_of_a_pair_are_of_one_place(radius_px: float, averaged: int | None) -> None:
    true = scenes.true_pair(
        SIZE, radius_px=radius_px, scale=1.01, rotation_deg=0.3, shift_px=(9.4, -6.2), seed=1
    )
    pairs = blur_matched_samples(
        true.uncast,
        true.sharp,
        warp=true.warp,
        radius_px=radius_px,
        draw=Draw(AREA, 8000, Transfer.SRGB, 0),
        averaged=averaged,
    )
    assert pairs.blurred.shape == pairs.target.shape
    off = pairs.blurred - pairs.target
    assert np.abs(off.mean()) < 5e-4
    # noise of one pixel of true_pair is about 0.003 in light; a shift of one pixel would show
    assert off.std() < 0.006
    assert pairs.blurred.std() > 0.05


def test_the_target_is_the_sharp_image_blurred_in_linear_light() -> None:
    true = scenes.true_pair(SIZE, seed=2)
    pairs = blur_matched_samples(
        true.sharp,
        true.sharp,
        warp=Warp.identity(SIZE),
        radius_px=4.0,
        draw=Draw(AREA, 5000, Transfer.SRGB, 0),
        averaged=1,
    )
    light = to_linear(true.sharp)
    blurred = blur_disk(light, 4.0).reshape(-1, 3)
    place = {tuple(c): n for n, c in enumerate(np.round(light.reshape(-1, 3), 6).tolist())}
    same = [(n, place[tuple(c)]) for n, c in enumerate(np.round(pairs.blurred, 6).tolist())]
    distinct = np.unique(true.sharp.reshape(-1, 3), axis=0, return_counts=True)
    once = {tuple(c) for c, k in zip(*distinct, strict=True) if k == 1}
    picked = [(n, m) for n, m in same if tuple(true.sharp.reshape(-1, 3)[m].tolist()) in once]
    assert len(picked) > 200
    rows, columns = map(list, zip(*picked, strict=True))
    assert np.abs(pairs.target[rows] - blurred[columns]).max() < 1e-5


def test_averaging_follows_the_radius_and_the_count() -> None:
    image = np.full((900, 900, 3), 80, np.uint8)

    def averaged(radius_px: float, count: int) -> int:
        draw = Draw((0, 0, 900, 900), count, Transfer.SRGB, 0)
        warp = Warp.identity((900, 900))
        return blur_matched_samples(
            image, image, warp=warp, radius_px=radius_px, draw=draw
        ).averaged

    assert averaged(0.0, 1000) == 1
    assert averaged(12.0, 1000) > averaged(6.0, 1000) > averaged(3.0, 1000) > 1
    assert averaged(12.0, 1_000_000) == 1


@pytest.mark.parametrize("clipped", [0, 45])
def test_only_clipped_places_count_as_clipped(clipped: int) -> None:
    """Where the disk or the interpolation leaves the image, nothing is known to be clipped."""
    image = np.full((180, 180, 3), 80, np.uint8)
    image[:, :clipped] = 255
    samples = blur_matched_samples(
        image,
        image,
        warp=Warp.identity((180, 180)),
        radius_px=0.0,
        draw=Draw((0, 0, 180, 180), 4000, Transfer.SRGB, 0),
        averaged=6,
    )
    assert len(samples.blurred) < 30 * 30 * (1 - clipped / 180)
    # of 30 columns of squares 27 can be interpolated, and 8 of these see clipped light
    assert samples.clipped_share == pytest.approx(8 / 27 if clipped else 0, abs=0.02)


def test_plain_samples_of_an_image_with_itself_are_equal_clouds() -> None:
    sharp = scenes.true_pair((200, 150)).sharp
    draw = Draw((0, 0, 200, 150), 3000, Transfer.SRGB, 4)
    samples = plain_samples(sharp, sharp, draw=draw)
    assert np.array_equal(samples.blurred, samples.target)
    levels = np.unique(samples.blurred[:, 0])
    assert len(levels) > 1000  # dithered: no longer 256 steps


def test_an_area_without_room_for_the_disk_is_refused() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    draw = Draw((40, 40, 60, 60), 100, Transfer.SRGB, 0)
    with pytest.raises(ColourFailed, match="too small for a blur of radius 12"):
        blur_matched_samples(
            image, image, warp=Warp.identity((100, 100)), radius_px=12.0, draw=draw
        )
    with pytest.raises(ColourFailed, match="2 x 20 px is too small; need 4 x 4 px. Are"):
        plain_samples(image, image, draw=Draw((40, 40, 42, 60), 100, Transfer.SRGB, 0))


def test_floats_become_fine_integers() -> None:
    values = np.linspace(0, 1, 300).reshape(10, 10, 3)
    assert np.abs(as_integers(values) / 65535 - values).max() < 1e-5
    assert as_integers(values - 0.5).min() == 0


@pytest.mark.parametrize("radius_px", [2.0, 4.0, 9.0, 20.0])
def test_radius_is_estimated_without_an_alignment(radius_px: float) -> None:
    true = scenes.true_pair(
        (900, 700), radius_px=radius_px, shift_px=(13, -8), gains=(0.8, 1.1, 0.7), seed=6
    )
    assert estimate_radius(true.blurred, true.sharp) == pytest.approx(radius_px, rel=0.12)


def test_radius_is_zero_when_the_blurred_one_is_not_blurred() -> None:
    true = scenes.true_pair((300, 200), radius_px=5.0)
    assert estimate_radius(true.sharp, true.sharp) == 0
    assert estimate_radius(true.sharp, true.uncast) == 0
