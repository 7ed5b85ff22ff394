"""The luma of an 8-bit image file, as every metric here takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from defocus_ds.errors import CaptureUnreadable, InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.ingest.header import RAW_SUFFIXES
from defocus_ds.stages.pictures import picture_header, read_picture
from defocus_ds.stages.tile import luma

__all__ = ["luma_of_file"]


def luma_of_file(path: Path) -> UInt8Image:
    """Grey pixels as they are, or Pillow's YCbCr Y of RGB; of sRGB where another space is declared.

    Args:
        path: 8-bit PNG, JPEG, BMP, TIFF or PPM, grey or RGB.  EXIF orientation is not applied.

    Returns:
        (H, W) uint8.

    Raises:
        InputError: unreadable, raw, or another kind of pixel.
    """
    if path.suffix.lower() in RAW_SUFFIXES:
        raise InputError(f"{path}: a raw file; give an 8-bit grey or RGB image of it.")
    try:
        header = picture_header(path)
        if header.bits != 8:
            raise InputError(f"{path}: samples are not of 8 bits; give an 8-bit image.")
        if header.indexed or header.has_alpha:
            kind = "a palette" if header.indexed else "an alpha channel"
            raise InputError(f"{path}: it has {kind}; give an 8-bit grey or RGB image.")
        rgb = read_picture(path).as_uint8_rgb()
    except CaptureUnreadable as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path.name}: ')}") from error
    return np.ascontiguousarray(rgb[..., 0]) if header.grey else luma(rgb)
