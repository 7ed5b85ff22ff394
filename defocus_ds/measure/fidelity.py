"""Fidelity of an image to its reference: peak signal-to-noise ratio, structural similarity."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.errors import InputError

__all__ = ["SsimWindow", "peak_signal_to_noise_ratio", "structural_similarity"]

SsimWindow = Literal["uniform-7", "gaussian-11"]
_Float = npt.NDArray[np.float64]


def peak_signal_to_noise_ratio(image: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """PSNR = 10 log10(peak^2 / mean squared error).

    Args:
        image: (H, W) or (H, W, C), uint8 (peak 255) or float in [0, 1] (peak 1).
        reference: the same shape and type.

    Returns:
        Decibels; infinite when the two are equal.

    Raises:
        TypeError: no arrays.
        InputError: shapes or types differ, or the type has no known peak.

    >>> peak_signal_to_noise_ratio(np.full((8, 8), 10, np.uint8), np.full((8, 8), 11, np.uint8))
    48.1308036086791
    """
    peak = _peak(image, reference)
    # whole numbers and float64 sums: the figure does not depend on the order of the pixels
    error = float(np.square(image.astype(np.float64) - reference).mean())
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def structural_similarity(
    image: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    *,
    window: SsimWindow = "uniform-7",
) -> float:
    """Mean SSIM over the pixels whose window lies inside the image.

    "uniform-7" is a 7x7 mean with sample covariance (divisor 48), the figure that MMSP 2024 and
    scikit-image's default report; "gaussian-11" is 11x11 with sigma 1.5 and population
    covariance, the figure of the original paper.  K1 = 0.01, K2 = 0.03.

    Args:
        image: (H, W) or (H, W, C), uint8 or float in [0, 1]; channels are averaged.
        reference: the same shape and type.
        window: which of the two windows.

    Returns:
        SSIM in [-1, 1]; 1 when the two are equal.

    Raises:
        TypeError: no arrays.
        InputError: shapes or types differ, the image is smaller than the window, unknown window.

    Source:
        Wang, Bovik, Sheikh & Simoncelli 2004, "Image Quality Assessment: From Error Visibility
        to Structural Similarity".
    """
    peak = _peak(image, reference)
    kernel = _window(window)
    if min(image.shape[:2]) < kernel.size:
        raise InputError(
            f"structural_similarity: {image.shape[1]}x{image.shape[0]} px is smaller than the "
            f"{kernel.size}x{kernel.size} window; give a larger image."
        )
    n = kernel.size**2
    sample = n / (n - 1) if window == "uniform-7" else 1.0
    constants = (sample, (0.01 * peak) ** 2, (0.03 * peak) ** 2)
    a = image.reshape(*image.shape[:2], -1)
    b = reference.reshape(a.shape)
    values = [
        _ssim_channel(a[..., c].astype(np.float64), b[..., c].astype(np.float64), kernel, constants)
        for c in range(a.shape[2])
    ]
    return float(np.mean(values))


def _ssim_channel(
    a: _Float, b: _Float, kernel: _Float, constants: tuple[float, float, float]
) -> float:
    sample, c1, c2 = constants
    mean_a, mean_b = _mean(a, kernel), _mean(b, kernel)
    var_a = sample * (_mean(a * a, kernel) - mean_a * mean_a)
    var_b = sample * (_mean(b * b, kernel) - mean_b * mean_b)
    covariance = sample * (_mean(a * b, kernel) - mean_a * mean_b)
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((likeness / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _mean(values: _Float, kernel: _Float) -> _Float:
    """Windowed mean where the window fits: (H - K + 1, W - K + 1)."""
    import cv2

    edge = kernel.size // 2
    whole = cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel)
    return np.asarray(whole[edge : values.shape[0] - edge, edge : values.shape[1] - edge])


def _window(name: SsimWindow) -> _Float:
    if name == "uniform-7":
        return np.full(7, 1 / 7)
    if name == "gaussian-11":
        weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        return np.asarray(weights / weights.sum())
    raise InputError(f"structural_similarity: window {name!r}; known: uniform-7, gaussian-11.")


def _peak(image: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    for name, pixels in (("image", image), ("reference", reference)):
        takes = "(H, W) or (H, W, C), uint8 or float in [0, 1]"
        require_array(pixels, name, takes=takes)
    if image.shape != reference.shape or image.dtype != reference.dtype:
        raise InputError(
            f"the image is {image.dtype} {image.shape} and its reference {reference.dtype} "
            f"{reference.shape}; they must agree."
        )
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(f"an image of shape {image.shape}: give (H, W) or (H, W, C).")
    if image.dtype == np.uint8:
        return 255.0
    if np.issubdtype(image.dtype, np.floating):
        return 1.0
    raise InputError(f"an image of type {image.dtype}: give uint8, or float in [0, 1].")
