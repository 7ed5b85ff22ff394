"""Small SVG pictures: the residual-shift field and the convergence of the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from defocus_ds.report.pairs import Area, Shift, Trace
from defocus_ds.report.svg import WIDTH, svg_head, valid_outline

__all__ = ["shift_plot", "trace_plot"]


def shift_plot(
    shifts: Sequence[Shift],
    *,
    size: tuple[int, int],
    limit_px: float | None = None,
    area: Area | None = None,
) -> str:
    """The residual shifts as arrows over the frame, magnified so that the larger ones show.

    Args:
        shifts: measured shifts, in px of the sharp frame.
        size: (width, height) of the sharp frame in px.
        limit_px: shifts longer than this are drawn in the warning colour.
        area: (x0, y0, x1, y1) valid area, outlined.

    Returns:
        An SVG document; below the frame is an arrow of stated length.
    """
    width, height = size
    unit = WIDTH / max(1, width)
    frame = height * unit
    lengths = sorted(s.length_px for s in shifts)
    typical = lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0.0
    spacing = (width * height / max(1, len(shifts))) ** 0.5 * unit
    gain = min(0.8 * spacing, 30.0) / max(typical, 1e-3)  # drawn px per px of shift
    parts = [svg_head(frame + (38 if shifts else 18), "residual shift")]
    parts.append(
        f'<rect class="frame" x=".5" y=".5" width="{WIDTH - 1:.1f}" height="{frame:.1f}"/>'
    )
    for s in shifts:
        far = limit_px is not None and s.length_px > limit_px
        cut = min(1.0, 2 * spacing / max(gain * s.length_px, 1e-9))
        x, y = s.x * unit, s.y * unit
        dx, dy = gain * cut * s.dx, gain * cut * s.dy
        parts.append(
            f'<path class="arrow{" far" if far else ""}" '
            f'opacity="{0.25 + 0.75 * min(1.0, max(0.0, s.confidence)):.2f}" '
            f'd="M{x:.1f} {y:.1f}l{dx:.1f} {dy:.1f}{_head(dx, dy)}"/>'
        )
    parts.append(valid_outline(area, size))
    if not shifts:
        why = "no residual shift was measured"
        return "".join([*parts, f'<text x="0" y="{frame + 13:.1f}">{why}</text></svg>'])
    shown = _round_length(40 / gain)
    drawn = gain * shown
    note = f"{shown:g} px, magnified {gain / unit:.{1 if gain < 10 * unit else 0}f} times"
    if limit_px is not None:
        above = sum(v > limit_px for v in lengths)
        note += f"; {above} of {len(shifts)} above {limit_px:g} px" + " (red)" * (above > 0)
    points = "1 point" if len(shifts) == 1 else f"{len(shifts)} points"
    parts.append(
        f'<path class="arrow" d="M1 {frame + 11:.1f}l{drawn:.1f} 0{_head(drawn, 0)}"/>'
        f'<text x="{drawn + 7:.1f}" y="{frame + 15:.1f}">{escape(note)}</text>'
        f'<text x="0" y="{frame + 32:.1f}">{points}, 90 % below {typical:.3f} px; pale: unsure'
        f"{'; dashed: valid area' if area else ''}</text></svg>"
    )
    return "".join(parts)


def trace_plot(traces: Sequence[Trace]) -> str:
    """The metric of each stage by iteration, side by side, each on its own scale.

    Args:
        traces: one per stage or pyramid level, in order.

    Returns:
        An SVG document.
    """
    height, top = 130.0, 18.0
    parts = [svg_head(top + height + 30, "registration metric")]
    if not traces:
        parts.append('<text x="0" y="14">no metric trace was recorded</text></svg>')
        return "".join(parts)
    panel = WIDTH / len(traces)
    for index, trace in enumerate(traces):
        left, low, high = index * panel, min(trace.values), max(trace.values)
        step = (panel - 8) / (len(trace.values) - 1)
        scale = height / ((high - low) or 1.0)
        points = " ".join(
            f"{left + 4 + i * step:.1f},{top + (high - v) * scale:.1f}"
            for i, v in enumerate(trace.values)
        )
        if index:
            parts.append(f'<path class="split" d="M{left:.1f} {top:.1f}v{height:.1f}"/>')
        parts.append(f'<polyline class="line" points="{points}"/>')
        name = escape(_fitting(trace.name, panel - 8))
        parts.append(f'<text x="{left + 4:.1f}" y="12">{name}</text>')
        for line, value in enumerate((trace.values[0], trace.values[-1])):
            y = top + height + 13 * (line + 1)
            text = escape(_fitting(f"{'→ ' * line}{value:.3g}", panel - 8))
            parts.append(f'<text x="{left + 4:.1f}" y="{y:.1f}">{text}</text>')
    return "".join(parts) + "</svg>"


def _round_length(length_px: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is no longer."""
    power = 10.0 ** math.floor(math.log10(max(length_px, 1e-9)))
    return next(step * power for step in (5, 2, 1) if step * power <= length_px * (1 + 1e-9))


def _head(dx: float, dy: float) -> str:
    """Two strokes at the tip, a third of the arrow back; a dot when the arrow is tiny."""
    if dx * dx + dy * dy < 1:
        return "h1"
    back, side = 0.3, 0.18
    ax, ay = -back * dx - side * dy, -back * dy + side * dx
    bx, by = -back * dx + side * dy, -back * dy - side * dx
    return f"l{ax:.1f} {ay:.1f}m{-ax:.1f} {-ay:.1f}l{bx:.1f} {by:.1f}"


def _fitting(text: str, width: float) -> str:
    room = max(1, int(width / 6))
    return text if len(text) <= room else text[: room - 1] + "…"
