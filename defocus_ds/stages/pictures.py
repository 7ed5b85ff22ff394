"""Pictures of any kind as finished images: the door for all that is not a capture of a shoot."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.decode_image import StoredImage, decode_stored
from defocus_ds.stages.ingest.exif import Exif
from defocus_ds.stages.ingest.images import ImageHeader, read_image
from defocus_ds.stages.ingest.source import ByteSource, open_source

__all__ = ["picture_header", "read_picture"]

_MAX_MEGAPIXELS = 200.0
# formats that Pillow alone reads, with their first bytes; of 8 bits, without a colour space
_OTHERS = {"BMP": (b"BM",), "PPM": (b"P5", b"P6"), "WEBP": (b"RIFF",)}


def picture_header(path: Path) -> ImageHeader:
    """What a picture declares; no pixel is decoded.

    Args:
        path: a PNG, JPEG, TIFF, BMP, PPM or WebP file.

    Raises:
        CaptureUnreadable: it cannot be read, is damaged, of more than 200 megapixels, or of a kind
            that is not read.
    """
    with open_source(path) as source:
        return _header(source)


def read_picture(path: Path) -> StoredImage:
    """The pixels of a picture as stored, and what it declares.

    Args:
        path: a PNG, JPEG, TIFF, BMP, PPM or WebP file.

    Raises:
        CaptureUnreadable: as `picture_header`, or its pixels are damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptureUnreadable(f"{path.name}: cannot be read ({error.strerror}).") from error
    header = _header(ByteSource(io.BytesIO(data), name=path.name, start=0, size=len(data)))
    if _pillow_format(data[:16]) is None:
        return decode_stored(path, data)
    if header.bits != 8:
        raise CaptureUnreadable(f"{path.name}: its samples are not of 8 bits. Convert it.")
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=tuple(_OTHERS)) as image:
            pixels = np.asarray(image.convert("L" if header.grey else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise CaptureUnreadable(
            f"{path.name}: its pixels cannot be decoded ({error}). Copy it again."
        ) from error
    return StoredImage(pixels, header)


def _header(source: ByteSource) -> ImageHeader:
    start = source.peek(0, 16)
    kind = _pillow_format(start)
    if kind is None:
        return read_image(source, max_megapixels=_MAX_MEGAPIXELS)
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # a header lies within the first of these bytes, and nothing else is read
            with Image.open(io.BytesIO(source.peek(0, source.size)), formats=(kind,)) as image:
                (width, height), mode = image.size, image.mode
                scaled = any(part.codec_name == "ppm" for part in image.tile)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CaptureUnreadable(f"{source.name}: no readable {kind} file ({error}).") from error
    if mode not in ("L", "RGB", "P", "RGBA") and not scaled:
        raise CaptureUnreadable(
            f"{source.name}: a {kind} file of {mode} samples (need 8-bit grey or RGB). Convert it."
        )
    if width * height > _MAX_MEGAPIXELS * 1e6:
        raise CaptureUnreadable(
            f"{source.name}: {width}x{height} pixels (limit {_MAX_MEGAPIXELS:g} megapixels)."
        )
    bits = 16 if scaled else 8
    return ImageHeader(
        width, height, bits, mode == "L", Exif(), indexed=mode == "P", has_alpha=mode == "RGBA"
    )


def _pillow_format(start: bytes) -> str | None:
    for name, magics in _OTHERS.items():
        if start.startswith(magics):
            return name
    return None
