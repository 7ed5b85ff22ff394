"""3-D colour look-up tables, applied by tetrahedral interpolation.

8-bit colours go through in whole numbers, so the same inputs give the same bytes anywhere.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.errors import OpticsError
from defocus_ds.frames import FloatImage

__all__ = ["apply_lut", "lut_table", "recolour_rows"]

# Three channels of a LUT node share one 64-bit word, 21 bits each: a value in [-1/2, 3/2] in
# sixteenths of an 8-bit level (13 bits) times weights that sum to 256 (8 bits).
_FIELD = 21
_FIELD_MASK = (1 << _FIELD) - 1
_LOWEST, _HIGHEST = -0.5, 1.5
_STEPS = 16 * 255
_ZERO = int(-_LOWEST * _STEPS) * 256  # what a weighted sum holds for the value 0
_HALF_LEVEL = 1 << 11

# Fraction and stride of an axis share a key, so that sorting the axes by fraction needs no branch.
_STRIDE = 15  # bits of the stride, which is at most 129 * 129
_STRIDE_MASK = (1 << _STRIDE) - 1
_MOST_NODES = 129
_CHUNK = 512  # pixels whose positions are computed together, in vector registers


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
        TypeError: no array.
        OpticsError: wrong shape or dtype.
    """
    require_array(image, "apply_lut: image", takes="(H, W, 3), uint8 or float32 in [0, 1]")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise OpticsError(
            f"apply_lut: got {image.dtype} {image.shape}; need (H, W, 3), uint8 or float32."
        )
    table = lut_table(lut, image.dtype)
    source = np.ascontiguousarray(image)
    out = np.empty(source.shape, source.dtype)
    if source.dtype == np.uint8:
        positions = _level_positions(lut.shape[0])
        flat = source.reshape(-1, 3), out.reshape(-1, 3)
        _levels_to_levels(*flat, table.reshape(-1), positions, lut.shape[0])
    else:
        _floats_to_floats(source, out, table)
    return out


def lut_table(lut: FloatImage, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The LUT as `recolour_rows` wants it for images of a type; `OpticsError` for a bad shape.

    Returns:
        (N, N, N) int64, three channels packed in a word, for uint8; else (N, N, N, 3) float32.
    """
    size = lut.shape[0] if lut.ndim == 4 else 0
    if lut.shape != (size, size, size, 3) or not 2 <= size <= _MOST_NODES:
        raise OpticsError(
            f"a colour LUT has shape (N, N, N, 3) with 2 <= N <= {_MOST_NODES}, got {lut.shape}."
        )
    if np.dtype(dtype) != np.uint8:
        return np.ascontiguousarray(lut, np.float32)
    clipped = np.clip(lut.astype(np.float64), _LOWEST, _HIGHEST)
    fields = np.rint((clipped - _LOWEST) * _STEPS).astype(np.int64)
    return np.asarray(
        fields[..., 0] | fields[..., 1] << _FIELD | fields[..., 2] << np.int64(2 * _FIELD)
    )


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
        flat = values.reshape(-1, 3), out.reshape(-1, 3)
        _floats_to_levels(*flat, table.reshape(-1), table.shape[0])
    elif table is not None:
        _floats_to_floats(values, out, table)
    elif out.dtype == np.uint8:
        _round(values.reshape(-1), out.reshape(-1))
    else:
        out[...] = np.where(np.isnan(values), np.float32(0), values)


def _level_positions(size: int) -> npt.NDArray[np.int64]:
    """(3, 256): for a channel and a level, the node it adds to (upper half) and its key."""
    at = np.rint(np.arange(256) * (size - 1) / 255 * 256).astype(np.int64)
    cell = np.minimum(at >> 8, size - 2)
    stride = np.array([[size * size], [size], [1]])
    return np.asarray((cell * stride) << 32 | (at - (cell << 8)) << _STRIDE | stride)


@numba.njit(cache=True, nogil=True)
def _levels_to_levels(image: Any, out: Any, packed: Any, positions: Any, size: Any) -> None:
    node = np.zeros(_CHUNK, np.int32)
    keys = np.zeros((3, _CHUNK), np.int32)
    weights = np.zeros((6, _CHUNK), np.int32)
    for start in range(0, image.shape[0], _CHUNK):
        pixels = image[start : start + _CHUNK]
        for i in range(pixels.shape[0]):
            r = positions[0, pixels[i, 0]]
            g = positions[1, pixels[i, 1]]
            b = positions[2, pixels[i, 2]]
            node[i] = np.int32((r + g + b) >> 32)  # three keys together stay below the upper half
            keys[0, i], keys[1, i], keys[2, i] = np.int32(r), np.int32(g), np.int32(b)
        _interpolate(packed, size, node, keys, weights, out[start : start + _CHUNK])


@numba.njit(cache=True, nogil=True)
def _floats_to_levels(values: Any, out: Any, packed: Any, size: Any) -> None:
    zero, top, half = np.float32(0), np.float32(255), np.float32(0.5)
    scale = np.float32(256 * (size - 1) / 255)
    last, eight, bits = np.int32(size - 2), np.int32(8), np.int32(_STRIDE)
    node = np.zeros(_CHUNK, np.int32)
    keys = np.zeros((3, _CHUNK), np.int32)
    weights = np.zeros((6, _CHUNK), np.int32)
    at = np.zeros(3 * _CHUNK, np.int32)  # positions in 256ths of a cell
    for start in range(0, values.shape[0], _CHUNK):
        colours = values[start : start + _CHUNK]
        count = colours.shape[0]
        line = colours.reshape(3 * count)
        for e in range(3 * count):
            value = line[e] if line[e] > zero else zero  # not a number is not above 0
            at[e] = np.int32(min(value, top) * scale + half)
        node[:] = 0
        stride = np.int32(size * size)
        for c in range(3):
            key = keys[c]
            for i in range(count):
                place = at[3 * i + c]
                cell = min(np.int32(place >> eight), last)
                node[i] += np.int32(cell * stride)
                key[i] = np.int32(np.int32(place - np.int32(cell << eight)) << bits) | stride
            stride = np.int32(stride // size)
        levels = out[start : start + _CHUNK]
        _interpolate(packed, size, node, keys, weights, levels)
        for i in range(count):
            if colours[i, 0] != colours[i, 0]:
                levels[i] = 0


@numba.njit(cache=True, nogil=True)
def _interpolate(packed: Any, size: Any, node: Any, keys: Any, weights: Any, out: Any) -> None:
    """Levels of colours at ``node`` plus the fractions, in 256ths of a cell, that the keys hold.

    The walk goes from the low corner to the high one along the axes in order of falling fraction.
    """
    count = out.shape[0]
    one, mask, bits = np.int32(256), np.int32(_STRIDE_MASK), np.int32(_STRIDE)
    to_far = np.int32(size * size + size + 1)
    k0, k1, k2 = keys[0], keys[1], keys[2]
    near, far = weights[4], weights[5]
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for i in range(count):
        a, b, c = k0[i], k1[i], k2[i]
        first, last = max(max(a, b), c), min(min(a, b), c)
        middle = np.int32(np.int32(np.int32(a + b) + c) - np.int32(first + last))
        near[i] = np.int32(node[i] + np.int32(first & mask))
        far[i] = np.int32(np.int32(node[i] + to_far) - np.int32(last & mask))
        x1, x2, x3 = np.int32(first >> bits), np.int32(middle >> bits), np.int32(last >> bits)
        w0[i], w1[i] = np.int32(one - x1), np.int32(x1 - x2)
        w2[i], w3[i] = np.int32(x2 - x3), x3
    for i in range(count):
        word = (
            packed[node[i]] * w0[i]
            + packed[near[i]] * w1[i]
            + packed[far[i]] * w2[i]
            + packed[node[i] + to_far] * w3[i]
        )
        k0[i], k1[i] = np.int32(word & _FIELD_MASK), np.int32((word >> _FIELD) & _FIELD_MASK)
        k2[i] = np.int32(word >> (2 * _FIELD))
    for c in range(3):
        field = keys[c]
        for i in range(count):
            level = np.int32(
                max(field[i] - np.int32(_ZERO - _HALF_LEVEL), np.int32(0)) >> np.int32(12)
            )
            field[i] = min(level, np.int32(255))
    for i in range(count):
        out[i, 0], out[i, 1], out[i, 2] = np.uint8(k0[i]), np.uint8(k1[i]), np.uint8(k2[i])


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
