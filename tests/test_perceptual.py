"""LPIPS against its authors' example and against the same network written with loops in numpy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from test_weights import made_up

from defocus_ds.errors import InputError
from defocus_ds.measure import perceptual
from defocus_ds.measure.perceptual import Lpips

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> dict[str, npt.NDArray[np.float32]]:
    """Weights made up on the spot, which `Lpips` then takes for its own."""
    found = made_up(seed=3)
    monkeypatch.setattr(perceptual, "read_weights", lambda path, network: found)
    return found


def example(data: Path, name: str) -> Bytes:
    with Image.open(data / "lpips" / f"ex_{name}.png") as image:
        return np.asarray(image.convert("RGB"))[None]


def convolved(x: Floats, kernel: Floats, bias: Floats, stride: int, padding: int) -> Floats:
    x = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2))
    windows = sliding_window_view(x, kernel.shape[2:], (1, 2))[:, ::stride, ::stride]
    out = np.einsum("chwij,ocij->ohw", windows, kernel.astype(float), optimize=True)
    return np.maximum(out + bias[:, None, None], 0)


def pooled(x: Floats, side: int) -> Floats:
    return sliding_window_view(x, (side, side), (1, 2))[:, ::2, ::2].max((3, 4))


def lpips_by_hand(one: Bytes, two: Bytes, arrays: dict[str, Any], network: str) -> float:
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    a, b = ((((x / 127.5 - 1) - shift) / scale).transpose(2, 0, 1) for x in (one, two))
    alex = network == "alex"
    total, number = 0.0, 0
    for stage, count in enumerate((1, 1, 1, 1, 1) if alex else (2, 2, 3, 3, 3)):
        if stage in ((1, 2) if alex else (1, 2, 3, 4)):
            a, b = (pooled(x, 3 if alex else 2) for x in (a, b))
        for _ in range(count):
            kernel, bias = arrays[f"conv{number}.weight"], arrays[f"conv{number}.bias"]
            stride, padding = ([(4, 2), (1, 2)] + 3 * [(1, 1)])[number] if alex else (1, 1)
            a, b = (convolved(x, kernel, bias, stride, padding) for x in (a, b))
            number += 1
        gap = a / np.sqrt((a**2).sum(0)) - b / np.sqrt((b**2).sum(0))
        total += float((arrays[f"head{stage}"][:, None, None] * gap**2).sum(0).mean())
    return total


@pytest.mark.parametrize(("name", "expected"), [("p0", 0.72188), ("p1", 0.13757)])
def test_the_authors_example_has_the_authors_value(
    real_data: Path, name: str, expected: float
) -> None:
    network = Lpips(real_data / "lpips" / "alexnet.ckpt")
    found = network(example(real_data, name), example(real_data, "ref"))
    assert found == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize(("network", "size"), [("alex", (47, 39)), ("vgg", (37, 33))])
def test_equals_the_network_written_by_hand(
    network: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = made_up(seed=3, network=network)
    monkeypatch.setattr(perceptual, "read_weights", lambda path, network: arrays)
    one, two = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    expected = lpips_by_hand(one, two, arrays, network)
    assert expected > 0.01
    found = Lpips(Path("unused"), network=network)(one[None], two[None])
    assert found == pytest.approx([expected], rel=1e-4)


@pytest.mark.usefixtures("arrays")
def test_grey_is_replicated_and_float_and_bytes_agree() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (4, 40, 40)).astype(np.uint8)
    network = Lpips(Path("unused"))
    one, two = grey[:2], grey[2:]
    distance = network(one, two)
    assert distance.shape == (2,)
    rgb = network(*(np.repeat(x[..., None], 3, axis=3) for x in (one, two)))
    assert distance == pytest.approx(rgb, rel=1e-6)
    assert network(one / 255.0, two / 255.0) == pytest.approx(distance, rel=1e-4)
    assert network(two, one) == pytest.approx(distance, rel=1e-6)
    assert network(one, one) == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.usefixtures("arrays")
def test_measuring_draws_no_random_number() -> None:
    before = torch.random.get_rng_state()
    Lpips(Path("unused"))(np.zeros((1, 31, 31), np.uint8), np.zeros((1, 31, 31), np.uint8))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.usefixtures("arrays")
def test_flat_images_are_finite_and_read_only_ones_welcome() -> None:
    flat = np.zeros((1, 31, 31), np.uint8)
    flat.setflags(write=False)
    assert np.isfinite(Lpips(Path("unused"))(flat, np.full_like(flat, 255))).all()


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        (np.zeros((1, 40, 40), np.uint8), np.zeros((1, 40, 41), np.uint8), "agree"),
        (np.zeros((1, 40, 40), np.uint8), np.zeros((1, 40, 40)), "agree"),
        (np.zeros((1, 30, 40), np.uint8), np.zeros((1, 30, 40), np.uint8), "31 px"),
        (np.zeros((0, 40, 40), np.uint8), np.zeros((0, 40, 40), np.uint8), "31 px"),
        (np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8), "N, H, W"),
        (np.zeros((1, 40, 40, 4), np.uint8), np.zeros((1, 40, 40, 4), np.uint8), "N, H, W"),
        (np.zeros((1, 40, 40), np.int32), np.zeros((1, 40, 40), np.int32), "int32"),
    ],
)
def test_unfit_images_are_refused(
    one: npt.NDArray[np.uint8], two: npt.NDArray[np.uint8], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Lpips(Path("unused"))(one, two)


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import defocus_ds.measure.perceptual, defocus_ds.measure.metrics, sys; "
    done = subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"])
    assert done.returncode == 0
