"""RED with its denoisers: fixed points where they are known, gains where they are not."""

from __future__ import annotations

import importlib.util
import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from defocus_ds.errors import InputError
from defocus_ds_train.baselines.blur import BlurOperator, Border, average_kernel
from defocus_ds_train.baselines.denoisers import DENOISERS, denoiser
from defocus_ds_train.baselines.red import fixed_point, steepest_descent

HAS_BM3D = importlib.util.find_spec("bm3d") is not None


def edges(side: int = 48) -> Tensor:
    """Flat areas and slanted edges, which every denoiser here should keep."""
    image = np.full((side, side), 0.3)
    cv2.fillPoly(image, [np.array([[8, 5], [40, 12], [33, 42], [12, 30]])], 0.7)
    return torch.tensor(image)[None]


def mean_square(values: Tensor) -> float:
    return float(values.square().mean())


def shrink(images: Tensor) -> Tensor:
    """A linear "denoiser" whose RED solution is known in closed form."""
    return 0.5 * images


@pytest.mark.parametrize("border", ["circular", "reflect"])
def test_both_reach_the_closed_form_of_a_linear_prior(border: Border) -> None:
    """With f(x) = x / 2 the zero of the gradient is (H* H + weight / 2) x = H* y."""
    blur = BlurOperator(average_kernel(3), border=border)
    observed = blur(edges())
    weight = 0.3
    expected = blur.divide(observed, over=torch.zeros_like(observed), weight=weight / 2)
    fixed = fixed_point(observed, blur, denoiser=shrink, weight=weight, iterations=80)
    descended = steepest_descent(observed, blur, denoiser=shrink, weight=weight, iterations=80)
    assert (fixed - expected).abs().max() < 1e-6
    assert (descended - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["median", "tv", "nlm"])
def test_sharpens_a_noisy_blur(name: str) -> None:
    sharp = edges()
    blur = BlurOperator(average_kernel(5), border="reflect")
    noise = torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0)).double()
    observed = blur(sharp) + math.sqrt(2) / 255 * noise
    before = mean_square(observed - sharp)
    for method, iterations in ((fixed_point, 15), (steepest_descent, 60)):
        restored = method(
            observed,
            blur,
            denoiser=denoiser(name, sigma=3.25 / 255),
            weight=0.04,
            iterations=iterations,
        )
        assert mean_square(restored - sharp) < 0.5 * before  # 3 dB


@pytest.mark.parametrize("name", [n for n in DENOISERS if n != "bm3d" or HAS_BM3D])
def test_denoisers_denoise_and_keep_type_and_batch(name: str) -> None:
    clean = torch.cat([edges(), 1 - edges()]).float()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = clean + 0.05 * noise
    done = denoiser(name, sigma=0.05)(noisy)
    assert done.dtype == torch.float32
    assert mean_square(done - clean) < 0.5 * mean_square(noisy - clean)
    alone = denoiser(name, sigma=0.05)(noisy[1:])
    assert (done[1:] - alone).abs().max() < 1e-4  # bm3d sums in an order of its own


def test_the_median_is_opencv_s() -> None:
    image = np.random.default_rng(0).random((20, 23), np.float32)
    padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REFLECT_101)
    expected = cv2.medianBlur(padded, 3)[1:-1, 1:-1]
    assert np.array_equal(denoiser("median", sigma=0.1)(torch.tensor(image)[None])[0], expected)


def test_unknown_denoisers_and_strengths_are_refused() -> None:
    with pytest.raises(InputError, match="median, tv, nlm, bm3d"):
        denoiser("wavelet", sigma=0.1)
    with pytest.raises(InputError, match="sigma = 13"):
        denoiser("tv", sigma=13)


@pytest.mark.skipif(HAS_BM3D, reason="bm3d is installed")
def test_bm3d_names_the_package_it_needs() -> None:
    with pytest.raises(InputError, match="pip install bm3d"):
        denoiser("bm3d", sigma=0.1)
