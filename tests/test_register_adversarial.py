"""No wrong pair is accepted, whatever is wrong with it; right ones over the whole range are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # where `python benchmarks/adversarial.py` finds them

import adversarial_report  # noqa: E402
from adversarial import judge_starts, judge_wrong  # noqa: E402
from adversarial_pairs import KINDS, crossed_pairs, wrong_pairs  # noqa: E402
from start_pairs import draw_starts  # noqa: E402

from defocus_ds.config import RegisterConfig  # noqa: E402

# the strategy's full length and all samples cost seconds a pair and decide nothing at this size
QUICK = RegisterConfig(iterations=50, samples=40_000)
SIZE = (480, 320)
FAST = (
    "another scene, same palette",
    "perspective",
    "half behind a hand",
    "black",
    "mirrored",
    "stripes",
    "shaken",
    "half from another capture",
)


@pytest.mark.parametrize("kind", FAST)
def test_a_wrong_pair_is_rejected_with_a_reason(kind: str) -> None:
    assert kind in KINDS
    drawn = [pair for pair in wrong_pairs(SIZE, count=1, seed=5, only=kind) if pair.kind == kind]
    assert len(drawn) == 1
    for run in judge_wrong(drawn, config=QUICK):
        assert not run["accepted"], run
        assert all(": " in reason for reason in run["reasons"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_two_hundred_wrong_pairs_are_rejected(seed: int) -> None:
    runs = judge_wrong(wrong_pairs(SIZE, count=1, seed=seed), config=QUICK)
    assert len(runs) * 6 >= 200
    assert {run["kind"] for run in runs} == set(KINDS)
    assert [run for run in runs if run["accepted"]] == []


@pytest.mark.slow
def test_the_shipped_settings_reject_them_too() -> None:
    drawn = [pair for pair in wrong_pairs(SIZE, count=1, seed=7) if pair.kind in FAST]
    assert len(drawn) == len(FAST)
    assert [run for run in judge_wrong(drawn) if run["accepted"]] == []


@pytest.mark.slow
def test_photographs_of_two_scenes_are_rejected(real_data: Path) -> None:
    runs = judge_wrong(crossed_pairs(real_data, SIZE), config=QUICK)
    assert len(runs) >= 50
    assert [run for run in runs if run["accepted"]] == []


@pytest.mark.slow
def test_right_pairs_over_the_whole_range_are_found_or_rejected() -> None:
    pairs = draw_starts(24, size=(1024, 683), seed=3)
    outcomes = [adversarial_report.outcome(run) for run in judge_starts(pairs, seed=3)]
    assert outcomes.count("silent") == 0
    assert outcomes.count("found") >= 20


def test_tables_count_what_happened() -> None:
    wrong = [
        {"kind": "a", "accepted": True, "reasons": []},
        {"kind": "a", "accepted": False, "reasons": ["ncc: 0.1, needs 0.8"]},
    ]
    assert "| a | 2 | **1** | ncc 1 |" in adversarial_report.by_kind(wrong)
    right = {"accepted": True, "error_px": 0.01, "residual_px": 0.01}
    assert adversarial_report.outcome(right) == "found"
    assert adversarial_report.outcome(right | {"error_px": 0.04}) == "silent"
    assert adversarial_report.outcome(right | {"error_px": 1.2, "residual_px": 1.0}) == "silent"
    assert adversarial_report.outcome(right | {"accepted": False}) == "false"
    assert adversarial_report.outcome({"accepted": False}) == "rejected"
    limits = {c.name: c.passed for c in adversarial_report.checks(wrong, [])}
    assert not limits["wrong pairs accepted"]
