"""Pixels of JPEG, PNG and TIFF files as 8-bit RGB; runs in the decoding process."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import UInt8Image

__all__ = ["decode_image", "to_uint8_rgb"]


def to_uint8_rgb(pixels: npt.NDArray[Any]) -> UInt8Image:
    """(H, W[, 1 | 3 | 4]) uint8 or uint16 in RGB order as (H, W, 3) uint8; alpha is dropped.

    16 bits become 8 by rounding ``value * 255 / 65535``.
    """
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] < 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3], np.uint8)


def decode_image(path: Path, data: bytes) -> UInt8Image:
    """The pixels of a JPEG, PNG or TIFF file.

    Args:
        path: names the file in messages; it is not opened.
        data: its bytes; the size it declares has been checked against the limit.

    Returns:
        (H, W, 3) RGB in [0, 255], as stored: EXIF orientation not applied.

    Raises:
        CaptureUnreadable: damaged, or samples that are neither 8 nor 16 bit.
    """
    failed = f"{path.name}: its pixels cannot be decoded; the file is damaged. Copy it again."
    if data.startswith(b"\xff\xd8"):
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # the header's size was checked against our own limit
        try:
            with Image.open(io.BytesIO(data)) as image:
                return to_uint8_rgb(np.asarray(image.convert("RGB")))
        except (OSError, ValueError, SyntaxError) as error:
            raise CaptureUnreadable(f"{failed} ({error})") from error
    import cv2

    if data.startswith(b"\x89PNG"):
        _check_png(path, data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        raise CaptureUnreadable(failed)
    if decoded.ndim == 3 and decoded.shape[2] >= 3:
        decoded = decoded[..., 2::-1]  # OpenCV keeps blue first
    return to_uint8_rgb(decoded)


def _check_png(path: Path, data: bytes) -> None:
    """The checksum of every chunk: decoders only warn of a wrong one."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        stored = int.from_bytes(data[end : end + 4], "big")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != stored:
            name = data[at + 4 : at + 8].decode("ascii", "replace")
            raise CaptureUnreadable(
                f"{path.name}: the PNG chunk {name} at byte {at} does not match its checksum. "
                "The file is damaged; copy it again."
            )
        at = end + 4
