"""Conversion of stored values to sRGB through an ICC profile (Little CMS, in 16 bits)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["to_srgb"]

_RELATIVE_COLORIMETRIC = 1
_NO_OPTIMISATION = 0x0100  # which would interpolate a coarse grid: errors of several levels
_BAND = 2**20  # pixels converted at a time: bounds the copies


def to_srgb(pixels: npt.NDArray[Any], profile: bytes) -> npt.NDArray[np.uint16]:
    """Values of a picture in sRGB; colours outside its gamut are clipped.

    Args:
        pixels: (H, W) or (H, W, 3) RGB, uint8 or uint16, full range.
        profile: ICC profile of RGB, or of grey where the pixels have one channel.

    Returns:
        (H, W, 3) uint16 in [0, 65535], encoded with sRGB's curve.

    Raises:
        RuntimeError: Little CMS can do nothing with the profile.
    """
    import imagecodecs

    grey = profile[16:20] == b"GRAY"
    height, width = pixels.shape[:2]
    result = np.empty((height, width, 3), np.uint16)
    rows = max(1, _BAND // max(1, width))
    for top in range(0, height, rows):
        band = pixels[top : top + rows]
        if band.dtype == np.uint8:
            band = band.astype(np.uint16) * np.uint16(257)
        if band.ndim == 2 and not grey:
            band = np.repeat(band[..., None], 3, axis=2)
        result[top : top + rows] = imagecodecs.cms_transform(
            np.ascontiguousarray(band),
            profile,
            _srgb_profile(),
            colorspace="gray" if grey else "rgb",
            outcolorspace="rgb",
            intent=_RELATIVE_COLORIMETRIC,
            flags=_NO_OPTIMISATION,
        )
    return result


@cache
def _srgb_profile() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.cms_profile("srgb"))
