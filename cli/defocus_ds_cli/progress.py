"""Progress on stderr: a bar per stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click

__all__ = ["Progress", "StageProgress"]

# plain lines: a stage's first and last, and no more than one in this many seconds between them
_QUIET_S = 2.0


class StageProgress:
    """One bar per stage, with counts and time left; a context manager.

    Args:
        totals: stage -> number of items, in the order to show; None where it is not known yet.
    """

    def __init__(self, totals: Mapping[str, int | None]) -> None:
        self._totals = dict(totals)
        self._done = dict.fromkeys(totals, 0)
        # stage -> what was done at its first line, and when: what came before it is no measure
        self._first: dict[str, tuple[int, float]] = {}
        self._start = time.monotonic()
        self._shown = float("-inf")
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> StageProgress:
        self._start = time.monotonic()
        if sys.stderr.isatty():
            self._open_bars()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def advance(self, stage: str, label: str = "") -> None:
        """One more item of a stage is done; ``label`` names it."""
        self.update(stage, self._done.get(stage, 0) + 1, self._totals.get(stage), label)

    def update(self, stage: str, done: int, total: int | None, label: str = "") -> None:
        """``done`` of ``total`` items of a stage are done; ``label`` names the latest."""
        self._done[stage], self._totals[stage] = done, total
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, label="")
            self._bars.update(self._tasks[stage], completed=done, total=total, label=label)
            return
        now = time.monotonic()
        self._first.setdefault(stage, (done, now))
        if done in (1, total) or now - self._shown >= _QUIET_S:
            self._shown = now
            click.echo(self._line(stage, label, now), err=True)

    def say(self, message: str) -> None:
        """A line of its own, above the bars."""
        if self._bars is not None:
            self._bars.console.print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(message, err=True)

    def _line(self, stage: str, label: str, now: float) -> str:
        done, total = self._done[stage], self._totals[stage]
        line = f"{stage}: {done if total is None else f'{done}/{total}'} {label}".rstrip()
        before, since = self._first[stage]
        # jobs side by side end their first items together, which says nothing of the next
        too_early = now - since < since - self._start
        if total is None or not before < done < total or too_early:
            return line
        left = round((now - since) / (done - before) * (total - done))
        return f"{line} ({left // 3600}:{left // 60 % 60:02}:{left % 60:02} left)"

    def _open_bars(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[label]}", markup=False),
            console=Console(stderr=True),
        )
        for stage, total in self._totals.items():
            self._tasks[stage] = self._bars.add_task(stage, total=total, label="")
        self._bars.start()


class Progress:
    """One stage's progress; a context manager.

    Either call `advance` once an item, or pass the object itself where a library function
    takes ``progress``: it is called with ``(done, total, label)``.

    Args:
        stage: name shown before the counts.
        total: number of items; None until it is known.
    """

    def __init__(self, stage: str, total: int | None = None) -> None:
        self._stage = stage
        self._stages = StageProgress({stage: total})

    def __enter__(self) -> Progress:
        self._stages.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stages.__exit__(kind, error, trace)

    def advance(self, label: str = "") -> None:
        """One more item is done; ``label`` names it."""
        self._stages.advance(self._stage, label)

    def __call__(self, done: int, total: int | None, label: str = "") -> None:
        """``done`` of ``total`` items are done; ``label`` names the latest."""
        self._stages.update(self._stage, done, total, label)
