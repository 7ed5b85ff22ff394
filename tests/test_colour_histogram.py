"""Histogram transfer: the reference implementation's numbers, and what is right without its bin.

``fixtures/colour_reference.npz`` holds what F. Pitié's colour-transfer made of our seeded inputs
in GNU Octave; ``benchmarks/parity_octave.py`` writes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from defocus_ds.errors import ColourFailed
from defocus_ds.stages.colour.histogram import transfer_by_histograms
from defocus_ds.stages.colour.transfer import fit_idt, rotation_axes

Arrays = dict[str, npt.NDArray[np.float64]]


@pytest.fixture(scope="module")
def reference() -> Arrays:
    with np.load(Path(__file__).parent / "fixtures" / "colour_reference.npz") as file:
        return {name: file[name] for name in file}


def test_twenty_rotations_give_the_reference_implementations_colours(reference: Arrays) -> None:
    source, target, axes = (reference[name] for name in ("source", "target", "axes"))
    assert axes.shape == (20, 3, 3)
    moved = transfer_by_histograms(source, target, axes=axes, reference=True)
    assert np.abs(moved - reference["idt"]).max() <= 1e-6
    assert np.abs(moved - source).mean() > 0.05  # it had something to do


def test_the_reference_displaces_a_cloud_transferred_to_itself(reference: Arrays) -> None:
    source, axes = reference["source"], reference["axes"]
    moved = transfer_by_histograms(source, source, axes=axes, reference=True)
    assert np.abs(moved - reference["idt_self"]).max() <= 1e-6
    assert np.abs(moved - source).mean() * 255 > 0.5


def test_without_the_displacement_a_cloud_transferred_to_itself_stays(reference: Arrays) -> None:
    source, axes = reference["source"], reference["axes"]
    assert np.abs(transfer_by_histograms(source, source, axes=axes) - source).max() < 1e-12


def test_the_displacement_is_one_bin_of_three_hundred() -> None:
    source = np.random.default_rng(0).random((500, 3))
    axes = rotation_axes(1, 0)
    moved = transfer_by_histograms(source, source, axes=axes, reference=True)
    assert np.allclose(source - moved, np.ptp(source, axis=0) / 299, atol=1e-9)


def test_quantiles_reach_the_same_colours_as_histograms() -> None:
    """`fit_idt`, which the pipeline uses, does what the published method does."""
    rng = np.random.default_rng(3)
    source = rng.beta(1.5, 2, (20_000, 3))
    target = np.clip(source @ [[0.8, 0.2, 0], [0.1, 0.7, 0.1], [0, 0.2, 0.6]] + 0.05, 0, 1)
    target = target[rng.permutation(len(target))]
    axes = rotation_axes(20, 5)
    published = transfer_by_histograms(source, target, axes=axes)
    ours = fit_idt(source, target, iterations=20, seed=5).apply(source)
    assert np.abs(ours - published).mean() * 255 < 0.6
    assert np.abs(published - source).mean() * 255 > 10


def test_constant_clouds_move_as_one() -> None:
    moved = transfer_by_histograms(
        np.full((20, 3), 0.25), np.full((30, 3), 0.5), axes=rotation_axes(3, 0)
    )
    assert np.allclose(moved, 0.5, atol=2e-3)


def test_unusable_clouds_are_refused() -> None:
    good = np.random.default_rng(0).random((50, 3))
    with pytest.raises(ColourFailed, match="at least 16"):
        transfer_by_histograms(good[:5], good, axes=rotation_axes(1, 0))
    with pytest.raises(ColourFailed, match="not finite"):
        transfer_by_histograms(good, good * np.nan, axes=rotation_axes(1, 0))
