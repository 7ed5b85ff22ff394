"""Robust fits between corresponding colours: an affine map of linear light, and response curves.

A change of light or white balance is a matrix in linear light.  A change of the camera's tone
curve is one curve a channel before it.  Both are fitted to pairs of low-passed colours with
Geman-McClure weights, so that misaligned and moved parts of the scene do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import ColourFailed
from defocus_ds.frames import FloatImage
from defocus_ds.optics import Transfer, to_encoded, to_linear

__all__ = ["Response", "fit_affine", "fit_response"]

Matrix = npt.NDArray[np.float64]
_Curve = Callable[[npt.NDArray[Any], Transfer], FloatImage]

_INTERVALS = 6  # of the cubic B-spline of a response curve
_COEFFICIENTS = _INTERVALS + 3
_STEPS = 8  # of Gauss-Newton at most; it ends earlier where they become small
_STIFFNESS = 0.001  # weight of the curve's squared second differences against the mean residual
_ANCHOR = 1e-4  # weight that keeps an undetermined coefficient, but for the gains, at 0
_DECIMALS = 6  # of the coefficients; sums differ in the last bits with the threads of the BLAS
_LEAST_SLOPE = 0.1  # of a response curve; below it the fit is not believed


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """One curve a channel on stored values, then a 3x4 matrix in linear light.

    Attributes:
        curves: (3, K) cubic B-spline coefficients of what each curve adds to the stored value;
            all 0 for a purely affine map.  A fit gives whole millionths.
        matrix: (3, 4) float64, linear light of the blurred capture -> of the sharp one.  A fit
            gives whole millionths.
        transfer: curve of the stored values.
    """

    curves: Matrix
    matrix: Matrix
    transfer: Transfer

    def bend(self, colours: npt.ArrayLike) -> Matrix:
        """The curves alone: (..., 3) stored values in [0, 1] -> (..., 3) float64."""
        values = np.asarray(colours, np.float64)
        added = [_basis(values[..., c]) @ self.curves[c] for c in range(3)]
        return np.asarray(values + np.stack(added, axis=-1))

    def apply(self, colours: npt.ArrayLike) -> FloatImage:
        """Map (..., 3) stored values in [0, 1]; float32 of the same shape, not clipped."""
        linear = to_linear(self.bend(colours), self.transfer)
        return to_encoded(linear @ self.matrix[:, :3].T + self.matrix[:, 3], self.transfer)


def fit_affine(
    source: npt.NDArray[Any], target: npt.NDArray[Any], *, transfer: Transfer = Transfer.SRGB
) -> Response:
    """Robust affine map between corresponding colours in linear light.

    Iteratively reweighted least squares (Geman-McClure), residuals measured in stored values so
    that dark and light colours count as they are seen.

    Args:
        source: (N, 3) linear light.
        target: (N, 3) linear light, row by row the same places.
        transfer: curve of the stored values.

    Returns:
        The map; its curves are 0.

    Raises:
        ColourFailed: fewer than 16 pairs.
    """
    return _fit(source, target, transfer, stiffness=None)


def fit_response(
    source: npt.NDArray[Any], target: npt.NDArray[Any], *, transfer: Transfer = Transfer.SRGB
) -> Response:
    """Robust response curves and matrix between corresponding colours.

    Gauss-Newton with the weights of `fit_affine`; the curves are stiffened until they rise, so
    colours that no sample covers follow a straight line.  Arguments and errors as `fit_affine`.
    """
    for stiffness in (_STIFFNESS, 30 * _STIFFNESS, 1000 * _STIFFNESS):
        response = _fit(source, target, transfer, stiffness=stiffness)
        grid = np.linspace(0, 1, 257)
        bent = grid[:, None] + _basis(grid) @ response.curves.T
        if np.diff(bent, axis=0).min() * 256 > _LEAST_SLOPE:
            return response
    return _fit(source, target, transfer, stiffness=None)


def _fit(
    source: npt.NDArray[Any],
    target: npt.NDArray[Any],
    transfer: Transfer,
    *,
    stiffness: float | None,
) -> Response:
    """Gauss-Newton over the matrix and, unless ``stiffness`` is None, the curves."""
    if source.shape != target.shape or source.ndim != 2 or len(source) < 16:
        raise ColourFailed(
            f"colour pairs of shape {source.shape} and {target.shape}: need at least 16 rows of 3. "
            "Is the valid area large enough and not clipped throughout?"
        )
    matrix = np.eye(3, 4) * (target.mean(axis=0) / np.maximum(source.mean(axis=0), 1e-6))[:, None]
    curves = np.zeros((3, _COEFFICIENTS))
    stored = to_encoded(source, transfer).astype(np.float64)
    bases = [_basis(stored[:, c]) for c in range(3)]
    slope = _slope(to_encoded, target, transfer)
    for _ in range(_STEPS):
        bent = stored + np.stack([bases[c] @ curves[c] for c in range(3)], axis=-1)
        light = to_linear(bent, transfer).astype(np.float64)
        residual = (target - light @ matrix[:, :3].T - matrix[:, 3]) * slope
        weight = _geman_mcclure(residual)
        total = weight.sum()
        normal, right = _prior(matrix, curves, total, stiffness)
        decode = None if stiffness is None else _slope(to_linear, bent, transfer)
        for c in range(3):
            jacobian = np.zeros((len(source), len(right)))
            jacobian[:, 4 * c : 4 * c + 3] = light
            jacobian[:, 4 * c + 3] = 1
            if decode is not None:
                for k in range(3):
                    jacobian[:, _block(k)] = matrix[c, k] * decode[:, k, None] * bases[k]
            jacobian *= slope[:, c, None]
            weighted = jacobian * weight[:, None]
            normal += jacobian.T @ weighted
            right += weighted.T @ residual[:, c]
        step = np.linalg.solve(normal + np.eye(len(right)) * 1e-12 * total, right)
        matrix = matrix + step[:12].reshape(3, 4)
        if stiffness is not None:
            curves = curves + step[12:].reshape(3, _COEFFICIENTS)
        if np.abs(step).max() < 1e-7:
            break
    return Response(_rounded(curves), _rounded(matrix), transfer)


def _rounded(coefficients: Matrix) -> Matrix:
    return np.round(coefficients, _DECIMALS) + 0.0  # + 0.0 turns -0 into 0


def _prior(
    matrix: Matrix, curves: Matrix, total: float, stiffness: float | None
) -> tuple[Matrix, Matrix]:
    """Normal matrix and right side before any pair counts, for weights that sum to ``total``.

    The unknowns are the matrix, row by row, then the curves unless ``stiffness`` is None.
    """
    columns = 12 if stiffness is None else 12 + curves.size
    anchor = np.full(columns, _ANCHOR * total)
    anchor[0:12:5] = 0  # gains are free
    normal = np.diag(anchor)
    right = -anchor * np.concatenate([matrix.ravel(), curves.ravel()])[:columns]
    if stiffness is not None:
        bend = np.diff(np.eye(_COEFFICIENTS), 2, axis=0)
        for k in range(3):
            normal[_block(k), _block(k)] += stiffness * total * bend.T @ bend
            right[_block(k)] -= stiffness * total * bend.T @ (bend @ curves[k])
    return normal, right


def _block(channel: int) -> slice:
    """The unknowns of one channel's curve."""
    return slice(12 + channel * _COEFFICIENTS, 12 + (channel + 1) * _COEFFICIENTS)


def _geman_mcclure(residual: Matrix) -> Matrix:
    """Weights in (0, 1] of rows of residuals, by their own robust scale."""
    scale = 1.5 * 1.4826 * np.median(np.abs(residual)) + 1e-4
    return np.asarray(1 / (1 + (residual**2).mean(axis=1) / scale**2) ** 2)


def _slope(curve: _Curve, values: npt.NDArray[Any], transfer: Transfer) -> Matrix:
    """Derivative of a transfer curve, over a step of 0.002."""
    step = 1e-3
    high = curve(np.asarray(values, np.float64) + step, transfer).astype(np.float64)
    return np.asarray((high - curve(np.asarray(values) - step, transfer)) / (2 * step))


def _basis(values: npt.NDArray[Any]) -> Matrix:
    """(..., K) uniform cubic B-splines on [0, 1]."""
    at = np.clip(values, 0, 1) * _INTERVALS
    first = np.minimum(at.astype(np.int64), _INTERVALS - 1)
    t = at - first
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    out = np.zeros((*np.shape(values), _COEFFICIENTS))
    for k, part in enumerate(parts):
        np.put_along_axis(out, (first + k)[..., None], (part / 6)[..., None], axis=-1)
    return out
