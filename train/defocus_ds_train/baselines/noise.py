"""How noisy a single image is, by a filter that cancels its structure."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from defocus_ds.errors import InputError

__all__ = ["immerkaer_noise", "noise_to_signal"]

_MASK = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))


def immerkaer_noise(images: Tensor, *, zero_border: bool = False) -> Tensor:
    """Standard deviation of white Gaussian noise, from the mean of |difference of Laplacians|.

    Args:
        images: (N, H, W) float, sides of at least 3 px.
        zero_border: sum over the image continued by zeros as well, which counts the texture along
            its outline in; MMSP 2024's results of Belyaev & Fayolle's methods were made so.

    Returns:
        (N,) in the unit of the images.

    Raises:
        InputError: an image smaller than the mask.

    Source:
        Immerkaer 1996, "Fast Noise Variance Estimation".
    """
    if images.ndim != 3 or min(images.shape[-2:]) < 3:
        raise InputError(f"immerkaer_noise: got {tuple(images.shape)}; give (N, H, W) of 3x3 up.")
    height, width = images.shape[-2:]
    mask = torch.tensor(_MASK, dtype=images.dtype, device=images.device)
    filtered = functional.conv2d(images[:, None], mask[None, None], padding=2 * zero_border)
    total = filtered.abs().sum(dim=(1, 2, 3))
    return math.sqrt(math.pi / 2) / (6 * (height - 2) * (width - 2)) * total


def noise_to_signal(images: Tensor, *, zero_border: bool = False) -> Tensor:
    """(N,) noise variance by `immerkaer_noise` over the variance of the image."""
    variance = images.var(dim=(1, 2), correction=0)
    return immerkaer_noise(images, zero_border=zero_border) ** 2 / variance.clamp_min(1e-12)
