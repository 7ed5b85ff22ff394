"""Black-box deblurring of Belyaev & Fayolle 2022: iterations that only call the blur.

Each takes the observed images y, (N, H, W) float in [0, 1] (float64 for the published figures),
and the blur F as a callable, and returns images of the same shape, not clipped.  F is a black
box: nothing but its values is used, and turning an image by 180 degrees before and after stands
in for the adjoint.

Source:
    Belyaev & Fayolle 2022, "Black-box image deblurring and defiltering", Signal Processing: Image
    Communication 108, 116833.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["accelerated_landweber", "modified_levenberg_marquardt", "modified_richardson_lucy"]

Operator = Callable[[Tensor], Tensor]

_TINY = 1e-16  # the published guard of every division


def accelerated_landweber(observed: Tensor, blur: Operator, *, iterations: int) -> Tensor:
    """aL: x + J* p with p = y - F(x), where J* p is a central difference of F along p.

    Args:
        observed: (N, H, W) float.
        blur: F, linear or not.
        iterations: of two evaluations each and one for the residual; MMSP 2024 ran 250.
    """
    x = observed.clone()
    for _ in range(iterations):
        step = _turned(observed - blur(x))
        x = x + _turned((blur(x + step) - blur(x - step)) / 2)
    return x


def modified_richardson_lucy(observed: Tensor, blur: Operator, *, iterations: int) -> Tensor:
    """mRL: a Richardson-Lucy step for y / F(x), and the inverse of one for F(x) / y, in turn.

    Args:
        observed: (N, H, W) float; pixels of exactly 0 make their surroundings 0.
        blur: F.
        iterations: of both halves; about 150 in MMSP 2024.
    """
    x = observed.clone()
    for _ in range(iterations):
        x = x / (_back(blur(x) / (observed.abs() + _TINY), blur).abs() + _TINY)
        x = x * _back(observed / (blur(x).abs() + _TINY), blur)
    return x


def modified_levenberg_marquardt(
    observed: Tensor, blur: Operator, *, iterations: int, damping: Tensor | float
) -> Tensor:
    """mLM: Levenberg-Marquardt with the transfer function read off the current estimate.

    In every iteration H = FT(F(x)) / FT(x), and x gains the inverse transform of
    conj(H) FT(y - F(x)) / (|H|^2 + a).

    Args:
        observed: (N, H, W) float.
        blur: F; the quotient H describes it only as far as it is a circular convolution.
        iterations: MMSP 2024 ran 100.
        damping: a > 0, a number or (N,); the paper takes 100 times the noise-to-signal ratio.
    """
    a = torch.as_tensor(damping, dtype=observed.dtype, device=observed.device).reshape(-1, 1, 1)
    x = observed.clone()
    for _ in range(iterations):
        blurred = blur(x)
        transfer = torch.fft.fft2(blurred) / (torch.fft.fft2(x) + _TINY)
        gain = transfer.conj() / (transfer.abs() ** 2 + a)
        x = x + torch.fft.ifft2(gain * torch.fft.fft2(observed - blurred)).real
    return x


def _back(images: Tensor, blur: Operator) -> Tensor:
    """The adjoint of the blur, as far as a blur turned by 180 degrees is one."""
    return _turned(blur(_turned(images)))


def _turned(images: Tensor) -> Tensor:
    return images.flip(-2, -1)
