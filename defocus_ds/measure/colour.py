"""Colour difference between two images of the same scene: CIEDE2000."""

from __future__ import annotations

from typing import Any

import numpy as np

from defocus_ds.arrays import require_array
from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image

__all__ = ["colour_difference"]

_BLOCK_PIXELS = 262_144  # about 150 MB of float64 temporaries inside deltaE_ciede2000


def colour_difference(
    image: UInt8Image,
    reference: UInt8Image,
    *,
    area: tuple[int, int, int, int] | None = None,
    step: int = 1,
) -> float:
    """Mean CIEDE2000 between two sRGB images, pixel by pixel, in blocks of bounded memory.

    Args:
        image: (H, W, 3) uint8, sRGB.
        reference: the same shape and type.
        area: (x0, y0, x1, y1), half-open, in pixels; the whole image if None.
        step: use every ``step``-th pixel of every ``step``-th row; 1 uses all of them.

    Returns:
        Mean difference >= 0; about 1 is just noticeable.

    Raises:
        TypeError: no arrays.
        InputError: shapes or types differ, or the area is empty or leaves the image.

    Source:
        Sharma, Wu & Dalal 2005, as implemented by scikit-image.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    for name, pixels in (("image", image), ("reference", reference)):
        require_array(pixels, f"colour_difference: {name}", takes="(H, W, 3) uint8")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise InputError(
                f"colour_difference: the {name} is {pixels.dtype} {pixels.shape}; "
                "give (H, W, 3) uint8."
            )
    if image.shape != reference.shape:
        raise InputError(
            f"colour_difference: {image.shape} against {reference.shape}; the shapes must agree."
        )
    height, width = image.shape[:2]
    x0, y0, x1, y1 = area or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height) or step < 1:
        raise InputError(
            f"colour_difference: area {(x0, y0, x1, y1)} with step {step} is empty or leaves the "
            f"{width}x{height} image."
        )
    a = image[y0:y1:step, x0:x1:step]
    b = reference[y0:y1:step, x0:x1:step]
    rows = max(1, _BLOCK_PIXELS // a.shape[1])
    difference: Any = deltaE_ciede2000  # scikit-image has no types
    total = 0.0
    for y in range(0, a.shape[0], rows):
        block = difference(rgb2lab(a[y : y + rows]), rgb2lab(b[y : y + rows]))
        total += float(block.sum())
    return total / float(a.shape[0] * a.shape[1])
