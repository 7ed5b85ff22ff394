"""Counts what is done, for a progress callback."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "Steps"]

Progress = Callable[[int, int, str], None]


class Steps:
    """One call a step; tells (done, total, label).

    Args:
        progress: is told; None for nobody.
        total: number of steps that will come.
        every: steps between two that are told; the last one is told always.
    """

    def __init__(self, progress: Progress | None, total: int, *, every: int = 1) -> None:
        self._progress = progress
        self._total = total
        self._every = every
        self._done = 0

    def __call__(self, label: str) -> None:
        self._done += 1
        if self._progress is not None and (
            self._done % self._every == 0 or self._done == self._total
        ):
            self._progress(self._done, self._total, label)
