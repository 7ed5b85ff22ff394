"""Synthetic blur of 8-bit luma crops: on the CPU with OpenCV, on any device with torch.

The box average is taken of the stored values, as MMSP 2024 did; disk and Gaussian are blurs of
light, so they are taken in linear light and encoded again.  All three see one crop alone,
mirrored at its borders without repeating the edge, and end in 8 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from defocus_ds.errors import InputError
from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import disk_psf, to_encoded, to_linear

__all__ = ["Blur", "DeviceBlur", "blur_crop", "gaussian_psf"]

_TOE = (12.92, 0.0031308)  # IEC 61966-2-1, as in defocus_ds.optics


@dataclass(frozen=True, slots=True)
class Blur:
    """``kind`` "average" (box of ``px``, odd), "disk" (radius ``px``) or "gaussian" (sigma)."""

    kind: str
    px: float

    def __post_init__(self) -> None:
        if self.kind not in ("average", "disk", "gaussian"):
            raise InputError(f"blur {self.kind!r}: one of average, disk, gaussian.")
        # beyond 31 the rounding of a sum in float32 would no longer be exact
        if self.kind == "average" and not (self.px % 2 == 1 and 1 <= self.px <= 31):
            raise InputError(f"average of {self.px} px: give an odd width of 1 to 31.")
        if not (math.isfinite(self.px) and self.px >= 0):
            raise InputError(f"{self.kind} of {self.px} px: it must be finite and >= 0.")

    @property
    def reach(self) -> int:
        """Pixels that the blur reads beyond each one; a crop must be larger."""
        return len(self.psf()) // 2

    def psf(self) -> FloatImage:
        """(K, K) float32, K odd, sums to 1."""
        if self.kind == "disk":
            return disk_psf(self.px)
        if self.kind == "gaussian":
            return gaussian_psf(self.px)
        side = int(self.px)
        return np.full((side, side), 1 / side**2, np.float32)


def gaussian_psf(sigma_px: float) -> FloatImage:
    """Gaussian sampled at pixel centres out to 4 sigma.

    Args:
        sigma_px: standard deviation in pixels, >= 0; 0 is the identity.

    Returns:
        (K, K) float32, K odd, sums to 1.
    """
    if sigma_px < 1e-6:
        return np.ones((1, 1), np.float32)
    half = max(math.ceil(4 * sigma_px), 1)
    line = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma_px) ** 2)
    kernel = np.outer(line, line)
    return np.asarray(kernel / kernel.sum(), np.float32)


def blur_crop(sharp: UInt8Image, blur: Blur) -> UInt8Image:
    """Blur one crop with OpenCV; the reference for `DeviceBlur`.

    Args:
        sharp: (H, W) uint8 luma.
        blur: what to apply.

    Returns:
        (H, W) uint8.  For an average this is ``cv2.blur(sharp, (px, px))``.

    Raises:
        InputError: the crop is not larger than the blur's reach.
    """
    import cv2

    _check_size(sharp.shape, blur, blur.reach)
    if blur.kind == "average":
        return np.asarray(cv2.blur(sharp, (int(blur.px), int(blur.px))))
    linear = cv2.filter2D(to_linear(sharp), -1, blur.psf(), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(np.round(to_encoded(linear) * 255).clip(0, 255), np.uint8)


class DeviceBlur:
    """Blurs batches of crops on the device that they are on.

    An average equals `blur_crop` in every pixel, on any device: its sums are whole numbers below
    2^24, which float32 holds exactly.  Disk and Gaussian round the same real numbers from sums
    in another order: at most 1 level apart, in fewer than one pixel of 10,000.

    Args:
        blur: what to apply.
        device: of the crops.
    """

    def __init__(self, blur: Blur, device: torch.device) -> None:
        self.blur = blur
        self._kernel = torch.from_numpy(blur.psf())[None, None].to(device)
        levels = np.arange(256, dtype=np.uint8)
        self._linear = torch.from_numpy(to_linear(levels)).to(device)

    def __call__(self, sharp: Tensor) -> Tensor:
        """Blur a batch.

        Args:
            sharp: (N, H, W) uint8.

        Returns:
            (N, H, W) uint8.

        Raises:
            InputError: the crops are not larger than the blur's reach.
        """
        reach = self._kernel.shape[-1] // 2
        _check_size(tuple(sharp.shape[1:]), self.blur, reach)
        edges = (reach, reach, reach, reach)
        with torch.no_grad(), torch.autocast(sharp.device.type, enabled=False):
            if self.blur.kind == "average":
                values = functional.pad(sharp.float()[:, None], edges, mode="reflect")
                side = int(self.blur.px)
                total = functional.avg_pool2d(values, side, stride=1, divisor_override=1)
                # rounds sum / side^2; side is odd, so there are no ties
                rounded = torch.floor((2 * total + side**2) / (2 * side**2))
                return rounded.to(torch.uint8)[:, 0]
            linear = self._linear[sharp.int()][:, None]
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                blurred = functional.conv2d(
                    functional.pad(linear, edges, mode="reflect"), self._kernel
                )
            slope, toe = _TOE
            power = 1.055 * blurred.clamp(min=toe) ** (1 / 2.4) - 0.055
            encoded = torch.where(blurred <= toe, slope * blurred, power)
            return (encoded * 255).round().clamp(0, 255).to(torch.uint8)[:, 0]


def _check_size(shape: tuple[int, ...], blur: Blur, reach: int) -> None:
    if min(shape) <= reach:
        raise InputError(
            f"{blur.kind} of {blur.px:g} px reaches {reach} px beyond a pixel, and the crop "
            f"has {shape[1]}x{shape[0]}; use larger crops or a smaller blur."
        )
