"""Blur-matched Gauss-Newton: warp, disk radius and tone together, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp
from defocus_ds.stages.register.model import Samples, draw_samples, observed_plane
from defocus_ds.stages.register.normal import (
    PARAMETERS,
    RADIUS,
    TONE,
    WARP,
    Vector,
    equations,
    initial_parameters,
    radius_field,
    warp_of,
)
from defocus_ds.stages.register.planes import Pyramid
from defocus_ds.stages.register.radius import fit_radius, matched, max_radius_px
from defocus_ds.stages.register.solver import (
    Mask,
    clustered_covariance,
    free_parameters,
    inlier_deviation,
    limited,
    solve_step,
)
from defocus_ds.stages.register.spline import spline_coefficients

__all__ = ["Fit", "certify_map", "refine_coarse", "refine_fine"]

Trace = tuple[tuple[int, tuple[float, ...]], ...]

_TUNING = 2.5  # Geman-McClure scale in deviations of the inliers
_ROUNDS, _LAST_ROUNDS = 20, 8
_ON_THE_WAY = 5  # so many times fewer samples are read until the fit has come to rest
_COARSEST_END = 4  # no fit ends at a coarser level than this: they only lead on to it
_AT_REST_PX = 5e-4  # pixels of the level
_MOVING_PX = 0.03  # a last step above this many pixels of the level has not converged
_SMALLEST_START_PX = 0.7  # a smaller disk is the identity, from which no gradient leads away
_LOST_NCC = 0.2  # a start that agrees no better after the first level is not followed up
_RESOLVED = 0.7  # a disk of fewer pixels of a level cannot be told there
_LARGEST_GUESS = 2.0  # the radius that such a disk may turn out to have, pixels of the level
_STEEPEST = 0.7  # change of the radius over half a diagonal, as a share of its mean
_TONE_ROUNDS = 2  # the tone settles first, or its error would be taken for a shift


@dataclass(frozen=True, slots=True)
class Fit:
    """State of the refinement after its last level.

    ``parameters`` as in `normal`; ``covariance`` (18, 18); ``deviation`` of the inliers, encoded
    values; ``trace`` is (factor, robust residual of every round) for each level so far;
    ``converged`` is False if the last step was still large.
    """

    parameters: Vector
    covariance: Vector
    deviation: float
    factor: int
    samples: Samples
    trace: Trace
    converged: bool
    size: tuple[int, int]

    @property
    def warp(self) -> Warp:
        return warp_of(self.parameters, self.size)

    @property
    def radius_px(self) -> float:
        """Mean disk radius over the frame, in pixels of the sharp frame."""
        return float(np.maximum(_radii(self.parameters, self.size), 0).mean())


def refine_coarse(sharp: Pyramid, blurred: Pyramid, start: Warp, *, samples: int, seed: int) -> Fit:
    """Fit on the two coarsest useful levels, guessing the radius before each.

    Args:
        sharp, blurred: pyramids of the same size.
        start: initial warp, right to a few pixels of the first level.
        samples: largest number of pixels at a level.
        seed: of the pixel draw.

    Returns:
        The fit; its agreement with the images tells whether the start was right.  It is that of
        the first level where nothing was found there.

    Source:
        Baker & Matthews 2004 (Gauss-Newton on images); Geman & McClure 1987 (weights).
    """
    free = free_parameters(sharp.size)
    first = _first_level(sharp)
    parameters = initial_parameters(start, fit_radius(sharp, blurred, start, first))
    fit = _fit_level(sharp, blurred, parameters, free, first, samples, seed)
    reached = matched(sharp, blurred, fit.warp, fit.radius_px, first).agreement()
    if first > 1 and reached > _LOST_NCC:
        second = first // 2
        parameters = initial_parameters(fit.warp, fit_radius(sharp, blurred, fit.warp, second))
        finer = _fit_level(sharp, blurred, parameters, free, second, samples, seed)
        fit = replace(finer, trace=fit.trace + finer.trace)
    return fit


def refine_fine(sharp: Pyramid, blurred: Pyramid, fit: Fit, *, samples: int, seed: int) -> Fit:
    """Go on to the level where the disk is resolved and there are pixels enough."""
    free = free_parameters(sharp.size)
    while fit.factor > _last_level(sharp.size, fit.radius_px):
        parameters, finer_factor = fit.parameters.copy(), fit.factor // 2
        if fit.radius_px < _RESOLVED * fit.factor:  # so far a guess: a step would go astray
            most = _LARGEST_GUESS * fit.factor
            parameters[RADIUS] = 0.0
            parameters[RADIUS.start] = fit_radius(
                sharp, blurred, fit.warp, finer_factor, most_px=most
            )
        finer = _fit_level(sharp, blurred, parameters, free, finer_factor, samples, seed)
        fit = replace(finer, trace=fit.trace + finer.trace)
    return fit


def certify_map(sharp: Pyramid, blurred: Pyramid, warp: Warp, *, samples: int, seed: int) -> Fit:
    """Fit radius and tone under a map that is left as it is."""
    radius = fit_radius(sharp, blurred, warp, min(4, _first_level(sharp)))
    factor = _last_level(sharp.size, radius)
    free = free_parameters(sharp.size, frozen_warp=True)
    parameters = initial_parameters(warp, radius)
    return _fit_level(sharp, blurred, parameters, free, factor, samples, seed)


def _first_level(sharp: Pyramid) -> int:
    """16, or less where the shorter side would fall below 100 px."""
    factor = 1
    while factor < min(16, sharp.coarsest) and min(sharp.size) >= 200 * factor:
        factor *= 2
    return factor


def _last_level(size: tuple[int, int], radius_px: float) -> int:
    factor = _COARSEST_END
    while factor > 1 and (radius_px < 0.7 * factor or size[0] * size[1] / factor**2 < 250_000):
        factor //= 2
    # the full resolution of a large frame costs seconds and tells nothing more
    return max(factor, 2) if size[0] * size[1] > 8e6 else factor


def _fit_level(
    sharp: Pyramid,
    blurred: Pyramid,
    parameters: Vector,
    free: Mask,
    factor: int,
    count: int,
    seed: int,
) -> Fit:
    observed = spline_coefficients(observed_plane(blurred, factor))
    size = sharp.size
    p = parameters.copy()
    history: list[float] = []
    most = max_radius_px(size)
    p[RADIUS.start] = max(p[RADIUS.start], _SMALLEST_START_PX)
    count = count // _ON_THE_WAY if factor > _COARSEST_END else count
    if p[RADIUS.start] < _RESOLVED * factor:
        free = free & ~_FIELD_ONLY
    for _ in range(3):  # again with other nodes if the radius has left them
        nodes = _nodes(p, size, factor)
        samples = draw_samples(sharp, factor, nodes, count=count, seed=seed)
        state = _State(p, float("inf"), 1.0, 0.0)
        # a few of the samples lead to the place, all of them tell where exactly it is
        for part, rounds in ((samples.thinned(_ON_THE_WAY), _ROUNDS), (samples, _LAST_ROUNDS)):
            found = _descend(part, observed, state, free, size, most, rounds, history)
            if found is None:
                return _lost(p, factor, samples, history, size)
            state = found
        p = state.parameters
        radii = _radii(p, size)
        spacing = nodes[1] - nodes[0]
        low, high = max(float(radii.min()), 0.0), float(radii.max())
        if low >= nodes[0] - 0.3 * spacing and high <= nodes[-1] + 0.3 * spacing:
            break
    system = equations(samples, observed, p, size, state.deviation * _TUNING)
    covariance = clustered_covariance(system, p, state.deviation, size, free)
    trace = ((factor, tuple(history)),)
    converged = state.moved < _MOVING_PX
    return Fit(p, covariance, state.deviation, factor, samples, trace, converged, size)


@dataclass(frozen=True, slots=True)
class _State:
    """``scale`` of the weights and ``deviation`` of the inliers, encoded values; ``moved`` by the
    last step, pixels of the level."""

    parameters: Vector
    scale: float
    deviation: float
    moved: float


def _descend(
    samples: Samples,
    observed: FloatImage,
    state: _State,
    free: Mask,
    size: tuple[int, int],
    most_px: float,
    rounds: int,
    history: list[float],
) -> _State | None:
    """Gauss-Newton steps until they are small; None where too few pixels lie in the frame."""
    p, scale, deviation, moved = state.parameters, state.scale, state.deviation, state.moved
    settling = _TONE_ROUNDS if np.isinf(scale) else 0
    for round_ in range(rounds):
        system = equations(samples, observed, p, size, scale)
        if system.inside < 50 * PARAMETERS:
            return None
        deviation = inlier_deviation(system)
        scale = deviation * _TUNING
        history.append(system.rms)
        mask = free & _TONE_ONLY if round_ < settling else free
        step = limited(solve_step(system, p, deviation, size, mask), p, samples.factor, most_px)
        p = p + step
        p[_FIELD] = np.clip(p[_FIELD], -_STEEPEST, _STEEPEST)
        moved = float(np.abs(step[WARP]).max()) / samples.factor
        at_rest = moved < _AT_REST_PX and abs(step[RADIUS.start]) < 0.002 * samples.factor
        if round_ >= settling and at_rest:
            break
    return _State(p, scale, deviation, moved)


_TONE_ONLY = np.zeros(PARAMETERS, np.bool_)
_TONE_ONLY[TONE] = True
_FIELD = slice(RADIUS.start + 1, RADIUS.stop)
_FIELD_ONLY = np.zeros(PARAMETERS, np.bool_)
_FIELD_ONLY[_FIELD] = True


def _radii(p: Vector, size: tuple[int, int]) -> Vector:
    """The radius field on a 9 x 9 grid over the frame."""
    x, y = np.meshgrid(np.linspace(0, size[0] - 1, 9), np.linspace(0, size[1] - 1, 9))
    return radius_field(p, np.stack([x.ravel(), y.ravel()], axis=-1), size)


def _nodes(p: Vector, size: tuple[int, int], factor: int) -> Vector:
    """Radii to evaluate the model at: the range over the frame, with some room."""
    radii = _radii(p, size)
    low, high = max(float(radii.min()), 0.0), max(float(radii.max()), 0.0)
    room = max(0.12 * high, 0.15 * factor, 0.3)
    low, high = max(low - room, 0.0), high + room
    return np.linspace(low, high, 3 if high - low < max(0.6 * high, factor) else 5)


def _lost(
    p: Vector, factor: int, samples: Samples, history: list[float], size: tuple[int, int]
) -> Fit:
    """Too few pixels left to fit anything: an unknown map."""
    unknown = np.diag(np.full(PARAMETERS, 1e12))
    return Fit(p, unknown, 1.0, factor, samples, ((factor, tuple(history)),), False, size)
