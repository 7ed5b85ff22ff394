"""The benchmark of scale: what it makes is what the commands take, what it fits is the growth."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from signed_dataset import make_signed

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # where `python benchmarks/scale.py` finds them

import scale  # noqa: E402
from isolated import Stopwatch  # noqa: E402
from scale_report import (  # noqa: E402
    COMMANDS,
    STREAMED,
    TIMED,
    estimate,
    exponent,
    page,
    slope,
    summary,
)
from scale_scenes import lay_out  # noqa: E402

ASSUMED = argparse.Namespace(
    scenes=800, scene_cpu_s=36.0, raw_mb=100, image_mb=100, crop_mb=50, core_hour=0.1, tb_month=20
)


def test_every_step_runs_on_what_was_made(tmp_path: Path) -> None:
    make_signed(tmp_path / "all", scenes=3)
    lay_out(tmp_path / "all", tmp_path / "some", 2)
    counts = {}
    for step in scale.STEPS:
        watch = Stopwatch()
        found = scale.run(step, {"place": str(tmp_path / "some")}, watch)
        counts[step] = found["count"]
        assert watch.seconds.keys() == {"step"}
    crops = 2 * 3 * 6  # scenes, levels, crops
    assert counts["plan"] == 2 * 5
    assert counts["no-op build"] == 2 * 3
    assert counts["crop"] == counts["release"] == crops
    assert counts["verify crops"] == counts["verify release"] == crops
    assert not (tmp_path / "some/new").exists()


@pytest.mark.parametrize("power", [0.8, 1.0, 2.0])
def test_the_power_of_the_growth_is_found_whatever_the_start_costs(power: float) -> None:
    sizes = [50, 305, 1000, 2500, 5000]
    assert exponent(sizes, [40 + n**power for n in sizes]) == pytest.approx(power, abs=0.03)


def figures(growth: float) -> dict[str, Any]:
    """Measured figures that grow with a power of the scenes."""

    def step(size: int) -> dict[str, float]:
        return {
            "cpu_s": 0.01 * size**growth,
            "wall_s": 1.0,
            "peak_mb": 100 + 0.01 * size**growth,
            "bytes_read": 5e5,
            "count": 18.0 * size,
        }

    sizes = {}
    for size in (100, 400, 800):
        sizes[size] = {name: step(size) for name in ("start", *TIMED, "open", "read")}
        sizes[size]["release"]["duplicates"] = size // 100
        sizes[size]["open"] |= {"crops": 6 * size, "count": 200, "cpu_s": 0.1}
        sizes[size]["read"] |= {"count": 200, "cpu_s": 0.4}
        sizes[size]["planted"] = size // 100  # type: ignore[assignment]
    records = {name: step(100) for name in ("assemble", *COMMANDS)}
    records["build --help"]["cpu_s"] = 0.1
    return {"sizes": sizes, "records": records | {"scenes": 100}}


def test_linear_growth_meets_the_targets_and_faster_growth_does_not() -> None:
    linear, faster = (page(figures(growth), ASSUMED) for growth in (1.0, 1.5))
    assert "**missed**" not in linear
    missed = re.findall(r"exponent \| 1\.[45]\d \| ≤ 1.15 \| \*\*missed", faster)
    assert len(missed) == len(TIMED)
    at_the_end = re.findall(r"exponent at the end \| 1\.[45]\d \| ≤ 1.15 \| \*\*missed", faster)
    assert len(at_the_end) == len(TIMED)
    assert f"{STREAMED[0]}: memory a scene" in linear
    json.dumps(summary(figures(1.0)))


def test_a_near_duplicate_that_was_missed_is_a_miss() -> None:
    found = figures(1.0)
    found["sizes"][800]["release"]["duplicates"] = 7
    assert "missed, all sizes | 1.00 | ≤ 0 | **missed**" in page(found, ASSUMED)


def test_the_price_follows_from_the_assumptions() -> None:
    found = estimate(ASSUMED, 1000, crop_cpu_s=36.0)
    assert found["core_hours"] == pytest.approx(20)
    assert found["computing"] == pytest.approx(2)
    assert found["raw_tb"] == pytest.approx(0.1)
    assert found["keeping_a_month"] == pytest.approx((0.1 + 0.1 + 0.1) * 20)
    assert slope([1, 2, 3], [5.0, 7.0, 9.0]) == pytest.approx(2)
