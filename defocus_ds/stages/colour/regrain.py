"""Regraining: the colours of one image, the gradients of another."""

from __future__ import annotations

from dataclasses import dataclass
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
    original: npt.NDArray[Any],
    graded: npt.NDArray[Any],
    *,
    reference: bool = False,
) -> npt.NDArray[Any]:
    """Give the graded image the gradients of the original.

    Minimises ``phi |grad J - grad I|^2 + psi (J - t(I))^2`` over J, coarse to fine by damped
    Jacobi sweeps: flat areas keep the original's grain, strong edges the graded colours (Pitié,
    Kokaram & Dahyot 2007, section 4).  Peak memory is about 30 bytes a pixel.

    Args:
        original: (H, W, 3) uint8 or float32 in [0, 1], before the colour map.
        graded: the same shape and type, after it.
        reference: sweep as the reference implementation does: it starts from the original, and
            hands colours from level to level, whose fine detail is lost on coarse levels.  Its
            few sweeps then end nearer to the original than to the minimum.

    Returns:
        The same shape and type, clipped to the range.

    Raises:
        ColourFailed: the two images differ in shape or type, or are of another type.
    """
    alike = original.shape == graded.shape and original.dtype == graded.dtype
    if not alike or original.ndim != 3 or original.dtype not in (np.uint8, np.float32):
        raise ColourFailed(
            f"regrain: {original.dtype} {original.shape} and {graded.dtype} {graded.shape}; "
            "need two (H, W, 3) images of one type, uint8 or float32."
        )
    levels = _pyramid(original, graded, reference)
    out = np.empty_like(graded)
    top = np.float32(255 if graded.dtype == np.uint8 else 1)
    for channel in range(graded.shape[2]):
        solved = _solve(levels, channel, reference)
        np.multiply(solved, top, out=solved)
        np.clip(solved, 0, top, out=solved)
        if graded.dtype == np.uint8:
            np.rint(solved, out=solved)
        out[..., channel] = solved
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """One resolution: both images, what turns their values to [0, 1], weights and sweeps."""

    image: npt.NDArray[Any]
    goal: npt.NDArray[Any]
    unit: np.float32
    phi: FloatImage
    psi: FloatImage
    sweeps: int


def _pyramid(original: npt.NDArray[Any], graded: npt.NDArray[Any], reference: bool) -> list[_Level]:
    """The levels, full resolution first."""
    halved = _tent_halved if reference else _halved
    levels: list[_Level] = []
    image, goal = original, graded
    for depth, sweeps in enumerate(_SWEEPS):
        unit = np.float32(1 / 255 if image.dtype == np.uint8 else 1)
        phi, psi = _weights(image, unit, np.float32(0.5**depth))
        levels.append(_Level(image, goal, unit, phi, psi, sweeps))
        height, width = (image.shape[0] + 1) // 2, (image.shape[1] + 1) // 2
        if min(height, width) <= _SMALLEST:
            break
        size = width, height
        image, goal = halved(image, unit, size), halved(goal, unit, size)
    return levels


def _halved(image: npt.NDArray[Any], unit: np.float32, size: tuple[int, int]) -> FloatImage:
    import cv2

    half = np.empty((size[1], size[0], image.shape[2]), np.float32)
    for channel in range(image.shape[2]):
        plane = np.multiply(image[..., channel], unit, dtype=np.float32)
        half[..., channel] = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return half


def _tent_halved(image: npt.NDArray[Any], unit: np.float32, size: tuple[int, int]) -> FloatImage:
    """Bilinear with the tent widened to the step, mirrored at the border."""
    across, down = _tent(image.shape[1], size[0]), _tent(image.shape[0], size[1])
    half = np.empty((size[1], size[0], image.shape[2]), np.float32)
    for channel in range(image.shape[2]):
        plane = np.multiply(image[..., channel], unit, dtype=np.float32)
        rows = sum(weight[:, None] * plane[at] for at, weight in down)
        half[..., channel] = sum(weight * rows[:, at] for at, weight in across)
    return half


def _tent(length: int, count: int) -> list[tuple[npt.NDArray[np.int64], FloatImage]]:
    """Taps of a reduction to ``count`` samples: for each tap, where it reads and its weights."""
    step = length / count
    centre = (np.arange(count) + 0.5) * step - 0.5
    first = np.floor(centre - step).astype(np.int64) + 1
    taps = first[:, None] + np.arange(int(np.ceil(2 * step)))
    weights = np.maximum(0, 1 - np.abs(taps - centre[:, None]) / step)
    weights /= weights.sum(axis=1, keepdims=True)
    taps = np.where(taps < 0, -1 - taps, np.where(taps >= length, 2 * length - 1 - taps, taps))
    return [(taps[:, k], weights[:, k].astype(np.float32)) for k in range(taps.shape[1])]


def _solve(levels: list[_Level], channel: int, reference: bool) -> FloatImage:
    """One channel of the minimiser.

    What is iterated, and handed from level to level, is the difference from the original: it is
    smooth, so nothing of the original's detail is lost on coarse levels.
    """
    coarser: tuple[FloatImage, FloatImage] | None = None
    for level in reversed(levels):
        image = np.multiply(level.image[..., channel], level.unit, dtype=np.float32)
        goal = np.multiply(level.goal[..., channel], level.unit, dtype=np.float32)
        goal -= image
        if coarser is not None:
            difference = _refined(*coarser, image, reference)
        else:
            difference = np.zeros_like(goal) if reference else goal.copy()
        other = np.empty_like(difference)
        for _ in range(level.sweeps):
            _sweep(difference, goal, level.phi, level.psi, other)
            difference, other = other, difference
        coarser = difference, image
    assert coarser is not None  # there is always the full level
    difference, image = coarser
    difference += image
    return difference


def _refined(
    difference: FloatImage, coarse: FloatImage, image: FloatImage, reference: bool
) -> FloatImage:
    """The difference at the next finer level, of which ``image`` is the original."""
    import cv2

    size = image.shape[1], image.shape[0]
    carried = difference + coarse if reference else difference
    finer = np.asarray(cv2.resize(carried, size, interpolation=cv2.INTER_LINEAR), np.float32)
    if reference:
        finer -= image
    return finer


@numba.njit(cache=True, nogil=True)
def _weights(image: Any, unit: Any, scale: Any) -> Any:
    """phi = 30 scale / (1 + 10 g) and psi = min(g / 5 levels, 1), g = |grad I|."""
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
            phi[y, x] = np.float32(30) * scale / (np.float32(1) + np.float32(10) * g)
    return phi, psi


@numba.njit(cache=True, nogil=True)
def _sweep(old: Any, goal: Any, phi: Any, psi: Any, new: Any) -> None:
    """One damped Jacobi sweep; neighbours beyond the border repeat it."""
    height, width = phi.shape
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        rows = (old[up], old[y], old[down], phi[up], phi[y], phi[down], psi[y], goal[y])
        for x in (0, width - 1):
            _relax(rows, x, max(x - 1, 0), min(x + 1, width - 1), new[y])
        for x in range(1, width - 1):
            _relax(rows, x, x - 1, x + 1, new[y])


@numba.njit(cache=True, nogil=True, inline="always")
def _relax(rows: Any, x: Any, left: Any, right: Any, new: Any) -> None:
    above, here, below, phi_above, phi, phi_below, psi, goal = rows
    half, keep = np.float32(0.5), np.float32(_DAMPING)
    a, b = half * (phi[x] + phi[right]), half * (phi[x] + phi[left])
    d, e = half * (phi[x] + phi_below[x]), half * (phi[x] + phi_above[x])
    total = psi[x] * goal[x] + a * here[right] + b * here[left] + d * below[x] + e * above[x]
    relaxed = total / (psi[x] + a + b + d + e)
    new[x] = relaxed + keep * (here[x] - relaxed)
