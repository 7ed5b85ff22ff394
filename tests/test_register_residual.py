"""The certificate of a map: what it claims of its own error is near the truth."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scenes import TruePair, true_pair

from defocus_ds.config import RegisterConfig
from defocus_ds.optics import Transfer, Warp
from defocus_ds.stages.register import Alignment, register
from defocus_ds.stages.register.cells import Cells, measure_cells
from defocus_ds.stages.register.certificate import Certificate, certify
from defocus_ds.stages.register.coverage import valid_area
from defocus_ds.stages.register.model import observed_plane
from defocus_ds.stages.register.normal import PARAMETERS, WARP
from defocus_ds.stages.register.planes import Pyramid, pyramid
from defocus_ds.stages.register.refine import Fit, certify_map
from defocus_ds.stages.register.residual import check_locally
from defocus_ds.stages.register.shrinkage import Field, noise_factors, shrink
from defocus_ds.stages.register.spline import spline_coefficients

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from certificate_runs import ALL_KINDS, run  # noqa: E402
from isolated import Stopwatch  # noqa: E402

Values = npt.NDArray[np.float64]
QUICK = RegisterConfig(iterations=100)
SIZE = (640, 480)
ROWS, COLUMNS = 24, 36
NOISE_PX = 0.02


@cache
def pair(seed: int = 0) -> TruePair:
    return true_pair(SIZE, radius_px=3.0, scale=1.01, shift_px=(4.0, -3.0), seed=seed)


@cache
def aligned(seed: int = 0) -> Alignment:
    return register(pair(seed).sharp, pair(seed).blurred, config=QUICK)


@cache
def pyramids() -> tuple[Pyramid, Pyramid]:
    sharp, blurred = (pyramid(i, Transfer.SRGB) for i in (pair().sharp, pair().blurred))
    return sharp, blurred


def given(warp: Warp) -> Fit:
    return certify_map(*pyramids(), warp, samples=300_000, seed=0)


def claim(warp: Warp) -> Certificate:
    return check_locally(
        given(warp), pyramids()[1], tolerance_px=1.0, area=valid_area(warp), fitted=False
    ).certificate


def noise(factor: float = 1.0, seed: int = 0) -> tuple[Values, Values]:
    """(N, 2) Gaussian draws, and the covariances that are too small by ``factor`` squared."""
    rng = np.random.default_rng(seed)
    count = ROWS * COLUMNS
    mixed = np.eye(2) + rng.normal(0, 0.25, (count, 2, 2))
    root = NOISE_PX * rng.uniform(0.5, 2, (count, 1, 1)) * mixed
    value = factor * np.einsum("nij,nj->ni", root, rng.standard_normal((count, 2)))
    return value, root @ root.transpose(0, 2, 1)


def field(value: Values, covariance: Values) -> Field:
    return Field(value, covariance, np.ones(len(value), np.bool_), ROWS, COLUMNS)


def grid() -> tuple[Values, Values]:
    row, column = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    return row, column


def blob() -> npt.NDArray[np.bool_]:
    row, column = grid()
    return np.asarray((row - 8) ** 2 + (column - 12) ** 2 < 36)


def cells(
    shift: Values, covariance: Values, deeper: Values | None = None, size: tuple[int, int] = SIZE
) -> Cells:
    row, column = grid()
    xy = np.stack([(column + 0.5) * size[0] / COLUMNS, (row + 0.5) * size[1] / ROWS], -1) - 0.5
    ones = np.ones(len(shift))
    rng = np.random.default_rng(5)
    change = rng.normal(0, NOISE_PX, len(shift)) + (0 * ones if deeper is None else deeper)
    return Cells(
        ROWS, COLUMNS, size, xy, shift, covariance, 4 + change, change, NOISE_PX**2 * ones,
        400 * ones, 0.01 * ones, 1e-5 * ones, 1e-5 * ones, ones > 0,
    )  # fmt: skip


def fit(deviation_px: float = 0.0) -> Fit:
    """A fit whose map is uncertain by a shift alone."""
    covariance = np.zeros((PARAMETERS, PARAMETERS))
    covariance[WARP, WARP][0, 0] = covariance[WARP, WARP][3, 3] = deviation_px**2
    return dataclasses.replace(given(pair().warp), covariance=covariance, size=SIZE)


ALL = (0, 0, *SIZE)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_neighbours_tell_how_noisy_cells_are(factor: float) -> None:
    value, covariance = noise(factor)
    value[blob()] += 0.5  # an area that moves on its own does not change what they tell
    found = noise_factors(field(value, covariance))
    assert found[1] == pytest.approx(factor, rel=0.1)
    assert found[1] <= found[2] <= found[4] <= 1.6 * found[1]


def test_noise_shrinks_to_nothing() -> None:
    for seed in range(5):
        found = shrink(field(*noise(1.0, seed)), {1: 1.0, 2: 1.0, 4: 1.0})
        assert np.abs(found.mean).max() < 1e-3 * NOISE_PX


def test_an_area_that_moves_on_its_own_is_found_and_the_rest_is_left() -> None:
    value, covariance = noise()
    value[blob()] += (0.3, -0.2)
    found = shrink(field(value, covariance), {1: 1.0, 2: 1.0, 4: 1.0}).mean
    assert found[blob()].mean(axis=0) == pytest.approx((0.3, -0.2), abs=0.01)
    assert np.linalg.norm(found[~blob()], axis=1).mean() < NOISE_PX / 4
    assert np.linalg.norm(found[blob()] - (0.3, -0.2), axis=1).mean() < 2 * NOISE_PX


def test_the_claim_without_misfit_is_that_of_the_fit() -> None:
    found = certify(cells(*noise()), fit(0.004), area=ALL)
    assert found.misfit_px < 1e-4
    # the mean length of a plane Gaussian vector, and the few areas it was estimated from
    assert found.deviation_px == pytest.approx(1.3 * np.sqrt(np.pi / 2) * 0.004, rel=1e-6)
    assert found.residual_px == pytest.approx(found.deviation_px, rel=1e-3)


@pytest.mark.parametrize("height_px", [0.03, 0.1, 1.0])
def test_a_smooth_displacement_is_measured(height_px: float) -> None:
    row, column = grid()
    value, covariance = noise(2.0)
    bend = height_px * np.stack([(column / COLUMNS) ** 2, (row / ROWS - 0.5) ** 2], axis=-1)
    found = certify(cells(value + bend, covariance), fit(), area=ALL)
    true = float(np.linalg.norm(bend, axis=1).mean())
    assert found.residual_px == pytest.approx(true, rel=0.25)


def test_parallax_far_below_the_noise_of_a_cell_is_found_by_the_blur() -> None:
    value, covariance = noise(1.5)
    shift = np.array([0.008, -0.006])
    behind = grid()[1] // 3 % 2 == 0  # so fine a pattern that no block of cells moves as a whole
    value += np.where(behind[:, None], 0.5, -0.5) * shift
    flat = certify(cells(value, covariance), fit(), area=ALL)
    deep = certify(cells(value, covariance, deeper=0.3 * behind), fit(), area=ALL)
    true = float(np.hypot(*shift) / 2)
    assert flat.residual_px < 0.2 * true
    assert true / 2 < deep.residual_px < 2 * true


def test_an_area_counts_by_its_size_and_not_by_its_sharpness() -> None:
    value, covariance = noise()
    covariance[blob()] *= 25  # the moved area is the blurred one
    value[blob()] *= 5
    value[blob()] += (2.0, 1.0)
    found = certify(cells(value, covariance), fit(), area=ALL)
    assert found.residual_px == pytest.approx(np.hypot(2, 1) * blob().mean(), rel=0.15)


def test_unknown_cells_are_like_those_around_and_the_outside_does_not_count() -> None:
    value, covariance = noise()
    value[blob()] += (3.0, 0.0)
    known = cells(value, covariance)
    row, column = grid()
    hole = (row - 8) ** 2 + (column - 12) ** 2 < 9
    holed = dataclasses.replace(known, known=~hole)
    full, less = (certify(c, fit(), area=ALL).residual_px for c in (known, holed))
    assert less == pytest.approx(full, rel=0.1)
    right = certify(known, fit(), area=(320, 0, *SIZE))
    assert right.residual_px < 0.05 * full


def test_wide_cells_speak_where_small_ones_have_no_texture() -> None:
    value, covariance = noise()
    value[blob()] += (2.0, 1.0)
    wide = cells(value, covariance)
    small = dataclasses.replace(wide, known=~blob())
    alone = certify(small, fit(), area=ALL).residual_px
    both = certify(small, fit(), area=ALL, wide=wide).residual_px
    true = float(np.hypot(2, 1) * blob().mean())
    assert alone < 0.1 * true
    assert both == pytest.approx(true, rel=0.1)


def test_nothing_known_claims_nothing() -> None:
    value, covariance = noise()
    none = dataclasses.replace(cells(value, covariance), known=np.zeros(len(value), np.bool_))
    assert np.isnan(certify(none, fit(), area=ALL).residual_px)


@pytest.mark.parametrize("amount_px", [0.05, 0.3, 1.5])
def test_a_wrong_map_says_by_how_much(amount_px: float) -> None:
    (a, b, c), (d, e, f) = pair().warp.matrix
    wrong = Warp(((a, b, c + 0.6 * amount_px), (d, e, f + 0.8 * amount_px)), 0.0, SIZE)
    assert claim(wrong).residual_px == pytest.approx(amount_px, rel=0.1)


def test_the_true_map_given_is_claimed_to_be_right() -> None:
    assert claim(pair().warp).residual_px < 0.01


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_plain_pairs_claim_what_is_true(seed: int) -> None:
    error = aligned(seed).warp.mean_difference_px(pair(seed).warp)
    assert error / 2 < aligned(seed).residual_px < 2.5 * error


def test_an_object_that_moved_counts_where_it_is_seen() -> None:
    moved = pair().blurred.copy()
    box = np.s_[140:340, 220:420]
    moved[box] = np.roll(pair().blurred, (2, 3), (0, 1))[box]
    found = register(pair().sharp, moved, config=QUICK)
    x0, y0, x1, y1 = found.valid_area
    true = np.hypot(2, 3) * 200 * 200 / ((x1 - x0) * (y1 - y0))
    assert found.residual_px == pytest.approx(true, rel=0.25)


def test_local_shifts_are_as_uncertain_as_they_say() -> None:
    spread = []
    for seed in range(4):
        area = aligned(seed).residual_grid
        found = aligned(seed).warp
        xy = np.stack([area.x.ravel(), area.y.ravel()], axis=-1)
        true = pair(seed).warp.map_points(xy) - found.map_points(xy)
        sure = area.confidence.ravel()
        shift = np.stack([area.dx.ravel(), area.dy.ravel()], axis=-1)[sure > 0]
        deviation = 0.25 * np.sqrt(1 / sure[sure > 0] - 1)
        spread += list(np.abs(shift - true[sure > 0]).max(axis=1) / deviation)
    assert len(spread) > 150
    # the larger of two independent Gaussian errors lies below 1.05 deviations half of the time
    assert 0.6 < np.median(spread) < 1.5
    assert np.quantile(spread, 0.95) < 3.5


def test_cells_find_the_disk_and_the_shift_of_a_wrong_map() -> None:
    (a, b, c), (d, e, f) = pair().warp.matrix
    wrong = given(Warp(((a, b, c + 0.5), (d, e, f)), 0.0, SIZE))
    observed = spline_coefficients(observed_plane(pyramids()[1], wrong.factor))
    found = measure_cells(wrong, observed, 80.0)
    assert (found.rows, found.columns) == (6, 8)
    assert found.known.mean() > 0.9
    assert np.median(found.shift_px[found.known], axis=0) == pytest.approx((-0.5, 0), abs=0.02)
    assert np.median(found.radius_px[found.known]) == pytest.approx(3 / 1.01, abs=0.1)


@pytest.mark.slow
def test_over_a_population_the_claim_is_near_the_truth() -> None:
    """Three pairs of every kind, of a seed on which nothing was chosen."""
    ratios = {}
    for kind in ALL_KINDS:
        for number in range(3):
            found = run(kind, {"number": number, "seed": 77}, Stopwatch())
            ratios[kind, number] = found["residual_px"] / found["error_px"]
    values = np.array(list(ratios.values()))
    assert np.mean((values > 1 / 2) & (values < 2)) >= 0.9, ratios
    assert values.min() > 1 / 3, ratios
