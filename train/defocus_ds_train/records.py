"""What training reports: scores, steps, epochs; and the table they are kept in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from defocus_ds.errors import InputError
from defocus_ds.store import write_bytes

__all__ = ["EpochReport", "FitResult", "Reports", "Scores", "StepReport", "Watch", "psnr"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the validation crops, of the network's output clipped to [0, 1].

    Attributes:
        loss: the objective, l1 - beta * q.
        l1: mean absolute error, peak 1.
        q: training Q, not clipped, as the loss sees it.
        psnr: mean of each crop's PSNR in dB, peak 1, all pixels.
        input_psnr: the same of the blurred crops.
    """

    loss: float
    l1: float
    q: float
    psnr: float
    input_psnr: float


@dataclass(frozen=True, slots=True)
class StepReport:
    """Means over the steps since the last report; ``psnr`` is that of their mean squared error.

    ``step`` counts from 1 over the whole run of ``steps``.
    """

    epoch: int
    step: int
    steps: int
    learning_rate: float
    loss: float
    l1: float
    q: float
    psnr: float
    crops_per_s: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Validation at the end of an epoch, counted from 1; ``best`` if none was better before."""

    epoch: int
    epochs: int
    step: int
    scores: Scores
    best: bool


Watch = Callable[[StepReport | EpochReport], None]


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a run stands.

    Attributes:
        run: its folder.
        device, precision: what it was computed with.
        epochs: finished so far.
        steps: optimiser steps so far.
        best_epoch: epoch of the best weights, from 1; 0 when no epoch is finished.
        best: its scores; None when no epoch is finished.
        finished: False when it was interrupted.
    """

    run: Path
    device: str
    precision: str
    epochs: int
    steps: int
    best_epoch: int
    best: Scores | None
    finished: bool


class Reports:
    """Sends every report to metrics.csv, to TensorBoard if asked, and to whoever watches.

    Args:
        run: folder of the run.
        after_step, after_epoch: where the run goes on; what an earlier session wrote of later
            steps or epochs is dropped, since that work was lost.
        writes: False in all processes but the first: then reports go nowhere.
        tensorboard: also write event files.
        watch: called with every report.

    Raises:
        InputError: TensorBoard is asked for and not installed.
    """

    COLUMNS = (
        "epoch",
        "step",
        *(f.name for f in fields(StepReport) if f.name not in ("epoch", "step", "steps")),
        *(f"val_{f.name}" for f in fields(Scores)),
    )

    def __init__(
        self,
        run: Path,
        *,
        after_step: int,
        after_epoch: int,
        writes: bool = True,
        tensorboard: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self._table = run / "metrics.csv"
        self._writes = writes
        self._watch = watch
        self._events: Any = None
        if not writes:
            return
        if tensorboard:
            self._events = _event_writer(run / "tensorboard", after_step)
        rows = []
        if self._table.is_file():
            # a crash may have cut the last line short
            whole, _, _ = self._table.read_text(encoding="utf-8", errors="replace").rpartition("\n")
            names, *cells = (line.split(",") for line in whole.splitlines() or [""])
            table = [dict(zip(names, row, strict=False)) for row in cells]
            rows = [row for row in table if _kept(row, after_step, after_epoch)]
        lines = [",".join(self.COLUMNS)]
        lines += [",".join(row.get(name) or "" for name in self.COLUMNS) for row in rows]
        write_bytes(self._table, ("\n".join(lines) + "\n").encode())

    def add(self, report: StepReport | EpochReport) -> None:
        """Send one report."""
        if not self._writes:
            return
        if isinstance(report, StepReport):
            values = {f.name: getattr(report, f.name) for f in fields(report)}
            values["crops_per_s"] = round(report.crops_per_s, 1)
            values["seconds_left"] = round(report.seconds_left)
        else:
            scores = report.scores
            values = {f"val_{f.name}": getattr(scores, f.name) for f in fields(scores)}
            values |= {"epoch": report.epoch, "step": report.step}
        with self._table.open("a", encoding="utf-8") as file:
            file.write(",".join(_cell(values.get(name)) for name in self.COLUMNS) + "\n")
        if self._events is not None:
            for name in self.COLUMNS[1:]:
                if name in values and name != "step":
                    self._events.add_scalar(name, values[name], report.step)
            self._events.flush()
        if self._watch is not None:
            self._watch(report)


def psnr(mean_squared_error: float) -> float:
    """Decibels for a peak of 1; infinite for 0.

    >>> psnr(0.01)
    20.0
    """
    return -10 * math.log10(mean_squared_error) if mean_squared_error > 0 else math.inf


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)


def _kept(row: dict[str, str], after_step: int, after_epoch: int) -> bool:
    try:
        is_epoch = bool(row["val_loss"])
        return int(row["epoch"]) <= after_epoch if is_epoch else int(row["step"]) <= after_step
    except (KeyError, TypeError, ValueError):
        return False  # not a row of this table


def _event_writer(folder: Path, after_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "TensorBoard is not installed: pip install tensorboard, or leave --tensorboard out; "
            "metrics.csv has the same figures."
        ) from error
    return SummaryWriter(folder, purge_step=after_step + 1)
