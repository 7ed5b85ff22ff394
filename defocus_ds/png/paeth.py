"""The filter of PNG that predicts a byte from three neighbours (Paeth 1991), and its inverse."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["PAETH", "apply_paeth", "undo_paeth"]

PAETH = 4  # its name at the start of a line
_LANES = 64  # lines undone side by side
_NARROW = 4096  # pixels of a line: 64 such lines fit into the cache when turned


@numba.njit(cache=True, nogil=True)
def apply_paeth(image: Any, step: Any, out: Any) -> None:
    """Differences to Paeth's prediction, after the byte that names the filter of each line."""
    width = image.shape[1]
    for y in range(image.shape[0]):
        out[y, 0] = PAETH
        for x in range(min(step, width)):
            out[y, x + 1] = image[y, x] - (image[y - 1, x] if y else np.uint8(0))
        if y == 0:  # nothing above: the left one is the prediction
            for x in range(step, width):
                out[y, x + 1] = image[y, x] - image[y, x - step]
            continue
        left, above, corner = image[y, : width - step], image[y - 1, step:], image[y - 1]
        line, to = image[y, step:], out[y, step + 1 :]
        for x in range(width - step):
            near = _paeth(np.int16(left[x]), np.int16(above[x]), np.int16(corner[x]))
            to[x] = line[x] - near


@numba.njit(cache=True, nogil=True)
def undo_paeth(filtered: Any, step: Any, image: Any) -> Any:
    """The inverse of `apply_paeth`; False where another filter is named.

    Args:
        filtered: (H, W * step + 1) uint8.
        step: bytes a pixel.
        image: (H, W * step) uint8, written.
    """
    height, width = image.shape
    for y in range(height):
        if filtered[y, 0] != PAETH:
            return False
    if step == 1 and width <= _NARROW:
        _undo_diagonally(filtered, image)
        return True
    none = np.zeros(width, np.uint8)
    for y in range(height):
        above = image[y - 1] if y else none
        for c in range(step):
            _undo_line(filtered[y, 1 + c :: step], above[c::step], image[y, c::step])
    return True


@numba.njit(cache=True, nogil=True)
def _undo_diagonally(filtered: Any, image: Any) -> None:
    """Each line a pixel behind the one above it: what a pixel waits for is then always there.

    Row ``s`` of the turned arrays holds pixel ``s - j`` of line ``j``.
    """
    height, width = image.shape
    lines = np.zeros((width + _LANES, _LANES), np.uint8)
    turned = np.zeros((width + _LANES, _LANES), np.int16)
    above = np.zeros(width + _LANES, np.int16)
    for top in range(0, height, _LANES):
        count = min(_LANES, height - top)
        if top:
            above[:width] = image[top - 1]
        for j in range(count):
            lines[:j, j] = 0
            for x in range(width):
                lines[x + j, j] = filtered[top + j, x + 1]
        _undo_turned(lines, above, turned, width + count - 1)
        for j in range(count):
            for x in range(width):
                image[top + j, x] = turned[x + j, j]


@numba.njit(cache=True, nogil=True)
def _undo_turned(lines: Any, above: Any, turned: Any, steps: Any) -> None:
    """All lines of a step at once: every result is cut to 16 bits, or fewer fit side by side."""
    before = np.zeros(_LANES + 1, np.int16)  # the last pixel of the line above and of every line
    earlier = np.zeros(_LANES + 1, np.int16)
    now = np.zeros(_LANES, np.int16)
    for s in range(steps):
        before[0] = above[s]
        for j in range(_LANES):
            left, up, corner = before[j + 1], before[j], earlier[j]
            a, b = np.int16(up - corner), np.int16(left - corner)
            c = np.int16(a + b)
            to_left, to_above = max(a, np.int16(-a)), max(b, np.int16(-b))
            to_corner = max(c, np.int16(-c))
            rest = up if to_above <= to_corner else corner
            near = left if to_left <= min(to_above, to_corner) else rest
            now[j] = np.int16(np.int16(lines[s, j]) + near) & np.int16(255)
        for j in range(_LANES + 1):  # slices would be copied one value at a time
            earlier[j] = before[j]
        for j in range(_LANES):
            before[j + 1] = turned[s, j] = now[j]


@numba.njit(cache=True, nogil=True)
def _undo_line(line: Any, above: Any, to: Any) -> None:
    left, corner = np.int32(0), np.int32(0)
    for x in range(line.size):
        up = np.int32(above[x])
        left = (np.int32(line[x]) + _paeth(left, up, corner)) & np.int32(255)
        to[x] = left
        corner = up


@numba.njit(cache=True, nogil=True)
def _paeth(left: Any, above: Any, corner: Any) -> Any:
    """Of three neighbours the one nearest to left + above - corner."""
    a, b = above - corner, left - corner
    to_left, to_above, to_corner = abs(a), abs(b), abs(a + b)
    rest = above if to_above <= to_corner else corner
    return left if to_left <= to_above and to_left <= to_corner else rest
