"""The parameters of a bracket: within their ranges, a stream per scene."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from defocus_ds.frames import BLURRED_LEVELS, Level
from defocus_ds.optics import Warp
from defocus_ds.simulate.draw import FULL_SIZE, CaptureTruth, draw_captures, stream

WHEN = datetime(2024, 5, 1, 10, 0)


def captures(index: int, size: tuple[int, int] = FULL_SIZE) -> dict[Level, CaptureTruth]:
    return {c.level: c for c in draw_captures(3, f"scene{index:02d}", size, taken=WHEN)}


def test_the_sharp_capture_is_untouched() -> None:
    sharp = captures(1)[Level.SHARP]
    assert all(plane.warp == Warp.identity(FULL_SIZE) for plane in sharp.planes)
    assert all(plane.blur_radius_px == 0 for plane in sharp.planes)
    assert sharp.light.gains == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("index", range(12))
def test_full_size_parameters_are_those_of_the_camera(index: int) -> None:
    drawn = captures(index)
    corners = np.array([[0.0, 0], [5795, 0], [0, 3869], [5795, 3869]])
    limits = {
        Level.LOW: (3.0, 0.0046, 0.1, 0.6),
        Level.MEDIUM: (6.0, 0.0115, 0.2, 1.1),
        Level.HIGH: (12.0, 0.0230, 0.4, 2.1),
    }
    for level, (radius, breathing, parallax, radial) in limits.items():
        far, _, near = drawn[level].planes
        assert far.blur_radius_px == pytest.approx(radius, rel=0.08)
        for plane in drawn[level].planes:
            assert 0.7 <= plane.blur_radius_px / far.blur_radius_px <= 1.3
            matrix = np.array(plane.warp.matrix)[:, :2]
            assert abs(np.sqrt(np.linalg.det(matrix)) - 1) <= breathing
            assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) <= 0.15
            assert abs(plane.warp.radial) * plane.warp.half_diagonal_px <= radial
            middle = plane.warp.map_points([plane.warp.centre])[0] - plane.warp.centre
            assert np.hypot(*middle) <= 15
        apart = far.warp.map_points(corners) - near.warp.map_points(corners)
        assert np.linalg.norm(apart, axis=1).max() <= parallax + 1e-9
        gains = np.array(drawn[level].light.gains)
        assert ((gains >= 0.85) & (gains <= 1.15)).all()


def test_depth_moves_the_planes_apart_and_nothing_else() -> None:
    gentle = captures(5)
    for depth in (0.0, 3.0):
        hard = {c.level: c for c in draw_captures(3, "scene05", FULL_SIZE, taken=WHEN, depth=depth)}
        for level in BLURRED_LEVELS:
            assert hard[level].planes[0] == gentle[level].planes[0]
            assert hard[level].light == gentle[level].light
            far = gentle[level].planes[0].blur_radius_px
            for ours, theirs in zip(hard[level].planes, gentle[level].planes, strict=True):
                apart = theirs.blur_radius_px - far
                assert ours.blur_radius_px - far == pytest.approx(depth * apart)
    nearest = [
        min(plane.blur_radius_px for plane in capture.planes)
        for index in range(12)
        for capture in draw_captures(3, f"scene{index:02d}", FULL_SIZE, taken=WHEN, depth=4.0)[1:]
    ]
    assert min(nearest) == 0.0  # in focus, never beyond


def test_blur_grows_with_the_offset_at_every_size() -> None:
    for size in ((240, 160), (744, 496), (1488, 992), FULL_SIZE):
        radii = [captures(2, size)[level].planes[0].blur_radius_px for level in BLURRED_LEVELS]
        assert radii == sorted(radii)
        assert radii[0] > 0.6


def test_a_small_frame_has_the_stated_radii() -> None:
    drawn = captures(4, (744, 496))
    radii = [drawn[level].planes[0].blur_radius_px for level in BLURRED_LEVELS]
    assert radii == pytest.approx([1.2, 2.0, 3.2], rel=0.09)


def test_breathing_goes_one_way_within_a_scene() -> None:
    directions = set()
    for index in range(12):
        scales = [captures(index)[level].planes[0].warp.matrix[0][0] for level in BLURRED_LEVELS]
        assert scales == sorted(scales) or scales == sorted(scales, reverse=True)
        directions.add(scales[-1] > 1)
    assert directions == {True, False}


def test_captures_follow_each_other_in_time() -> None:
    times = [captures(1)[level].taken for level in Level]
    assert times[0] == WHEN
    assert all(0 < (b - a).total_seconds() < 10 for a, b in zip(times, times[1:], strict=False))


def test_scenes_and_seeds_and_purposes_have_streams_of_their_own() -> None:
    names = [(0, "scene01", "noise"), (0, "scene02", "noise"), (1, "scene01", "noise")]
    names.append((0, "scene01", "captures"))
    firsts = [stream(*name).random() for name in names]
    assert len(set(firsts)) == len(names)
    assert stream(*names[0]).random() == firsts[0]
