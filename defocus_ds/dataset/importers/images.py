"""Reading images that others made: sizes are looked at before anything is decoded."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from defocus_ds.dataset.released_images import Unusable
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.decode_image import decode_image
from defocus_ds.stages.tile import luma
from defocus_ds.store import sha256_bytes

__all__ = ["Header", "image_header", "read_image"]

_MAX_PIXELS = 200_000_000
_MAX_FILE_BYTES = 1 << 31
# Pillow's modes of one channel, with or without alpha
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True, slots=True)
class Header:
    """What an image's header declares: (width, height) in pixels, and whether it is grey."""

    size: tuple[int, int]
    grey: bool


def read_image(path: Path) -> tuple[UInt8Image, str]:
    """Luma of an image, and the SHA-256 of its file.

    Samples of 16 bits become 8 by rounding; orientation tags are not applied.  A grey image is its
    own luma: the conversion from colour would lower 22 of the 256 levels by one.

    Returns:
        (H, W) uint8; 64 hexadecimal digits.

    Raises:
        Unusable: it cannot be read or decoded, or is too large; the text says why.
    """
    try:
        if (length := path.stat().st_size) > _MAX_FILE_BYTES:
            raise Unusable(f"{length} bytes, limit {_MAX_FILE_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error
    header = image_header(io.BytesIO(data))
    width, height = header.size
    if width * height > _MAX_PIXELS:
        raise Unusable(f"{width}x{height} px, limit {_MAX_PIXELS} in all")
    try:
        rgb = decode_image(path, data)
    except CaptureUnreadable as error:
        raise Unusable(f"damaged ({str(error).removeprefix(f'{path.name}: ')})") from error
    grey = np.ascontiguousarray(rgb[..., 0]) if header.grey else luma(rgb)
    return grey, sha256_bytes(data)


def image_header(file: Path | IO[bytes]) -> Header:
    """Size and kind of an image; nothing is decoded.

    Raises:
        Unusable: no image, or one whose header cannot be read.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # very large pictures have a limit of their own
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return Header(image.size, image.mode in _GREY)
    except Image.DecompressionBombError as error:
        raise Unusable(f"too large ({error})") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unusable(f"no readable image ({type(error).__name__})") from error
