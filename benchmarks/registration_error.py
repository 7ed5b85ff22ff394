"""How far a map is from the truth, and how near it could be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from truth_pairs import READ, SHOT, PairTruth

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp
from defocus_ds.simulate.scene import SceneLayers

__all__ = [
    "best_affine_px",
    "covered_points",
    "error_px",
    "grid_points",
    "noise_floor_px",
    "visible_error_px",
]


def error_px(warp: Warp, truth: PairTruth) -> float:
    """Mean distance in px from the true map on the 21x21 grid."""
    return warp.mean_difference_px(truth.warp)


def visible_error_px(warp: Warp, truth: PairTruth, foreground: Sequence[int]) -> float:
    """As `error_px`, but where the foreground is seen its own map is the truth.

    Args:
        warp: the map found.
        truth: of the pair.
        foreground: from `covered_points`.
    """
    grid = grid_points(truth.warp.size)
    there = truth.warp.map_points(grid)
    there[list(foreground)] += truth.foreground_shift_px
    return float(np.linalg.norm(warp.map_points(grid) - there, axis=1).mean())


def covered_points(scene: SceneLayers) -> list[int]:
    """Which points of the 21x21 grid the foreground covers by half or more."""
    plane = scene.planes[1][..., 3]
    size = (plane.shape[1] - 2 * scene.margin, plane.shape[0] - 2 * scene.margin)
    x, y = (np.round(grid_points(size)).astype(int) + scene.margin).T
    return [int(i) for i in np.flatnonzero(plane[y, x] >= 32768)]


def grid_points(size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(441, 2) points over the frame."""
    x, y = np.meshgrid(*(np.linspace(0, length - 1, 21) for length in size))
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def best_affine_px(truth: PairTruth) -> float:
    """Error of the affine map nearest to the truth: what no affine method can pass."""
    grid = grid_points(truth.warp.size)
    there = truth.warp.map_points(grid)
    rows = np.column_stack([grid, np.ones(len(grid))])
    fitted = rows @ np.linalg.lstsq(rows, there, rcond=None)[0]
    return float(np.linalg.norm(fitted - there, axis=1).mean())


def noise_floor_px(light: FloatImage, warp: Warp) -> float:
    """Cramér-Rao bound of the mean error of affine map and radial term.

    Shot noise, read noise and 8 bits of one channel of the blurred capture; everything else
    (blur, light, the sharp image) counts as known.

    Args:
        light: (H, W) linear light of the blurred capture.
        warp: for the frame's size.
    """
    step = 4  # every 16th pixel, weighted by 16
    dy, dx = (g[1:-1:step, 1:-1:step].ravel() for g in np.gradient(light.astype(np.float64)))
    inner = light[1:-1:step, 1:-1:step].astype(np.float64).ravel()
    curve = 2.2 * np.maximum(inner, 1e-3) ** 0.55  # d light / d stored, nearly, for the rounding
    variance = SHOT * inner + READ**2 + (curve / 255) ** 2 / 12
    v, u = np.mgrid[1 : light.shape[0] - 1 : step, 1 : light.shape[1] - 1 : step]
    jacobian = _basis(np.stack([u.ravel(), v.ravel()], axis=-1), warp)
    rows = jacobian[:, 0] * dx[:, None] + jacobian[:, 1] * dy[:, None]
    information = (rows / variance[:, None]).T @ rows * step**2
    covariance = np.linalg.inv(information)
    at = _basis(grid_points(warp.size), warp)
    spread = np.einsum("nij,jk,nik->n", at, covariance, at)
    return float(np.sqrt(np.maximum(spread, 0)).mean() * np.sqrt(np.pi / 4))


def _basis(points: np.ndarray, warp: Warp) -> np.ndarray:
    """(N, 2, 7): how affine map and radial term move each point."""
    u, v = ((points - warp.centre) / warp.half_diagonal_px).T
    one, zero, square = np.ones_like(u), np.zeros_like(u), u**2 + v**2
    across = np.stack([u, v, one, zero, zero, zero, square * u], axis=-1)
    down = np.stack([zero, zero, zero, u, v, one, square * v], axis=-1)
    return np.stack([across, down], axis=1)
