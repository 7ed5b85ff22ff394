"""The radius-map benchmark's truth is that of the planes which a window shows."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # where `python benchmarks/radius_map.py` finds them

import radius_map as benchmark  # noqa: E402
import radius_map_report  # noqa: E402
from truth_pairs import draw_pairs, scene_for  # noqa: E402

from defocus_ds.frames import Level  # noqa: E402
from defocus_ds.simulate.scene import label_planes  # noqa: E402
from defocus_ds.stages.register.radius_map import RadiusMap, node_shape  # noqa: E402

SIZE = (512, 384)


@cache
def hard_pair() -> benchmark.TruePair:
    (pair,) = benchmark.plane_pairs(0, SIZE, seed=0, depth=3.0, levels=(Level.HIGH,))
    return pair


def test_planes_share_every_pixel() -> None:
    pairs = draw_pairs(0, size=SIZE)
    layers = scene_for(pairs)
    shares = benchmark.visible(layers)
    assert sum(shares) == pytest.approx(np.ones(SIZE[::-1]), abs=1e-3)
    nearest = label_planes(layers)
    assert (np.argmax(shares, axis=0) == nearest).mean() > 0.99


def test_the_truth_of_a_window_lies_between_its_planes() -> None:
    pair = hard_pair()
    assert pair.radius.shape == node_shape(SIZE)
    assert (pair.lowest <= pair.radius).all()
    assert (pair.radius <= pair.highest).all()
    assert pair.highest.max() - pair.lowest.min() > 1.0
    pure = pair.share > 0.99
    assert (pair.spread[pure] < 0.1 * pair.radius[pure]).all()
    assert pair.spread.max() > 0.3
    assert (pair.spread <= (pair.highest - pair.lowest) / 2 + 0.05).all()


def test_the_map_is_held_against_the_truth(tmp_path: Path) -> None:
    row, found = benchmark.measured(hard_pair())
    assert row["kept"]
    assert row["coverage"] > 0.9
    assert row["between"] > 0.9
    rows: list[dict[str, Any]] = [row | {"size": list(SIZE)}]
    assert [check.measured for check in radius_map_report.checks(rows)] == [
        row["relative"],
        row["within_1"],
        row["within_2"],
    ]
    # a map that is wrong by a tenth is called so
    wrong = RadiusMap(1.1 * found.radius_px, found.deviation_px, found.spread_px)
    error = benchmark.compared(hard_pair(), wrong)
    assert error["relative"] == pytest.approx(0.1, abs=0.02)
    assert error["within_2"] < 0.2
    radius_map_report.write(tmp_path, rows, {})
    assert json.loads((tmp_path / "radius_map.json").read_text())["pairs"] == rows
    assert "512x384, planes x3, high" in (tmp_path / "radius_map.md").read_text()
