"""Blurs on the device equal those on the CPU, and those the paper's authors published."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.optics import blur_disk, to_encoded, to_linear
from defocus_ds_train.degrade import Blur, DeviceBlur, blur_crop, gaussian_psf

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def random_crops(count: int = 24, size: int = 128) -> UInt8Image:
    """Noise, two-level noise, ramps and flat fields, of all levels."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
    crops[::4] = np.where(crops[::4] > 127, 255, 0)
    crops[1] = np.linspace(0, 255, size, dtype=np.uint8)
    crops[2], crops[3] = 255, 0
    return crops


def on_device(crops: UInt8Image, blur: Blur, device: str) -> UInt8Image:
    place = torch.device(device)
    blurred = DeviceBlur(blur, place)(torch.from_numpy(crops).to(place))
    assert blurred.dtype == torch.uint8
    return np.asarray(blurred.cpu())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side", [1, 3, 5, 9, 31])
def test_an_average_equals_opencv_in_every_pixel(device: str, side: int) -> None:
    crops = random_crops()
    expected = np.stack([cv2.blur(crop, (side, side)) for crop in crops])
    assert np.array_equal(on_device(crops, Blur("average", side), device), expected)
    assert np.array_equal(blur_crop(crops[0], Blur("average", side)), expected[0])


@pytest.mark.parametrize("device", DEVICES)
def test_an_average_of_real_crops_equals_opencv_in_every_pixel(
    device: str, real_data: Path
) -> None:
    lumas = [
        np.asarray(Image.open(path).convert("YCbCr"))[..., 0]
        for path in sorted((real_data / "kodak24").glob("*.png"))[:8]
    ]
    crops = np.stack([y[r : r + 128, c : c + 128] for y in lumas for r, c in ((0, 0), (190, 300))])
    expected = np.stack([cv2.blur(crop, (5, 5)) for crop in crops])
    assert np.array_equal(on_device(crops, Blur("average", 5), device), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "blur", [Blur("disk", 0), Blur("disk", 2.7), Blur("disk", 9), Blur("gaussian", 1.3)]
)
def test_blurs_of_light_equal_the_cpu_to_a_rounding(device: str, blur: Blur) -> None:
    """At most one level, in fewer than one pixel of 10,000."""
    crops = random_crops()
    expected = np.stack([blur_crop(crop, blur) for crop in crops])
    difference = np.abs(on_device(crops, blur, device).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4
    if blur.px == 0:
        assert np.array_equal(expected, crops)


def test_a_disk_is_that_of_the_forward_model() -> None:
    crop = random_crops(4)[0]
    expected = to_encoded(blur_disk(to_linear(crop), 3.0)) * 255
    assert np.abs(blur_crop(crop, Blur("disk", 3.0)) - expected).max() <= 0.501


@pytest.mark.parametrize("sigma", [0.8, 2.0, 5.0])
def test_a_gaussian_has_its_width(sigma: float) -> None:
    kernel = gaussian_psf(sigma).astype(np.float64)
    half = len(kernel) // 2
    x = np.arange(-half, half + 1)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel.sum(axis=0) * x**2).sum() == pytest.approx(sigma**2, rel=0.01)
    assert np.array_equal(kernel, kernel.T)


def test_nonsense_is_refused() -> None:
    for kind, px in (("box", 3), ("average", 4), ("average", 33), ("disk", -1), ("disk", np.nan)):
        with pytest.raises(InputError):
            Blur(kind, px)
    with pytest.raises(InputError, match="larger crops"):
        blur_crop(np.zeros((8, 8), np.uint8), Blur("disk", 9))
    with pytest.raises(InputError, match="larger crops"):
        on_device(np.zeros((1, 8, 8), np.uint8), Blur("disk", 9), "cpu")
