"""Maps over the frame as small pictures: blur radius by place, and what no blur explains."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import UInt8Image
from defocus_ds.report.pairs import Area, Cell
from defocus_ds.report.svg import WIDTH, svg_head, valid_outline
from defocus_ds.stages.register.radius_map import STEP_PX, RadiusMap

__all__ = ["radius_plot", "unexplained_plot"]

_UNSURE = (140, 140, 140)  # grey, into which colours fade on light pages and on dark ones
_BAR = 150.0
_MOST_UNEXPLAINED = 1.0  # of the contrast: at and above it content is foreign
_CLEAN, _FOREIGN = (154, 190, 174), (179, 38, 30)  # colours of 0 and of that
_SURE = 0.2  # confidence from which a radius counts for the range of the colours

Values = npt.NDArray[np.float64]


def radius_plot(radii: RadiusMap | None, *, size: tuple[int, int], area: Area | None) -> str:
    """The blur radius at every node as a colour, the greyer the less sure.

    Args:
        radii: the pair's map; None if it has none.
        size: (width, height) of the sharp frame in px.
        area: (x0, y0, x1, y1) valid area, outlined.

    Returns:
        An SVG document with a scale of its colours, in px, below the frame.
    """
    if radii is None:
        return _empty("blur radius", "no radius map was recorded; build again to have one")
    sure = radii.confidence
    known = radii.radius_px[sure >= _SURE]
    if not known.size:
        return _empty("blur radius", "no blur radius could be measured")
    low, high = (float(v) for v in np.quantile(known, (0.01, 0.99)))
    middle, half = (low + high) / 2, max((high - low) / 2, 0.025 * high, 0.05)
    low, high = max(middle - half, 0.0), middle + half
    colours = _viridis(np.nan_to_num((radii.radius_px - low) / (high - low)))
    faded = np.rint(np.array(_UNSURE) + (colours - np.array(_UNSURE, float)) * sure[..., None])
    rows, columns = sure.shape
    note = (
        f"every {STEP_PX} px, median deviation {np.nanmedian(radii.deviation_px):.2f} px; "
        "grey: unsure, blank: unknown"
    )
    picture = _Raster(faded.astype(np.uint8), np.sign(sure), (columns * STEP_PX, rows * STEP_PX))
    scale = _viridis(np.linspace(0, 1, 64))
    ends = (f"{low:.2f} px", f"{high:.2f} px")
    return _document("blur radius", picture, size, area, ends, scale, note)


def unexplained_plot(cells: Sequence[Cell], *, size: tuple[int, int], area: Area | None) -> str:
    """Which share of the contrast of each cell the blur-matched sharp image leaves unexplained.

    Args:
        cells: textured cells of the local checks.
        size: (width, height) of the sharp frame in px.
        area: (x0, y0, x1, y1) valid area, outlined.

    Returns:
        An SVG document: 0 is explained, 1 and more is foreign content.
    """
    if not cells:
        return _empty("unexplained contrast", "no cell was textured enough to be checked")
    xs, ys = (np.unique([getattr(c, axis) for c in cells]) for axis in "xy")
    side = [_gap(v, length) for v, length in zip((xs, ys), size, strict=True)]
    columns, rows = (max(round(n / s), 1) for n, s in zip(size, side, strict=True))
    share, known = np.zeros((rows, columns)), np.zeros((rows, columns))
    for cell in cells:
        at = min(int(cell.y / side[1]), rows - 1), min(int(cell.x / side[0]), columns - 1)
        share[at], known[at] = cell.share, 1.0
    part = np.clip(share / _MOST_UNEXPLAINED, 0, 1)[..., None]
    clean, foreign = np.array(_CLEAN), np.array(_FOREIGN)
    colours = np.rint(clean + (foreign - clean) * part).astype(np.uint8)
    worst = max(c.share for c in cells)
    note = f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}, worst {worst:.2f}; blank: flat"
    picture = _Raster(colours, known, size)
    scale = np.rint(np.linspace(_CLEAN, _FOREIGN, 32)).astype(np.uint8)
    ends = ("0 explained", "1 foreign")
    return _document("unexplained contrast", picture, size, area, ends, scale, note)


def _viridis(values: Values) -> UInt8Image:
    """(..., 3) uint8 RGB of values in [0, 1]."""
    import cv2

    table = np.arange(256, dtype=np.uint8)[:, None]
    colours = np.asarray(cv2.applyColorMap(table, cv2.COLORMAP_VIRIDIS))[:, 0, ::-1]
    return np.asarray(colours[np.rint(np.clip(values, 0, 1) * 255).astype(np.int64)], np.uint8)


@dataclass(frozen=True, slots=True)
class _Raster:
    """(rows, columns, 3) uint8 colours and (rows, columns) opacity over ``extent`` px."""

    colours: UInt8Image
    opacity: Values
    extent: tuple[int, int]

    def data_uri(self) -> str:
        import cv2

        alpha = np.rint(np.clip(self.opacity, 0, 1) * 255).astype(np.uint8)
        done, data = cv2.imencode(".png", np.dstack([self.colours[..., ::-1], alpha]))
        assert done
        return f"data:image/png;base64,{base64.b64encode(bytes(data)).decode()}"


def _document(
    label: str,
    picture: _Raster,
    size: tuple[int, int],
    area: Area | None,
    ends: tuple[str, str],
    scale: UInt8Image,
    note: str,
) -> str:
    unit = WIDTH / max(1, size[0])
    frame = size[1] * unit
    width, height = (n * unit for n in picture.extent)
    bar = _Raster(scale[None], np.ones((1, len(scale))), (len(scale), 1))
    left = 6.2 * len(ends[0]) + 4
    style = 'preserveAspectRatio="none" style="image-rendering:pixelated"'
    return "".join(
        [
            svg_head(frame + 38, label),
            f'<clipPath id="f"><rect width="{WIDTH:.0f}" height="{frame:.1f}"/></clipPath>',
            f'<g clip-path="url(#f)"><image width="{width:.2f}" height="{height:.2f}" {style} '
            f'href="{picture.data_uri()}"/></g>',
            f'<rect class="frame" x=".5" y=".5" width="{WIDTH - 1:.1f}" height="{frame:.1f}"/>',
            valid_outline(area, size),
            f'<text x="0" y="{frame + 15:.1f}">{escape(ends[0])}</text>',
            f'<image x="{left:.1f}" y="{frame + 6:.1f}" width="{_BAR:.0f}" height="10" '
            f'preserveAspectRatio="none" href="{bar.data_uri()}"/>',
            f'<text x="{left + _BAR + 5:.1f}" y="{frame + 15:.1f}">{escape(ends[1])}</text>',
            f'<text x="0" y="{frame + 32:.1f}">{escape(note)}</text></svg>',
        ]
    )


def _empty(label: str, why: str) -> str:
    return f'{svg_head(22, label)}<text x="0" y="14">{escape(why)}</text></svg>'


def _gap(lines: Values, length: int) -> float:
    """Side of a cell from the places of those that are known."""
    return float(np.diff(lines).min()) if len(lines) > 1 else float(length)
