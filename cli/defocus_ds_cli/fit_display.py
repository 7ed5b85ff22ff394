"""Training on stderr: a bar with loss, PSNR, speed and time left, or plain lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from defocus_ds_train.records import EpochReport, StepReport

__all__ = ["FitDisplay"]

_QUIET_S = 30.0  # no more than one plain line of steps in this time


class FitDisplay:
    """Shows the reports of `defocus_ds_train.loop.fit`; a context manager.

    Args:
        epochs: of the run.
        shown: False in all processes but the first: then it is silent.
    """

    def __init__(self, epochs: int, *, shown: bool = True) -> None:
        self._epochs = epochs
        self._shown = shown
        self._bar: Any = None
        self._task: Any = None
        self._latest = float("-inf")

    def __enter__(self) -> FitDisplay:
        if self._shown and sys.stderr.isatty():
            self._open_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, message: str) -> None:
        """A line of its own."""
        if self._bar is not None:
            self._bar.console.print(message, markup=False, highlight=False, soft_wrap=True)
        elif self._shown:
            click.echo(message, err=True)

    def show(self, report: StepReport | EpochReport) -> None:
        """One report of the loop."""
        from defocus_ds_train.records import StepReport

        if not isinstance(report, StepReport):
            self.say(_epoch_line(report))
            return
        text = (
            f"loss {report.loss:.5f}  PSNR {report.psnr:.2f} dB  "
            f"{report.crops_per_s:,.0f} crops/s  {_span(report.seconds_left)} left"
        )
        name = f"epoch {report.epoch}/{self._epochs}"
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=name,
                completed=report.step,
                total=report.steps,
                figures=text,
            )
            return
        now = time.monotonic()
        if now - self._latest >= _QUIET_S:
            self._latest = now
            self.say(f"{name}  step {report.step}/{report.steps}  {text}")

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(f"epoch 1/{self._epochs}", total=None, figures="")
        self._bar.start()


def _epoch_line(report: EpochReport) -> str:
    scores = report.scores
    return (
        f"epoch {report.epoch}/{report.epochs}  validation: loss {scores.loss:.5f}  PSNR "
        f"{scores.psnr:.3f} dB (blurred {scores.input_psnr:.3f})  Q {scores.q:.4g}"
        f"{'  best' if report.best else ''}"
    )


def _span(seconds: float) -> str:
    """``1:02:03``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
