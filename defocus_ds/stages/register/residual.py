"""Local checks of a fit: does each small area agree with the one map, and by how many pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.optics import Warp
from defocus_ds.stages.register.alignment import ResidualGrid
from defocus_ds.stages.register.model import observed_plane
from defocus_ds.stages.register.normal import TONE, WARP, radius_field
from defocus_ds.stages.register.planes import Pyramid
from defocus_ds.stages.register.refine import Fit
from defocus_ds.stages.register.spline import spline_coefficients, spline_value

__all__ = ["LocalChecks", "check_locally", "map_deviation_px"]

_CELL_PX = 256.0
_LARGEST_DEVIATION_PX = 0.25  # a shift known less well than this is unknown
_LEAST_CONTRAST = 0.01  # deviation of encoded values below which a cell has no texture
_MOST_LEFT = 0.5  # share of the contrast that the one map may leave in a cell that agrees
_TUNING = 2.5
_ROUNDS = 8
_CORRELATED = 4.0
_NOISE_FACTOR = 3.0  # local deviations are this much too small at worst, on simulated pairs
_FINEST_PX = 0.01  # no cell weighs as if it knew its shift better than this
_FEWEST_PAIRS = 4  # neighbours without which noise and misfit cannot be told apart
_FEW_CLUSTERS = 1.4  # areas are fewer than they seem; set so that simulated pairs come out right
_UNKNOWNS = 5  # shift x, shift y, radius, offset, gain


@dataclass(frozen=True, slots=True)
class LocalChecks:
    """``misfit_px``: mean residual shift beyond its noise, NaN without a measured cell.
    ``explained``: share of textured cells that agree with the map.  ``textured``: their number.
    """

    grid: ResidualGrid
    misfit_px: float
    explained: float
    textured: int


def check_locally(fit: Fit, blurred: Pyramid, *, tolerance_px: float) -> LocalChecks:
    """Measure shift and radius in every cell of a grid, by blur-matched least squares.

    Args:
        fit: the global fit whose samples are used again.
        blurred: pyramid of the blurred capture.
        tolerance_px: residual shift up to which a cell counts as explained.

    Returns:
        Cells about 256 px wide (a sixth of the shorter side in small frames).
    """
    size = fit.size
    side = float(np.clip(min(size) / 6, 40.0, _CELL_PX))
    columns, rows = (max(int(round(n / side)), 1) for n in size)
    x, y = np.meshgrid(
        (np.arange(columns) + 0.5) * size[0] / columns - 0.5,
        (np.arange(rows) + 0.5) * size[1] / rows - 0.5,
    )
    cells = rows * columns
    state = np.zeros((cells, _UNKNOWNS))
    scale = np.full(cells, np.inf)
    observed = spline_coefficients(observed_plane(blurred, fit.factor))
    statistics = np.zeros((cells, 4))
    jtj = np.zeros((cells, _UNKNOWNS, _UNKNOWNS))
    at_start = statistics
    for round_ in range(_ROUNDS):
        jtj, jte, statistics = _sums(fit, observed, state, scale, rows, columns)
        at_start = statistics if round_ == 0 else at_start
        scale = _TUNING * np.maximum(np.sqrt(statistics[:, 3]), fit.deviation)
        step = _solve(jtj, jte)
        limit = np.array([3.0 * fit.factor, 3.0 * fit.factor, 0.25 * fit.radius_px + 0.2, 1, 1])
        state += np.clip(step, -limit, limit)
    deviation = _deviation(jtj, statistics)
    radius = radius_field(fit.parameters, np.stack([x.ravel(), y.ravel()], -1), size) + state[:, 2]
    known = (
        (deviation < _LARGEST_DEVIATION_PX)
        & (statistics[:, 0] >= 60)
        & (np.abs(state[:, :2]).max(axis=1) < 8 * fit.factor)
    )
    confidence = np.where(known, 1 / (1 + (deviation / 0.25) ** 2), 0.0)
    shift = np.where(known[:, None], state[:, :2], np.nan)
    floor = max((4 * min(fit.deviation, 0.005)) ** 2, _LEAST_CONTRAST**2)
    textured = (at_start[:, 1] > floor) & (at_start[:, 0] >= 60)
    left = at_start[:, 2] / np.maximum(at_start[:, 1], 1e-12)
    agrees = left < _MOST_LEFT
    stays = np.hypot(state[:, 0], state[:, 1]) <= tolerance_px
    explained = textured & agrees & (stays | ~known)
    grid = ResidualGrid(
        x,
        y,
        shift[:, 0].reshape(rows, columns),
        shift[:, 1].reshape(rows, columns),
        np.where(known, np.maximum(radius, 0), np.nan).reshape(rows, columns),
        confidence.reshape(rows, columns),
        np.where(textured, left, np.nan).reshape(rows, columns),
    )
    return LocalChecks(
        grid,
        _misfit(grid, deviation),
        float(explained.sum() / max(int(textured.sum()), 1)),
        int(textured.sum()),
    )


def map_deviation_px(fit: Fit, points: int = 21) -> float:
    """Expected mean distance, px, between the fitted and the true map, by the covariance."""
    frame = Warp.identity(fit.size)
    x, y = np.meshgrid(
        np.linspace(0, fit.size[0] - 1, points), np.linspace(0, fit.size[1] - 1, points)
    )
    u = (np.stack([x.ravel(), y.ravel()], -1) - frame.centre) / frame.half_diagonal_px
    u2 = (u**2).sum(axis=1)
    one, zero = np.ones(len(u)), np.zeros(len(u))
    for_x = np.stack([one, u[:, 0], u[:, 1], zero, zero, zero, u2 * u[:, 0]], axis=-1)
    for_y = np.stack([zero, zero, zero, one, u[:, 0], u[:, 1], u2 * u[:, 1]], axis=-1)
    covariance = fit.covariance[WARP, WARP]
    variance = ((for_x @ covariance) * for_x).sum(axis=1)
    variance += ((for_y @ covariance) * for_y).sum(axis=1)
    # the mean length of a plane Gaussian vector is sqrt(pi / 4) of its root mean square
    return _FEW_CLUSTERS * float(np.sqrt(np.pi / 4 * np.maximum(variance, 0)).mean())


def _misfit(grid: ResidualGrid, deviation: npt.NDArray[np.float64]) -> float:
    """Mean residual shift that is real: shared by neighbouring cells, or far beyond its noise.

    Noise differs from cell to cell and smooth misalignment does not, so the mean product of
    neighbours over the mean square tells which part of the shifts is smooth.
    """
    known = grid.confidence > 0
    if not known.any():
        return float("nan")
    weight = np.where(known, 1 / (deviation.reshape(known.shape) ** 2 + _FINEST_PX**2), 0.0)
    shift = np.nan_to_num(np.stack([grid.dx, grid.dy], axis=-1))
    square = (shift**2).sum(axis=-1)
    noise = 2 * _NOISE_FACTOR**2 * deviation.reshape(known.shape) ** 2
    beyond = float((np.sqrt(np.maximum(square - noise, 0)) * weight).sum() / weight.sum())
    mean_square = float((square * weight).sum() / weight.sum())
    mean = float((np.sqrt(square) * weight).sum() / weight.sum())
    products, weights = [], []
    for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        both = known[a] & known[b]
        products.append((shift[a] * shift[b]).sum(axis=-1)[both])
        weights.append(np.sqrt(weight[a] * weight[b])[both])
    product, pair_weight = np.concatenate(products), np.concatenate(weights)
    if len(product) < _FEWEST_PAIRS or mean_square == 0:
        return mean
    shared = float((product * pair_weight).sum() / pair_weight.sum())
    return max(beyond, mean * float(np.sqrt(np.clip(shared / mean_square, 0, 1))))


def _solve(jtj: npt.NDArray[np.float64], jte: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Damped steps of all cells at once; cells without information stay where they are."""
    diagonal = np.sqrt(np.maximum(np.einsum("cii->ci", jtj), 1e-20))
    scaled = jtj / (diagonal[:, :, None] * diagonal[:, None, :])
    scaled = scaled + 1e-4 * np.eye(_UNKNOWNS)
    return np.asarray(np.linalg.solve(scaled, -(jte / diagonal)[..., None])[..., 0] / diagonal)


def _deviation(
    jtj: npt.NDArray[np.float64], statistics: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(cells,) deviation of the worse direction of the shift, px."""
    diagonal = np.sqrt(np.maximum(np.einsum("cii->ci", jtj), 1e-20))
    scaled = jtj / (diagonal[:, :, None] * diagonal[:, None, :]) + 1e-6 * np.eye(_UNKNOWNS)
    inverse = np.linalg.inv(scaled) / (diagonal[:, :, None] * diagonal[:, None, :])
    shift = inverse[:, :2, :2]
    largest = np.linalg.eigvalsh((shift + shift.transpose(0, 2, 1)) / 2)[:, 1]
    return np.asarray(np.sqrt(np.maximum(largest, 0) * _CORRELATED * statistics[:, 3]))


def _sums(
    fit: Fit,
    observed: npt.NDArray[np.float32],
    state: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    rows: int,
    columns: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Normal equations of every cell.

    Statistics: samples, variance of the capture or of the model if larger, mean squared error,
    robust mean squared error.
    """
    cells = rows * columns
    jtj = np.zeros((cells, _UNKNOWNS, _UNKNOWNS))
    jte = np.zeros((cells, _UNKNOWNS))
    raw = np.zeros((cells, 8))
    s = fit.samples
    width, height = fit.size
    _local_sums(
        s.x,
        s.y,
        s.value,
        s.grad_x,
        s.grad_y,
        float(s.factor),
        np.array([s.first_px, s.step_px]),
        observed,
        fit.parameters,
        TONE.start,
        np.array([(width - 1) / 2, (height - 1) / 2, np.hypot(width, height) / 2, width, height]),
        state,
        1 / scale**2,
        rows,
        columns,
        jtj,
        jte,
        raw,
    )
    lower = np.tril_indices(_UNKNOWNS, -1)
    jtj[:, lower[0], lower[1]] = jtj[:, lower[1], lower[0]]
    n = np.maximum(raw[:, 0], 1)

    def variance(first: int) -> npt.NDArray[np.float64]:
        return np.maximum(raw[:, first + 1] / n - (raw[:, first] / n) ** 2, 0)

    statistics = np.stack(
        [
            raw[:, 0],
            np.maximum(variance(1), variance(6)),
            raw[:, 3] / n,
            raw[:, 4] / np.maximum(raw[:, 5], 1e-12),
        ],
        axis=-1,
    )
    return jtj, jte, statistics


@numba.njit(cache=True, nogil=True)
def _local_sums(
    xs: Any,
    ys: Any,
    value: Any,
    grad_x: Any,
    grad_y: Any,
    factor: Any,
    radii: Any,
    observed: Any,
    p: Any,
    tone: Any,
    frame: Any,
    state: Any,
    inverse_variance: Any,
    rows: Any,
    columns: Any,
    jtj: Any,
    jte: Any,
    raw: Any,
) -> None:
    height, width = observed.shape
    last = value.shape[1] - 2
    cx, cy, h = frame[0], frame[1], frame[2]
    j = np.zeros(5)
    for n in range(len(xs)):
        px = (xs[n] + 0.5) * factor - 0.5
        py = (ys[n] + 0.5) * factor - 0.5
        column = min(int((px + 0.5) / frame[3] * columns), columns - 1)
        cell = min(int((py + 0.5) / frame[4] * rows), rows - 1) * columns + column
        ux = (px - cx) / h
        uy = (py - cy) / h
        u2 = ux * ux + uy * uy
        dx = p[0] + p[1] * ux + p[2] * uy + p[6] * u2 * ux + state[cell, 0]
        dy = p[3] + p[4] * ux + p[5] * uy + p[6] * u2 * uy + state[cell, 1]
        sx = xs[n] + dx / factor
        sy = ys[n] + dy / factor
        if sx < 2 or sy < 2 or sx >= width - 3 or sy >= height - 3:
            continue
        radius = p[7] * (1 + p[8] * ux + p[9] * uy + p[10] * u2) + state[cell, 2]
        position = (radius - radii[0]) / radii[1]
        k = min(max(int(np.floor(position + 0.5)), 1), last)
        t = min(max(position - k, -1.5), 1.5)
        w0, w1, w2 = 0.5 * t * (t - 1), 1 - t * t, 0.5 * t * (t + 1)
        m = w0 * value[n, k - 1] + w1 * value[n, k] + w2 * value[n, k + 1]
        gx = w0 * grad_x[n, k - 1] + w1 * grad_x[n, k] + w2 * grad_x[n, k + 1]
        gy = w0 * grad_y[n, k - 1] + w1 * grad_y[n, k] + w2 * grad_y[n, k + 1]
        mr = (t - 0.5) * value[n, k - 1] - 2 * t * value[n, k] + (t + 0.5) * value[n, k + 1]
        mr /= radii[1]
        gain = p[tone + 4] * ux + p[tone + 5] * uy + p[tone + 6] * u2
        curve = p[tone] + m * (p[tone + 1] + m * (p[tone + 2] + m * p[tone + 3]) + gain)
        slope = p[tone + 1] + m * (2 * p[tone + 2] + m * 3 * p[tone + 3]) + gain
        slope *= 1 + state[cell, 4]
        seen = spline_value(observed, sx, sy)
        e = seen - curve * (1 + state[cell, 4]) - state[cell, 3]
        root = 1 / (1 + e * e * inverse_variance[cell])
        w = root * root
        raw[cell, 0] += 1
        raw[cell, 1] += seen
        raw[cell, 2] += seen * seen
        raw[cell, 3] += e * e
        raw[cell, 4] += w * e * e
        raw[cell, 5] += w
        raw[cell, 6] += curve
        raw[cell, 7] += curve * curve
        j[0], j[1] = gx * slope / factor, gy * slope / factor
        j[2], j[3], j[4] = -mr * slope, -1.0, -curve
        for a in range(5):
            wa = w * j[a]
            jte[cell, a] += wa * e
            for b in range(a, 5):
                jtj[cell, a, b] += wa * j[b]
