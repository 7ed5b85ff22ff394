"""Headers of JPEG, PNG and TIFF files: size, depth, EXIF, and whether the file is whole."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.ingest.exif import Exif, read_exif
from defocus_ds.stages.ingest.source import ByteSource
from defocus_ds.stages.ingest.tiff import Ifd, Tiff

__all__ = ["ImageHeader", "read_image"]

_ALPHA = "its alpha channel is ignored"
_OTHER_SPACE = "its colours are not sRGB (Adobe RGB?) but are taken as sRGB"
_TAIL = 2**20


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size in stored pixels (orientation not applied), bits a sample, EXIF, remarks."""

    width: int
    height: int
    bits: int
    exif: Exif
    remarks: tuple[str, ...] = ()


def read_image(source: ByteSource, *, max_megapixels: float) -> ImageHeader:
    """Check the structure of an image file and read its header.

    Raises:
        CaptureUnreadable: not JPEG, PNG or TIFF, truncated, damaged, too large, or samples
            that are neither 8 nor 16 bit.
    """
    start = source.peek(0, 8)
    if start.startswith(b"\xff\xd8\xff"):
        header = _read_jpeg(source)
    elif start == b"\x89PNG\r\n\x1a\n":
        header = _read_png(source)
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        header = _read_tiff(source)
    else:
        raise CaptureUnreadable(
            f"{source.name}: not a JPEG, PNG or TIFF file (starts with {start!r}). Was it renamed?"
        )
    if header.bits not in (8, 16):
        raise CaptureUnreadable(
            f"{source.name}: {header.bits} bits a sample (need 8 or 16, unsigned). Convert it."
        )
    if not header.exif.srgb:
        header = replace(header, remarks=(*header.remarks, _OTHER_SPACE))
    pixels = header.width * header.height
    if not 0 < pixels <= max_megapixels * 1e6:
        raise CaptureUnreadable(
            f"{source.name}: {header.width}x{header.height} pixels are {pixels / 1e6:.1f} "
            f"megapixels (limit {max_megapixels:g}). "
            "If that is right: --set limits.max_megapixels=N."
        )
    return header


def _read_jpeg(source: ByteSource) -> ImageHeader:
    at = 2
    frame: tuple[int, int, int] | None = None
    exif = Exif()
    while True:
        marker, code, length = struct.unpack(">BBH", source.read(at, 4, "a JPEG marker"))
        if marker != 0xFF or length < 2:
            raise CaptureUnreadable(
                f"{source.name}: no JPEG marker at byte {at}. The file is damaged; copy it again."
            )
        if code == 0xFF:  # fill bytes may precede a marker
            at += 1
            continue
        if code == 0xE1 and source.peek(at + 4, 6) == b"Exif\0\0" and length > 16:
            exif = _embedded_exif(source.window(at + 10, length - 8, "the EXIF segment"))
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            bits, height, width = struct.unpack(">BHH", source.read(at + 4, 5, "a JPEG frame"))
            frame = width, height, bits
        elif code == 0xDA:
            break
        at += 2 + length
    if frame is None:
        raise CaptureUnreadable(f"{source.name}: a JPEG without a frame header. Copy it again.")
    tail = source.peek(max(at, source.size - _TAIL), _TAIL)
    if b"\xff\xd9" not in tail:
        raise CaptureUnreadable(
            f"{source.name}: the JPEG ends without its end mark after {source.size} bytes. "
            "The file is truncated; copy it again."
        )
    return ImageHeader(*frame, exif, exif.remarks)


def _read_png(source: ByteSource) -> ImageHeader:
    head = source.read(8, 25, "the PNG header")
    length, name, width, height, bits, colour = struct.unpack(">I4sIIBB", head[:18])
    if (length, name) != (13, b"IHDR"):
        raise CaptureUnreadable(f"{source.name}: a PNG without its header. Copy it again.")
    exif = Exif()
    remarks: list[str] = [_ALPHA] if colour in (4, 6) else []
    at = 8
    while True:
        length, name = struct.unpack(">I4s", source.read(at, 8, "a PNG chunk"))
        source.check(at + 8, length + 4, f"the PNG chunk {name!r}")
        if name == b"eXIf":
            exif = _embedded_exif(source.window(at + 8, length, "the EXIF chunk"))
        elif name == b"tRNS" and not remarks:
            remarks.append(_ALPHA)
        elif name == b"IEND":
            break
        at += 12 + length
    # fewer than 8 bits, with or without a palette, decode to 8
    return ImageHeader(width, height, max(8, bits), exif, (*remarks, *exif.remarks))


def _read_tiff(source: ByteSource) -> ImageHeader:
    tiff = Tiff(source)
    ifd = tiff.directory(tiff.first)
    width, height = ifd.integer(0x0100), ifd.integer(0x0101)
    if not width or not height:
        raise CaptureUnreadable(f"{source.name}: a TIFF that names no size. Copy it again.")
    bits = set(ifd.integers(0x0102)) or {1}
    formats = set(ifd.integers(0x0153)) or {1}
    if formats != {1} or len(bits) > 1:
        raise CaptureUnreadable(
            f"{source.name}: TIFF samples of {sorted(bits)} bits, format {sorted(formats)} "
            "(need 8 or 16 bit unsigned integers). Convert it."
        )
    _check_strips(source, ifd)
    colours = {2: 3, 6: 3}.get(ifd.integer(0x0106) or 0, 1)
    extra = (ifd.integer(0x0115) or 1) > colours
    exif = read_exif(ifd)
    remarks = (_ALPHA,) if extra else ()
    return ImageHeader(width, height, bits.pop(), exif, (*remarks, *exif.remarks))


def _check_strips(source: ByteSource, ifd: Ifd) -> None:
    for offsets_tag, counts_tag in ((0x0111, 0x0117), (0x0144, 0x0145)):
        offsets, counts = ifd.integers(offsets_tag), ifd.integers(counts_tag)
        if offsets:
            if len(offsets) != len(counts):
                raise CaptureUnreadable(
                    f"{source.name}: {len(offsets)} strips but {len(counts)} lengths in the TIFF. "
                    "The file is damaged; copy it again."
                )
            for offset, count in zip(offsets, counts, strict=True):
                source.check(offset, count, "a strip of pixels")
            return
    raise CaptureUnreadable(f"{source.name}: a TIFF without pixels. Copy it again.")


def _embedded_exif(window: ByteSource) -> Exif:
    try:
        tiff = Tiff(window)
        return read_exif(tiff.directory(tiff.first))
    except CaptureUnreadable as error:
        return Exif(remarks=(f"EXIF left out ({str(error).removeprefix(f'{window.name}: ')})",))
