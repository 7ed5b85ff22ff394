"""PSNR, SSIM and CIEDE2000 against scikit-image, published figures and closed forms."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import skimage.color
import skimage.metrics
from PIL import Image

from defocus_ds.errors import InputError
from defocus_ds.measure.colour import colour_difference
from defocus_ds.measure.fidelity import (
    SsimWindow,
    peak_signal_to_noise_ratio,
    structural_similarity,
)

Bytes = npt.NDArray[np.uint8]

# MMSP 2024's own outputs on kodim19: file -> PSNR, SSIM (7x7)
KODIM19 = {
    "blurry": (24.52, 0.657),
    "b_ddnet": (28.79, 0.818),
    "XYD": (37.60, 0.964),
    "al": (31.28, 0.886),
    "mlm": (40.91, 0.980),
    "mrl": (31.57, 0.893),
    "FP": (32.47, 0.894),
    "SDM": (32.32, 0.894),
    "b_Wiener": (23.96, 0.736),
    "b_r_onlyMAE": (34.05, 0.932),
    "b_r_QSharp": (34.19, 0.935),
}


def two_images(shape: tuple[int, ...] = (60, 83), seed: int = 0) -> tuple[Bytes, Bytes]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, shape)
    second = np.clip(first + rng.normal(0, 20, shape), 0, 255)
    return first.astype(np.uint8), second.astype(np.uint8)


@pytest.mark.parametrize(("name", "expected"), KODIM19.items())
def test_kodim19_outputs_score_what_the_paper_says(
    name: str, expected: tuple[float, float]
) -> None:
    folder = os.environ.get("DEFOCUS_DS_DATA")
    if folder is None:
        pytest.skip("DEFOCUS_DS_DATA is not set: the authors' files are needed")
    pair = Path(folder) / "mmsp2024" / "MMSP_Comparisons"
    with (
        Image.open(pair / "kodim19_original.png") as one,
        Image.open(pair / f"kodim19_{name}.png") as two,
    ):
        reference, image = np.asarray(one), np.asarray(two)
    assert peak_signal_to_noise_ratio(image, reference) == pytest.approx(expected[0], abs=0.006)
    assert structural_similarity(image, reference) == pytest.approx(expected[1], abs=0.0006)


def test_psnr_equals_scikit_image() -> None:
    image, reference = two_images()
    theirs = skimage.metrics.peak_signal_noise_ratio(reference, image)
    assert peak_signal_to_noise_ratio(image, reference) == pytest.approx(theirs, rel=1e-12)


def test_psnr_of_a_constant_offset_has_its_closed_form() -> None:
    zero = np.zeros((9, 9))
    assert peak_signal_to_noise_ratio(zero + 0.1, zero) == pytest.approx(20.0, abs=1e-9)
    assert peak_signal_to_noise_ratio(zero, zero) == float("inf")


@pytest.mark.parametrize("as_float", [False, True])
@pytest.mark.parametrize("window", ["uniform-7", "gaussian-11"])
def test_ssim_equals_scikit_image(window: SsimWindow, as_float: bool) -> None:
    image, reference = two_images()
    a, b = (image / 255.0, reference / 255.0) if as_float else (image, reference)
    options = (
        {"win_size": 7}
        if window == "uniform-7"
        else {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    )
    theirs = skimage.metrics.structural_similarity(
        a, b, data_range=1.0 if as_float else 255, **options
    )
    assert structural_similarity(a, b, window=window) == pytest.approx(theirs, abs=1e-10)


def test_ssim_averages_channels_and_is_one_for_equal_images() -> None:
    image, reference = two_images((40, 40, 3))
    each = [structural_similarity(image[..., c], reference[..., c]) for c in range(3)]
    assert structural_similarity(image, reference) == pytest.approx(np.mean(each), rel=1e-12)
    assert structural_similarity(image, image) == pytest.approx(1.0, abs=1e-12)


def test_colour_difference_equals_scikit_image_whatever_the_block() -> None:
    image, reference = two_images((700, 600, 3))  # more than one block
    theirs = skimage.color.deltaE_ciede2000(
        skimage.color.rgb2lab(image), skimage.color.rgb2lab(reference)
    )
    assert colour_difference(image, reference) == pytest.approx(theirs.mean(), rel=1e-9)
    part = colour_difference(image, reference, area=(10, 20, 110, 60), step=2)
    assert part == pytest.approx(theirs[20:60:2, 10:110:2].mean(), rel=1e-9)


def test_colour_difference_of_equal_images_is_zero_and_grows_with_the_cast() -> None:
    image, _ = two_images((32, 32, 3), seed=4)
    image = (image // 2 + 30).astype(np.uint8)
    cast = [colour_difference(image + np.uint8([k, 0, 0]), image) for k in (0, 4, 8)]
    assert cast[0] == 0
    assert 0.5 < cast[1] < cast[2] < 8


@pytest.mark.parametrize(
    ("image", "reference", "words"),
    [
        (np.zeros((9, 9), np.uint8), np.zeros((9, 8), np.uint8), "agree"),
        (np.zeros((9, 9), np.uint8), np.zeros((9, 9)), "agree"),
        (np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32), "int32"),
        (np.zeros((6, 9), np.uint8), np.zeros((6, 9), np.uint8), "smaller than the 7x7"),
    ],
)
def test_unusable_pairs_are_refused(
    image: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        structural_similarity(image, reference)


def test_colour_difference_refuses_grey_and_outside() -> None:
    grey = np.zeros((9, 9), np.uint8)
    with pytest.raises(InputError, match="3"):
        colour_difference(grey, grey)
    image = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(InputError, match="leaves the 9x9"):
        colour_difference(image, image, area=(0, 0, 10, 9))
