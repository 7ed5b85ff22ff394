"""One pass over the pixels: warp, interpolate, recolour.

Taps are computed per pixel in float32 (no 1/32 px tables), one thread, no fused arithmetic, so
the same inputs give the same bytes on any machine of one architecture.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.errors import OpticsError
from defocus_ds.frames import FloatImage
from defocus_ds.lut import apply_lut, lut_table, recolour_rows
from defocus_ds.optics import Warp

__all__ = ["apply_lut", "covered", "resample"]

_BAND = 32  # rows interpolated before they are recoloured, while they are in the cache
_BLOCK = 512  # pixels of a row interpolated together: their buffers stay in the fastest cache


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
        TypeError: no array.
        OpticsError: wrong shape or dtype.
    """
    takes = "(H, W) or (H, W, C), uint8 or float32 in [0, 1]"
    require_array(image, "resample: image", takes=takes)
    if image.dtype not in (np.uint8, np.float32) or image.ndim not in (2, 3) or image.size == 0:
        raise OpticsError(
            f"resample: got {image.dtype} {image.shape}; "
            "need (H, W) or (H, W, C), uint8 or float32 in [0, 1]."
        )
    if lut is not None and (image.ndim != 3 or image.shape[2] != 3):
        raise OpticsError(f"resample: a colour LUT needs (H, W, 3), got {image.shape}.")
    table = None if lut is None else lut_table(lut, image.dtype)
    source = np.ascontiguousarray(image if image.ndim == 3 else image[..., None])
    width, height = warp.size
    out = np.empty((height, width, source.shape[2]), source.dtype)
    values = np.empty((min(_BAND, height), width, source.shape[2]), np.float32)
    matrix = np.asarray(warp.matrix, np.float64)
    radial = np.array([warp.radial / warp.half_diagonal_px**2, *warp.centre])
    for top in range(0, height, _BAND):
        band = out[top : top + _BAND]
        _warp_rows(source, values[: len(band)], top, matrix, radial)
        recolour_rows(values[: len(band)], band, table)
    return out if image.ndim == 3 else out[..., 0]


def covered(warp: Warp, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Where `resample` has something to interpolate.

    Args:
        warp: sharp frame -> blurred frame.
        size: (width, height) in pixels of the blurred image.

    Returns:
        (height, width) of the warp's ``size``; False where it is 0.
    """
    out = np.empty(warp.size[::-1], np.bool_)
    matrix = np.asarray(warp.matrix, np.float64)
    radial = np.array([warp.radial / warp.half_diagonal_px**2, *warp.centre])
    _covered_rows(out, size[0], size[1], matrix, radial)
    return out


@numba.njit(cache=True, nogil=True)
def _covered_rows(out: Any, width: Any, height: Any, m: Any, radial: Any) -> None:
    column = np.zeros(_BLOCK, np.int64)
    row = np.zeros(_BLOCK, np.int64)
    tx = np.zeros(_BLOCK, np.float32)
    ty = np.zeros(_BLOCK, np.float32)
    for y in range(out.shape[0]):
        for start in range(0, out.shape[1], _BLOCK):
            count = min(_BLOCK, out.shape[1] - start)
            _locate(m, radial, y, start, count, column, row, tx, ty)
            for x in range(count):
                outside = _is_outside(column[x], row[x], tx[x], ty[x], height, width)
                out[y, start + x] = not outside


@numba.njit(cache=True, nogil=True)
def _warp_rows(src: Any, out: Any, top: Any, m: Any, radial: Any) -> None:
    """Interpolated rows from ``top`` on; not a number where the point lies off the image."""
    height, width, channels = src.shape
    flat = src.reshape(height, width * channels)
    samples = _BLOCK * channels
    column = np.zeros(_BLOCK, np.int64)
    row = np.zeros(_BLOCK, np.int64)
    tx = np.zeros(_BLOCK, np.float32)
    ty = np.zeros(_BLOCK, np.float32)
    spread = np.zeros(samples, np.float32)
    across = np.zeros((4, samples), np.float32)  # weights of the taps, one column a sample
    down = np.zeros((4, samples), np.float32)
    lines = np.zeros((4, samples), np.float32)
    for y in range(out.shape[0]):
        for start in range(0, out.shape[1], _BLOCK):
            count = min(_BLOCK, out.shape[1] - start)
            _locate(m, radial, top + y, start, count, column, row, tx, ty)
            _weigh(tx, channels, spread, across)
            _weigh(ty, channels, spread, down)
            a = 0
            while a < count:  # runs of pixels whose taps lie side by side
                inside = _is_inside(column[a], row[a], height, width)
                b = a + 1
                while (
                    b < count
                    and row[b] == row[a]
                    and column[b] - column[a] == b - a
                    and inside == _is_inside(column[b], row[b], height, width)
                ):
                    b += 1
                if inside:
                    first = (column[a] - 1) * channels
                    for j in range(4):
                        line = flat[row[a] - 1 + j, first:]
                        _across(line, channels, across, a * channels, b * channels, lines[j])
                a = b
            to = out[y, start : start + count]
            _down(lines, down, to.reshape(count * channels))
            for x in range(count):
                if _is_outside(column[x], row[x], tx[x], ty[x], height, width):
                    to[x] = np.nan
                elif not _is_inside(column[x], row[x], height, width):
                    _at_border(
                        src,
                        column[x],
                        row[x],
                        across[:, x * channels :],
                        down[:, x * channels :],
                        to[x],
                    )


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
def _weigh(t: Any, channels: Any, spread: Any, weights: Any) -> None:
    """Catmull-Rom weights of the four taps around fractions ``t``, repeated for each channel."""
    half, two, three = np.float32(0.5), np.float32(2), np.float32(3)
    four, five = np.float32(4), np.float32(5)
    for x in range(t.size):
        for c in range(channels):
            spread[x * channels + c] = t[x]
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for e in range(spread.size):
        t1 = spread[e]
        t2 = t1 * t1
        t3 = t2 * t1
        w0[e] = half * (two * t2 - t3 - t1)
        w1[e] = half * (three * t3 - five * t2 + two)
        w2[e] = half * (four * t2 - three * t3 + t1)
        w3[e] = half * (t3 - t2)


@numba.njit(cache=True, nogil=True)
def _across(line: Any, channels: Any, weights: Any, low: Any, high: Any, out: Any) -> None:
    """Weighted sums of four taps along a line, which starts at the first tap of ``low``."""
    n = high - low
    w0, w1 = weights[0, low:high], weights[1, low:high]
    w2, w3 = weights[2, low:high], weights[3, low:high]
    l0, l1 = line[:n], line[channels : channels + n]
    l2, l3 = line[2 * channels : 2 * channels + n], line[3 * channels : 3 * channels + n]
    to = out[low:high]
    for e in range(n):
        to[e] = (
            w0[e] * np.float32(l0[e])
            + w1[e] * np.float32(l1[e])
            + w2[e] * np.float32(l2[e])
            + w3[e] * np.float32(l3[e])
        )


@numba.njit(cache=True, nogil=True)
def _down(lines: Any, weights: Any, out: Any) -> None:
    """Weighted sums of four lines."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    l0, l1, l2, l3 = lines[0], lines[1], lines[2], lines[3]
    for e in range(out.size):
        out[e] = w0[e] * l0[e] + w1[e] * l1[e] + w2[e] * l2[e] + w3[e] * l3[e]


@numba.njit(cache=True, nogil=True, inline="always")
def _is_inside(column: Any, row: Any, height: Any, width: Any) -> Any:
    """Whether all taps lie in the image."""
    return column >= 1 and row >= 1 and column + 2 < width and row + 2 < height


@numba.njit(cache=True, nogil=True, inline="always")
def _is_outside(column: Any, row: Any, tx: Any, ty: Any, height: Any, width: Any) -> Any:
    """Whether the point lies off the image, whose pixels reach half a pixel from their centres."""
    return (
        column + tx < -0.5
        or row + ty < -0.5
        or column + tx > width - 0.5
        or row + ty > height - 0.5
    )


@numba.njit(cache=True, nogil=True)
def _at_border(src: Any, column: Any, row: Any, across: Any, down: Any, to: Any) -> None:
    """One pixel whose taps partly leave the image: they repeat its edge."""
    height, width, channels = src.shape
    for c in range(channels):
        total = np.float32(0)
        for j in range(4):
            line = np.float32(0)
            for i in range(4):
                value = src[
                    min(max(row - 1 + j, 0), height - 1), min(max(column - 1 + i, 0), width - 1), c
                ]
                line += across[i, c] * np.float32(value)
            total += down[j, c] * line
        to[c] = total
