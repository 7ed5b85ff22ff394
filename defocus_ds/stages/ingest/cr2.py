"""Checks of a CR2 file before LibRaw sees it: what a damaged one gets wrong without an error."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.ingest.exif import Exif, SensorArea, read_exif
from defocus_ds.stages.ingest.source import ByteSource
from defocus_ds.stages.ingest.tiff import Ifd, Tiff

__all__ = ["Cr2", "read_cr2"]

# raw size -> left, top, right, bottom margins that LibRaw crops, for EOS 5D Mark III
_MARGINS = {(5920, 3950): (122, 80, 2, 0)}
_MARK_III = "Canon EOS 5D Mark III"
_MARK_III_ID = 0x80000285


@dataclass(frozen=True, slots=True)
class Cr2:
    """What a sound CR2 declares; ``size`` is the developed one, None where only LibRaw knows.

    ``preview`` is (offset, bytes) of the embedded JPEG.
    """

    exif: Exif
    bits: int
    raw_size: tuple[int, int]
    size: tuple[int, int] | None
    preview: tuple[int, int] | None


def read_cr2(source: ByteSource, *, max_megapixels: float) -> Cr2:
    """Check marker, model, frame header, slices and strip of a CR2 file.

    Raises:
        CaptureUnreadable: any of them is missing, damaged or too large.
    """
    head = source.peek(0, 16)
    if head[:4] not in (b"II*\0", b"MM\0*") or head[8:10] != b"CR":
        raise CaptureUnreadable(
            f"{source.name}: not a CR2 file (starts with {head[:10]!r}, need a TIFF header and "
            "the mark CR). Was it renamed, or written by another program?"
        )
    tiff = Tiff(source)
    ifd0 = tiff.directory(tiff.first)
    exif = read_exif(ifd0)
    if "model" not in exif.fields:
        raise CaptureUnreadable(
            f"{source.name}: the header names no camera model, so white balance and levels "
            "cannot be trusted. The file is damaged; copy it again."
        )
    named, noted = exif.fields["model"] == _MARK_III, exif.model_id == _MARK_III_ID
    if exif.model_id is not None and named != noted:
        raise CaptureUnreadable(
            f"{source.name}: the camera is named {exif.fields['model']!r}, but its number is "
            f"0x{exif.model_id:08X}; one of them is wrong, and so would be the levels. "
            "The file is damaged; copy it again."
        )
    (raw_at,) = struct.unpack(tiff.order + "I", source.read(12, 4, "the raw directory's offset"))
    raw = tiff.directory(raw_at)
    strip = _strip(source, raw)
    bits, width, height = _frame(strip)
    _check_slices(source, raw, width)
    if width * height > max_megapixels * 1e6:
        raise CaptureUnreadable(
            f"{source.name}: {width}x{height} raw pixels are {width * height / 1e6:.1f} megapixels "
            f"(limit {max_megapixels:g}). If that is right: --set limits.max_megapixels=N."
        )
    return Cr2(
        exif,
        bits,
        (width, height),
        _developed_size(exif, (width, height)),
        _preview(source, ifd0),
    )


def _strip(source: ByteSource, raw: Ifd) -> ByteSource:
    offset, count = raw.integer(0x0111), raw.integer(0x0117)
    if offset is None or not count:
        raise CaptureUnreadable(
            f"{source.name}: its raw directory names no strip of samples. Is it a complete CR2?"
        )
    return source.window(offset, count, "the raw samples")


def _frame(strip: ByteSource) -> tuple[int, int, int]:
    """Bits, width and height of the sensor from the lossless JPEG's frame header."""
    if strip.peek(0, 2) != b"\xff\xd8":
        raise CaptureUnreadable(
            f"{strip.name}: the raw samples do not start as lossless JPEG. Copy the file again."
        )
    at = 2
    while True:
        marker, code, length = struct.unpack(">BBH", strip.read(at, 4, "a JPEG marker"))
        if marker != 0xFF or length < 2 or code == 0xDA:
            raise CaptureUnreadable(
                f"{strip.name}: no lossless frame header (SOF3) before byte {at} of the raw "
                "samples. The file is damaged; copy it again."
            )
        if code == 0xC3:
            break
        at += 2 + length
    frame = strip.read(at + 4, 6, "the JPEG frame header")
    bits, height, columns, components = struct.unpack(">BHHB", frame)
    if components not in (2, 4):
        raise CaptureUnreadable(
            f"{strip.name}: {components} JPEG components (need 2 or 4). sRAW and mRAW cannot be "
            "developed by a fixed recipe; shoot full-size RAW."
        )
    width = columns * components
    if components == 4 and width > 4 * height:
        width, height = width // 2, height * 2
    if not 10 <= bits <= 16 or min(width, height) < 16:
        raise CaptureUnreadable(
            f"{strip.name}: {width}x{height} raw pixels of {bits} bits make no sense. "
            "The file is damaged; copy it again."
        )
    if b"\xff\xd9" not in strip.peek(strip.size - 16, 16):
        raise CaptureUnreadable(
            f"{strip.name}: the raw samples do not end with a JPEG end mark. The file is "
            "truncated or padded; copy it again."
        )
    return bits, width, height


def _check_slices(source: ByteSource, raw: Ifd, width: int) -> None:
    slices = raw.integers(0xC640)
    if slices and (len(slices) != 3 or slices[0] * slices[1] + slices[2] != width):
        raise CaptureUnreadable(
            f"{source.name}: slices {slices} do not add up to the raw width {width}; the picture "
            "would come out scrambled. The file is damaged; copy it again."
        )


def _developed_size(exif: Exif, raw_size: tuple[int, int]) -> tuple[int, int] | None:
    if exif.fields["model"] != _MARK_III:
        return None
    if margins := _MARGINS.get(raw_size):
        left, top, right, bottom = margins
        return raw_size[0] - left - right, raw_size[1] - top - bottom
    area: SensorArea | None = exif.sensor
    if area is None or (area.width, area.height) != raw_size:
        return None
    width, height = area.right - area.left, area.bottom - area.top  # as LibRaw counts
    return (width, height) if min(width, height) > 0 else None


def _preview(source: ByteSource, ifd0: Ifd) -> tuple[int, int] | None:
    offset, count = ifd0.integer(0x0111), ifd0.integer(0x0117)
    if offset is None or not count or offset + count > source.size:
        return None
    return (offset, count) if source.peek(offset, 3) == b"\xff\xd8\xff" else None
