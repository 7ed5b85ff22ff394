"""Regularisation by denoising: the prior x' (x - f(x)) / 2 for any denoiser f.

With y = H x + noise of standard deviation sigma, the cost is
|H x - y|^2 / (2 sigma^2) + lambda x' (x - f(x)) / 2, and its gradient (under the conditions of
the paper) H* (H x - y) / sigma^2 + lambda (x - f(x)).  Only the product ``lambda sigma^2``
matters below; it has no unit.

Source:
    Romano, Elad & Milanfar 2017, "The Little Engine That Could: Regularization by Denoising
    (RED)", SIAM Journal on Imaging Sciences 10 (4).
"""

from __future__ import annotations

import torch
from torch import Tensor

from defocus_ds_train.baselines.blur import BlurOperator
from defocus_ds_train.baselines.denoisers import Denoiser

__all__ = ["fixed_point", "steepest_descent"]


def fixed_point(
    observed: Tensor, blur: BlurOperator, *, denoiser: Denoiser, weight: float, iterations: int
) -> Tensor:
    """RED-FP: solve the gradient's zero with f(x) held, again and again.

    Args:
        observed: (N, H, W) float in [0, 1].
        blur: the known blur; each linear system is solved exactly in frequency.
        denoiser: f.
        weight: lambda sigma^2, > 0.
        iterations: the paper takes 200.

    Returns:
        (N, H, W), not clipped.
    """
    x = observed
    for _ in range(iterations):
        x = blur.divide(observed, over=weight * denoiser(x), weight=weight)
    return x


def steepest_descent(
    observed: Tensor, blur: BlurOperator, *, denoiser: Denoiser, weight: float, iterations: int
) -> Tensor:
    """RED-SD: steps of 2 / (1 / sigma^2 + lambda) down the gradient.

    Args:
        observed: (N, H, W) float in [0, 1].
        blur: the known blur.
        denoiser: f.
        weight: lambda sigma^2, > 0.
        iterations: the paper takes 1500.

    Returns:
        (N, H, W), not clipped.
    """
    mirrored = BlurOperator(blur.kernel[::-1, ::-1], border=blur.border)
    step = 2 / (1 + weight)
    x = torch.clone(observed)
    for _ in range(iterations):
        x = x - step * (mirrored(blur(x) - observed) + weight * (x - denoiser(x)))
    return x
