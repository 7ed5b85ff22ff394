"""metrics.csv: every report a row, and no row of work that was lost."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from defocus_ds_train.records import EpochReport, Reports, Scores, StepReport, psnr

SCORES = Scores(loss=0.5, l1=0.25, q=0.125, psnr=30.0, input_psnr=20.0)


def step(epoch: int, number: int) -> StepReport:
    return StepReport(epoch, number, 100, 1e-12, 0.1, 0.2, 0.3, 25.0, 1234.56, 7.8)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_holds_its_report(tmp_path: Path) -> None:
    reports = Reports(tmp_path, after_step=0, after_epoch=0)
    reports.add(step(1, 5))
    reports.add(EpochReport(1, 3, 10, SCORES, best=True))
    first, second = rows(tmp_path)
    assert (first["epoch"], first["step"], first["learning_rate"]) == ("1", "5", "1e-12")
    assert (first["loss"], first["crops_per_s"], first["seconds_left"]) == ("0.1", "1234.6", "8")
    assert (first["val_loss"], second["val_loss"], second["loss"]) == ("", "0.5", "")
    assert (second["step"], second["val_psnr"], second["val_input_psnr"]) == ("10", "30", "20")


def test_lost_work_leaves_no_rows(tmp_path: Path) -> None:
    reports = Reports(tmp_path, after_step=0, after_epoch=0)
    for number in (5, 10):
        reports.add(step(1, number))
    reports.add(EpochReport(1, 3, 10, SCORES, best=True))
    for number in (15, 20):
        reports.add(step(2, number))
    reports.add(EpochReport(2, 3, 20, SCORES, best=True))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,2")  # cut short
    Reports(tmp_path, after_step=20, after_epoch=1)
    assert [(r["epoch"], r["step"], r["val_loss"]) for r in rows(tmp_path)] == [
        ("1", "5", ""),
        ("1", "10", ""),
        ("1", "10", "0.5"),
        ("2", "15", ""),
        ("2", "20", ""),
    ]
    Reports(tmp_path, after_step=0, after_epoch=0)
    assert rows(tmp_path) == []


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    seen: list[object] = []
    reports = Reports(tmp_path, after_step=0, after_epoch=0, writes=False, watch=seen.append)
    reports.add(step(1, 1))
    assert seen == []
    assert list(tmp_path.iterdir()) == []


def test_psnr_of_a_mean_squared_error() -> None:
    assert psnr(1e-3) == pytest.approx(30)
    assert psnr(0) == math.inf
