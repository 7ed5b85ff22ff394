"""Which part of the sharp frame has all its source pixels inside the blurred frame."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from defocus_ds.optics import Warp

__all__ = ["overlap_share", "valid_area"]


def valid_area(warp: Warp) -> tuple[int, int, int, int]:
    """Largest axis-aligned rectangle whose every pixel interpolates from real pixels only.

    Args:
        warp: sharp frame -> blurred frame; both frames have its ``size``.

    Returns:
        (x0, y0, x1, y1), half-open, in pixels of the sharp frame: for every pixel in it the 4 x 4
        taps of the cubic interpolation lie inside the blurred frame.  (0, 0, 0, 0) if there is
        none.
    """
    width, height = warp.size
    cx, cy = warp.centre
    k = warp.radial / warp.half_diagonal_px**2
    box = _largest_rectangle(np.asarray(warp.matrix, np.float64), k, cx, cy, width, height)
    return box[0], box[1], box[2], box[3]


def overlap_share(warp: Warp, points: int = 101) -> float:
    """Share of the sharp frame that maps into the blurred frame, in [0, 1]."""
    width, height = warp.size
    grid = np.meshgrid(np.linspace(0, width - 1, points), np.linspace(0, height - 1, points))
    xy = warp.map_points(np.stack(grid, axis=-1).reshape(-1, 2))
    inside = (xy >= 0).all(axis=1) & (xy[:, 0] <= width - 1) & (xy[:, 1] <= height - 1)
    return float(inside.mean())


@numba.njit(cache=True, nogil=True)
def _largest_rectangle(m: Any, k: Any, cx: Any, cy: Any, width: Any, height: Any) -> Any:
    """Largest rectangle of valid pixels: rows whose rectangles all go on below are not searched."""
    run = np.zeros(width + 1, np.int32)  # valid pixels above and including this row; last is 0
    longer = np.zeros(width + 1, np.int32)
    best = (0, 0, 0, 0)
    for y in range(height + 1):
        ends = y == height
        dy = y - cy
        for x in range(width):
            dx = x - cx
            r = k * (dx * dx + dy * dy)
            sx = m[0, 0] * x + m[0, 1] * y + m[0, 2] + r * dx
            sy = m[1, 0] * x + m[1, 1] * y + m[1, 2] + r * dy
            valid = (sx >= 1.0) & (sx < width - 2.0) & (sy >= 1.0) & (sy < height - 2.0)
            ends |= (run[x] > 0) & (not valid)
            longer[x] = (run[x] + 1) * valid
        if ends:
            best = _rectangle_above(run, y, best)
        run, longer = longer, run
    return best


@numba.njit(cache=True, nogil=True)
def _rectangle_above(run: Any, bottom: Any, best: Any) -> Any:
    """The larger of ``best`` and the largest rectangle that ends above row ``bottom``.

    Search with a stack over the histogram ``run``, O(width).
    """
    starts, heights = np.zeros_like(run), np.zeros_like(run)
    depth = 0
    for x in range(len(run)):
        start = x
        while depth > 0 and heights[depth - 1] >= run[x]:
            depth -= 1
            start = starts[depth]
            area = heights[depth] * (x - start)
            if area > (best[2] - best[0]) * (best[3] - best[1]):
                best = (start, bottom - heights[depth], x, bottom)
        if run[x] > 0:
            starts[depth] = start
            heights[depth] = run[x]
            depth += 1
    return best
