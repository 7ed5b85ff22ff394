"""One Gauss-Newton step under weak priors, and the covariance of where it ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from defocus_ds.stages.register.normal import PARAMETERS, RADIUS, TONE, WARP, Equations, Vector

__all__ = [
    "Mask",
    "clustered_covariance",
    "free_parameters",
    "has_fields",
    "inlier_deviation",
    "limited",
    "solve_step",
]

Mask = npt.NDArray[np.bool_]

_CORRELATED = 4.0  # neighbouring pixels share their errors: so many count as one
_MIN_SIDE_FOR_FIELDS = 480  # a shorter frame cannot tell a radial term from a scale


def has_fields(size: tuple[int, int]) -> bool:
    """Whether the frame is large enough for a radial term and a varying radius."""
    return min(size) >= _MIN_SIDE_FOR_FIELDS


def free_parameters(size: tuple[int, int], *, frozen_warp: bool = False) -> Mask:
    """(18,) which parameters are estimated."""
    free = np.ones(PARAMETERS, np.bool_)
    if not has_fields(size):
        free[6] = False
        free[RADIUS.start + 1 : RADIUS.stop] = False
    if frozen_warp:
        free[WARP] = False
    return free


def inlier_deviation(system: Equations) -> float:
    """Deviation of the residuals by their median, encoded values."""
    error = system.error[np.isfinite(system.error)]
    return max(1.4826 * float(np.median(np.abs(error))), 2e-4)


def solve_step(
    system: Equations, p: Vector, deviation: float, size: tuple[int, int], free: Mask
) -> Vector:
    """Change of the parameters, (18,); zero where not free."""
    scale = 1 / (_CORRELATED * deviation**2)
    precision, pull = _prior(p, size)
    A = system.jtj * scale + precision
    b = pull - system.jte * scale
    step = np.zeros(PARAMETERS)
    # scaled to a unit diagonal, for the parameters differ by orders of magnitude
    d = 1 / np.sqrt(np.maximum(np.diag(A)[free], 1e-30))
    scaled = A[np.ix_(free, free)] * np.outer(d, d) + 1e-9 * np.eye(len(d))
    step[free] = d * np.linalg.solve(scaled, d * b[free])
    return step


def limited(step: Vector, p: Vector, factor: int, most_px: float) -> Vector:
    """Keep a step within what the linearisation at a level can vouch for, radius to ``most_px``."""
    step = step.copy()
    largest = float(np.abs(step[WARP]).max())
    if largest > 3 * factor:
        step *= 3 * factor / largest
    radius = float(p[RADIUS.start])
    room = max(0.3 * radius, 0.3)
    up = max(min(room, most_px - radius), 0.0)
    step[RADIUS.start] = np.clip(step[RADIUS.start], -min(room, radius), up)
    return step


def clustered_covariance(
    system: Equations, p: Vector, deviation: float, size: tuple[int, int], free: Mask
) -> Vector:
    """Sandwich covariance with areas of the frame as clusters, (18, 18).

    It holds when neighbouring errors are correlated and when the model is wrong in places.

    Source:
        Liang & Zeger 1986.
    """
    scale = 1 / (_CORRELATED * deviation**2)
    precision, _ = _prior(p, size)
    A = (system.jtj * scale + precision)[np.ix_(free, free)]
    d = 1 / np.sqrt(np.maximum(np.diag(A), 1e-30))
    inverse = np.outer(d, d) * np.linalg.inv(A * np.outer(d, d) + 1e-9 * np.eye(len(d)))
    scores = system.by_block[:, free] * scale
    scores = scores[np.abs(scores).sum(axis=1) > 0]
    blocks = len(scores)
    scores = scores - scores.mean(axis=0, keepdims=True) if blocks else scores
    meat = scores.T @ scores * (blocks / max(blocks - int(free.sum()), 1))
    covariance = np.zeros((PARAMETERS, PARAMETERS))
    covariance[np.ix_(free, free)] = inverse @ meat @ inverse
    return covariance


def _prior(p: Vector, size: tuple[int, int]) -> tuple[Vector, Vector]:
    """Precision matrix of weak beliefs about breathing and tone, and their pull from ``p``.

    Breathing is a similarity and a radial term: anisotropy and shear of more than a few
    thousandths are implausible, as are steep tone curves and a strong falloff of light.
    """
    h = float(np.hypot(*size) / 2)
    precision = np.zeros((PARAMETERS, PARAMETERS))
    mean = np.zeros(PARAMETERS)
    stiff = 1 / (1e-3 * h) ** 2
    precision[np.ix_([1, 5], [1, 5])] += stiff * np.array([[1, -1], [-1, 1]])
    precision[np.ix_([2, 4], [2, 4])] += stiff
    precision[6, 6] = 1 / (5e-3 * h) ** 2
    radius = float(p[RADIUS.start])
    precision[RADIUS.start, RADIUS.start] = 1 / max(0.3 * radius, 0.3) ** 2
    mean[RADIUS.start] = radius
    deviations = (0.15, 0.15, 0.25, 0.3, 0.7, 0.5, 0.5, 0.2, 0.2, 0.3)
    for index, deviation in enumerate(deviations, start=RADIUS.start + 1):
        precision[index, index] = 1 / deviation**2
    mean[TONE.start + 1] = 1.0
    return precision, precision @ (mean - p)
