"""Distribution transfer against its closed forms and laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus_ds.errors import ColourFailed
from defocus_ds.stages.colour.transfer import fit_idt, fit_mkl, rotation_axes

Cloud = npt.NDArray[np.float64]


def gaussian(count: int, seed: int, spread: float = 0.15) -> Cloud:
    rng = np.random.default_rng(seed)
    mixing = spread * (np.eye(3) + 0.4 * rng.normal(size=(3, 3)))
    return rng.normal(size=(count, 3)) @ mixing + rng.uniform(0.3, 0.6, 3)


def square_root(matrix: Cloud) -> Cloud:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_mkl_matches_mean_and_covariance_by_the_closed_form(seed: int) -> None:
    source, target = gaussian(400, seed), gaussian(300, seed + 1)
    m = fit_mkl(source, target)
    moved = source @ m[:, :3].T + m[:, 3]
    assert np.abs(moved.mean(axis=0) - target.mean(axis=0)).max() < 1e-8
    assert np.abs(np.cov(moved.T) - np.cov(target.T)).max() < 1e-8
    # among the maps that do so, the optimal one is symmetric and positive
    assert np.abs(m[:, :3] - m[:, :3].T).max() < 1e-8
    assert np.linalg.eigvalsh(m[:, :3]).min() > 0
    # and equals B # A^-1, the geometric mean, in its other form: A^-1 # B solves X A X = B
    assert np.abs(m[:, :3] @ np.cov(source.T) @ m[:, :3] - np.cov(target.T)).max() < 1e-8


def test_mkl_of_diagonal_covariances_is_the_ratio_of_the_deviations() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(5000, 3))
    source = (source - source.mean(axis=0)) @ np.linalg.inv(square_root(np.cov(source.T)))
    m = fit_mkl(source * [0.1, 0.2, 0.3], source * [0.2, 0.1, 0.3] + [0.5, 0.4, 0.3])
    assert np.allclose(m, [[2, 0, 0, 0.5], [0, 0.5, 0, 0.4], [0, 0, 1, 0.3]], atol=1e-9)


def test_mkl_leaves_directions_without_variation_alone() -> None:
    grey = np.repeat(np.random.default_rng(0).random((200, 1)), 3, axis=1)
    m = fit_mkl(grey, grey * 0.5 + 0.1)
    assert np.allclose(grey @ m[:, :3].T + m[:, 3], grey * 0.5 + 0.1, atol=1e-6)
    assert np.abs(m[:, :3]).max() < 1.01


def test_mkl_gives_the_reference_implementations_colours() -> None:
    """Numbers of F. Pitié's colour-transfer in GNU Octave: `benchmarks/parity_octave.py`."""
    with np.load(Path(__file__).parent / "fixtures" / "colour_reference.npz") as file:
        source, target, wanted = file["source"], file["target"], file["mkl"]
    m = fit_mkl(source, target)
    assert np.abs(source @ m[:, :3].T + m[:, 3] - wanted).max() <= 1e-8
    assert np.abs(wanted - source).mean() > 0.05


def test_chunks_do_not_show() -> None:
    source = gaussian(2500, 1)
    found = fit_idt(source, gaussian(2500, 2), iterations=5)
    singly = np.concatenate([found.apply(row[None]) for row in source[1000:1100]])
    assert found.apply(source)[1000:1100].tobytes() == singly.tobytes()


def test_rotations_are_proper_seeded_and_start_with_the_identity() -> None:
    axes = rotation_axes(12, 5)
    assert np.array_equal(axes[0], np.eye(3))
    assert np.allclose(axes @ axes.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(axes), 1)
    assert np.array_equal(axes, rotation_axes(12, 5))
    assert not np.allclose(axes[1:], rotation_axes(12, 6)[1:])
    many = rotation_axes(4000, 1)[1:]  # uniform rotations: every entry has mean 0, variance 1/3
    assert np.abs(many.mean(axis=0)).max() < 0.05
    assert np.abs(many.var(axis=0) - 1 / 3).max() < 0.02


@given(seed=st.integers(0, 1000), count=st.sampled_from([16, 50, 5000]))
@settings(max_examples=20, deadline=None)
def test_a_cloud_transferred_to_itself_stays_to_the_last_bit(seed: int, count: int) -> None:
    cloud = np.random.default_rng(seed).random((count, 3)).astype(np.float32)
    shuffled = np.random.default_rng(seed + 1).permutation(cloud)
    assert np.array_equal(fit_idt(cloud, cloud).apply(cloud), cloud)
    tied = np.round(cloud * 10) / np.float32(10)  # many equal values
    assert np.array_equal(fit_idt(tied, tied).apply(tied), tied)
    assert np.abs(fit_idt(cloud, shuffled).apply(cloud) - cloud).max() < 1e-6


def test_idt_reaches_the_target_along_axes_it_never_used() -> None:
    rng = np.random.default_rng(2)
    source = rng.random((20_000, 3)) ** [1.0, 1.5, 0.7] * 0.6 + 0.1
    target = np.concatenate([gaussian(12_000, 4, 0.05), gaussian(8_000, 5, 0.08)])
    moved = fit_idt(source, target, iterations=30, seed=1).apply(source)
    directions = rng.normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shares = np.linspace(0.02, 0.98, 49)
    for direction in directions:
        before = np.quantile(source @ direction, shares) - np.quantile(target @ direction, shares)
        after = np.quantile(moved @ direction, shares) - np.quantile(target @ direction, shares)
        assert np.abs(after).mean() < 0.004
        assert np.abs(after).mean() < np.abs(before).mean() / 5


def test_idt_of_a_per_channel_curve_is_that_curve() -> None:
    """In one dimension optimal transport is the rising rearrangement: the curve itself."""
    rng = np.random.default_rng(3)
    source = rng.random((50_000, 3))
    curve = np.array([0.8, 1.0, 1.3])
    found = fit_idt(source, source**curve, iterations=1)
    probe = np.linspace(0.02, 0.98, 200)[:, None].repeat(3, axis=1)
    assert np.abs(found.apply(probe) - probe**curve).max() < 0.004


def test_idt_of_gaussians_is_close_to_the_closed_form_map() -> None:
    source, target = gaussian(60_000, 11), gaussian(60_000, 12)
    m = fit_mkl(source, target)
    moved = fit_idt(source, target, iterations=30).apply(source)
    assert np.abs(np.cov(moved.T) - np.cov(target.T)).max() < 1e-3
    assert np.abs(moved.mean(axis=0) - target.mean(axis=0)).max() < 1e-3
    assert np.abs(moved - (source @ m[:, :3].T + m[:, 3])).mean() < 0.02


def test_colours_beyond_the_samples_keep_the_last_displacement() -> None:
    source = np.random.default_rng(0).random((4000, 3)) * 0.2 + 0.4
    found = fit_idt(source, source + [0.1, 0.0, -0.05], iterations=10)
    far = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.5]])
    assert np.abs(found.apply(far) - far - [0.1, 0.0, -0.05]).max() < 0.02


def test_constant_clouds_move_as_one() -> None:
    found = fit_idt(np.full((20, 3), 0.25), np.full((40, 3), [0.5, 0.25, 0.125]))
    assert np.allclose(found.apply([[0.25, 0.25, 0.25]]), [[0.5, 0.25, 0.125]], atol=1e-5)


def test_same_seed_same_bits() -> None:
    source, target = gaussian(3000, 1), gaussian(3000, 2)
    one, two = (fit_idt(source, target, seed=9).apply(source) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert fit_idt(source, target, seed=10).apply(source).tobytes() != one.tobytes()


@pytest.mark.parametrize("fit", [fit_idt, fit_mkl])
def test_unusable_clouds_are_refused(fit: object) -> None:
    assert callable(fit)
    good = np.random.default_rng(0).random((50, 3))
    with pytest.raises(ColourFailed, match="at least 16"):
        fit(good[:5], good)
    with pytest.raises(ColourFailed, match="at least 16"):
        fit(good, good[:, :2])
    with pytest.raises(ColourFailed, match=r"\d+ of 150 values .* not finite; need all\. Does"):
        fit(good, np.where(good > 0.5, np.nan, good))
