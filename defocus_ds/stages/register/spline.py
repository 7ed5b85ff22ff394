"""Cubic B-spline interpolation of a plane, with far less smoothing than four-tap kernels."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from defocus_ds.frames import FloatImage

__all__ = ["spline_coefficients", "spline_value"]

_POLE = float(np.sqrt(3) - 2)


def spline_coefficients(plane: FloatImage) -> FloatImage:
    """Coefficients whose cubic B-spline passes through the pixels; borders mirrored.

    Args:
        plane: (h, w) float32.

    Returns:
        (h, w) float32.

    Source:
        Unser, Aldroubi & Eden 1993.
    """
    rows = np.ascontiguousarray(plane, np.float32).copy()
    _filter_rows(rows)
    columns = np.ascontiguousarray(rows.T)
    _filter_rows(columns)
    return np.ascontiguousarray(columns.T)


@numba.njit(cache=True, nogil=True)
def _filter_rows(rows: Any) -> None:
    height, width = rows.shape
    z = _POLE
    line = np.zeros(width)
    reach = min(width, 24)  # z^24 is below float32's last digit
    for y in range(height):
        start = 0.0
        power = 1.0
        for x in range(reach):
            start += power * rows[y, x]
            power *= z
        line[0] = 6 * start
        for x in range(1, width):
            line[x] = 6 * rows[y, x] + z * line[x - 1]
        line[width - 1] = z / (z * z - 1) * (line[width - 1] + z * line[width - 2])
        for x in range(width - 2, -1, -1):
            line[x] = z * (line[x + 1] - line[x])
        for x in range(width):
            rows[y, x] = line[x]


@numba.njit(cache=True, nogil=True)
def spline_value(coefficients: Any, sx: Any, sy: Any) -> Any:
    """Value at (sx, sy); the caller keeps the 4 x 4 taps inside."""
    ix = int(np.floor(sx))
    iy = int(np.floor(sy))
    t = sx - ix
    u = 1 - t
    a0, a3 = u * u * u / 6, t * t * t / 6
    a1, a2 = 2 / 3 - t * t * (1 - t / 2), 2 / 3 - u * u * (1 - u / 2)
    t = sy - iy
    u = 1 - t
    b0, b3 = u * u * u / 6, t * t * t / 6
    b1, b2 = 2 / 3 - t * t * (1 - t / 2), 2 / 3 - u * u * (1 - u / 2)
    value = 0.0
    for j in range(4):
        b = b0 if j == 0 else b1 if j == 1 else b2 if j == 2 else b3
        row = iy - 1 + j
        value += b * (
            a0 * coefficients[row, ix - 1]
            + a1 * coefficients[row, ix]
            + a2 * coefficients[row, ix + 1]
            + a3 * coefficients[row, ix + 2]
        )
    return value
