"""The second opinions agree with a right map, and say by how much a wrong one is off."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from scenes import TruePair, true_pair

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from second_opinions import Opinions, second_opinions  # noqa: E402

from defocus_ds.optics import Warp  # noqa: E402


@pytest.fixture(scope="module")
def pair() -> TruePair:
    return true_pair((640, 480), radius_px=2.5, scale=1.01, shift_px=(4.2, -3.1))


def opinions(pair: TruePair, warp: Warp) -> Opinions:
    return second_opinions(
        pair.sharp, pair.blurred, warp, radius_px=pair.radius_px, valid_area=(20, 20, 620, 460)
    )


def test_a_right_map_is_confirmed(pair: TruePair) -> None:
    found = opinions(pair, pair.warp)
    assert found.forward_backward_px is not None and found.forward_backward_px < 0.05
    assert found.features_px is not None and found.features_px < 0.5


def test_a_wrong_map_is_told_by_its_distance(pair: TruePair) -> None:
    (a, b, x), (c, d, y) = pair.warp.matrix
    moved = dataclasses.replace(pair.warp, matrix=((a, b, x + 3.0), (c, d, y + 4.0)))
    found = opinions(pair, moved)
    assert found.forward_backward_px == pytest.approx(5.0, abs=0.15)
    assert found.features_px == pytest.approx(5.0, abs=0.5)


def test_nothing_to_look_at_gives_no_opinion(pair: TruePair) -> None:
    flat = np.full_like(pair.sharp, 128)
    flat[:20, :20] = 20
    found = second_opinions(pair.sharp, flat, pair.warp, radius_px=2.5, valid_area=(0, 0, 640, 480))
    assert found == Opinions(None, None)
