"""Exact sums over 8-bit values: mean, contrast and clipping follow from them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from defocus_ds.frames import UInt8Image

__all__ = ["value_sums"]


def value_sums(luma: UInt8Image) -> tuple[int, int, int]:
    """Sum of the values, sum of their squares, and how many are 0 or 255.

    Args:
        luma: (H, W) uint8, W below 66,000.

    >>> value_sums(np.array([[0, 1], [2, 255]], np.uint8))
    (258, 65030, 2)
    """
    total, squares, ends = _sums(luma)
    return int(total), int(squares), int(ends)


@numba.njit(cache=True, nogil=True)
def _sums(luma: Any) -> Any:
    total, squares, ends = 0, 0, 0
    for y in range(luma.shape[0]):
        line = luma[y]
        of_line, squares_of_line, ends_of_line = np.uint32(0), np.uint32(0), np.uint32(0)
        for x in range(line.size):  # 32 bits hold a line, and more of them fit side by side
            value = np.uint32(line[x])
            of_line = np.uint32(of_line + value)
            squares_of_line = np.uint32(squares_of_line + np.uint32(value * value))
            ends_of_line = np.uint32(ends_of_line + np.uint32((value == 0) | (value == 255)))
        total += int(of_line)
        squares += int(squares_of_line)
        ends += int(ends_of_line)
    return total, squares, ends
