"""One pass over the pixels: warp, interpolate, recolour.

Taps are computed per pixel in float32 (no 1/32 px tables), one thread, no fused arithmetic,
so the same inputs give the same bytes on any machine of one architecture.
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

_NO_LUT = np.zeros((1, 1, 1, 3), np.float32)


def resample(
    image: npt.NDArray[Any], warp: Warp, *, lut: FloatImage | None = None
) -> npt.NDArray[Any]:
    """Resample the blurred image into the sharp frame, optionally recolouring on the way.

    Args:
        image: (H, W) or (H, W, 3), uint8 or float32 in [0, 1], in the blurred frame.
        warp: sharp frame -> blurred frame; its ``size`` is the size of the result.
        lut: (N, N, N, 3) float32 in [0, 1], indexed [r, g, b]; needs three channels.

    Returns:
        (height, width[, 3]) of the same dtype, Catmull-Rom interpolated (Keys 1981, a = -1/2).
        Points outside the blurred frame are 0: nothing is mirrored or smeared in.

    Raises:
        OpticsError: wrong shape or dtype.
    """
    if image.dtype not in (np.uint8, np.float32) or image.ndim not in (2, 3):
        raise OpticsError(
            f"resample: got {image.dtype} {image.shape}; "
            "need (H, W) or (H, W, 3), uint8 or float32 in [0, 1]."
        )
    if lut is not None and (image.ndim != 3 or image.shape[2] != 3):
        raise OpticsError(f"resample: a colour LUT needs (H, W, 3), got {image.shape}.")
    source = np.ascontiguousarray(image if image.ndim == 3 else image[..., None])
    width, height = warp.size
    out = np.zeros((height, width, source.shape[2]), source.dtype)
    cx, cy = warp.centre
    _warp_rows(
        source,
        out,
        np.asarray(warp.matrix, np.float64),
        np.array([warp.radial / warp.half_diagonal_px**2, cx, cy]),
        _NO_LUT if lut is None else np.ascontiguousarray(lut, np.float32),
        lut is not None,
        255.0 if source.dtype == np.uint8 else 1.0,
    )
    return out if image.ndim == 3 else out[..., 0]


def apply_lut(image: npt.NDArray[Any], lut: FloatImage) -> npt.NDArray[Any]:
    """Recolour through a 3-D LUT, tetrahedral interpolation (Sakamoto & Itooka 1981 family).

    Args:
        image: (H, W, 3), uint8 or float32 in [0, 1].
        lut: (N, N, N, 3) float32 in [0, 1], indexed [r, g, b].

    Returns:
        The same shape and dtype.

    Raises:
        OpticsError: wrong shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise OpticsError(
            f"apply_lut: got {image.dtype} {image.shape}; need (H, W, 3), uint8 or float32."
        )
    out = np.empty_like(image, order="C")
    top = 255.0 if image.dtype == np.uint8 else 1.0
    _lut_rows(np.ascontiguousarray(image), out, np.ascontiguousarray(lut, np.float32), top)
    return out


@numba.njit(cache=True, nogil=True)
def _tetrahedral(lut: Any, r: Any, g: Any, b: Any, rgb: Any) -> None:
    """Write the LUT's value at (r, g, b) in [0, 1] into ``rgb``."""
    last = lut.shape[0] - 1
    fr = min(max(r, np.float32(0)), np.float32(1)) * np.float32(last)
    fg = min(max(g, np.float32(0)), np.float32(1)) * np.float32(last)
    fb = min(max(b, np.float32(0)), np.float32(1)) * np.float32(last)
    i = min(int(fr), last - 1)
    j = min(int(fg), last - 1)
    k = min(int(fb), last - 1)
    x = fr - np.float32(i)
    y = fg - np.float32(j)
    z = fb - np.float32(k)
    # walk from the low corner to the high one along the axes in order of falling fraction
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
        rgb[c] = v0 + w1 * (v1 - v0) + w2 * (v2 - v1) + w3 * (v3 - v2)


@numba.njit(cache=True, nogil=True)
def _store(out: Any, y: Any, x: Any, c: Any, value: Any, top: Any) -> None:
    """Round and clip to the integer range when ``top`` is 255; store floats as they are."""
    if top > 1.5:
        out[y, x, c] = min(max(value * np.float32(255) + np.float32(0.5), 0), 255)
    else:
        out[y, x, c] = value


@numba.njit(cache=True, nogil=True)
def _lut_rows(image: Any, out: Any, lut: Any, top: Any) -> None:
    rgb = np.zeros(3, np.float32)
    unit = np.float32(1.0 / top)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            _tetrahedral(
                lut, image[y, x, 0] * unit, image[y, x, 1] * unit, image[y, x, 2] * unit, rgb
            )
            for c in range(3):
                _store(out, y, x, c, rgb[c], top)


@numba.njit(cache=True, nogil=True)
def _taps(t: Any, w: Any) -> None:
    """Catmull-Rom weights of the four taps around fraction ``t`` in [0, 1)."""
    t2 = t * t
    t3 = t2 * t
    half = np.float32(0.5)
    w[0] = half * (-t3 + np.float32(2) * t2 - t)
    w[1] = half * (np.float32(3) * t3 - np.float32(5) * t2 + np.float32(2))
    w[2] = half * (np.float32(-3) * t3 + np.float32(4) * t2 + t)
    w[3] = half * (t3 - t2)


@numba.njit(cache=True, nogil=True)
def _warp_rows(src: Any, out: Any, m: Any, radial: Any, lut: Any, use_lut: Any, top: Any) -> None:
    height, width, channels = src.shape
    k, cx, cy = radial[0], radial[1], radial[2]
    wx = np.zeros(4, np.float32)
    wy = np.zeros(4, np.float32)
    rgb = np.zeros(max(3, channels), np.float32)
    unit = np.float32(1.0 / top)
    for y in range(out.shape[0]):
        dy = y - cy
        for x in range(out.shape[1]):
            dx = x - cx
            r = k * (dx * dx + dy * dy)
            sx = m[0, 0] * x + m[0, 1] * y + m[0, 2] + r * dx
            sy = m[1, 0] * x + m[1, 1] * y + m[1, 2] + r * dy
            if sx < -0.5 or sy < -0.5 or sx > width - 0.5 or sy > height - 0.5:
                continue
            ix = int(np.floor(sx))
            iy = int(np.floor(sy))
            _taps(np.float32(sx - ix), wx)
            _taps(np.float32(sy - iy), wy)
            for c in range(channels):
                rgb[c] = 0
            inside = ix >= 1 and iy >= 1 and ix + 2 < width and iy + 2 < height
            for j in range(4):
                row = iy - 1 + j
                if not inside:
                    row = min(max(row, 0), height - 1)
                for i in range(4):
                    column = ix - 1 + i
                    if not inside:
                        column = min(max(column, 0), width - 1)
                    weight = wy[j] * wx[i]
                    for c in range(channels):
                        rgb[c] += weight * np.float32(src[row, column, c])
            for c in range(channels):
                rgb[c] *= unit
            if use_lut:
                _tetrahedral(lut, rgb[0], rgb[1], rgb[2], rgb)
            for c in range(channels):
                _store(out, y, x, c, rgb[c], top)
