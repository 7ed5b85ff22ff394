"""Distributions over the pairs, as inline SVG whose bars can be pressed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from defocus_ds.frames import BLURRED_LEVELS
from defocus_ds.report.figures import Figure
from defocus_ds.report.pairs import PairView
from defocus_ds.wording import counted

__all__ = ["Bins", "bins_of", "histogram"]

_WIDTH, _LEFT, _RIGHT = 420.0, 58.0, 8.0
_ROW, _GAP, _AXIS = 48.0, 8.0, 22.0
_BINS = 16
# times the spread of the middle 80 %: values so far above it share the last bar, so that one
# cannot squeeze all the others into the first
_FAR = 2.0
_FEW = 8  # values, of which none is called far
_MARK = 52.0  # width of the text below a bar


@dataclass(frozen=True, slots=True)
class Bins:
    """``count`` bins of ``step`` from ``first * step``; with ``tail``, one more for all above."""

    first: int
    step: float
    count: int
    tail: bool

    @property
    def total(self) -> int:
        return self.count + self.tail

    def index(self, value: float) -> int:
        """The bin of a value that `bins_of` has seen."""
        at = math.floor(value / self.step + 1e-9) - self.first
        return min(max(at, 0), self.total - 1)

    def edge(self, index: int) -> str:
        """The lower edge of a bin, as text."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return f"{(self.first + index) * self.step:.{digits}f}"

    def name(self, index: int) -> str:
        """What a bin holds, as text."""
        if index >= self.count:
            return f"{self.edge(self.count)} and above"
        return f"{self.edge(index)} to {self.edge(index + 1)}"


def bins_of(values: Sequence[float]) -> Bins:
    """At most 17 bins with round edges; far outliers share the last.

    Args:
        values: finite, at least one.

    >>> bins_of([0.021, 0.03, 0.05]).name(0)
    '0.020 to 0.022'
    >>> bins_of([0.1] * 20 + [7.0]).tail
    True
    """
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    tenth, most = (ordered[int(q * (len(ordered) - 1))] for q in (0.1, 0.9))
    reach = most + _FAR * (most - tenth)
    tail = high > reach and len(ordered) >= _FEW
    top = reach if tail else high
    step = _round_step(max(top - low, 0.02 * abs(top), 1e-6) / _BINS)
    first = math.floor(low / step + 1e-9)
    count = max(1, math.floor(top / step + 1e-9) + 1 - first)
    return Bins(first, step, count, tail and math.floor(high / step + 1e-9) - first >= count)


def histogram(figure: Figure, pairs: Sequence[PairView], *, limit: float | None = None) -> str:
    """How the values of a figure are spread, a line of bars for each level.

    Args:
        figure: what to count.
        pairs: all of them, in the page's order; a bar names its pairs by their place in it.
        limit: a value to mark.

    Returns:
        An ``<svg>`` to stand inside the page, whose style it takes; a line of text if no pair
        has a value.
    """
    known = [(at, pair, v) for at, pair in enumerate(pairs) if (v := figure.of(pair)) is not None]
    if not known:
        return f'<p class="hint">{escape(figure.name)}: no pair has it.</p>'
    bins = bins_of([value for _, _, value in known])
    levels = [level for level in BLURRED_LEVELS if any(p.level == level for _, p, _ in known)]
    held: dict[tuple[str, int], list[int]] = {}
    for at, pair, value in known:
        held.setdefault((pair.level, bins.index(value)), []).append(at)
    most = max(len(rows) for rows in held.values())
    width = (_WIDTH - _LEFT - _RIGHT) / bins.total
    bottom = len(levels) * (_ROW + _GAP)
    parts = [
        f'<svg class="histogram" viewBox="0 0 {_WIDTH:.0f} {bottom + _AXIS:.0f}" role="group" '
        f'aria-label="{escape(figure.name)}: distribution by level">'
    ]
    for line, level in enumerate(levels):
        base = (line + 1) * (_ROW + _GAP)
        total = sum(pair.level == level for _, pair, _ in known)
        parts.append(
            f'<text x="0" y="{base - _ROW / 2:.0f}">{level}</text>'
            f'<text class="count" x="0" y="{base - _ROW / 2 + 14:.0f}">{counted(total, "pair")}'
            f'</text><path class="base" d="M{_LEFT:.0f} {base:.1f}H{_WIDTH - _RIGHT:.0f}"/>'
        )
        for index in range(bins.total):
            if rows := held.get((level, index)):
                label = f"{figure.name} {bins.name(index)}, {level}: {counted(len(rows), 'pair')}"
                height = max(3.0, (_ROW - 2) * len(rows) / most)
                place = _LEFT + index * width
                parts.append(
                    f'<g class="bin{" tail" if index >= bins.count else ""}" role="button" '
                    f'tabindex="-1" aria-pressed="false" aria-label="{escape(label)}" '
                    f'data-rows="{" ".join(map(str, rows))}"><title>{escape(label)}</title>'
                    f'<rect class="hit" x="{place:.2f}" y="{base - _ROW:.1f}" '
                    f'width="{width:.2f}" height="{_ROW:.1f}"/>'
                    f'<rect class="fill" x="{place + 1:.2f}" y="{base - height:.1f}" '
                    f'width="{width - 2:.2f}" height="{height:.1f}"/></g>'
                )
    parts.append(_axis(bins, width, bottom))
    # the limit's place is known only below the bar that holds everything above
    mark = None if limit is None else limit / bins.step - bins.first
    if mark is not None and 0 < mark <= bins.count:
        parts.append(
            f'<path class="limit" d="M{_LEFT + mark * width:.1f} 0V{bottom:.1f}">'
            f"<title>limit {limit:g}</title></path>"
        )
    return "".join([*parts, "</svg>"])


def _axis(bins: Bins, width: float, bottom: float) -> str:
    """Round values below the bars, four or five of them; the tail is marked as open."""
    every = max(1, math.ceil(bins.count / 4))
    marks = [(index, bins.edge(index)) for index in range(0, bins.count + 1, every)]
    if bins.tail:
        marks = [mark for mark in marks if (bins.total - mark[0]) * width > 2 * _MARK]
        marks.append((bins.count, f"≥ {bins.edge(bins.count)}"))
    return "".join(
        f'<text class="mark" text-anchor="{"end" if index == bins.total else "middle"}" '
        f'x="{_LEFT + index * width:.1f}" y="{bottom + 15:.1f}">{text}</text>'
        for index, text in marks
    )


def _round_step(step: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is no shorter."""
    power = 10.0 ** math.floor(math.log10(step) + 1e-9)
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))
