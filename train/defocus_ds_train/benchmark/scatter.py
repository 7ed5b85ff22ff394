"""Sharpness against similarity, one point a method, as in Fig. 5 of MMSP 2024."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from defocus_ds.frames import UInt8Image
from defocus_ds.report.svg import WIDTH, svg_head
from defocus_ds_train.benchmark.published import PublishedTable
from defocus_ds_train.benchmark.results import Score

__all__ = ["Scatter", "plan_scatter", "scatter_png", "scatter_svg"]

_HEIGHT = 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 10.0, 38.0
_LINE = 12.0
_TITLE_X, _TITLE_Y = "Q: sharper to the right (hollow: the paper)", "SSIM: more faithful upwards"


@dataclass(frozen=True, slots=True)
class Point:
    """A method at (x, y), its label's baseline at ``label_at``; all in units of the picture.

    ``hollow`` points are the paper's own figures.
    """

    x: float
    y: float
    label: str
    hollow: bool
    label_at: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scatter:
    """Where everything lies in a picture `WIDTH` wide.

    Attributes:
        points: the methods.
        across, down: (position, text) of the ticks.
        truth: position of the sharp crops' own Q, where it is known.
    """

    points: tuple[Point, ...]
    across: tuple[tuple[float, str], ...]
    down: tuple[tuple[float, str], ...]
    truth: float | None


def plan_scatter(scores: Sequence[Score], table: PublishedTable | None = None) -> Scatter | None:
    """Lay out the methods of one set.

    Args:
        scores: of one set.  The sharp crop itself becomes a line: what is to its right is sharper
            than the truth, so it is overdone or noise.
        table: of the paper, whose rows are shown too.

    Returns:
        None without both "q" and "ssim", or without a method.
    """
    have = [s for s in scores if {"q", "ssim"} <= s.means.keys()]
    shown = [s for s in have if s.identity.get("kind") != "sharp"]
    truths = [s.means["q"] for s in have if s.identity.get("kind") == "sharp"]
    if not shown:
        return None
    dots = [_Dot(s.means["q"], s.means["ssim"], _label(s), hollow=False) for s in shown]
    rows = () if table is None else table.rows.values()
    dots += [_Dot(row.q, row.ssim, row.name, hollow=True) for row in rows]
    x, across = _axis([dot.x for dot in dots] + truths, _LEFT, WIDTH - _RIGHT)
    y, down = _axis([dot.y for dot in dots], _HEIGHT - _BOTTOM, _TOP)
    drawn = [replace(dot, x=x(dot.x), y=y(dot.y)) for dot in dots]
    return Scatter(
        tuple(_placed(drawn)), tuple(across), tuple(down), x(truths[0]) if truths else None
    )


def scatter_svg(plan: Scatter) -> str:
    """An SVG document, for light and dark pages."""
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    parts = [svg_head(_HEIGHT, "Q against SSIM")]
    parts += [
        f'<path class="split" d="M{at:.1f} {top}V{bottom}"/>'
        f'<text x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{text}</text>'
        for at, text in plan.across
    ]
    parts += [
        f'<path class="split" d="M{left} {at:.1f}H{right}"/>'
        f'<text x="{left - 5}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
        for at, text in plan.down
    ]
    if plan.truth is not None:
        parts.append(f'<path class="valid" d="M{plan.truth:.1f} {top}V{bottom}"/>')
        at, anchor = (
            (plan.truth - 4, "end") if _near_edge(plan.truth) else (plan.truth + 4, "start")
        )
        parts.append(f'<text x="{at:.1f}" y="{bottom - 5}" text-anchor="{anchor}">sharp</text>')
    parts.append(
        f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>'
    )
    for point in plan.points:
        (lx, ly), label = point.label_at, escape(point.label)
        if line := _leader(point):
            parts.append('<path class="frame" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>'.format(*line))
        style = 'fill="none" stroke="#1f6feb"' if point.hollow else 'fill="#1f6feb"'
        parts.append(f'<circle cx="{point.x:.1f}" cy="{point.y:.1f}" r="3.5" {style}/>')
        parts.append(f'<text x="{lx:.1f}" y="{ly:.1f}">{label}</text>')
    middle = (left + right) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{_TITLE_X}</text>')
    down = (top + bottom) / 2
    parts.append(
        f'<text transform="translate(9 {down}) rotate(-90)" text-anchor="middle">{_TITLE_Y}</text>'
    )
    return "".join(parts) + "</svg>"


def scatter_png(plan: Scatter, *, scale: int = 2) -> UInt8Image:
    """The same picture as (H, W, 3) uint8 RGB on white, ``scale`` pixels a unit."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (round(WIDTH * scale), round(_HEIGHT * scale)), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=11 * scale)
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM

    def line(*places: float, fill: str, width: int = 1) -> None:
        draw.line([place * scale for place in places], fill=fill, width=width)

    def text(x: float, y: float, words: str, anchor: str) -> None:
        draw.text((x * scale, y * scale), words, fill="#444444", font=font, anchor=anchor)

    for at, words in plan.across:
        line(at, top, at, bottom, fill="#e2e2e2")
        text(at, bottom + 14, words, "ms")
    for at, words in plan.down:
        line(left, at, right, at, fill="#e2e2e2")
        text(left - 5, at, words, "rm")
    if plan.truth is not None:
        line(plan.truth, top, plan.truth, bottom, fill="#8a5a00", width=scale)
        before = _near_edge(plan.truth)
        text(plan.truth + (-4 if before else 4), bottom - 5, "sharp", "rs" if before else "ls")
    draw.rectangle([v * scale for v in (left, top, right, bottom)], outline="#bbbbbb")
    for point in plan.points:
        box = (point.x - 3.5, point.y - 3.5, point.x + 3.5, point.y + 3.5)
        if leader := _leader(point):
            line(*leader, fill="#bbbbbb", width=scale // 2)
        inside = "white" if point.hollow else "#1f6feb"
        draw.ellipse([v * scale for v in box], fill=inside, outline="#1f6feb", width=scale)
        text(*point.label_at, point.label, "ls")
    text((left + right) / 2, _HEIGHT - 6, _TITLE_X, "ms")
    upright = Image.new("RGB", (round((bottom - top) * scale), 16 * scale), "white")
    ImageDraw.Draw(upright).text(
        (upright.width / 2, 12 * scale), _TITLE_Y, fill="#444444", font=font, anchor="ms"
    )
    image.paste(
        upright.rotate(90, expand=True).crop((0, 0, 14 * scale, upright.width)),
        (0, int(top * scale)),
    )
    return np.asarray(image)


def _near_edge(x: float) -> bool:
    return x > WIDTH - _RIGHT - 40


def _axis(
    values: Sequence[float], first: float, last: float
) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """(function to positions, ticks), with a margin around the values."""
    low, high = min(values), max(values)
    spare = max(0.08 * (high - low), 0.01)
    low, high = low - spare, high + spare
    step = _round_step((high - low) / 5)

    def position(value: float) -> float:
        return first + (value - low) / (high - low) * (last - first)

    digits = max(0, -math.floor(math.log10(step)))
    ticks = [
        (position(number * step), f"{number * step:.{digits}f}")
        for number in range(math.ceil(low / step), math.floor(high / step) + 1)
    ]
    return position, ticks


def _round_step(step: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= step * (1 - 1e-9))


def _label(score: Score) -> str:
    return score.method if score.protocol == "as given" else f"{score.method}, {score.protocol}"


@dataclass(frozen=True, slots=True)
class _Dot:
    x: float
    y: float
    label: str
    hollow: bool


def _placed(dots: Sequence[_Dot]) -> list[Point]:
    """Each label at the free place nearest to its point, on either side of it."""
    taken = [(dot.x - 4, dot.x + 4, dot.y - 4, dot.y + 4) for dot in dots]
    points = []
    for dot in sorted(dots, key=lambda dot: (dot.y, dot.x)):
        wide = 5.8 * len(dot.label)
        places = [
            (x, dot.y + 4 + line * sign * _LINE)
            for line in range(8)
            for sign in ((1, -1) if line else (1,))
            for x in (dot.x + 6, dot.x - 6 - wide)
        ]
        inside = [
            (x, y)
            for x, y in places
            if x > _LEFT and x + wide < WIDTH - _RIGHT and _TOP + 10 < y < _HEIGHT - _BOTTOM - 2
        ]
        free = [
            (x, y)
            for x, y in inside
            if not any(
                x < right and x + wide > left and y - 9 < bottom and y + 2 > top
                for left, right, top, bottom in taken
            )
        ]
        x, y = (free or inside or places)[0]
        taken.append((x, x + wide, y - 9, y + 2))
        points.append(Point(dot.x, dot.y, dot.label, dot.hollow, (x, y)))
    return points


def _leader(point: Point) -> tuple[float, float, float, float] | None:
    """A line from the point to its label, where that is not beside it."""
    x, y = point.label_at
    if abs(y - 4 - point.y) < 1:
        return None
    end = x - 2 if x > point.x else x + 5.8 * len(point.label) + 2
    return point.x, point.y, end, y - 4
