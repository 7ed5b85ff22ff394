"""The blur radius of an unregistered pair, from the energy that the blur took away."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Transfer, blur_disk, to_linear

__all__ = ["estimate_radius"]

_PIXELS = 1_000_000  # the search runs on images averaged down to about this size
_LARGEST = 64.0  # px of the averaged image: where the search ends


def estimate_radius(
    blurred: npt.NDArray[Any], sharp: npt.NDArray[Any], *, transfer: Transfer = Transfer.SRGB
) -> float:
    """Disk radius at which the sharp image has the blurred one's gradient energy.

    The energy is taken relative to that of the coarse structure, which the blur leaves alone,
    so exposure does not matter, and no alignment is needed.

    Args:
        blurred: (H, W, 3) uint8 or uint16.
        sharp: the same size and type.
        transfer: curve of the stored values.

    Returns:
        Radius in px of the images given; 0 when the blurred one is not the less sharp.
    """
    import cv2

    factor = max(1, round(np.sqrt(sharp.shape[0] * sharp.shape[1] / _PIXELS)))
    size = sharp.shape[1] // factor, sharp.shape[0] // factor
    green = [
        np.asarray(
            cv2.resize(to_linear(image[..., 1], transfer), size, interpolation=cv2.INTER_AREA),
            np.float32,
        )
        for image in (blurred, sharp)
    ]
    wanted = _sharpness(green[0])
    low, high = 0.0, min(_LARGEST, min(size) / 8)
    if _sharpness(green[1]) <= wanted:
        return 0.0
    for _ in range(14):
        middle = (low + high) / 2
        if _sharpness(blur_disk(green[1], middle)) > wanted:
            low = middle
        else:
            high = middle
    small = (low + high) / 2
    # a disk of whole pixels has the variance of the disk and of one pixel: see disk_psf
    return float(np.sqrt(max((small**2 + 1 / 3) * factor**2 - 1 / 3, 0.0)))


def _sharpness(image: FloatImage) -> float:
    """Gradient energy over two pixels, relative to the variance of the coarse structure."""
    import cv2

    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)  # keeps noise out of the energy
    across, down = smooth[:, 2:] - smooth[:, :-2], smooth[2:] - smooth[:-2]
    side = max(2, min(image.shape) // 16)
    coarse = cv2.resize(
        image, (image.shape[1] // side, image.shape[0] // side), interpolation=cv2.INTER_AREA
    )
    return float((np.mean(across**2) + np.mean(down**2)) / max(float(coarse.var()), 1e-9))
