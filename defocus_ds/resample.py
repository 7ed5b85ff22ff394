"""One pass over the pixels: warp, interpolate, recolour.

Taps are computed per pixel in float32 (no 1/32 px tables), one thread, no fused arithmetic, and
8-bit colours go through the LUT in whole numbers, so the same inputs give the same bytes on any
machine of one architecture.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.errors import OpticsError
from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp

__all__ = ["apply_lut", "resample"]

_BLOCK = 512  # pixels of a row resampled together: its buffers stay in the first-level cache

# Three channels of a LUT node share one 64-bit word, 21 bits each: a value in [-1/2, 3/2] in
# sixteenths of an 8-bit level (13 bits) times weights that sum to 256 (8 bits).
_FIELD = 21
_LOWEST, _HIGHEST = -0.5, 1.5
_STEPS = 16 * 255
_ZERO = int(-_LOWEST * _STEPS) * 256  # what a weighted sum holds for the value 0
_LEVELS, _FLOATS, _LEVELS_LUT, _FLOATS_LUT = 0, 1, 2, 3  # what is written, and through what
_NO_LUT = np.zeros((1, 1, 1, 3), np.float32)
_NO_PACKED = np.zeros(1, np.uint64)


def resample(
    image: npt.NDArray[Any], warp: Warp, *, lut: FloatImage | None = None
) -> npt.NDArray[Any]:
    """Resample the blurred image into the sharp frame, optionally recolouring on the way.

    Args:
        image: (H, W) or (H, W, C), uint8 or float32 in [0, 1], in the blurred frame.
        warp: sharp frame -> blurred frame; its ``size`` is the size of the result.
        lut: (N, N, N, 3) float32, indexed [r, g, b]; needs three channels.

    Returns:
        (height, width[, C]) of the same dtype, Catmull-Rom interpolated (Keys 1981, a = -1/2).
        Points outside the blurred frame are 0: nothing is mirrored or smeared in.  Recoloured
        values are clipped to [0, 1].

    Raises:
        OpticsError: wrong shape or dtype.
    """
    if image.dtype not in (np.uint8, np.float32) or image.ndim not in (2, 3) or image.size == 0:
        raise OpticsError(
            f"resample: got {image.dtype} {image.shape}; "
            "need (H, W) or (H, W, C), uint8 or float32 in [0, 1]."
        )
    if lut is not None:
        if image.ndim != 3 or image.shape[2] != 3:
            raise OpticsError(f"resample: a colour LUT needs (H, W, 3), got {image.shape}.")
        _check_lut(lut)
    source = np.ascontiguousarray(image if image.ndim == 3 else image[..., None])
    width, height = warp.size
    out = np.zeros((height, width, source.shape[2]), source.dtype)
    whole = source.dtype == np.uint8
    mode = (_LEVELS if whole else _FLOATS) + (0 if lut is None else _LEVELS_LUT)
    _warp_rows(
        source,
        out,
        np.asarray(warp.matrix, np.float64),
        np.array([warp.radial / warp.half_diagonal_px**2, *warp.centre]),
        _NO_LUT if lut is None else np.ascontiguousarray(lut, np.float32),
        _NO_PACKED if lut is None or not whole else _pack(lut),
        mode,
    )
    return out if image.ndim == 3 else out[..., 0]


def apply_lut(image: npt.NDArray[Any], lut: FloatImage) -> npt.NDArray[Any]:
    """Recolour through a 3-D LUT, tetrahedral interpolation (Sakamoto & Itooka 1981 family).

    Args:
        image: (H, W, 3), uint8 or float32 in [0, 1].
        lut: (N, N, N, 3) float32, indexed [r, g, b]; values may lie outside [0, 1].

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
    _check_lut(lut)
    source = np.ascontiguousarray(image)
    out = np.empty(source.shape, source.dtype)
    if source.dtype == np.uint8:
        at = np.arange(256) * (lut.shape[0] - 1) / 255
        cell = np.minimum(at.astype(np.int32), lut.shape[0] - 2)
        fraction = np.rint((at - cell) * 256).astype(np.int32)
        _lut_rows_packed(source, out, _pack(lut), cell, fraction, lut.shape[0])
    else:
        _lut_rows(source, out, np.ascontiguousarray(lut, np.float32))
    return out


def _check_lut(lut: npt.NDArray[Any]) -> None:
    if lut.ndim != 4 or lut.shape[3] != 3 or len(set(lut.shape[:3])) != 1 or lut.shape[0] < 2:
        raise OpticsError(f"a colour LUT has shape (N, N, N, 3) with N >= 2, got {lut.shape}.")


def _pack(lut: FloatImage) -> npt.NDArray[np.uint64]:
    """(N * N * N,) words of three fields."""
    clipped = np.clip(lut.astype(np.float64), _LOWEST, _HIGHEST)
    fields = np.rint((clipped - _LOWEST) * _STEPS).astype(np.uint64).reshape(-1, 3)
    words: npt.NDArray[np.uint64] = (
        fields[:, 0] | fields[:, 1] << np.uint64(_FIELD) | fields[:, 2] << np.uint64(2 * _FIELD)
    )
    return words


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
    return np.uint8(min(max((field - _ZERO + 2048) >> 12, 0), 255))


@numba.njit(cache=True, nogil=True)
def _lut_rows_packed(
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
def _lut_rows(image: Any, out: Any, lut: Any) -> None:
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            _tetrahedral(lut, image[y, x, 0], image[y, x, 1], image[y, x, 2], out[y, x])


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


@numba.njit(cache=True, nogil=True)
def _warp_rows(src: Any, out: Any, m: Any, radial: Any, lut: Any, packed: Any, mode: Any) -> None:
    height, width, channels = src.shape
    flat = src.reshape(height, width * channels)
    samples = _BLOCK * channels
    column = np.zeros(_BLOCK, np.int64)
    row = np.zeros(_BLOCK, np.int64)
    tx = np.zeros(_BLOCK, np.float32)
    ty = np.zeros(_BLOCK, np.float32)
    across = np.zeros((4, samples), np.float32)  # weights of the taps, one column a sample
    down = np.zeros((4, samples), np.float32)
    lines = np.zeros((4, samples), np.float32)
    values = np.zeros(samples, np.float32)
    for y in range(out.shape[0]):
        for start in range(0, out.shape[1], _BLOCK):
            count = min(_BLOCK, out.shape[1] - start)
            _locate(m, radial, y, start, count, column, row, tx, ty)
            _weigh(tx, channels, across)
            _weigh(ty, channels, down)
            a = 0
            while a < count:
                b = a + 1
                inside = _is_inside(column[a], row[a], height, width)
                while (
                    b < count
                    and row[b] == row[a]
                    and column[b] - column[a] == b - a
                    and (inside == _is_inside(column[b], row[b], height, width))
                ):
                    b += 1
                if inside:
                    first = (column[a] - 1) * channels
                    low, high = a * channels, b * channels
                    for j in range(4):
                        line = flat[row[a] - 1 + j, first:]
                        _across(line, across[:, low:high], channels, lines[j, low:high])
                    _down(lines[:, low:high], down[:, low:high], values[low:high])
                else:
                    for x in range(a, b):
                        _at_border(src, column[x], row[x], across, down, x, values)
                a = b
            _store(values, out[y, start : start + count], lut, packed, mode)
            for x in range(count):
                sx, sy = column[x] + np.float64(tx[x]), row[x] + np.float64(ty[x])
                if sx < -0.5 or sy < -0.5 or sx > width - 0.5 or sy > height - 0.5:
                    for c in range(channels):
                        out[y, start + x, c] = 0


@numba.njit(cache=True, nogil=True)
def _locate(
    m: Any, radial: Any, y: Any, start: Any, count: Any, column: Any, row: Any, tx: Any, ty: Any
) -> None:
    """Whole and fractional part of the source position of each pixel of a block."""
    k, cx, cy = radial[0], radial[1], radial[2]
    dy = y - cy
    for i in range(count):
        x = start + i
        dx = x - cx
        r = k * (dx * dx + dy * dy)
        sx = m[0, 0] * x + m[0, 1] * y + m[0, 2] + r * dx
        sy = m[1, 0] * x + m[1, 1] * y + m[1, 2] + r * dy
        sx = min(max(sx, -1e9), 1e9)
        sy = min(max(sy, -1e9), 1e9)
        whole_x, whole_y = np.floor(sx), np.floor(sy)
        column[i] = np.int64(whole_x)
        row[i] = np.int64(whole_y)
        tx[i] = np.float32(sx - whole_x)
        ty[i] = np.float32(sy - whole_y)


@numba.njit(cache=True, nogil=True)
def _weigh(t: Any, channels: Any, weights: Any) -> None:
    """Catmull-Rom weights of the four taps around fractions ``t`` in [0, 1)."""
    half, two, three = np.float32(0.5), np.float32(2), np.float32(3)
    four, five = np.float32(4), np.float32(5)
    for c in range(channels):
        w0, w1 = weights[0, c::channels], weights[1, c::channels]
        w2, w3 = weights[2, c::channels], weights[3, c::channels]
        for x in range(t.size):
            t1 = t[x]
            t2 = t1 * t1
            t3 = t2 * t1
            w0[x] = half * (-t3 + two * t2 - t1)
            w1[x] = half * (three * t3 - five * t2 + two)
            w2[x] = half * (four * t2 - three * t3 + t1)
            w3[x] = half * (t3 - t2)


@numba.njit(cache=True, nogil=True, inline="always")
def _is_inside(column: Any, row: Any, height: Any, width: Any) -> Any:
    return column >= 1 and row >= 1 and column + 2 < width and row + 2 < height


@numba.njit(cache=True, nogil=True)
def _across(line: Any, weights: Any, channels: Any, out: Any) -> None:
    """Weighted sums of four taps along a line: ``weights`` is (4, n), ``line`` starts at tap 0."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    l1, l2, l3 = line[channels:], line[2 * channels :], line[3 * channels :]
    for e in range(out.size):
        out[e] = (
            w0[e] * np.float32(line[e])
            + w1[e] * np.float32(l1[e])
            + w2[e] * np.float32(l2[e])
            + w3[e] * np.float32(l3[e])
        )


@numba.njit(cache=True, nogil=True)
def _down(lines: Any, weights: Any, out: Any) -> None:
    """Weighted sums of four lines; ``lines`` and ``weights`` are (4, n)."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    l0, l1, l2, l3 = lines[0], lines[1], lines[2], lines[3]
    for e in range(out.size):
        out[e] = w0[e] * l0[e] + w1[e] * l1[e] + w2[e] * l2[e] + w3[e] * l3[e]


@numba.njit(cache=True, nogil=True)
def _at_border(
    src: Any, column: Any, row: Any, across: Any, down: Any, x: Any, values: Any
) -> None:
    """One pixel whose taps partly leave the image: they repeat its edge."""
    height, width, channels = src.shape
    for c in range(channels):
        e = x * channels + c
        total = np.float32(0)
        for j in range(4):
            line = np.float32(0)
            for i in range(4):
                value = src[
                    min(max(row - 1 + j, 0), height - 1), min(max(column - 1 + i, 0), width - 1), c
                ]
                line += across[i, e] * np.float32(value)
            total += down[j, e] * line
        values[e] = total


@numba.njit(cache=True, nogil=True)
def _store(values: Any, line: Any, lut: Any, packed: Any, mode: Any) -> None:
    """Write a block of samples into (count, channels), rounded and recoloured as ``mode`` says."""
    count, channels = line.shape
    zero, top = np.float32(0), np.float32(255)
    if mode == _LEVELS:
        flat = line.reshape(count * channels)
        for e in range(count * channels):
            flat[e] = min(max(values[e] + np.float32(0.5), zero), top)
    elif mode == _FLOATS:
        for x in range(count):
            for c in range(channels):
                line[x, c] = values[x * channels + c]
    elif mode == _FLOATS_LUT:
        for x in range(count):
            _tetrahedral(lut, values[3 * x], values[3 * x + 1], values[3 * x + 2], line[x])
    else:
        size = lut.shape[0]
        scale = np.float32(256 * (size - 1) / 255)
        most = 256 * (size - 1)
        for x in range(count):
            r = int(min(max(values[3 * x], zero), top) * scale + np.float32(0.5))
            g = int(min(max(values[3 * x + 1], zero), top) * scale + np.float32(0.5))
            b = int(min(max(values[3 * x + 2], zero), top) * scale + np.float32(0.5))
            i, j, k = min(r, most - 1) >> 8, min(g, most - 1) >> 8, min(b, most - 1) >> 8
            node = (i * size + j) * size + k
            word = _mix(packed, node, size, r - (i << 8), g - (j << 8), b - (k << 8))
            line[x, 0] = _level(word, 0)
            line[x, 1] = _level(word, 1)
            line[x, 2] = _level(word, 2)
