"""Sharpness Q: coherent gradient energy of 8x8 patches, in the three definitions in use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image

__all__ = [
    "PATCH",
    "SharpnessKind",
    "coherence_threshold",
    "gradient_energy",
    "sharpness_q",
    "unit_luma",
]

PATCH = 8
SharpnessKind = Literal["reported", "training", "zhu-milanfar"]


@dataclass(frozen=True, slots=True)
class _Definition:
    """``sobel``: Sobel/8 with reflection, else central differences.  ``test_on_energy`` and
    ``score_on_energy``: eigenvalues of G^T G, else their roots, the singular values of G."""

    sobel: bool
    test_on_energy: bool
    score_on_energy: bool


_DEFINITIONS: dict[str, _Definition] = {
    "reported": _Definition(sobel=False, test_on_energy=True, score_on_energy=False),
    "training": _Definition(sobel=True, test_on_energy=True, score_on_energy=True),
    "zhu-milanfar": _Definition(sobel=False, test_on_energy=False, score_on_energy=False),
}


def sharpness_q(luma: npt.NDArray[Any], *, kind: SharpnessKind = "reported") -> float:
    """Mean over all 8x8 patches of s1 * R where R exceeds its threshold, 0 elsewhere.

    G holds a patch's gradients, a row a pixel; s1 >= s2 are its singular values and
    R = (s1 - s2) / (s1 + s2) its coherence.  "reported" is what the tables of MMSP 2024 show:
    central differences inside the patch, R of the eigenvalues of G^T G for the test and R of the
    singular values in the score.  "training" is that paper's loss: Sobel/8 with reflection at the
    patch's edges, eigenvalues throughout.  "zhu-milanfar" is the metric as its authors gave it:
    singular values throughout.

    Args:
        luma: (H, W), uint8 or float in [0, 1]; cropped at the bottom right to multiples of 8.
        kind: which definition.

    Returns:
        Q >= 0 for values in [0, 1], dimensionless; 0 for a flat image.

    Raises:
        TypeError: no array.
        InputError: not a single channel, smaller than one patch, not finite, or unknown kind.

    Source:
        Zhu & Milanfar 2010, "Automatic Parameter Selection for Denoising Algorithms Using a
        No-Reference Measure of Image Content"; MMSP 2024, equations of the Q loss.

    >>> sharpness_q(np.zeros((16, 16), np.uint8))
    0.0
    """
    if kind not in _DEFINITIONS:
        raise InputError(f"sharpness_q: kind {kind!r}; known: {', '.join(_DEFINITIONS)}.")
    d = _DEFINITIONS[kind]
    values = np.ascontiguousarray(unit_luma(luma))
    score: float = _score(
        values, coherence_threshold(kind), d.sobel, d.test_on_energy, d.score_on_energy
    )
    return score


def coherence_threshold(kind: SharpnessKind, *, significance: float = 0.001) -> float:
    """Coherence that a patch of white noise exceeds with probability ``significance``.

    The training loss of MMSP 2024 approximates Zhu & Milanfar's expression; both are offered.

    >>> round(coherence_threshold("training"), 4), round(coherence_threshold("reported"), 4)
    (0.2279, 0.234)
    """
    tail = significance ** (1 / (PATCH * PATCH - 1))
    return float(np.sqrt((1 - tail) / (2 if kind == "training" else 1 + tail)))


def gradient_energy(luma: UInt8Image) -> float:
    """Sum of squared differences of neighbouring 2x2 sums, which hold less of the noise.

    Args:
        luma: (H, W) uint8; an odd last row or column is left out.

    Returns:
        An integer >= 0, in squared 8-bit levels.
    """
    return float(_squared_differences(luma))


def unit_luma(luma: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(H, W) uint8 or float as float64 in [0, 1] units.

    Raises:
        TypeError: no array.
        InputError: not one channel, smaller than one patch, another dtype, or not finite.
    """
    require_array(luma, "luma", takes="(H, W), uint8 or float in [0, 1]")
    if luma.ndim != 2 or min(luma.shape) < PATCH:
        raise InputError(
            f"luma of shape {luma.shape}: one channel of at least {PATCH}x{PATCH} pixels is needed."
        )
    if luma.dtype == np.uint8:
        return luma.astype(np.float64) / 255
    if not np.issubdtype(luma.dtype, np.floating):
        raise InputError(f"luma of type {luma.dtype}: give uint8, or float in [0, 1].")
    if not np.isfinite(luma).all():
        raise InputError("luma holds values that are not finite; nothing can be measured on it.")
    return luma.astype(np.float64)


@numba.njit(cache=True, nogil=True)
def _score(luma: Any, threshold: Any, sobel: Any, test_on_energy: Any, score_on_energy: Any) -> Any:
    """Mean score of the patches in row order."""
    rows, columns = luma.shape[0] // PATCH, luma.shape[1] // PATCH
    total = 0.0
    for top in range(0, rows * PATCH, PATCH):
        for left in range(0, columns * PATCH, PATCH):
            patch = luma[top : top + PATCH, left : left + PATCH]
            xx, yy, xy = _gradient_sums(patch, sobel)
            gap = math.hypot(xx - yy, 2 * xy)
            energies = (xx + yy + gap) / 2, max(xx + yy - gap, 0.0) / 2
            singular = math.sqrt(energies[0]), math.sqrt(energies[1])
            first, second = energies if test_on_energy else singular
            if _coherence(first, second) > threshold:
                first, second = energies if score_on_energy else singular
                total += first * _coherence(first, second)
    return total / (rows * columns)


@numba.njit(cache=True, nogil=True)
def _coherence(first: Any, second: Any) -> Any:
    return (first - second) / (first + second) if first + second > 0 else 0.0


@numba.njit(cache=True, nogil=True)
def _gradient_sums(p: Any, sobel: Any) -> Any:
    """Sums of gx gx, gy gy and gx gy over an 8x8 patch.

    Central differences inside the patch, one-sided at its edges; or Sobel / 8 inside it, where
    reflection makes gx 0 on border columns, gy on border rows.
    """
    xx, yy, xy = 0.0, 0.0, 0.0
    for y in range(PATCH):
        above, below = max(y - 1, 0), min(y + 1, PATCH - 1)
        for x in range(PATCH):
            before, after = max(x - 1, 0), min(x + 1, PATCH - 1)
            if sobel:
                gx = gy = 0.0
                if 0 < x < PATCH - 1:
                    up, down = (above, below) if 0 < y < PATCH - 1 else (_other(y), _other(y))
                    right = p[up, after] + 2 * p[y, after] + p[down, after]
                    gx = (right - (p[up, before] + 2 * p[y, before] + p[down, before])) / 8
                if 0 < y < PATCH - 1:
                    lo, hi = (before, after) if 0 < x < PATCH - 1 else (_other(x), _other(x))
                    under = p[below, lo] + 2 * p[below, x] + p[below, hi]
                    gy = (under - (p[above, lo] + 2 * p[above, x] + p[above, hi])) / 8
            else:
                gx = (p[y, after] - p[y, before]) / (after - before)
                gy = (p[below, x] - p[above, x]) / (below - above)
            xx += gx * gx
            yy += gy * gy
            xy += gx * gy
    return xx, yy, xy


@numba.njit(cache=True, nogil=True)
def _other(border: Any) -> Any:
    """The line that reflection puts beyond a border line."""
    return 1 if border == 0 else PATCH - 2


@numba.njit(cache=True, nogil=True)
def _squared_differences(crop: Any) -> Any:
    rows, columns = crop.shape[0] // 2, crop.shape[1] // 2
    above = np.zeros(columns, np.int64)
    total = 0
    for y in range(rows):
        before = 0
        for x in range(columns):
            here = np.int64(crop[2 * y, 2 * x]) + crop[2 * y, 2 * x + 1]
            here += np.int64(crop[2 * y + 1, 2 * x]) + crop[2 * y + 1, 2 * x + 1]
            if x:
                total += (here - before) ** 2
            if y:
                total += (here - above[x]) ** 2
            above[x] = before = here
    return total
