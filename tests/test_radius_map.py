"""Radius maps: what a crop gets from one, how sure it is, and their records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from defocus_ds.errors import DatasetError
from defocus_ds.stages.register.radius_map import RadiusMap, node_shape


def two_depths() -> RadiusMap:
    """4 x 6 nodes: 2 px on the left half, 5 px on the right; one node unknown."""
    radius = np.repeat([[2.0, 2, 2, 5, 5, 5]], 4, axis=0)
    deviation = np.full(radius.shape, 0.05)
    spread = np.zeros(radius.shape)
    radius[0, 0] = deviation[0, 0] = spread[0, 0] = np.nan
    return RadiusMap(radius, deviation, spread)


def test_a_crop_gets_the_mean_radius_of_its_area() -> None:
    found = two_depths().over([(64, 64), (256, 64), (160, 128)], 64)
    # the third lies half on either side
    assert found.radius_px == pytest.approx([2.0, 5.0, 3.5], abs=0.05)
    assert found.spread_px == pytest.approx([0.0, 0.0, 1.5], abs=0.05)
    assert found.confidence == pytest.approx([0.96, 0.96, 0.96], abs=0.01)


def test_a_crop_counts_each_node_by_its_confidence() -> None:
    radii = two_depths()
    radii.deviation_px[:, 3:] = 2.0
    found = radii.over([(160, 128)], 64)
    assert found.radius_px == pytest.approx([2.0], abs=0.1)
    assert found.confidence == pytest.approx([0.49], abs=0.01)


def test_where_nothing_is_known_a_crop_has_no_radius() -> None:
    found = two_depths().over([(0, 0), (0, 32)], 64)
    assert np.isnan(found.radius_px[0])
    assert np.isnan(found.spread_px[0])
    assert found.confidence[0] == 0
    assert found.radius_px[1] == pytest.approx(2.0)
    assert found.confidence[1] == pytest.approx(0.96 / 2, abs=0.01)


def test_a_crop_beyond_the_outermost_nodes_gets_theirs() -> None:
    # a frame of 410 px has six columns, the last of which goes on to its edge
    assert two_depths().over([(384, 300)], 26).radius_px == pytest.approx([5.0])


def test_confidence_is_one_half_where_the_deviation_is_the_doubt() -> None:
    radius = np.array([[2.0, 10.0, np.nan]])
    deviation = np.array([[0.25, 0.5, np.nan]])
    assert RadiusMap(radius, deviation, deviation).confidence.tolist() == [[0.5, 0.5, 0.0]]


def test_a_record_is_json_and_reads_back() -> None:
    radii = two_depths()
    record = json.loads(json.dumps(radii.to_record(), allow_nan=False))
    again = RadiusMap.from_record(record)
    for name in ("radius_px", "deviation_px", "spread_px"):
        np.testing.assert_allclose(getattr(again, name), getattr(radii, name), atol=0.005)
    assert again.to_record() == record


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 3},
        {"rows": -4, "columns": -6},
        {"rows": 10**9},
        {"step_px": 32},
        {"radius_px": None},
        {"radius_px": ["wide"] * 24},
        {"deviation_px": [1.0]},
    ],
)
def test_a_damaged_record_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match="radius map: damaged or incomplete"):
        RadiusMap.from_record(two_depths().to_record() | change)


def test_a_map_of_another_frame_is_refused() -> None:
    two_depths().check_frame((6 * 64 + 31, 4 * 64 - 31))
    with pytest.raises(DatasetError, match=r"6x4 nodes, a frame of 640x480 has 10x8"):
        two_depths().check_frame((640, 480))
    assert node_shape((20, 20)) == (1, 1)
