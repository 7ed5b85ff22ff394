"""What the small SVG pictures share: their head, with colours for light and dark, and an outline.

They carry their own colours, since a page shows them as images.
"""

from __future__ import annotations

from html import escape

from defocus_ds.report.pairs import Area

__all__ = ["WIDTH", "svg_head", "valid_outline"]

WIDTH = 420.0
_STYLE = (
    "<style>"
    "text{font:11px system-ui,sans-serif;fill:#555}"
    ".frame{fill:none;stroke:#bbb}"
    ".arrow{stroke:#1f6feb;stroke-width:1.6;fill:none}"
    ".far{stroke:#d1242f}"
    ".line{stroke:#1f6feb;stroke-width:1.4;fill:none}"
    ".split{stroke:#ccc;stroke-dasharray:2 3}"
    ".valid{fill:none;stroke:#8a5a00;stroke-dasharray:6 4}"
    "@media(prefers-color-scheme:dark){"
    "text{fill:#aaa}.frame{stroke:#555}.arrow,.line{stroke:#6cb6ff}.far{stroke:#ff7b72}"
    ".split{stroke:#444}.valid{stroke:#e3b341}}"
    "</style>"
)


def svg_head(height: float, label: str) -> str:
    """The opening of a document `WIDTH` wide and ``height`` high, with its style."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" '
        f'role="img" aria-label="{escape(label)}">{_STYLE}'
    )


def valid_outline(area: Area | None, size: tuple[int, int]) -> str:
    """The dashed outline of (x0, y0, x1, y1), half-open px, over a frame of ``size`` px."""
    if area is None or area[2] <= area[0] or area[3] <= area[1]:
        return ""
    unit = WIDTH / max(1, size[0])
    x, y, right, bottom = (v * unit for v in area)
    return (
        f'<rect class="valid" x="{x:.1f}" y="{y:.1f}" '
        f'width="{right - x:.1f}" height="{bottom - y:.1f}"/>'
    )
