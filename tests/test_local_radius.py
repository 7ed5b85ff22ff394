"""Radius maps recover the radii that a capture was made with, and know how well."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scenes import textured, true_pair

from defocus_ds.config import RegisterConfig
from defocus_ds.optics import Transfer, Warp, blur_disk, to_encoded
from defocus_ds.stages.register import register
from defocus_ds.stages.register.local_radius import measure_radii
from defocus_ds.stages.register.planes import pyramid
from defocus_ds.stages.register.radius_map import RadiusMap

SIZE = (768, 576)
QUICK = RegisterConfig(iterations=150)


@cache
def scene() -> npt.NDArray[np.float32]:
    return textured(SIZE, seed=3)


def captured(linear: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    noisy = linear + rng.normal(0, 0.002, linear.shape) * np.sqrt(linear + 0.01) * 3
    return np.asarray(np.round(to_encoded(np.clip(noisy, 0, 1)) * 255), np.uint8)


def measure(
    sharp: npt.NDArray[np.float32], blurred: npt.NDArray[np.float32], *, radius_px: float
) -> RadiusMap:
    """The map of a pair without any displacement."""
    planes = [pyramid(captured(x, n), Transfer.SRGB) for n, x in enumerate((sharp, blurred))]
    return measure_radii(*planes, Warp.identity(SIZE), radius_px=radius_px)


@pytest.mark.parametrize("radius_px", [1.5, 3.0, 6.0, 11.0])
def test_one_radius_is_found_everywhere(radius_px: float) -> None:
    found = measure(scene(), blur_disk(scene(), radius_px), radius_px=radius_px)
    known = found.confidence > 0
    assert known.mean() > 0.8
    error = np.abs(found.radius_px - radius_px)[known]
    assert np.median(error) < max(0.01 * radius_px, 0.02)
    assert np.quantile(error, 0.95) < max(0.03 * radius_px, 0.06)
    assert (error <= 2 * found.deviation_px[known]).mean() > 0.9


@pytest.mark.parametrize("guess", [0.6, 1.6])
def test_the_frames_radius_need_not_be_right(guess: float) -> None:
    found = measure(scene(), blur_disk(scene(), 4.0), radius_px=4.0 * guess)
    assert np.nanmedian(np.abs(found.radius_px - 4.0)) < 0.06


def test_deviations_are_those_of_the_errors() -> None:
    """Noise eight times that of a camera at base ISO, so that nothing else matters."""
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(3):
        both = [scene(), blur_disk(scene(), 3.0)]
        sharp, blurred = (
            np.clip(x + rng.normal(0, 0.01, x.shape), 0, 1).astype(np.float32) for x in both
        )
        found = measure(sharp, blurred, radius_px=3.0)
        ratios.append(((found.radius_px - 3.0) / found.deviation_px)[found.confidence > 0.2])
    z = np.abs(np.concatenate(ratios))
    assert 0.55 < (z < 1).mean() < 0.97
    assert (z < 2).mean() > 0.85


def test_a_part_in_focus_has_radius_zero() -> None:
    half = SIZE[0] // 2
    blurred = blur_disk(scene(), 3.0)
    blurred[:, :half] = scene()[:, :half]
    found = measure(scene(), blurred, radius_px=2.0)
    assert np.nanmax(found.radius_px[1:-1, 1 : half // 64 - 1]) < 0.6
    assert np.nanmedian(found.radius_px[1:-1, half // 64 + 1 : -1]) == pytest.approx(3.0, abs=0.05)
    # all disks below half a pixel look alike, and the deviation says so
    assert np.nanmin(found.deviation_px[1:-1, 1 : half // 64 - 1]) > 0.2


def test_windows_over_two_depths_are_unsure_and_spread() -> None:
    half = SIZE[0] // 2
    blurred = blur_disk(scene(), 2.0)
    blurred[:, half:] = blur_disk(scene(), 4.0)[:, half:]
    found = measure(scene(), blurred, radius_px=3.0)
    edge = half // 64
    left, right = found.radius_px[1:-1, 1 : edge - 1], found.radius_px[1:-1, edge + 1 : -1]
    assert np.nanmedian(left) == pytest.approx(2.0, abs=0.03)
    assert np.nanmedian(right) == pytest.approx(4.0, abs=0.05)
    at_edge = np.s_[1:-1, edge - 1 : edge + 1]
    away = np.s_[1:-1, 1 : edge - 2]
    assert np.nanmedian(found.deviation_px[at_edge]) > 3 * np.nanmedian(found.deviation_px[away])
    # one column of three lies on the other side, with a quarter of the weight
    assert np.nanmedian(found.spread_px[at_edge]) == pytest.approx(np.sqrt(3 / 16) * 2, abs=0.15)
    assert np.nanmedian(found.spread_px[away]) < 0.05
    assert np.all((found.radius_px[at_edge] > 1.9) & (found.radius_px[at_edge] < 4.1))


def test_flat_and_clipped_places_are_unknown() -> None:
    sharp = scene().copy()
    sharp[:256, :256] = 0.3
    sharp[384:, 512:] = 1.0
    found = measure(sharp, blur_disk(sharp, 3.0), radius_px=3.0)
    assert np.isnan(found.radius_px[7:, 10:]).all()
    assert (found.confidence[7:, 10:] == 0).all()
    assert (found.confidence[:2, :2] < 0.2).all()
    assert (found.confidence[2:5, 6:10] > 0.8).all()


def test_light_clipped_in_the_capture_is_unknown_where_the_map_puts_it() -> None:
    """The capture is overexposed in a square; the map shifts it by more than its side."""
    shift = 192
    blurred = np.roll(blur_disk(scene(), 3.0), shift, axis=1)
    blurred[192:320, 128 + shift : 256 + shift] = 1.0
    planes = [pyramid(captured(x, n), Transfer.SRGB) for n, x in enumerate((scene(), blurred))]
    warp = Warp.similarity(SIZE, shift_px=(shift, 0))
    found = measure_radii(*planes, warp, radius_px=3.0)
    # nodes 32, 96, ... px: the square lies at x 128-256 of the sharp frame, not at 320-448
    assert (found.confidence[3:5, 2:4] == 0).all()
    assert (found.confidence[3:5, 6] > 0.8).all()


@pytest.mark.parametrize("scale", [0.98, 1.02])
def test_the_scale_of_focus_breathing_leaves_no_bias(scale: float) -> None:
    pair = true_pair((768, 576), radius_px=3.0, scale=scale, shift_px=(4.0, -3.0), seed=2)
    planes = [pyramid(image, Transfer.SRGB) for image in (pair.sharp, pair.blurred)]
    found = measure_radii(*planes, pair.warp, radius_px=3.0)
    assert np.nanmedian(found.radius_px) == pytest.approx(3.0 / scale, abs=0.03)


def test_registration_records_the_map() -> None:
    pair = true_pair((640, 480), radius_px=3.0, scale=1.01, shift_px=(5.0, 3.0), seed=4)
    alignment = register(pair.sharp, pair.blurred, config=QUICK)
    radii = alignment.radius_map
    assert radii is not None
    radii.check_frame((640, 480))
    assert np.nanmedian(radii.radius_px) == pytest.approx(3.0 / 1.01, abs=0.03)
    again = type(alignment).from_record(alignment.to_record()).radius_map
    assert again is not None
    np.testing.assert_allclose(again.radius_px, radii.radius_px, atol=0.005)


def test_another_scene_has_no_map() -> None:
    sharp, other = captured(scene(), 0), captured(blur_disk(textured(SIZE, seed=9), 3.0), 1)
    alignment = register(sharp, other, config=QUICK)
    assert not alignment.verdict
    assert alignment.radius_map is None
    assert alignment.to_record()["radius_map"] is None
