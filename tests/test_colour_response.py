"""Robust paired fits recover matrices and curves, outliers or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from defocus_ds.errors import ColourFailed, OpticsError
from defocus_ds.optics import Transfer, to_encoded, to_linear
from defocus_ds.stages.colour.curves import apply_response
from defocus_ds.stages.colour.response import Response, fit_affine, fit_response

Cloud = npt.NDArray[np.float32]

MATRIX = np.array([[0.92, 0.06, 0.01, 0.004], [0.04, 0.97, 0.03, 0.0], [0.0, 0.05, 1.1, -0.002]])


def cloud(count: int = 6000, seed: int = 0) -> Cloud:
    return np.random.default_rng(seed).beta(1.2, 2.5, (count, 3)).astype(np.float32) * 0.8 + 0.01


def mapped(source: Cloud) -> Cloud:
    return (source @ MATRIX[:, :3].T + MATRIX[:, 3]).astype(np.float32)


@pytest.mark.parametrize("transfer", list(Transfer))
def test_affine_recovers_the_matrix(transfer: Transfer) -> None:
    source = cloud()
    found = fit_affine(source, mapped(source), transfer=transfer)
    assert np.abs(found.matrix - MATRIX).max() < 3e-3  # up to the weak pull to the diagonal
    assert not found.curves.any()


def test_a_third_of_outliers_hardly_moves_the_fit() -> None:
    source = cloud()
    target = mapped(source)
    target[::3] = cloud(len(target[::3]), seed=9)  # another part of the scene
    assert np.abs(fit_affine(source, target).matrix - MATRIX).max() < 0.02
    least_squares = np.linalg.lstsq(np.c_[source, np.ones(len(source))], target, rcond=None)[0].T
    assert np.abs(least_squares - MATRIX).max() > 0.2  # what the weights are for


@pytest.mark.parametrize("bend", [-0.25, 0.0, 0.25])
def test_response_recovers_a_curve_and_a_matrix_together(bend: float) -> None:
    stored = to_encoded(cloud())

    def camera(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        bent = values + np.float32(bend) * values * (1 - values)
        return to_encoded(mapped(to_linear(bent)))

    found = fit_response(to_linear(stored), to_linear(camera(stored)))
    probe = stored[::7]
    assert np.abs(found.apply(probe) - camera(probe)).mean() < 0.002
    assert np.abs(found.apply(probe) - camera(probe)).max() < 0.02


def test_response_of_equal_clouds_is_the_identity() -> None:
    source = cloud()
    found = fit_response(source, source)
    grid = np.random.default_rng(1).random((500, 3))
    assert np.abs(found.apply(grid) - grid).max() < 2e-3


def test_colours_that_no_sample_covers_follow_tamely() -> None:
    source = cloud() * np.float32(0.1)  # a dark scene
    found = fit_response(source, source * np.array([1.1, 1.0, 0.9], np.float32))
    white = found.apply(np.ones((1, 3)))[0]
    assert np.abs(white - to_encoded(np.array([1.1, 1.0, 0.9]))).max() < 0.1
    ramp = found.apply(np.linspace(0, 1, 200)[:, None].repeat(3, axis=1))
    assert np.diff(ramp, axis=0).min() > 0


@pytest.mark.parametrize("fit", [fit_affine, fit_response])
def test_a_fit_is_whole_millionths(fit: Callable[..., Response]) -> None:
    """The last bits of sums differ with the threads of the BLAS."""
    source = cloud()
    found = fit(source, mapped(source) ** np.float32(1.1))
    for coefficients in (found.matrix, found.curves):
        assert np.array_equal(coefficients, np.round(coefficients, 6))
        assert not np.signbit(coefficients[coefficients == 0]).any()


def test_pairs_must_correspond() -> None:
    for fit in (fit_affine, fit_response):
        with pytest.raises(ColourFailed, match="at least 16"):
            fit(cloud(100), cloud(99))
        with pytest.raises(ColourFailed, match="at least 16"):
            fit(cloud(15), cloud(15))


def curved(transfer: Transfer = Transfer.SRGB) -> Response:
    bend = np.random.default_rng(4).normal(0, 0.02, (3, 9))
    return Response(bend, MATRIX, transfer)


@pytest.mark.parametrize("transfer", list(Transfer))
def test_eight_bit_pixels_come_within_a_level_of_the_exact_result(transfer: Transfer) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 210, 3), dtype=np.uint8)
    exact = curved(transfer).apply(image / 255).clip(0, 1).astype(np.float64) * 255
    off = np.abs(apply_response(image, curved(transfer)) - exact)
    assert off.max() < 1
    assert off.mean() < 0.26  # rounding alone leaves 0.25


@pytest.mark.parametrize("transfer", list(Transfer))
def test_a_response_without_effect_changes_no_pixel(transfer: Transfer) -> None:
    image = np.random.default_rng(0).integers(0, 256, (99, 98, 3), dtype=np.uint8)
    nothing = Response(np.zeros((3, 9)), np.eye(3, 4), transfer)
    assert np.array_equal(apply_response(image, nothing), image)


def test_curves_bend_before_the_matrix_mixes() -> None:
    lifted = Response(np.full((3, 9), 0.098), np.eye(3, 4), Transfer.SRGB)
    grey = np.full((2, 2, 3), 100, np.uint8)
    assert np.array_equal(apply_response(grey, lifted), np.full((2, 2, 3), 125, np.uint8))
    assert np.allclose(lifted.bend(grey / 255), 100 / 255 + 0.098)


def test_apply_response_refuses_nonsense() -> None:
    with pytest.raises(OpticsError, match="uint8"):
        apply_response(np.zeros((4, 4), np.uint8), curved())
    for value in (np.nan, 1e6):
        wild = Response(np.zeros((3, 9)), np.full((3, 4), value), Transfer.SRGB)
        with pytest.raises(ColourFailed, match="matrix .* need numbers below 1000"):
            apply_response(np.zeros((4, 4, 3), np.uint8), wild)
