"""PNG bytes to pixels and back; sizes are checked before anything is decoded."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zlib
from pathlib import Path

import numpy as np

from defocus_ds.errors import DatasetError
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.tile import luma

__all__ = ["decode_png", "encode_png", "pixels_sha256", "png_size", "read_luma"]

_MAX_PIXELS = 200_000_000
_MAX_FILE_BYTES = 1 << 31
# a file that is there may pass for the one that was built
_WAY_OUT = "Delete it, then run the same `defocus-ds build` again."
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# bits per channel and colour type in the header, by Pillow's name of the mode
_MODES = {"L": (8, 0), "RGB": (8, 2)}


def encode_png(pixels: UInt8Image) -> bytes:
    """PNG bytes of (H, W) uint8 luma; the same on any machine, no text, no time."""
    from defocus_ds.png import encode

    return encode(pixels)


def png_size(data: bytes, *, mode: str, where: str) -> tuple[int, int]:
    """(width, height) in pixels that a PNG's header declares; nothing is decoded.

    Args:
        data: at least the first 33 bytes of the file.
        mode: "L" or "RGB", 8 bits; anything else is refused.
        where: what the error calls the image.

    Raises:
        DatasetError: not a PNG, another kind of pixel, or more than 200 megapixels.
    """
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise DatasetError(f"{where}: not a PNG image.")
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if (bits, colour) != _MODES[mode]:
        raise DatasetError(
            f"{where}: PNG of {bits} bits and colour type {colour}, need 8-bit {mode}."
        )
    if not 0 < width * height <= _MAX_PIXELS:
        raise DatasetError(f"{where}: declares {width}x{height} pixels, limit {_MAX_PIXELS}.")
    return width, height


def decode_png(data: bytes, *, size: tuple[int, int], mode: str, where: str) -> UInt8Image:
    """Pixels of a PNG of known size.

    Args:
        data: the whole file.
        size: (width, height) in pixels it must declare.
        mode: "L" or "RGB".
        where: what the error calls the image.

    Returns:
        (height, width) or (height, width, 3) uint8.

    Raises:
        DatasetError: another size or kind than stated, or damaged.
    """
    from defocus_ds.png import decode

    found = png_size(data, mode=mode, where=where)
    if found != size:
        raise DatasetError(f"{where}: {found[0]}x{found[1]} pixels, need {size[0]}x{size[1]}.")
    own = decode(data)
    return _decoded_by_pillow(data, size, where) if own is None else own


def _decoded_by_pillow(data: bytes, size: tuple[int, int], where: str) -> UInt8Image:
    """Pixels of any encoder's file, or the reason why it has none."""
    from PIL import PngImagePlugin

    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as image:
            image.load()  # type: ignore[no-untyped-call, unused-ignore]
            pixels = np.asarray(image)
    # Pillow reports broken chunks as SyntaxError
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise DatasetError(f"{where}: damaged PNG ({error}).") from error
    if pixels.dtype != np.uint8 or pixels.shape[:2] != size[::-1]:
        raise DatasetError(f"{where}: decoded to {pixels.dtype} {pixels.shape}.")
    return pixels


def read_luma(path: Path, *, size: tuple[int, int], sha256: str | None) -> UInt8Image:
    """Luma of an image of a built dataset.

    Args:
        path: 8-bit RGB PNG.
        size: (width, height) in pixels it must have.
        sha256: of the file, 64 hexadecimal digits; None skips the comparison.

    Returns:
        (height, width) uint8.

    Raises:
        DatasetError: missing, damaged, or not the file that was built.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"{path}: not a file. {_WAY_OUT}")
        length = status.st_size
        if length > _MAX_FILE_BYTES:
            raise DatasetError(f"{path}: {length} bytes, limit {_MAX_FILE_BYTES}.")
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}). {_WAY_OUT}") from error
    if sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise DatasetError(
                f"{path}: SHA-256 {found[:12]}..., but scenes.parquet has {sha256[:12]}.... "
                f"{_WAY_OUT}"
            )
    return luma(decode_png(data, size=size, mode="RGB", where=str(path)))


def pixels_sha256(pixels: UInt8Image) -> str:
    """SHA-256 of the pixels in row order, 64 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
