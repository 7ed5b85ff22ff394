"""Measure the disk radius window by window: the likelihood of every disk, and its interval."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Points, Warp
from defocus_ds.stages.register.disk_ladder import disk_ladder, overlaid
from defocus_ds.stages.register.planes import Pyramid
from defocus_ds.stages.register.radius import clipped_there
from defocus_ds.stages.register.radius_map import STEP_PX, RadiusMap, node_shape

__all__ = ["measure_radii"]

_LEAST_SHARE, _MOST_SHARE = 0.3, 2.3  # of the frame's radius: disks that are tried, beside 0
_IDENTITY_PX = 0.6  # a disk hardly wider than a pixel
_BAND = 4  # disks through which the model between them is interpolated
_FINE = 6  # radii looked at between two disks
_CORRELATED = 7.0  # neighbouring pixels of a level share their errors: so many count as one
_CLIPPED_SHARE = 0.02
_LARGE, _FEW = 8e6, 250_000  # pixels of a frame, and of a level
_FEWEST = 0.3  # share of a cell's pixels without which it is not looked at
_LEAST_ERROR = 5e-4  # roots of linear light: rounding and interpolation leave as much
_TAPER = (0.5, 1.0, 0.5)  # weight of a cell and of its neighbours in a window
_FLOOR_SHARE, _FLOOR_PX = 0.003, 0.01  # of the radius: interpolation of the model
_UNRESOLVED_PX = 0.6  # deviation of a radius of 0: all disks below half a pixel are alike
_INFORMED = 4.0  # change of the loss from which a cell says anything

Cells = npt.NDArray[np.float64]


def measure_radii(sharp: Pyramid, blurred: Pyramid, warp: Warp, *, radius_px: float) -> RadiusMap:
    """Find, every 64 px, the disk under which the sharp capture looks like the blurred one.

    In cells of 64 px the sharp capture under each disk is fitted to the capture with a gain and
    an offset of its own.  The log-likelihoods of a cell and, with less weight, of its eight
    neighbours are added: a window is about 130 px wide.  The radius is where the sum is largest,
    its deviation the half-width of the interval in which the sum falls by one half.

    Args:
        sharp, blurred: pyramids of the same size.
        warp: the fitted map, sharp frame -> blurred frame.
        radius_px: mean radius over the frame; 0.3 to 2.3 times as much and 0 can be found.

    Returns:
        The map; NaN where there is no texture, where it is clipped or off the capture, or where
        the largest disk fits best.
    """
    factor = _level(sharp, radius_px)
    radii = _ladder(radius_px, factor)
    scale = float(np.sqrt(abs(np.linalg.det(np.asarray(warp.matrix)[:, :2]))))
    seen = overlaid(blurred, warp, factor)
    clipped = sharp[factor].clipped, clipped_there(blurred, warp, factor)
    usable = _usable(seen, clipped, max(radius_px, factor) / factor)
    rows, columns = node_shape(sharp.size)
    own = np.zeros((rows, columns, 3))
    sums = np.zeros((len(radii), rows, columns, 2 + _BAND))
    _sum_capture(seen, usable, STEP_PX // factor, own)
    ladder = disk_ladder(sharp, factor, scale=scale)
    one = two = three = seen  # until there are disks before: those products are not used
    for k, radius in enumerate(radii):
        model = ladder.plane(float(radius))
        _sum_model(seen, usable, model, one, two, three, STEP_PX // factor, sums[k])
        one, two, three = model, one, two
    fine, loss = _losses(radii, own, sums)
    enough = own[..., 0] >= _FEWEST * (STEP_PX // factor) ** 2
    return _read(fine, np.where(enough, loss - loss.min(axis=0), 0.0), enough)


def _level(sharp: Pyramid, radius_px: float) -> int:
    """1/4, or finer where a small disk or a small frame asks for it and the frame is not large."""
    pixels = sharp.size[0] * sharp.size[1]
    factor = min(4, sharp.coarsest)
    if pixels > _LARGE:
        return factor
    while factor > 1 and (radius_px < 0.7 * factor or pixels / factor**2 < _FEW):
        factor //= 2
    return factor


def _ladder(radius_px: float, factor: int) -> Points:
    """(K,) radii in px: 0, then a geometric row, coarser where the level hardly resolves them."""
    radii = [0.0, max(_LEAST_SHARE * radius_px, 0.25 * factor, _IDENTITY_PX)]
    most = max(_MOST_SHARE * radius_px, 2.0 * factor)
    while radii[-1] < most:
        last = radii[-1]
        radii.append(last * (1.2 if last < 2.5 or last >= factor else 1.4))
    return np.array(radii)


def _usable(
    seen: FloatImage, clipped: tuple[FloatImage, FloatImage], radius: float
) -> npt.NDArray[np.bool_]:
    """Pixels whose disk, and one half larger, sees neither clipped light nor the frame's edge.

    ``clipped`` are shares of either capture in the sharp frame; ``radius`` is in pixels of these
    planes.
    """
    import cv2

    usable = np.asarray(np.isfinite(seen))
    reach = int(np.ceil(1.5 * radius))
    side = 2 * reach + 1
    for plane in clipped:
        usable &= np.asarray(cv2.blur(plane, (side, side))) <= _CLIPPED_SHARE
    height, width = usable.shape
    margin = min(reach + 1, height // 4, width // 4)
    usable[:margin] = usable[height - margin :] = False
    usable[:, :margin] = usable[:, width - margin :] = False
    return usable


def _losses(radii: Points, own: Cells, sums: Cells) -> tuple[Points, Cells]:
    """(F,) radii and (F, rows, columns) minus twice the log-likelihood of each cell there.

    Between the disks the model is a cubic through four of them, whose covariances are known, so
    nothing but sums is needed.
    """
    count = np.maximum(own[..., 0], 1)
    mean = own[..., 1] / count
    variance = np.maximum(own[..., 2] / count - mean**2, 0)
    model = sums[..., 0] / count
    seen = sums[..., 1] / count - model * mean

    def covariance(i: int, j: int) -> Cells:
        i, j = max(i, j), min(i, j)
        return np.asarray(sums[i, ..., 2 + i - j] / count - model[i] * model[j])

    fine, losses = [], []
    for k in range(len(radii) - 1):
        first = min(max(k - 1, 0), len(radii) - _BAND)
        gram = [[covariance(first + i, first + j) for j in range(_BAND)] for i in range(_BAND)]
        low, high = float(radii[k]), float(radii[k + 1])
        steps = np.arange(_FINE + (k == len(radii) - 2)) / _FINE
        for radius in low + steps * (high - low) if k == 0 else low * (high / low) ** steps:
            weight = _lagrange(float(radius), radii[first : first + _BAND])
            square = np.zeros(mean.shape)
            product = np.zeros(mean.shape)
            for i in range(_BAND):
                product += weight[i] * seen[first + i]
                for j in range(_BAND):
                    square += weight[i] * weight[j] * gram[i][j]
            left = variance - np.maximum(product, 0) ** 2 / np.maximum(square, 1e-12)
            fine.append(float(radius))
            losses.append(count / _CORRELATED * np.log(np.maximum(left, 0) + _LEAST_ERROR**2))
    return np.array(fine), np.array(losses)


def _lagrange(at: float, nodes: Points) -> Points:
    weights = [
        np.prod([(at - other) / (node - other) for other in nodes if other != node])
        for node in nodes
    ]
    return np.array(weights)


def _read(fine: Points, loss: Cells, enough: npt.NDArray[np.bool_]) -> RadiusMap:
    """Best radius of every window, its deviation, and how far its cells disagree."""
    informed = ((loss.max(axis=0) > _INFORMED) & enough).astype(np.float64)
    alone, alone_deviation = _best(fine, loss, informed)
    informed = np.where(enough, _windowed(informed[None])[0], 0.0)
    radius, deviation = _best(fine, _windowed(loss), informed)
    floor = _FLOOR_SHARE * radius + _FLOOR_PX + _UNRESOLVED_PX * np.maximum(1 - radius, 0)
    spread = np.where(np.isfinite(radius), _spread(alone, alone_deviation), np.nan)
    return RadiusMap(radius, np.hypot(deviation, floor), spread)


def _best(fine: Points, loss: Cells, informed: Cells) -> Cells:
    """(2, rows, columns) radius and deviation; ``informed`` is the number of cells in each loss."""
    found = np.full((2, *informed.shape), np.nan)
    flat = np.ascontiguousarray(loss.reshape(len(fine), -1).T)
    _intervals(fine, flat, informed.ravel(), found.reshape(2, -1))
    return found


def _spread(radius: Cells, deviation: Cells) -> Cells:
    """How far the cells of each window lie apart, beyond their deviations."""
    weight = RadiusMap(radius, deviation, deviation).confidence
    moments = [np.where(weight > 0, np.nan_to_num(x), 0) for x in (radius, radius**2, deviation**2)]
    sums = _windowed(np.stack([weight, *(weight * moment for moment in moments)]))
    mean, square, noise = sums[1:] / np.maximum(sums[0], 1e-9)
    return np.asarray(np.sqrt(np.maximum(square - mean**2 - noise, 0)))


def _windowed(cells: Cells) -> Cells:
    """Weighted sums of the cells of each window, (F, rows, columns)."""
    for axis in (1, 2):
        padded = np.pad(cells, [(1, 1) if n == axis else (0, 0) for n in range(3)])
        length = cells.shape[axis]
        parts = [np.take(padded, range(at, at + length), axis=axis) for at in range(len(_TAPER))]
        cells = np.asarray(sum(weight * part for weight, part in zip(_TAPER, parts, strict=True)))
    return cells


@numba.njit(cache=True, nogil=True)
def _sum_capture(seen: Any, usable: Any, side: Any, out: Any) -> None:
    rows, columns = out.shape[0], out.shape[1]
    for y in range(seen.shape[0]):
        row = min(y // side, rows - 1)
        for x in range(seen.shape[1]):
            if usable[y, x]:
                to = out[row, min(x // side, columns - 1)]
                s = float(seen[y, x])
                to[0] += 1
                to[1] += s
                to[2] += s * s


@numba.njit(cache=True, nogil=True)
def _sum_model(
    seen: Any, usable: Any, model: Any, one: Any, two: Any, three: Any, side: Any, out: Any
) -> None:
    """Sums over each cell: of the model, times the capture, times itself and its predecessors."""
    height, width = seen.shape
    rows, columns = out.shape[0], out.shape[1]
    for row in range(rows):
        bottom = height if row == rows - 1 else min((row + 1) * side, height)
        for column in range(columns):
            right = width if column == columns - 1 else min((column + 1) * side, width)
            a, b, c, d, e, f = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for y in range(row * side, bottom):
                for x in range(column * side, right):
                    if usable[y, x]:
                        v = float(model[y, x])
                        a += v
                        b += v * seen[y, x]
                        c += v * v
                        d += v * one[y, x]
                        e += v * two[y, x]
                        f += v * three[y, x]
            to = out[row, column]
            to[0], to[1], to[2], to[3], to[4], to[5] = a, b, c, d, e, f


@numba.njit(cache=True, nogil=True)
def _intervals(fine: Any, losses: Any, informed: Any, out: Any) -> None:
    """Radius and deviation of every window from its loss at the fine radii."""
    last = len(fine) - 1
    for c in range(len(losses)):
        loss = losses[c]
        i = int(np.argmin(loss))
        if informed[c] == 0 or i == last:
            continue
        best, base = fine[i], loss[i]
        if i > 0:
            rise = (loss[i] - loss[i - 1]) / (fine[i] - fine[i - 1])
            next_rise = (loss[i + 1] - loss[i]) / (fine[i + 1] - fine[i])
            bend = (next_rise - rise) / (fine[i + 1] - fine[i - 1])
            if bend > 0:
                best = (fine[i - 1] + fine[i]) / 2 - rise / (2 * bend)
                best = min(max(best, fine[i - 1]), fine[i + 1])
                base = loss[i] - bend * (fine[i] - best) ** 2
        # the losses of cells that agree come to about one each at the common radius
        out[0, c] = best
        out[1, c] = _half_width(fine, loss, i, best, base, max(base / informed[c], 1.0))


@numba.njit(cache=True, nogil=True)
def _half_width(fine: Any, loss: Any, i: Any, best: Any, base: Any, rise: Any) -> Any:
    """Distance to the farther end of the radii whose loss is within ``rise``; inf if open."""
    top = base + rise
    last = len(fine) - 1
    if loss[last] <= top:
        return np.inf
    j = last
    while j > i + 1 and loss[j - 1] > top:
        j -= 1
    if j == i + 1:
        high = best + (fine[j] - best) * np.sqrt(rise / (loss[j] - base))
    else:
        part = (top - loss[j - 1]) / (loss[j] - loss[j - 1])
        high = fine[j - 1] + (fine[j] - fine[j - 1]) * part
    if loss[0] <= top:
        return max(high - best, best)
    j = 0
    while j < i - 1 and loss[j + 1] > top:
        j += 1
    if j == i - 1:
        low = best - (best - fine[j]) * np.sqrt(rise / (loss[j] - base))
    else:
        part = (top - loss[j + 1]) / (loss[j] - loss[j + 1])
        low = fine[j + 1] - (fine[j + 1] - fine[j]) * part
    return max(high - best, best - low)
