"""3-D colour look-up tables, applied by tetrahedral interpolation.

8-bit colours go through in whole numbers, so the same inputs give the same bytes anywhere.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.errors import OpticsError
from defocus_ds.frames import FloatImage

__all__ = ["apply_lut", "lut_table", "recolour_rows"]

# Three channels of a LUT node share one 64-bit word, 21 bits each: a value in [-1/2, 3/2] in
# sixteenths of an 8-bit level (13 bits) times weights that sum to 256 (8 bits).
_FIELD = 21
_LOWEST, _HIGHEST = -0.5, 1.5
_STEPS = 16 * 255
_ZERO = int(-_LOWEST * _STEPS) * 256  # what a weighted sum holds for the value 0


def apply_lut(image: npt.NDArray[Any], lut: FloatImage) -> npt.NDArray[Any]:
    """Recolour through a 3-D LUT, tetrahedral interpolation (Sakamoto & Itooka 1981 family).

    Args:
        image: (H, W, 3), uint8 or float32 in [0, 1].
        lut: (N, N, N, 3) float32, indexed [r, g, b]; values may lie outside [0, 1], and are
            taken to [-0.5, 1.5] for 8-bit images.

    Returns:
        The same shape and dtype, clipped to [0, 1]; 8-bit results are within 1/16 level of the
        exact interpolation before rounding.

    Raises:
        OpticsError: wrong shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise OpticsError(
            f"apply_lut: got {image.dtype} {image.shape}; need (H, W, 3), uint8 or float32."
        )
    table = lut_table(lut, image.dtype)
    source = np.ascontiguousarray(image)
    out = np.empty(source.shape, source.dtype)
    if source.dtype == np.uint8:
        at = np.arange(256) * (lut.shape[0] - 1) / 255
        cell = np.minimum(at.astype(np.int32), lut.shape[0] - 2)
        fraction = np.rint((at - cell) * 256).astype(np.int32)
        _levels_to_levels(source, out, table.reshape(-1), cell, fraction, lut.shape[0])
    else:
        _floats_to_floats(source, out, table)
    return out


def lut_table(lut: FloatImage, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The LUT as `recolour_rows` wants it for images of a type; `OpticsError` for a bad shape.

    Returns:
        (N, N, N) uint64, three channels packed in a word, for uint8; else (N, N, N, 3) float32.
    """
    if lut.ndim != 4 or lut.shape[3] != 3 or len(set(lut.shape[:3])) != 1 or lut.shape[0] < 2:
        raise OpticsError(f"a colour LUT has shape (N, N, N, 3) with N >= 2, got {lut.shape}.")
    if np.dtype(dtype) != np.uint8:
        return np.ascontiguousarray(lut, np.float32)
    clipped = np.clip(lut.astype(np.float64), _LOWEST, _HIGHEST)
    fields = np.rint((clipped - _LOWEST) * _STEPS).astype(np.uint64)
    red, green, blue = fields[..., 0], fields[..., 1], fields[..., 2]
    return np.asarray(red | green << np.uint64(_FIELD) | blue << np.uint64(2 * _FIELD))


def recolour_rows(
    values: FloatImage, out: npt.NDArray[Any], table: npt.NDArray[Any] | None
) -> None:
    """Write interpolated rows as an image, through a LUT if there is one.

    Args:
        values: (R, W, C) float32, levels in [0, 255] if ``out`` is uint8, else in [0, 1]; a
            pixel whose first channel is not a number becomes 0.
        out: (R, W, C) uint8 or float32.
        table: `lut_table` for the type of ``out``, with C = 3; None only rounds.
    """
    if table is not None and out.dtype == np.uint8:
        _floats_to_levels(values, out, table.reshape(-1), table.shape[0])
    elif table is not None:
        _floats_to_floats(values, out, table)
    elif out.dtype == np.uint8:
        _round(values.reshape(-1), out.reshape(-1))
    else:
        out[...] = np.where(np.isnan(values), np.float32(0), values)


@numba.njit(cache=True, nogil=True, inline="always")
def _mix(packed: Any, node: Any, size: Any, x: Any, y: Any, z: Any) -> Any:
    """Weighted sum of the words around ``node`` at fractions x, y, z in 256ths.

    The walk goes from the low corner to the high one along the axes in order of falling
    fraction; fraction and stride share a key so that sorting needs no branch.
    """
    a, b, c = (x << 16) | (size * size), (y << 16) | size, (z << 16) | 1
    first, last = max(a, max(b, c)), min(a, min(b, c))
    middle = a + b + c - first - last
    far = node + size * size + size + 1
    x1, x2, x3 = first >> 16, middle >> 16, last >> 16
    return (
        packed[node] * np.uint64(256 - x1)
        + packed[node + (first & 0xFFFF)] * np.uint64(x1 - x2)
        + packed[far - (last & 0xFFFF)] * np.uint64(x2 - x3)
        + packed[far] * np.uint64(x3)
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _level(word: Any, channel: Any) -> Any:
    """The 8-bit level that a field of a weighted sum stands for."""
    field = np.int64((word >> np.uint64(_FIELD * channel)) & np.uint64((1 << _FIELD) - 1))
    level: Any = min(max((field - _ZERO + 2048) >> 12, 0), 255)
    return np.uint8(level)


@numba.njit(cache=True, nogil=True)
def _levels_to_levels(
    image: Any, out: Any, packed: Any, cell: Any, fraction: Any, size: Any
) -> None:
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            node = (cell[r] * size + cell[g]) * size + cell[b]
            word = _mix(packed, node, size, fraction[r], fraction[g], fraction[b])
            out[y, x, 0] = _level(word, 0)
            out[y, x, 1] = _level(word, 1)
            out[y, x, 2] = _level(word, 2)


@numba.njit(cache=True, nogil=True)
def _floats_to_levels(values: Any, out: Any, packed: Any, size: Any) -> None:
    zero, top, half = np.float32(0), np.float32(255), np.float32(0.5)
    scale = np.float32(256 * (size - 1) / 255)
    last = size - 2
    at = np.zeros((values.shape[1], 3), np.int32)  # positions in 256ths of a cell
    for y in range(values.shape[0]):
        line, places = values[y].reshape(-1), at.reshape(-1)
        for e in range(places.size):
            places[e] = np.int32(min(max(line[e], zero), top) * scale + half)
        for x in range(values.shape[1]):
            r, g, b = at[x, 0], at[x, 1], at[x, 2]
            i, j, k = min(r >> 8, last), min(g >> 8, last), min(b >> 8, last)
            node = (i * size + j) * size + k
            word = _mix(packed, node, size, r - (i << 8), g - (j << 8), b - (k << 8))
            seen = values[y, x, 0] == values[y, x, 0]
            for c in range(3):
                out[y, x, c] = _level(word, c) if seen else 0


@numba.njit(cache=True, nogil=True)
def _floats_to_floats(values: Any, out: Any, lut: Any) -> None:
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            r, g, b = values[y, x, 0], values[y, x, 1], values[y, x, 2]
            if r == r:
                _tetrahedral(lut, r, g, b, out[y, x])
            else:
                out[y, x] = 0


@numba.njit(cache=True, nogil=True)
def _round(values: Any, out: Any) -> None:
    zero, top, half = np.float32(0), np.float32(255), np.float32(0.5)
    for e in range(out.size):
        v = values[e]
        out[e] = np.uint8(min(max(v, zero) + half, top)) if v == v else np.uint8(0)


@numba.njit(cache=True, nogil=True)
def _tetrahedral(lut: Any, r: Any, g: Any, b: Any, rgb: Any) -> None:
    """Write the LUT's value at (r, g, b) in [0, 1] into ``rgb``, clipped to [0, 1]."""
    zero, one = np.float32(0), np.float32(1)
    last = lut.shape[0] - 1
    fr = min(max(r, zero), one) * np.float32(last)
    fg = min(max(g, zero), one) * np.float32(last)
    fb = min(max(b, zero), one) * np.float32(last)
    i, j, k = min(int(fr), last - 1), min(int(fg), last - 1), min(int(fb), last - 1)
    x, y, z = fr - np.float32(i), fg - np.float32(j), fb - np.float32(k)
    if x >= y:
        if y >= z:
            d1, d2, w1, w2, w3 = 4, 6, x, y, z
        elif x >= z:
            d1, d2, w1, w2, w3 = 4, 5, x, z, y
        else:
            d1, d2, w1, w2, w3 = 1, 5, z, x, y
    elif z >= y:
        d1, d2, w1, w2, w3 = 1, 3, z, y, x
    elif z >= x:
        d1, d2, w1, w2, w3 = 2, 3, y, z, x
    else:
        d1, d2, w1, w2, w3 = 2, 6, y, x, z
    for c in range(3):
        v0 = lut[i, j, k, c]
        v1 = lut[i + (d1 >> 2), j + ((d1 >> 1) & 1), k + (d1 & 1), c]
        v2 = lut[i + (d2 >> 2), j + ((d2 >> 1) & 1), k + (d2 & 1), c]
        v3 = lut[i + 1, j + 1, k + 1, c]
        rgb[c] = min(max(v0 + w1 * (v1 - v0) + w2 * (v2 - v1) + w3 * (v3 - v2), zero), one)
