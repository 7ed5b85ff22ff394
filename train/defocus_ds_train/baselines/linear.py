"""Wiener's filter and the Richardson-Lucy iteration, with the border of the blur."""

from __future__ import annotations

import torch
from torch import Tensor

from defocus_ds_train.baselines.blur import BlurOperator

__all__ = ["richardson_lucy", "wiener"]

_FLOOR = 1e-12  # as in scikit-image


def wiener(observed: Tensor, blur: BlurOperator, *, noise_to_signal: Tensor | float) -> Tensor:
    """Wiener deconvolution with one noise-to-signal ratio for all frequencies.

    Args:
        observed: (N, H, W) float.
        blur: the known blur.
        noise_to_signal: > 0, a number or (N,).

    Returns:
        (N, H, W), not clipped.  With a circular border this is
        ``skimage.restoration.wiener(y, kernel, balance=noise_to_signal, reg=[[1]], clip=False)``.
    """
    ratio = torch.as_tensor(noise_to_signal, dtype=observed.dtype, device=observed.device)
    return blur.divide(observed, over=torch.zeros_like(observed), weight=ratio.reshape(-1, 1, 1))


def richardson_lucy(observed: Tensor, blur: BlurOperator, *, iterations: int) -> Tensor:
    """Richardson-Lucy from a flat start, as ``skimage.restoration.richardson_lucy`` does it.

    The one difference is the border: scikit-image continues the image by zeros, which darkens a
    frame that grows with the iterations; here it continues as the blur says.

    Args:
        observed: (N, H, W) float, >= 0.
        blur: the known blur.
        iterations: more sharpen more, noise included.

    Returns:
        (N, H, W), not clipped.

    Source:
        Richardson 1972; Lucy 1974.
    """
    mirrored = BlurOperator(blur.kernel[::-1, ::-1], border=blur.border)
    x = torch.full_like(observed, 0.5)
    for _ in range(iterations):
        x = x * mirrored(observed / (blur(x) + _FLOOR))
    return x
