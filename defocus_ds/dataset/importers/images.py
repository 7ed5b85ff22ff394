"""Reading images that others made: sizes are looked at before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defocus_ds.dataset.released_images import Unusable
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.pictures import picture_header, read_picture
from defocus_ds.stages.tile import luma
from defocus_ds.store import sha256_file

__all__ = ["Luma", "image_size", "read_image"]

_MAX_FILE_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class Luma:
    """An image of others.

    Attributes:
        pixels: (H, W) uint8.
        sha256: of its file, 64 hexadecimal digits.
        highest: largest stored sample of 16 bits; None: they are of 8.
    """

    pixels: UInt8Image
    sha256: str
    highest: int | None


def read_image(path: Path) -> Luma:
    """Luma of an image, and what it was read from.

    Colours of another space are converted to sRGB, samples of 16 bits become 8 by rounding;
    orientation tags are not applied.  A grey image is its own luma: the conversion from colour
    would lower 22 of the 256 levels by one.

    Raises:
        Unusable: it cannot be read or decoded, or is too large; the text says why.
    """
    try:
        if (length := path.stat().st_size) > _MAX_FILE_BYTES:
            raise Unusable(f"{length} bytes, limit {_MAX_FILE_BYTES}")
        stored = read_picture(path)
        digest = sha256_file(path)
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error
    except CaptureUnreadable as error:
        raise Unusable(_reason(path, error)) from error
    rgb = stored.as_uint8_rgb()
    grey = np.ascontiguousarray(rgb[..., 0]) if stored.header.grey else luma(rgb)
    return Luma(grey, digest, stored.highest)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels that the header declares; nothing is decoded.

    Raises:
        Unusable: no image, or one whose header cannot be read.
    """
    try:
        header = picture_header(path)
    except CaptureUnreadable as error:
        raise Unusable(_reason(path, error)) from error
    return header.width, header.height


def _reason(path: Path, error: CaptureUnreadable) -> str:
    return str(error).removeprefix(f"{path.name}: ").rstrip(".")
