"""The normal equations of the blur-matched fit, and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp
from defocus_ds.stages.register.model import Samples
from defocus_ds.stages.register.spline import spline_value

__all__ = [
    "BLOCKS",
    "PARAMETERS",
    "RADIUS",
    "TONE",
    "WARP",
    "Equations",
    "equations",
    "initial_parameters",
    "radius_field",
    "warp_of",
    "warp_parameters",
]

# Displacements are in full-resolution px at half a diagonal from the centre; u is the point
# over half the diagonal, M the model's value:
#   dx = p0 + p1 ux + p2 uy + p6 |u|^2 ux        dy = p3 + p4 ux + p5 uy + p6 |u|^2 uy
#   radius = p7 (1 + p8 ux + p9 uy + p10 |u|^2)
#   tone   = p11 + p12 M + p13 M^2 + p14 M^3 + (p15 ux + p16 uy + p17 |u|^2) M
WARP = slice(0, 7)
RADIUS = slice(7, 11)
TONE = slice(11, 18)
PARAMETERS = 18
BLOCKS = 12  # blocks per axis for the clustered covariance
_BATCH = 256  # samples whose products are added at once

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Equations:
    """Weighted sums over the samples inside the frame.

    ``jtj`` (18, 18) and ``jte`` (18,); ``by_block`` (144, 18) are the parts of ``jte`` by area;
    ``error`` (N,) is observed minus model, NaN outside; ``rms`` of the robust weights' residual.
    """

    jtj: Vector
    jte: Vector
    by_block: Vector
    error: FloatImage
    inside: int
    rms: float


def equations(
    samples: Samples,
    observed: FloatImage,
    parameters: Vector,
    size: tuple[int, int],
    sigma: float,
) -> Equations:
    """Linearise the model around the parameters.

    Args:
        samples: model values at one level.
        observed: (h, w) spline coefficients of the blurred capture at that level, encoded.
        parameters: (18,), see the top of this module.
        size: (width, height) of the full frame.
        sigma: scale of the Geman-McClure weights; inf weighs all samples alike.
    """
    count = len(samples.x)
    jtj = np.zeros((PARAMETERS, PARAMETERS))
    by_block = np.zeros((BLOCKS * BLOCKS, PARAMETERS))
    error = np.full(count, np.nan, np.float32)
    sums = np.zeros(3)
    _accumulate(
        samples.x,
        samples.y,
        samples.value,
        samples.grad_x,
        samples.grad_y,
        float(samples.factor),
        np.array([samples.first_px, samples.step_px]),
        observed,
        parameters,
        np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, np.hypot(*size) / 2]),
        0.0 if np.isinf(sigma) else 1 / sigma**2,
        jtj,
        by_block,
        error,
        sums,
    )
    lower = np.tril_indices(PARAMETERS, -1)
    jtj[lower] = jtj.T[lower]
    rms = float(np.sqrt(sums[1] / sums[2])) if sums[2] > 0 else float("inf")
    return Equations(jtj, by_block.sum(axis=0), by_block, error, int(sums[0]), rms)


def initial_parameters(warp: Warp, radius_px: float) -> Vector:
    """Parameters of a warp, a constant radius and the identity tone."""
    parameters = np.zeros(PARAMETERS)
    parameters[WARP] = warp_parameters(warp)
    parameters[RADIUS.start] = radius_px
    parameters[TONE.start + 1] = 1.0
    return parameters


def warp_parameters(warp: Warp) -> Vector:
    """The seven displacement parameters of a warp, px."""
    (a, b, tx), (c, d, ty) = warp.matrix
    h = warp.half_diagonal_px
    cx, cy = warp.centre
    moved = (a * cx + b * cy + tx - cx, c * cx + d * cy + ty - cy)
    return np.array(
        [moved[0], (a - 1) * h, b * h, moved[1], c * h, (d - 1) * h, warp.radial * h], np.float64
    )


def warp_of(parameters: Vector, size: tuple[int, int]) -> Warp:
    """Inverse of `warp_parameters`."""
    frame = Warp.identity(size)
    h = frame.half_diagonal_px
    cx, cy = frame.centre
    a, b = 1 + parameters[1] / h, parameters[2] / h
    c, d = parameters[4] / h, 1 + parameters[5] / h
    tx = cx + parameters[0] - a * cx - b * cy
    ty = cy + parameters[3] - c * cx - d * cy
    return Warp(
        ((float(a), float(b), float(tx)), (float(c), float(d), float(ty))),
        float(parameters[6] / h),
        size,
    )


def radius_field(parameters: Vector, xy: npt.ArrayLike, size: tuple[int, int]) -> Vector:
    """(N,) modelled disk radius in px at (N, 2) points of the sharp frame."""
    frame = Warp.identity(size)
    u = (np.asarray(xy, np.float64) - frame.centre) / frame.half_diagonal_px
    r0, rx, ry, rr = parameters[RADIUS]
    return np.asarray(r0 * (1 + rx * u[:, 0] + ry * u[:, 1] + rr * (u**2).sum(axis=1)))


@numba.njit(cache=True, nogil=True)
def _accumulate(
    xs: Any,
    ys: Any,
    value: Any,
    grad_x: Any,
    grad_y: Any,
    factor: Any,
    radii: Any,
    observed: Any,
    p: Any,
    frame: Any,
    inverse_variance: Any,
    jtj: Any,
    by_block: Any,
    error: Any,
    sums: Any,
) -> None:
    height, width = observed.shape
    last = value.shape[1] - 2
    cx, cy, h = frame[0], frame[1], frame[2]
    j = np.zeros(PARAMETERS)
    batch = np.zeros((PARAMETERS, _BATCH))
    filled = 0
    for n in range(len(xs)):
        ux = ((xs[n] + 0.5) * factor - 0.5 - cx) / h
        uy = ((ys[n] + 0.5) * factor - 0.5 - cy) / h
        u2 = ux * ux + uy * uy
        dx = p[0] + p[1] * ux + p[2] * uy + p[6] * u2 * ux
        dy = p[3] + p[4] * ux + p[5] * uy + p[6] * u2 * uy
        sx = xs[n] + dx / factor
        sy = ys[n] + dy / factor
        if sx < 2 or sy < 2 or sx >= width - 3 or sy >= height - 3:
            continue
        # quadratic through the three nodes around this pixel's radius
        spread = 1 + p[8] * ux + p[9] * uy + p[10] * u2
        position = (p[7] * spread - radii[0]) / radii[1]
        k = min(max(int(np.floor(position + 0.5)), 1), last)
        t = min(max(position - k, -1.5), 1.5)
        w0, w1, w2 = 0.5 * t * (t - 1), 1 - t * t, 0.5 * t * (t + 1)
        m = w0 * value[n, k - 1] + w1 * value[n, k] + w2 * value[n, k + 1]
        gx = w0 * grad_x[n, k - 1] + w1 * grad_x[n, k] + w2 * grad_x[n, k + 1]
        gy = w0 * grad_y[n, k - 1] + w1 * grad_y[n, k] + w2 * grad_y[n, k + 1]
        mr = (t - 0.5) * value[n, k - 1] - 2 * t * value[n, k] + (t + 0.5) * value[n, k + 1]
        mr /= radii[1]
        gain = p[15] * ux + p[16] * uy + p[17] * u2
        tone = p[11] + m * (p[12] + m * (p[13] + m * p[14]) + gain)
        slope = p[12] + m * (2 * p[13] + m * 3 * p[14]) + gain
        e = spline_value(observed, sx, sy) - tone
        error[n] = e
        sums[0] += 1
        root = 1 / (1 + e * e * inverse_variance)
        w = root * root
        sums[1] += w * e * e
        sums[2] += w
        gx *= slope / factor
        gy *= slope / factor
        j[0], j[1], j[2] = gx, gx * ux, gx * uy
        j[3], j[4], j[5] = gy, gy * ux, gy * uy
        j[6] = u2 * (gx * ux + gy * uy)
        mr *= -slope
        j[7] = mr * spread
        j[8], j[9], j[10] = mr * p[7] * ux, mr * p[7] * uy, mr * p[7] * u2
        j[11], j[12], j[13], j[14] = -1.0, -m, -m * m, -m * m * m
        j[15], j[16], j[17] = -m * ux, -m * uy, -m * u2
        column = min(int(sx / width * BLOCKS), BLOCKS - 1)
        block = min(int(sy / height * BLOCKS), BLOCKS - 1) * BLOCKS + column
        for a in range(PARAMETERS):
            by_block[block, a] += w * j[a] * e
            batch[a, filled] = root * j[a]
        filled += 1
        if filled == _BATCH:
            _add_products(batch, filled, jtj)
            filled = 0
    _add_products(batch, filled, jtj)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _add_products(batch: Any, filled: Any, jtj: Any) -> None:
    """Add the upper half of ``batch @ batch.T``."""
    for a in range(PARAMETERS):
        for b in range(a, PARAMETERS):
            total = 0.0
            for n in range(filled):
                total += batch[a, n] * batch[b, n]
            jtj[a, b] += total
