"""The colour benchmark keeps what finished, of one seed, and says what failed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # where its modules are found

import colour  # noqa: E402
import colour_report  # noqa: E402
from peers_colour import METHODS  # noqa: E402

SIZE = (256, 192)
GIVEN = argparse.Namespace(size=SIZE, cost_size=SIZE, seed=0, repeats=3)
ONE = {name: METHODS[name] for name in ("uncorrected", "response")}
ALIGNMENT = {
    "matrix": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    "radial": 0.0,
    "size": list(SIZE),
    "blur_radius_px": 3.0,
    "valid_area": [4, 4, 252, 188],
}


class Runs:
    """Stands for the processes of the benchmark; methods in ``broken`` fail."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.asked = broken, list[str]()

    def __call__(self, _: str, method: str, task: dict[str, Any], **__: object) -> dict[str, Any]:
        self.asked.append(method)
        if method in self.broken or f"{method} {self.asked.count(method)}" in self.broken:
            return {"failed": "killed"}
        if method == "register":
            return {"alignment": ALIGNMENT}
        if method != "each":
            return {"cpu_s": {"all": float(self.asked.count(method))}, "peak_mb": 1.0}
        for number, name in enumerate(task["methods"]):
            if name not in self.broken:
                image = np.load(task["blurred"], allow_pickle=False)
                np.save(f"{task['results']}/{number}.npy", image)
        return {"failed_methods": {m: "broke" for m in task["methods"] if m in self.broken}}


def accuracy(monkeypatch: pytest.MonkeyPatch, work: Path, runs: Runs) -> dict[str, dict[str, Any]]:
    monkeypatch.setattr(colour, "run_isolated", runs)
    found = colour.accuracy(GIVEN, work, ONE, 0, 3.0, "gains")
    return {run["method"]: run for run in found}


def test_a_failed_registration_is_reported_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = accuracy(monkeypatch, tmp_path, Runs("register"))
    assert {found[method]["failed"] for method in ONE} == {"registration: killed"}
    assert "ciede2000" in found["cast known"]
    costs = colour.cost(GIVEN, tmp_path, ONE)
    assert {run["failed"] for run in costs.values()} == {"registration: killed"}
    again = accuracy(monkeypatch, tmp_path, Runs())
    assert all("ciede2000" in again[method] for method in ONE)


def test_failed_methods_are_not_remembered_as_done_and_finished_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = accuracy(monkeypatch, tmp_path, Runs("response"))
    assert first["response"]["failed"] == "broke"
    text = "".join(colour_report.failed_parts(list(first.values()), {}))
    assert "| response | scene 0, gains, 3 px | broke |" in text
    second = accuracy(monkeypatch, tmp_path, Runs())
    assert "ciede2000" in second["response"]
    assert second["uncorrected"] == first["uncorrected"]
    idle = Runs()
    assert accuracy(monkeypatch, tmp_path, idle) == second
    assert not idle.asked


def test_a_failed_repeat_is_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "run_isolated", Runs("response 2"))
    costs = colour.cost(GIVEN, tmp_path, ONE)
    assert costs["response"] == {"failed": "repeat 2: killed"}
    assert costs["uncorrected"]["cpu_s"] == {"all": 2.0}  # the median of 1, 2 and 3
    assert "| response | cost | repeat 2: killed |" in "".join(
        colour_report.failed_parts([], costs)
    )
    monkeypatch.setattr(colour, "run_isolated", Runs())
    assert colour.cost(GIVEN, tmp_path, ONE)["response"]["cpu_s"] == {"all": 2.0}


def test_a_folder_with_the_runs_of_another_seed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    base = ["colour.py", "--work", str(tmp_path / "w"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(colour, "accuracy", lambda *_: [])
    monkeypatch.setattr(colour, "cost", lambda *_: {})
    monkeypatch.setattr(colour_report, "write", lambda *_: None)
    monkeypatch.setattr(sys, "argv", base)
    colour.main()
    colour.main()
    for more in (["--seed", "1"], ["--size", "300x200"], ["--scenes", "3"], ["--repeats", "1"]):
        monkeypatch.setattr(sys, "argv", base + more)
        with pytest.raises(SystemExit, match=r"Delete the folder .*w, or"):
            colour.main()
