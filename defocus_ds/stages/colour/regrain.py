"""Regraining: the colours of one image, the gradients of another."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.errors import ColourFailed
from defocus_ds.frames import FloatImage

__all__ = ["regrain"]

_SWEEPS = (4, 16, 32, 64, 64, 64)  # Jacobi sweeps by level, full resolution first
_SMALLEST = 20  # px; a level with a shorter side is not made
_DAMPING = 0.2  # share of the old value kept by a sweep


def regrain(
    original: npt.NDArray[Any], graded: npt.NDArray[Any], *, smoothness: float = 1.0
) -> npt.NDArray[Any]:
    """Give the graded image the gradients of the original.

    Minimises ``phi |grad J - grad I|^2 + psi (J - t(I))^2`` over J, coarse to fine by damped
    Jacobi sweeps: flat areas keep the original's grain, strong edges the graded colours (Pitié,
    Kokaram & Dahyot 2007, section 4).  Peak memory is about 30 bytes a pixel.

    Args:
        original: (H, W, 3) uint8 or float32 in [0, 1], before the colour map.
        graded: the same shape and type, after it.
        smoothness: weight of the gradients, > 0.

    Returns:
        The same shape and type, clipped to the range.

    Raises:
        ColourFailed: the two images differ in shape or type.
    """
    if original.shape != graded.shape or original.dtype != graded.dtype or original.ndim != 3:
        raise ColourFailed(
            f"regrain: {original.dtype} {original.shape} and {graded.dtype} {graded.shape}; "
            "need two (H, W, 3) images of one type."
        )
    levels = _pyramid(original, graded, smoothness)
    out = np.empty_like(graded)
    top = np.float32(255 if graded.dtype == np.uint8 else 1)
    for channel in range(graded.shape[2]):
        solved = _solve(levels, channel)
        np.multiply(solved, top, out=solved)
        np.clip(solved, 0, top, out=solved)
        if graded.dtype == np.uint8:
            np.rint(solved, out=solved)
        out[..., channel] = solved
    return out


def _pyramid(original: Any, graded: Any, smoothness: float) -> list[tuple[Any, Any, Any, Any, int]]:
    """Per level, full resolution first: original, graded, phi, psi and the number of sweeps."""
    import cv2

    levels = []
    image, goal = original, graded
    for depth, sweeps in enumerate(_SWEEPS):
        unit = np.float32(1 / 255 if image.dtype == np.uint8 else 1)
        phi, psi = _weights(image, unit, np.float32(smoothness), np.float32(0.5**depth))
        levels.append((image, goal, phi, psi, sweeps))
        height, width = (image.shape[0] + 1) // 2, (image.shape[1] + 1) // 2
        if min(height, width) <= _SMALLEST:
            break
        image, goal = (
            cv2.resize(
                plane.astype(np.float32) * unit, (width, height), interpolation=cv2.INTER_AREA
            )
            for plane in (image, goal)
        )
    return levels


def _solve(levels: list[tuple[Any, Any, Any, Any, int]], channel: int) -> FloatImage:
    import cv2

    current: FloatImage | None = None
    for image, goal, phi, psi, sweeps in reversed(levels):
        unit = np.float32(1 / 255 if image.dtype == np.uint8 else 1)
        height, width = phi.shape
        if current is None:
            current = np.ascontiguousarray(goal[..., channel]) * unit
        else:
            current = np.asarray(
                cv2.resize(current, (width, height), interpolation=cv2.INTER_LINEAR)
            )
        other = np.empty_like(current)
        for _ in range(sweeps):
            _sweep(image, goal, phi, psi, channel, unit, current, other)
            current, other = other, current
    assert current is not None  # there is always the full level
    return current


@numba.njit(cache=True, nogil=True)
def _weights(image: Any, unit: Any, smoothness: Any, scale: Any) -> Any:
    """phi = 30 scale / (1 + 10 g / smoothness) and psi = min(g / 5 levels, 1), g = |grad I|."""
    height, width, channels = image.shape
    phi = np.empty((height, width), np.float32)
    psi = np.empty((height, width), np.float32)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            total = np.float32(0)
            for c in range(channels):
                gx = (np.float32(image[y, right, c]) - np.float32(image[y, left, c])) * unit
                gy = (np.float32(image[down, x, c]) - np.float32(image[up, x, c])) * unit
                total += gx * gx + gy * gy
            g = np.sqrt(total)
            psi[y, x] = min(np.float32(256 / 5) * g, np.float32(1))
            phi[y, x] = np.float32(30) * scale / (np.float32(1) + np.float32(10) * g / smoothness)
    return phi, psi


@numba.njit(cache=True, nogil=True)
def _sweep(
    image: Any, goal: Any, phi: Any, psi: Any, c: Any, unit: Any, old: Any, new: Any
) -> None:
    """One damped Jacobi sweep of one channel; neighbours beyond the border repeat it."""
    height, width = phi.shape
    keep = np.float32(_DAMPING)
    half = np.float32(0.5)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            centre = np.float32(image[y, x, c]) * unit
            p = phi[y, x]
            a, b = half * (p + phi[y, right]), half * (p + phi[y, left])
            d, e = half * (p + phi[down, x]), half * (p + phi[up, x])
            w = psi[y, x]
            total = w * np.float32(goal[y, x, c]) * unit
            total += a * (old[y, right] - np.float32(image[y, right, c]) * unit + centre)
            total += b * (old[y, left] - np.float32(image[y, left, c]) * unit + centre)
            total += d * (old[down, x] - np.float32(image[down, x, c]) * unit + centre)
            total += e * (old[up, x] - np.float32(image[up, x, c]) * unit + centre)
            new[y, x] = total / (w + a + b + d + e) * (np.float32(1) - keep) + keep * old[y, x]
