"""Small areas of a pair, each fitted on its own: how far it lies from the one map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.stages.register.normal import TONE, radius_field
from defocus_ds.stages.register.refine import Fit
from defocus_ds.stages.register.spline import spline_value

__all__ = ["Cells", "measure_cells"]

Values = npt.NDArray[np.float64]

_TUNING = 2.5
_ROUNDS = 4
_FEWEST_SAMPLES = 60
_LARGEST_DEVIATION_PX = 0.25  # a shift known less well than this is unknown
_FARTHEST_PX = 8.0  # pixels of the level: beyond it the fit has run off
_CORRELATED = 4.0  # neighbouring pixels share their errors: so many count as one
_UNKNOWNS = 5  # shift x, shift y, radius, offset, gain


@dataclass(frozen=True, slots=True)
class Cells:
    """A grid of areas over the sharp frame, row by row; N is ``rows * columns``.

    Attributes:
        rows, columns: of the grid.
        size: (width, height) of the frame in px.
        xy: (N, 2) centres, px.
        shift_px: (N, 2) from where the map puts the content to where it is seen.
        shift_covariance: (N, 2, 2) of it, px^2, for errors that `_CORRELATED` describes.
        radius_px: (N,) disk radius; ``radius_change_px`` is what it has above the modelled field.
        radius_variance: (N,) of it, px^2.
        samples: (N,) pixels that were looked at.
        contrast: (N,) variance of the encoded values, of the capture or the model if larger.
        error: (N,) mean squared error under the one map; ``own_error`` under the cell's own fit.
        known: (N,) whether the shift is known: to 0.25 px, and not run off.
    """

    rows: int
    columns: int
    size: tuple[int, int]
    xy: Values
    shift_px: Values
    shift_covariance: Values
    radius_px: Values
    radius_change_px: Values
    radius_variance: Values
    samples: Values
    contrast: Values
    error: Values
    own_error: Values
    known: npt.NDArray[np.bool_]

    @property
    def deviation_px(self) -> Values:
        """(N,) of the shift in its worse direction."""
        largest = np.linalg.eigvalsh(self.shift_covariance)[:, 1]
        return np.asarray(np.sqrt(np.maximum(largest, 0)))


def measure_cells(fit: Fit, observed: FloatImage, side_px: float) -> Cells:
    """Fit shift, radius, offset and gain in every cell, by blur-matched least squares.

    Args:
        fit: the global fit whose samples are used again.
        observed: (h, w) spline coefficients of the blurred capture at the fit's level.
        side_px: width of a cell in full-resolution px, nearly.
    """
    size = fit.size
    columns, rows = (max(int(round(n / side_px)), 1) for n in size)
    state = np.zeros((rows * columns, _UNKNOWNS))
    scale = np.full(rows * columns, np.inf)
    limit = np.array([3.0 * fit.factor, 3.0 * fit.factor, 0.25 * fit.radius_px + 0.2, 1, 1])
    jtj, jte, statistics = _sums(fit, observed, state, scale, rows, columns)
    at_start = statistics
    for _ in range(_ROUNDS):
        state += np.clip(_solve(jtj, jte), -limit, limit)
        scale = _TUNING * np.maximum(np.sqrt(statistics[:, 3]), fit.deviation)
        jtj, jte, statistics = _sums(fit, observed, state, scale, rows, columns)
    covariance = _inverse(jtj) * (_CORRELATED * statistics[:, 3])[:, None, None]
    x, y = np.meshgrid(
        (np.arange(columns) + 0.5) * size[0] / columns - 0.5,
        (np.arange(rows) + 0.5) * size[1] / rows - 0.5,
    )
    xy = np.stack([x.ravel(), y.ravel()], axis=-1)
    shift_covariance = covariance[:, :2, :2]
    worst = np.linalg.eigvalsh(shift_covariance)[:, 1]
    known = (
        (worst < _LARGEST_DEVIATION_PX**2)
        & (statistics[:, 0] >= _FEWEST_SAMPLES)
        & (np.abs(state[:, :2]).max(axis=1) < _FARTHEST_PX * fit.factor)
    )
    return Cells(
        rows=rows,
        columns=columns,
        size=size,
        xy=xy,
        shift_px=state[:, :2],
        shift_covariance=shift_covariance,
        radius_px=radius_field(fit.parameters, xy, size) + state[:, 2],
        radius_change_px=state[:, 2],
        radius_variance=covariance[:, 2, 2],
        samples=at_start[:, 0],
        contrast=at_start[:, 1],
        error=at_start[:, 2],
        own_error=statistics[:, 2],
        known=known,
    )


def _solve(jtj: Values, jte: Values) -> Values:
    """Damped steps of all cells at once; cells without information stay where they are."""
    diagonal = np.sqrt(np.maximum(np.einsum("cii->ci", jtj), 1e-20))
    scaled = jtj / (diagonal[:, :, None] * diagonal[:, None, :])
    scaled = scaled + 1e-4 * np.eye(_UNKNOWNS)
    return np.asarray(np.linalg.solve(scaled, -(jte / diagonal)[..., None])[..., 0] / diagonal)


def _inverse(jtj: Values) -> Values:
    """(cells, 5, 5), symmetric; huge where there is no information."""
    diagonal = np.sqrt(np.maximum(np.einsum("cii->ci", jtj), 1e-20))
    scaled = jtj / (diagonal[:, :, None] * diagonal[:, None, :]) + 1e-6 * np.eye(_UNKNOWNS)
    inverse = np.linalg.inv(scaled) / (diagonal[:, :, None] * diagonal[:, None, :])
    return np.asarray((inverse + inverse.transpose(0, 2, 1)) / 2)


def _sums(
    fit: Fit, observed: FloatImage, state: Values, scale: Values, rows: int, columns: int
) -> tuple[Values, Values, Values]:
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

    def variance(first: int) -> Values:
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
