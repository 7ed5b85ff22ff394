"""The luma of an 8-bit image file, as every metric here takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.ingest.header import RAW_SUFFIXES
from defocus_ds.stages.tile import luma

__all__ = ["luma_of_file"]

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "PPM")


def luma_of_file(path: Path) -> UInt8Image:
    """Grey pixels as they are, or Pillow's YCbCr Y of RGB.

    Args:
        path: 8-bit PNG, JPEG, BMP, TIFF or PPM, grey or RGB.

    Returns:
        (H, W) uint8.

    Raises:
        InputError: unreadable, raw, or another kind of pixel.
    """
    from PIL import Image

    if path.suffix.lower() in RAW_SUFFIXES:
        raise InputError(f"{path}: a raw file; give an 8-bit grey or RGB image of it.")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.mode not in ("L", "RGB"):
                raise InputError(f"{path}: mode {image.mode}; give an 8-bit grey or RGB image.")
            # 16-bit PNG and TIFF and other scales of PPM, which Pillow rounds without a word
            if any(";16" in str(part.args) or part.codec_name == "ppm" for part in image.tile):
                raise InputError(f"{path}: samples are not of 8 bits; give an 8-bit image.")
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be decoded ({error}).") from error
    return pixels if pixels.ndim == 2 else luma(pixels)
