"""The classical rows as a whole: the authors' PNGs, the two protocols, the settings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from defocus_ds.errors import InputError
from defocus_ds.measure.fidelity import peak_signal_to_noise_ratio, structural_similarity
from defocus_ds.measure.sharpness import sharpness_q
from defocus_ds_train.baselines.protocol import (
    BASELINES,
    PROTOCOLS,
    Protocol,
    pose,
    restore_classical,
)

Bytes = npt.NDArray[np.uint8]

# our row, the authors' file, pixels that may differ, by how many levels
AUTHORS = [
    ("al", "al", 0, 0),
    ("mlm", "mlm", 0, 0),
    ("wiener", "b_Wiener", 0, 0),
    ("mw", "mw", 0, 0),
    ("mrl", "mrl", 5200, 4),
]
# PSNR, SSIM, Q that MMSP 2024's files have on kodim19
PUBLISHED = {
    "al": (31.28, 0.886, 0.136),
    "mlm": (40.91, 0.980, 0.144),
    "wiener": (23.96, 0.736, 0.161),
}


def kodim19(data: Path, name: str) -> Bytes:
    with Image.open(data / "mmsp2024" / "MMSP_Comparisons" / f"kodim19_{name}.png") as image:
        return np.asarray(image)


def crops(count: int = 2, side: int = 40, seed: int = 0) -> tuple[Bytes, Bytes]:
    noise = np.random.default_rng(seed).random((count, side, side))
    sharp = np.stack([cv2.GaussianBlur(image, (0, 0), 1.0) for image in noise])
    sharp = np.rint(255 * (sharp - sharp.min()) / (sharp.max() - sharp.min())).astype(np.uint8)
    return sharp, np.stack([cv2.blur(image, (5, 5)) for image in sharp])


@pytest.mark.parametrize(("name", "file", "differing", "levels"), AUTHORS)
def test_equals_the_authors_files(
    real_data: Path, name: str, file: str, differing: int, levels: int
) -> None:
    restored = restore_classical(
        BASELINES[name],
        sharp=kodim19(real_data, "original")[None],
        blurred=kodim19(real_data, "blurry")[None],
        protocol=PROTOCOLS["authors"],
    )[0]
    difference = np.abs(restored.astype(int) - kodim19(real_data, file))
    assert difference.max() <= levels
    assert (difference > 0).sum() <= differing


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_scores_what_the_authors_files_score(
    real_data: Path, name: str, published: tuple[float, float, float]
) -> None:
    sharp = kodim19(real_data, "original")
    restored = restore_classical(
        BASELINES[name],
        sharp=sharp[None],
        blurred=kodim19(real_data, "blurry")[None],
        protocol=PROTOCOLS["authors"],
    )[0]
    assert peak_signal_to_noise_ratio(restored, sharp) == pytest.approx(published[0], abs=0.006)
    assert structural_similarity(restored, sharp) == pytest.approx(published[1], abs=0.0006)
    assert sharpness_q(restored) == pytest.approx(published[2], abs=0.0006)


def test_the_inverse_crime_is_what_makes_mlm_look_good(real_data: Path) -> None:
    sharp, blurred = (kodim19(real_data, name) for name in ("original", "blurry"))
    figures = [
        peak_signal_to_noise_ratio(
            restore_classical(
                BASELINES["mlm"], sharp=sharp[None], blurred=blurred[None], protocol=protocol
            )[0],
            sharp,
        )
        for protocol in PROTOCOLS.values()
    ]
    assert figures[0] > 40
    assert figures[1] < peak_signal_to_noise_ratio(blurred, sharp)  # worse than doing nothing


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_row_runs_and_treats_each_crop_by_itself(name: str, protocol: Protocol) -> None:
    sharp, blurred = crops()
    baseline = BASELINES[name]
    if "iterations" in baseline.settings:
        baseline = baseline.set(iterations=5)
    whole = restore_classical(baseline, sharp=sharp, blurred=blurred, protocol=protocol)
    assert whole.dtype == np.uint8
    assert whole.shape == sharp.shape
    second = restore_classical(
        baseline,
        sharp=sharp[1:],
        blurred=blurred[1:],
        protocol=protocol,
    )
    assert np.abs(whole[1].astype(int) - second[0]).max() <= 1  # a level at a rounding edge


@pytest.mark.parametrize("name", BASELINES)
def test_the_honest_protocol_never_looks_at_the_sharp_crop(name: str) -> None:
    sharp, blurred = crops()
    baseline = BASELINES[name]
    if "iterations" in baseline.settings:
        baseline = baseline.set(iterations=2)
    honest = PROTOCOLS["honest"]
    first = restore_classical(baseline, sharp=sharp, blurred=blurred, protocol=honest)
    lie = np.zeros_like(sharp)
    assert np.array_equal(
        first, restore_classical(baseline, sharp=lie, blurred=blurred, protocol=honest)
    )


def test_protocols_pose_what_their_names_say() -> None:
    sharp, blurred = crops()
    honest = pose(BASELINES["al"], sharp=sharp, blurred=blurred, protocol=PROTOCOLS["honest"])
    authors = pose(BASELINES["al"], sharp=sharp, blurred=blurred, protocol=PROTOCOLS["authors"])
    assert np.array_equal(honest.observed.numpy() * 255, blurred)
    wrapped = np.pad(sharp.astype(float), ((0, 0), (2, 2), (2, 2)), mode="wrap")
    expected = np.stack([cv2.blur(image, (5, 5))[2:-2, 2:-2] for image in wrapped])
    assert np.abs(authors.observed.numpy() * 255 - expected).max() < 1e-9
    wiener = pose(BASELINES["wiener"], sharp=sharp, blurred=blurred, protocol=PROTOCOLS["authors"])
    assert np.array_equal(wiener.observed.numpy() * 255, blurred)
    assert wiener.signal_variance[0] == pytest.approx((sharp[0] / 255).var(ddof=1), rel=1e-9)


def test_settings_are_recorded_and_wrong_ones_refused() -> None:
    assert dict(BASELINES["al"].settings) == {"iterations": 250}
    changed = BASELINES["red-fp"].set(denoiser="tv", iterations=7)
    assert (changed.settings["denoiser"], changed.settings["iterations"]) == ("tv", 7)
    assert BASELINES["red-fp"].settings["denoiser"] == "nlm"
    with pytest.raises(InputError, match="known: iterations"):
        BASELINES["al"].set(steps=3)
    with pytest.raises(InputError, match="denoiser = 3"):
        BASELINES["red-sd"].set(denoiser=3)


@pytest.mark.parametrize(
    ("sharp", "blurred", "words"),
    [
        (np.zeros((1, 9, 9), np.uint8), np.zeros((2, 9, 9), np.uint8), "blurred is uint8"),
        (np.zeros((1, 9, 9)), np.zeros((1, 9, 9), np.uint8), "sharp is float64"),
        (np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), "N, H, W"),
    ],
)
def test_unfit_batches_are_refused(
    sharp: npt.NDArray[np.uint8], blurred: Bytes, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        restore_classical(
            BASELINES["al"], sharp=sharp, blurred=blurred, protocol=PROTOCOLS["honest"]
        )
