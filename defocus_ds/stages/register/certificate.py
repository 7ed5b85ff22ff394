"""How far a map is from the truth: an estimate with a stated meaning.

The expected mean distance, over the visible content of the valid area, between where the map puts
a point and where it truly is.  Planes that move on their own count where they are seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defocus_ds.optics import Warp
from defocus_ds.stages.register.cells import Cells, Values
from defocus_ds.stages.register.normal import WARP
from defocus_ds.stages.register.refine import Fit
from defocus_ds.stages.register.shrinkage import Field, noise_factors, shrink

__all__ = ["Certificate", "certify"]

_FEW_CLUSTERS = 1.3  # areas are fewer than they seem; set so that simulated pairs come out right
_DEGREES = ((200, 3), (100, 2), (40, 1))  # of the smooth displacement, from so many cells on
_SIGNIFICANT = 3.0  # its mean square over that of its noise
_FOLLOWS = 10.0  # squared size over noise, of four numbers, from which shifts follow the blur
_TUNING = 4.0
_LEAST_NOISE = 0.5  # of a cell, in median deviations of all
_ROUNDS = 12
_RADIUS_KNOWN_PX = 1.0
_REACH = 1.5  # cells: how far an unknown cell looks for others
_MEAN_LENGTH = np.pi / 4  # squared mean length over mean square, of a plane Gaussian vector


@dataclass(frozen=True, slots=True)
class Certificate:
    """``residual_px``: expected mean distance between the map and the truth, NaN if nothing is
    known.  ``deviation_px``: of the fit alone, by its covariance.  ``misfit_px``: what the cells
    find of it.  ``noise_factor``: how much noisier the cells are than their covariances say.
    """

    residual_px: float
    deviation_px: float
    misfit_px: float
    noise_factor: float


def certify(
    cells: Cells,
    fit: Fit,
    *,
    area: tuple[int, int, int, int],
    fitted: bool = True,
    wide: Cells | None = None,
) -> Certificate:
    """Estimate the error of a fit's map from small cells that each look at one place.

    Three things make a map wrong, and each is looked for where it can be told from noise: a smooth
    displacement that the map cannot follow, parallax, which follows the blur because both grow
    with the distance from the plane of focus, and single areas that move on their own.  What
    stays below the noise of the cells is what the covariance of the fit says.

    Args:
        cells: small enough to lie on one depth plane, mostly.
        fit: whose map is judged.
        area: (x0, y0, x1, y1), half-open, over which the mean is taken.
        wide: larger cells, that tell the shift where the small ones have too little texture.
        fitted: whether the fit estimated its map; the covariance of one that was given says
            nothing, and that of the smooth displacement takes its place.
    """
    deviation = _map_deviation_px(fit) if fitted else 0.0
    if not cells.known.any():
        return Certificate(float("nan"), deviation, float("nan"), 1.0)
    field = _field(cells)
    factors = noise_factors(field)
    smooth, uncertain = _smooth_shift(cells, factors[4])
    if not fitted:
        deviation = uncertain.deviation_px
    rest = Field(field.value - smooth, field.covariance, field.known, field.rows, field.columns)
    local = shrink(rest, factors)
    length = np.sqrt(((smooth + local.mean) ** 2).sum(axis=1) + _MEAN_LENGTH * local.spread)
    known = cells.known
    if wide is not None:
        length, known = _filled(cells, length, wide, factors[4])
    misfit = _mean_over(cells, length, known, area)
    # where the smooth displacement is known, the error of the fit is a part of it
    held = fitted and uncertain.significant
    residual = max(misfit, deviation) if held else float(np.hypot(misfit, deviation))
    return Certificate(residual, deviation, misfit, factors[2])


@dataclass(frozen=True, slots=True)
class _Uncertain:
    significant: bool
    deviation_px: float


def _smooth_shift(cells: Cells, noise_factor: float) -> tuple[Values, _Uncertain]:
    """(N, 2) displacement, px: a polynomial of the place, and what goes with the blur; 0 if
    neither stands out of the noise."""
    degree = next((d for least, d in _DEGREES if cells.known.sum() >= least), None)
    if degree is None:
        return np.zeros_like(cells.shift_px), _Uncertain(False, 0.0)
    deeper = _depth(cells)
    columns, smooth = _design(cells, deeper, degree)
    with_depth = bool(deeper.std() > 0)
    used = columns if with_depth else columns[:, :, :smooth]
    found, covariance = _regression(cells, used, noise_factor)
    if with_depth:
        own, its = found[smooth:], covariance[smooth:, smooth:]
        if float(own @ np.linalg.solve(its, own)) < _FOLLOWS:
            with_depth = False
            used = columns[:, :, :smooth]
            found, covariance = _regression(cells, used, noise_factor)
    place = columns[:, :, :smooth]
    shift = place @ found[:smooth]
    there = place[cells.known]
    noise = np.einsum("nia,ab,nib->n", there, covariance[:smooth, :smooth], there).mean()
    power = float((shift[cells.known] ** 2).sum(axis=1).mean())
    significant = power > _SIGNIFICANT * noise
    shift = shift * np.sqrt(1 - noise / power) if significant else np.zeros_like(shift)
    if with_depth:
        shift = shift + columns[:, :, smooth:] @ found[smooth:]
    return shift, _Uncertain(significant, float(np.sqrt(_MEAN_LENGTH * noise)))


def _depth(cells: Cells) -> Values:
    """(N,) how much larger the disk is than modelled, as far as it stands out of the noise, px."""
    known = cells.known & (cells.radius_variance < _RADIUS_KNOWN_PX**2)
    field = Field(
        cells.radius_change_px[:, None],
        cells.radius_variance[:, None, None],
        known,
        cells.rows,
        cells.columns,
    )
    deeper = shrink(field, noise_factors(field)).mean[:, 0]
    # the map follows the plane that most of the frame shows
    return np.asarray(deeper - np.median(deeper[cells.known]))


def _design(cells: Cells, deeper: Values, degree: int) -> tuple[Values, int]:
    """(N, 2, K) columns of the regression, and how many of them are smooth: a polynomial for
    each direction, then shift, growth and turn in proportion to the change of the blur."""
    frame = Warp.identity(cells.size)
    u, v = ((cells.xy - frame.centre) / frame.half_diagonal_px).T
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    terms = np.stack([u**i * v**j for i, j in powers], axis=-1)
    none, one = np.zeros_like(terms), np.ones_like(u)
    across = [*np.concatenate([terms, none], axis=1).T, deeper * one, 0 * one]
    down = [*np.concatenate([none, terms], axis=1).T, 0 * one, deeper * one]
    across += [deeper * u, -deeper * v]
    down += [deeper * v, deeper * u]
    columns = np.stack([np.stack(across, axis=-1), np.stack(down, axis=-1)], axis=1)
    return columns, 2 * len(powers)


def _regression(cells: Cells, columns: Values, noise_factor: float) -> tuple[Values, Values]:
    """Robust weighted least squares of the shifts; coefficients and sandwich covariance."""
    known = cells.known
    scale = np.abs(columns).max(axis=(0, 1)) + 1e-12
    design = (columns / scale)[known]
    shift = cells.shift_px[known]
    noise = cells.shift_covariance[known] * noise_factor**2
    # no cell is trusted far beyond the others
    floor = _LEAST_NOISE**2 * float(np.median(np.trace(noise, axis1=1, axis2=2))) / 2
    precision = np.linalg.inv(noise + floor * np.eye(2))
    weight = np.ones(len(shift))
    count = design.shape[2]
    for _ in range(_ROUNDS):
        weighted = np.einsum("nia,nij->naj", design, precision * weight[:, None, None])
        information = np.einsum("naj,njb->ab", weighted, design)
        information += 1e-9 * np.trace(information) / count * np.eye(count)
        found = np.linalg.solve(information, np.einsum("naj,nj->a", weighted, shift))
        left = shift - design @ found
        square = np.einsum("ni,nij,nj->n", left, precision, left)
        weight = 1 / (1 + square / (2 * _TUNING**2)) ** 2
    scores = np.einsum("naj,nj->na", weighted, left)
    inverse = np.linalg.inv(information)
    few = len(scores) / max(len(scores) - count, 1)
    covariance = inverse @ (scores.T @ scores) @ inverse * few
    return found / scale, covariance / np.outer(scale, scale)


def _filled(
    cells: Cells, length: Values, wide: Cells, noise_factor: float
) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Lengths with those of wide cells where small ones know nothing, and which are known then."""
    real = shrink(_field(wide), {blocks: noise_factor for blocks in (1, 2, 4)})
    wide_length = np.sqrt((real.mean**2).sum(axis=1) + _MEAN_LENGTH * real.spread)
    column = np.floor((cells.xy[:, 0] + 0.5) / wide.size[0] * wide.columns).astype(np.intp)
    row = np.floor((cells.xy[:, 1] + 0.5) / wide.size[1] * wide.rows).astype(np.intp)
    around = row * wide.columns + column
    filled = ~cells.known & wide.known[around]
    return np.where(filled, wide_length[around], length), cells.known | filled


def _field(cells: Cells) -> Field:
    return Field(cells.shift_px, cells.shift_covariance, cells.known, cells.rows, cells.columns)


def _mean_over(
    cells: Cells,
    length: Values,
    known: npt.NDArray[np.bool_],
    area: tuple[int, int, int, int],
) -> float:
    """Mean over the cells whose centre lies in the area; unknown ones are like those around."""
    x, y = cells.xy.T
    x0, y0, x1, y1 = area
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    if not inside.any():
        inside = np.ones_like(inside)
    row, column = np.divmod(np.arange(len(length)), cells.columns)
    wanted = np.flatnonzero(inside & ~known)
    given = np.flatnonzero(known)
    far = (row[wanted, None] - row[given]) ** 2 + (column[wanted, None] - column[given]) ** 2
    near = np.exp(-far / (2 * _REACH**2)) + 1e-12
    length = length.copy()
    length[wanted] = near @ length[given] / near.sum(axis=1)
    return float(length[inside].mean())


def _map_deviation_px(fit: Fit, points: int = 21) -> float:
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
    return _FEW_CLUSTERS * float(np.sqrt(_MEAN_LENGTH * np.maximum(variance, 0)).mean())
