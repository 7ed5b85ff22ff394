"""Pixels of JPEG, PNG and TIFF files: Pillow, libpng and tifffile, each for one format."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.ingest.colour_space import ColourSpace
from defocus_ds.stages.ingest.images import ImageHeader, read_image
from defocus_ds.stages.ingest.source import ByteSource
from defocus_ds.stages.srgb import to_srgb

__all__ = ["StoredImage", "decode_image", "decode_stored", "to_uint8_rgb"]

_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_ASSOCIATED_ALPHA = 1
# JPEG 2000, PNG, JPEG XL, JPEG XR, LERC: codecs whose samples have a byte order of their own
_ORDERED_CODECS = (33003, 33004, 33005, 34712, 34933, 50002, 52546, 22610, 34934, 34887)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A picture as its file holds it.

    Attributes:
        pixels: (H, W) grey or (H, W, 3) RGB, uint8 or uint16, full range; EXIF orientation not
            applied, alpha dropped.
        header: what the file declares.
    """

    pixels: npt.NDArray[Any]
    header: ImageHeader

    @property
    def colour(self) -> ColourSpace | None:
        """The space of the pixels; None: sRGB."""
        return self.header.colour

    @property
    def highest(self) -> int | None:
        """The largest sample of 16 bits; None: they are of 8."""
        return int(self.pixels.max()) if self.pixels.dtype == np.uint16 else None

    def in_srgb(self, *, white: int = 0) -> npt.NDArray[Any]:
        """The pixels in sRGB: of the stored type where they are in it, else (H, W, 3) uint16.

        Args:
            white: sample of 16 bits that becomes 65535, larger ones too; 0: 65535.
        """
        pixels = self.pixels
        if 0 < white < 65535 and pixels.dtype == np.uint16:
            levels = np.minimum(np.arange(65536, dtype=np.uint64), white)
            pixels = ((levels * 2 * 65535 + white) // (2 * white)).astype(np.uint16)[pixels]
        return pixels if self.colour is None else to_srgb(pixels, self.colour.profile)

    def as_uint8_rgb(self, *, white: int = 0) -> UInt8Image:
        """(H, W, 3) RGB in [0, 255], encoded with sRGB's curve; ``white`` as in `in_srgb`."""
        return to_uint8_rgb(self.in_srgb(white=white))


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
    """The pixels of a JPEG, PNG or TIFF file in sRGB.

    Args:
        path: names the file in messages; it is not opened.
        data: its bytes; the size it declares has been checked against the limit.

    Returns:
        (H, W, 3) RGB in [0, 255], encoded with sRGB's curve; EXIF orientation not applied.

    Raises:
        CaptureUnreadable: damaged, or samples of a kind that is not read.
    """
    return decode_stored(path, data).as_uint8_rgb()


def decode_stored(path: Path, data: bytes) -> StoredImage:
    """The pixels of a JPEG, PNG or TIFF file as stored.

    Args:
        path: names the file in messages; it is not opened.
        data: its bytes; the size it declares has been checked against the limit.

    Raises:
        CaptureUnreadable: damaged, or samples of a kind that is not read.
    """
    source = ByteSource(io.BytesIO(data), name=path.name, start=0, size=len(data))
    header = read_image(source, max_megapixels=float("inf"))
    if data.startswith(b"\xff\xd8"):
        pixels = _jpeg(path, data)
    elif data.startswith(b"\x89PNG"):
        pixels = _png(path, data)
    else:
        pixels = _tiff(path, data, header)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[:2] != (
        header.height,
        header.width,
    ):
        raise CaptureUnreadable(
            f"{path.name}: decodes to {pixels.shape[1]}x{pixels.shape[0]} of {pixels.dtype}, its "
            f"header says {header.width}x{header.height}. The file is damaged; copy it again."
        )
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if header.grey else pixels[..., :3]
    return StoredImage(np.ascontiguousarray(pixels), header)


def _jpeg(path: Path, data: bytes) -> npt.NDArray[Any]:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the header's size was checked against our own limit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that nobody reads
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise _damaged(path, error) from error


def _png(path: Path, data: bytes) -> npt.NDArray[Any]:
    import imagecodecs

    try:
        pixels: npt.NDArray[Any] = imagecodecs.png_decode(_pixel_chunks(path, data))
    except (RuntimeError, ValueError) as error:
        raise _damaged(path, error) from error
    return pixels


def _pixel_chunks(path: Path, data: bytes) -> bytes:
    """The PNG with the chunks that make its pixels alone, the checksum of every chunk checked.

    Decoders only warn of a wrong checksum, on the terminal, as of other chunks that they dislike.
    """
    kept = [data[:8]]
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        name = data[at + 4 : at + 8]
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise CaptureUnreadable(
                f"{path.name}: the PNG chunk {name.decode('ascii', 'replace')} at byte {at} does "
                "not match its checksum. The file is damaged; copy it again."
            )
        if name in _PIXEL_CHUNKS:
            kept.append(data[at : end + 4])
        at = end + 4
    return b"".join(kept)


def _tiff(path: Path, data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    """(H, W) grey or (H, W, 3 or 4) RGB of the page that the header names."""
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it would print remarks
    compression = "unknown"
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = _page(file, header.page)
            compression = getattr(page.compression, "name", str(page.compression))
            if file.byteorder == ">" and page.compression in _ORDERED_CODECS:
                _refuse_swapped(path, page, compression)
            pixels: npt.NDArray[Any] = page.asarray(maxworkers=1)
            photometric, extra = int(page.photometric), tuple(map(int, page.extrasamples))
            if int(page.planarconfig) == 2 and pixels.ndim == 3:
                pixels = np.moveaxis(pixels, 0, 2)
            if photometric == 3:
                return _palette(page.colormap, pixels)
    except (MemoryError, CaptureUnreadable):
        raise
    except Exception as error:  # tifffile lets through what its codecs raise
        raise _damaged(path, error, f" (compression {compression})") from error
    if photometric == 0:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if _ASSOCIATED_ALPHA in extra and (pixels[..., -1] < np.iinfo(pixels.dtype).max).any():
        raise CaptureUnreadable(
            f"{path.name}: its colours are multiplied by a transparency (associated alpha). "
            "Save it without an alpha channel."
        )
    return pixels


def _refuse_swapped(path: Path, page: Any, compression: str) -> None:
    """tifffile swaps the bytes of these samples, whatever order their codec decodes them to."""
    if page.bitspersample > 8:
        raise CaptureUnreadable(
            f"{path.name}: {page.bitspersample} bits with compression {compression} in a "
            "big-endian TIFF are not read. Convert it."
        )


def _page(file: Any, offset: int) -> Any:
    """The page whose directory lies at an offset: of the chain, or below one of its pages."""
    waiting = list(file.pages)
    while waiting:
        page = waiting.pop(0)
        if page.offset == offset:
            return page.aspage() if hasattr(page, "aspage") else page
        below = getattr(page.aspage(), "pages", None)
        waiting += list(below or ())
    raise ValueError(f"no directory at byte {offset}")


def _palette(colours: npt.NDArray[Any], indices: npt.NDArray[Any]) -> UInt8Image:
    """RGB of a palette of 16 bits; old programs filled it with 8 of them."""
    table = np.asarray(colours, np.uint16).T
    if table.max() < 256:
        return np.asarray(table.astype(np.uint8)[indices])
    return np.asarray(((table.astype(np.uint32) + 128) // 257).astype(np.uint8)[indices])


def _damaged(path: Path, error: Exception, of: str = "") -> CaptureUnreadable:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return CaptureUnreadable(
        f"{path.name}: its pixels cannot be decoded{of}; the file is damaged ({why}). "
        "Copy it again."
    )
