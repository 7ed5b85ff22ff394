"""Q against the authors' published figures, closed forms and invariances."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from defocus_ds.errors import InputError
from defocus_ds.measure.sharpness import (
    SharpnessKind,
    coherence_threshold,
    gradient_energy,
    sharpness_q,
)

KINDS: tuple[SharpnessKind, ...] = ("reported", "training", "zhu-milanfar")

# MMSP 2024, supplementary outputs on kodim19 and kodim01: file -> Q as reported
KODIM19 = {
    "blurry": 0.072,
    "b_ddnet": 0.120,
    "XYD": 0.155,
    "al": 0.136,
    "mlm": 0.144,
    "mrl": 0.137,
    "FP": 0.150,
    "SDM": 0.148,
    "b_Wiener": 0.161,
    "b_r_onlyMAE": 0.149,
    "b_r_QSharp": 0.150,
}
KODIM01 = {
    "b_r_onlyMAE": 0.206,
    "b_r_0_001": 0.205,
    "b_r_0_01": 0.208,
    "b_r_0_05": 0.231,
    "b_r_0_1": 0.275,
}


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("DEFOCUS_DS_DATA")
    if folder is None:
        pytest.skip("DEFOCUS_DS_DATA is not set: the authors' files are needed")
    return Path(folder)


def luma_of(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("YCbCr"))[..., 0]


def centre(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    y, x = (luma.shape[0] - 128) // 2, (luma.shape[1] - 128) // 2
    return luma[y : y + 128, x : x + 128]


def test_kodak_centre_crops_score_what_the_paper_says(data: Path) -> None:
    crops = [centre(luma_of(path)) for path in sorted((data / "kodak24").glob("*.png"))]
    assert len(crops) == 24
    sharp = np.mean([sharpness_q(crop) for crop in crops])
    blurred = np.mean([sharpness_q(cv2.blur(crop, (5, 5))) for crop in crops])
    assert sharp == pytest.approx(0.144, abs=0.0005)
    assert blurred == pytest.approx(0.083, abs=0.0005)


@pytest.mark.parametrize(("name", "expected"), KODIM19.items())
def test_kodim19_outputs_score_what_the_paper_says(data: Path, name: str, expected: float) -> None:
    with Image.open(data / "mmsp2024" / "MMSP_Comparisons" / f"kodim19_{name}.png") as image:
        q = sharpness_q(np.asarray(image))
    assert q == pytest.approx(expected, abs=0.0006)  # three digits, and the last one rounded


@pytest.mark.parametrize(("name", "expected"), KODIM01.items())
def test_kodim01_by_beta(data: Path, name: str, expected: float) -> None:
    with Image.open(data / "mmsp2024" / "Beta_Value_Comp" / f"kodim01_{name}.png") as image:
        q = sharpness_q(np.asarray(image))
    assert q == pytest.approx(expected, abs=0.0006)


def q_by_svd(luma: npt.NDArray[np.float64], kind: SharpnessKind) -> float:
    """The definition, patch by patch with an SVD: slow, and written differently."""
    sobel = np.outer([1, 2, 1], [-1, 0, 1]) / 8
    scores = []
    for y in range(0, luma.shape[0] - 7, 8):
        for x in range(0, luma.shape[1] - 7, 8):
            patch = luma[y : y + 8, x : x + 8]
            if kind == "training":
                gx = cv2.filter2D(patch, cv2.CV_64F, sobel, borderType=cv2.BORDER_REFLECT_101)
                gy = cv2.filter2D(patch, cv2.CV_64F, sobel.T, borderType=cv2.BORDER_REFLECT_101)
            else:
                gy, gx = np.gradient(patch)
            s = np.linalg.svd(np.stack([gx.ravel(), gy.ravel()], 1), compute_uv=False)
            tested = s**2 if kind != "zhu-milanfar" else s
            scored = s**2 if kind == "training" else s
            on = (tested[0] - tested[1]) > coherence_threshold(kind) * (tested[0] + tested[1])
            coherence = (scored[0] - scored[1]) / (scored[0] + scored[1]) if on else 0.0
            scores.append(scored[0] * coherence)
    return float(np.mean(scores))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_definition_by_svd(kind: SharpnessKind) -> None:
    rng = np.random.default_rng(3)
    luma = cv2.GaussianBlur(rng.random((48, 67)), (0, 0), 1.0)
    assert sharpness_q(luma, kind=kind) == pytest.approx(q_by_svd(luma, kind), rel=1e-9)


def patches() -> dict[str, npt.NDArray[np.float64]]:
    """Single patches at the corners of the definition."""
    y, x = np.mgrid[0:8, 0:8]
    bowl = (x - 3.5) ** 2 + (y - 3.5) ** 2  # as much energy across as down, and none along x y
    return {
        "flat": np.full((8, 8), 0.37),
        "ramp": 0.1 + 0.05 * x + 0.02 * y,
        "step": np.where(x < 3, 0.2, 0.8),
        "slanted step": np.where(x + 2 * y < 11, 0.2, 0.8),
        "s1 = s2": 0.02 * bowl,
        "partly coherent": 0.02 * bowl + 0.1 * x,
        "black with one grey pixel": np.where((x == 4) & (y == 4), 1 / 255, 0.0),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", patches())
def test_special_patches_equal_the_svd(name: str, kind: SharpnessKind) -> None:
    patch = patches()[name]
    q = sharpness_q(patch, kind=kind)
    assert q == pytest.approx(q_by_svd(patch, kind), rel=1e-9, abs=1e-15)
    if name in ("flat", "s1 = s2"):
        assert q == 0  # incoherent, whatever its energy
    elif name in ("ramp", "step", "slanted step"):
        assert q > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_ramp_has_its_closed_form(kind: SharpnessKind) -> None:
    step = 0.01
    luma = np.tile(np.arange(64) * step, (16, 1))
    # one direction only, so R = 1; Sobel with reflection loses 2 of the 8 columns
    expected = step**2 * 48 if kind == "training" else step * 8
    assert sharpness_q(luma, kind=kind) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_blur_lowers_q_and_rotation_by_a_quarter_keeps_it(kind: SharpnessKind) -> None:
    y, x = np.mgrid[0:64, 0:64]
    luma = np.where((x + 2 * y) % 23 < 11, 0.2, 0.7)  # slanted edges, coherent in most patches
    q = sharpness_q(luma, kind=kind)
    assert sharpness_q(cv2.GaussianBlur(luma, (0, 0), 2.0), kind=kind) < 0.8 * q
    assert sharpness_q(np.rot90(luma), kind=kind) == pytest.approx(q, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_and_fractions_agree_and_the_remainder_is_left_out(kind: SharpnessKind) -> None:
    luma = np.random.default_rng(1).integers(0, 256, (37, 43)).astype(np.uint8)
    q = sharpness_q(luma, kind=kind)
    assert q == pytest.approx(sharpness_q(luma / 255.0, kind=kind), rel=1e-12)
    assert q == sharpness_q(luma[:32, :40], kind=kind)


def test_flat_is_zero_for_every_kind() -> None:
    assert [sharpness_q(np.full((16, 16), 0.37), kind=kind) for kind in KINDS] == [0.0] * 3


@pytest.mark.parametrize(
    ("luma", "words"),
    [
        (np.zeros((8, 8, 3), np.uint8), "one channel"),
        (np.zeros((7, 80), np.uint8), "8x8"),
        (np.zeros((8, 8), np.uint16), "uint16"),
        (np.full((8, 8), np.nan), "not finite"),
    ],
)
def test_unusable_input_is_refused(luma: npt.NDArray[np.float64], words: str) -> None:
    with pytest.raises(InputError, match=words):
        sharpness_q(luma)


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="reported, training, zhu-milanfar"):
        sharpness_q(np.zeros((8, 8), np.uint8), kind="best")  # type: ignore[arg-type]


def test_gradient_energy_is_that_of_2x2_sums() -> None:
    for shape in ((64, 48), (33, 17), (2, 2), (1, 5)):
        luma = np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)
        whole = luma[: shape[0] // 2 * 2, : shape[1] // 2 * 2].astype(int)
        sums = whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2]
        expected = (np.diff(sums, axis=0) ** 2).sum() + (np.diff(sums, axis=1) ** 2).sum()
        assert gradient_energy(luma) == expected
