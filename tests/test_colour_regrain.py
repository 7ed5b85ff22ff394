"""Regraining: colours of one image, gradients of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scenes

from defocus_ds.errors import ColourFailed
from defocus_ds.stages.colour.regrain import regrain


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.float32]:
    return scenes.textured((260, 190), seed=2) ** np.float32(0.5)


def gradient(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.diff(values, axis=1)[:-1] + np.diff(values, axis=0)[:, :-1]


def test_an_ungraded_image_is_unchanged(image: npt.NDArray[np.float32]) -> None:
    assert np.abs(regrain(image, image) - image).max() < 1e-6
    stored = np.round(image * 255).astype(np.uint8)
    assert np.array_equal(regrain(stored, stored), stored)
    # the reference hands colours, not differences, from level to level, and loses detail
    assert not np.array_equal(regrain(stored, stored, reference=True), stored)


def test_a_constant_shift_is_kept(image: npt.NDArray[np.float32]) -> None:
    shifted = image * np.float32(0.8) + np.array([0.1, 0.05, 0.0], np.float32)
    offset = (shifted - image * np.float32(0.8)).astype(np.float32)
    out = regrain(image * np.float32(0.8), shifted)
    assert np.abs(out - image * np.float32(0.8) - offset).max() < 1e-5


def test_grain_that_the_grading_amplified_is_brought_back(
    image: npt.NDArray[np.float32],
) -> None:
    """Banding and amplified noise of a rough grading: gradients return, mean colour stays."""
    rng = np.random.default_rng(0)
    smooth = np.full((120, 140, 3), 0.4, np.float32)
    noisy = smooth + rng.normal(0, 0.004, smooth.shape).astype(np.float32)
    graded = np.float32(0.6) + (noisy - np.float32(0.4)) * np.float32(4)
    out = regrain(noisy, graded)
    assert np.std(gradient(out)) < 0.5 * np.std(gradient(graded))
    assert np.std(gradient(out)) == pytest.approx(np.std(gradient(noisy)), rel=0.4)
    assert out.mean() == pytest.approx(0.6, abs=0.002)


def direct_minimum(
    original: npt.NDArray[np.float32], graded: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """The linear system of the energy, solved directly: for one small channel."""
    height, width = original.shape
    plane = np.pad(original.astype(np.float64), 1, mode="edge")
    g = np.hypot(plane[1:-1, 2:] - plane[1:-1, :-2], plane[2:, 1:-1] - plane[:-2, 1:-1])
    phi, psi = 30 / (1 + 10 * g), np.minimum(256 / 5 * g, 1)
    system, right = np.zeros((height * width,) * 2), np.zeros(height * width)
    for y in range(height):
        for x in range(width):
            n = y * width + x
            system[n, n] += psi[y, x]
            right[n] += psi[y, x] * graded[y, x]
            for v, u in ((y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)):
                if 0 <= v < height and 0 <= u < width:
                    weight = (phi[y, x] + phi[v, u]) / 2
                    system[n, n] += weight
                    system[n, v * width + u] -= weight
                    right[n] += weight * (original[y, x] - original[v, u])
    return np.linalg.solve(system, right).reshape(height, width)


def test_it_minimises_the_energy_it_names() -> None:
    rng = np.random.default_rng(1)
    original = rng.random((18, 16, 1), dtype=np.float32)  # one level only
    graded = np.clip(original * 0.7 + rng.random((18, 16, 1)) * 0.2, 0, 1).astype("f4")
    exact = direct_minimum(original[..., 0], graded[..., 0])
    left = np.abs(regrain(original, graded)[..., 0] - exact).mean()
    # four damped sweeps remove the fast part of the error; the graded image is where they start
    assert left < 0.5 * np.abs(graded[..., 0] - exact).mean()
    # the reference's sweeps start from the original, and stay nearer to it
    published = regrain(original, graded, reference=True)[..., 0]
    assert left < np.abs(published - exact).mean() < np.abs(original[..., 0] - exact).mean()


@pytest.mark.parametrize("number", [0, 1])
def test_it_can_sweep_as_the_reference_implementation_does(number: int) -> None:
    """Numbers of F. Pitié's colour-transfer in GNU Octave, images of one and of two levels."""
    with np.load(Path(__file__).parent / "fixtures" / "colour_reference.npz") as file:
        image, graded, wanted = (file[f"{name}{number}"] for name in ("image", "graded", "regrain"))
    stored = regrain(image, graded, reference=True)
    assert np.abs(stored - np.clip(wanted, 0, 1) * 255).max() <= 1
    units = [(i / 255).astype(np.float32) for i in (image, graded)]
    assert np.abs(regrain(*units, reference=True) - np.clip(wanted, 0, 1)).max() * 255 < 0.01
    assert np.abs(regrain(image, graded) - np.clip(wanted, 0, 1) * 255).mean() > 3


def test_bytes_and_floats_agree(image: npt.NDArray[np.float32]) -> None:
    stored = np.round(image * 255).astype(np.uint8)
    graded = np.round(image**1.2 * 250).astype(np.uint8)
    a = regrain(stored, graded)
    b = regrain(stored.astype(np.float32) / 255, graded.astype(np.float32) / 255)
    assert a.dtype == np.uint8
    assert np.abs(a - b * 255).max() < 0.51


def test_images_must_be_alike() -> None:
    with pytest.raises(ColourFailed, match="one type"):
        regrain(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.float32))
    with pytest.raises(ColourFailed, match="one type"):
        regrain(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(ColourFailed, match="uint16"):
        regrain(np.zeros((9, 9, 3), np.uint16), np.zeros((9, 9, 3), np.uint16))
