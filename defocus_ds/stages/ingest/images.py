"""Headers of JPEG, PNG and TIFF files: size, depth, colours, EXIF; whether the file is whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.ingest.colour_space import (
    ColourSpace,
    UnusableProfile,
    exif_space,
    icc_space,
    values_space,
)
from defocus_ds.stages.ingest.exif import Exif, ExifColour, read_exif
from defocus_ds.stages.ingest.source import ByteSource
from defocus_ds.stages.ingest.tiff import Ifd, Tiff
from defocus_ds.stages.ingest.tiff_image import check_strips, holds_raw, tiff_picture

__all__ = ["ImageHeader", "read_image"]

_ALPHA = "its alpha channel is ignored"
_TAIL = 2**20
_MAX_PROFILE = 16 * 2**20
_LOSSLESS_OR_DIFFERENTIAL = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
_PRIMARIES = {  # ITU-T H.273, table 2: those with a white of D65
    1: (),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 13: None}  # table 3; None: sRGB's curve


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image file declares.

    Attributes:
        width, height: in pixels as stored (orientation not applied).
        bits: a sample.
        grey: whether it has one channel of colour.
        exif: camera, lens, exposure and orientation.
        colour: the space of its values; None: sRGB, or not declared.
        profile: the embedded ICC profile, of sRGB too; empty where there is none.
        page: of a TIFF, where the directory of its picture lies in the file.
        indexed: whether its samples are indices into a palette.
        has_alpha: whether it has an alpha channel, which is ignored.
        remarks: what was left out or ignored.
    """

    width: int
    height: int
    bits: int
    grey: bool
    exif: Exif
    colour: ColourSpace | None = None
    profile: bytes = b""
    page: int = 0
    indexed: bool = False
    has_alpha: bool = False
    remarks: tuple[str, ...] = ()


def read_image(source: ByteSource, *, max_megapixels: float) -> ImageHeader:
    """Check the structure of an image file and read its header.

    Raises:
        CaptureUnreadable: not JPEG, PNG or TIFF, truncated, damaged, too large, or samples
            of a kind that is not read.
    """
    start = source.peek(0, 8)
    if start.startswith(b"\xff\xd8\xff"):
        header = _read_jpeg(source)
    elif start == b"\x89PNG\r\n\x1a\n":
        header = _read_png(source)
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        header = _read_tiff(source, max_megapixels)
    else:
        raise CaptureUnreadable(
            f"{source.name}: not a JPEG, PNG or TIFF file (starts with {start!r}). Was it renamed?"
        )
    if header.bits not in (8, 16):
        raise CaptureUnreadable(
            f"{source.name}: {header.bits} bits a sample (need 8 or 16, unsigned). Convert it."
        )
    _check_size(source, header.width, header.height, max_megapixels)
    if header.has_alpha:
        header = replace(header, remarks=(_ALPHA, *header.remarks))
    return header


def _check_size(source: ByteSource, width: int, height: int, max_megapixels: float) -> None:
    pixels = width * height
    if not 0 < pixels <= max_megapixels * 1e6:
        raise CaptureUnreadable(
            f"{source.name}: {width}x{height} pixels are {pixels / 1e6:.1f} megapixels "
            f"(limit {max_megapixels:g}). If that is right: --set limits.max_megapixels=N."
        )


def _read_jpeg(source: ByteSource) -> ImageHeader:
    at = 2
    frame: tuple[int, int, int, int] | None = None
    exif = Exif()
    profile: dict[int, bytes] = {}
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
        elif code == 0xE2 and source.peek(at + 4, 12) == b"ICC_PROFILE\0" and length > 16:
            piece = source.read(at + 16, length - 14, "the ICC profile")
            profile[piece[0]] = piece[2:]  # its number, how many there are, its bytes
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            if code in _LOSSLESS_OR_DIFFERENTIAL:
                raise CaptureUnreadable(
                    f"{source.name}: a lossless or hierarchical JPEG (frame type {code - 0xC0}; "
                    "need baseline or progressive). Convert it."
                )
            frame = struct.unpack(">BHHB", source.read(at + 4, 6, "a JPEG frame"))
        elif code == 0xDA:
            break
        at += 2 + length
    if frame is None:
        raise CaptureUnreadable(f"{source.name}: a JPEG without a frame header. Copy it again.")
    bits, height, width, components = frame
    if components not in (1, 3):
        kind = "CMYK colours" if components == 4 else f"{components} components"
        raise CaptureUnreadable(f"{source.name}: a JPEG of {kind} (need grey or RGB). Convert it.")
    tail = source.peek(max(at, source.size - _TAIL), _TAIL)
    if b"\xff\xd9" not in tail:
        raise CaptureUnreadable(
            f"{source.name}: the JPEG ends without its end mark after {source.size} bytes. "
            "The file is truncated; copy it again."
        )
    grey = components == 1
    embedded = b"".join(profile[number] for number in sorted(profile))
    colour, remarks = _declared_colour(exif, embedded, grey=grey)
    return ImageHeader(
        width, height, bits, grey, exif, colour, embedded, remarks=(*remarks, *exif.remarks)
    )


def _read_png(source: ByteSource) -> ImageHeader:
    head = source.read(8, 25, "the PNG header")
    length, name, width, height, bits, colour_type = struct.unpack(">I4sIIBB", head[:18])
    if (length, name) != (13, b"IHDR"):
        raise CaptureUnreadable(f"{source.name}: a PNG without its header. Copy it again.")
    exif = Exif()
    remarks: list[str] = []
    has_alpha = colour_type in (4, 6)
    spaces: dict[bytes, bytes] = {}
    at = 8
    while True:
        length, name = struct.unpack(">I4s", source.read(at, 8, "a PNG chunk"))
        source.check(at + 8, length + 4, f"the PNG chunk {name!r}")
        if name == b"eXIf":
            exif = _embedded_exif(source.window(at + 8, length, "the EXIF chunk"))
        elif name == b"tRNS":
            has_alpha = True
        elif name == b"acTL":
            remarks.append("it is animated; only its first picture is used")
        elif name in (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"):
            spaces.setdefault(name, source.read(at + 8, length, f"the PNG chunk {name!r}"))
        elif name == b"IEND":
            break
        at += 12 + length
    grey = colour_type in (0, 4)
    colour, told = _png_colour(source.name, spaces, exif, grey=grey)
    profile = b"" if told else _profile_chunk(spaces)
    # fewer than 8 bits, with or without a palette, decode to 8
    return ImageHeader(
        width,
        height,
        max(8, bits),
        grey,
        exif,
        colour,
        profile,
        indexed=colour_type == 3,
        has_alpha=has_alpha,
        remarks=(*remarks, *told, *exif.remarks),
    )


def _read_tiff(source: ByteSource, max_megapixels: float) -> ImageHeader:
    tiff = Tiff(source)
    if holds_raw(tiff):
        raise CaptureUnreadable(f"{source.name}: a raw, not a picture. Develop it first.")
    picture = tiff_picture(tiff)
    _check_size(source, picture.width, picture.height, max_megapixels)
    check_strips(picture.page)
    exif = read_exif(picture.page)
    if picture.page.offset != tiff.first:
        exif = _beside(read_exif(tiff.directory(tiff.first)), exif, picture.page)
    remarks = []
    if picture.pages > 1:
        remarks.append(
            f"it has {picture.pages} pages; only the largest ({picture.width}x{picture.height}), "
            "or the first of that size, is used"
        )
    profile = picture.icc_profile
    colour, told = _declared_colour(exif, profile, grey=picture.grey)
    return ImageHeader(
        picture.width,
        picture.height,
        picture.bits,
        picture.grey,
        exif,
        colour,
        profile,
        picture.page.offset,
        picture.page.integer(0x0106) == 3,
        picture.has_alpha,
        (*remarks, *told, *exif.remarks),
    )


def _beside(first: Exif, own: Exif, page: Ifd) -> Exif:
    """EXIF of a page that is not the first: cameras write theirs into the first directory."""
    return replace(
        own,
        fields=first.fields | own.fields,
        orientation=own.orientation if 0x0112 in page else first.orientation,
        colour=own.colour if own.colour != ExifColour() else first.colour,
        remarks=(*own.remarks, *first.remarks),
    )


def _declared_colour(
    exif: Exif, profile: bytes, *, grey: bool
) -> tuple[ColourSpace | None, tuple[str, ...]]:
    """The space of the embedded profile, else of EXIF, and what to say of it."""
    if profile:
        return _space(lambda: icc_space(profile, grey=grey), "its colour profile cannot be used")
    return _space(lambda: exif_space(exif.colour), "its colour space is not known")


def _png_colour(
    name: str, chunks: dict[bytes, bytes], exif: Exif, *, grey: bool
) -> tuple[ColourSpace | None, tuple[str, ...]]:
    """By precedence of the chunks (PNG, third edition, 4.3), else by EXIF."""
    if len(code := chunks.get(b"cICP", b"")) == 4 and code[2:] == b"\0\1":
        primaries, curve = code[:2]
        if primaries not in _PRIMARIES or curve not in (*_GAMMAS, 1, 6, 14, 15):
            raise CaptureUnreadable(
                f"{name}: its colours are coded for primaries {primaries}, transfer {curve} "
                "(cICP; HDR?), which are not read. Convert it to sRGB."
            )
        # BT.709's camera curve is shown by an exponent of 2.4 (BT.1886)
        gamma = _GAMMAS.get(curve, 2.4)
        return _space(
            lambda: values_space(
                source="cICP", gamma=gamma, white=(), primaries=_PRIMARIES[primaries]
            ),
            "its cICP chunk cannot be used",
        )
    if b"iCCP" in chunks:
        return _space(
            lambda: icc_space(_profile_chunk(chunks), grey=grey),
            "its colour profile cannot be used",
        )
    if b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return (None, ()) if b"sRGB" in chunks else _declared_colour(exif, b"", grey=grey)
    return _space(lambda: _gamma_space(chunks), "its gamma or chromaticities cannot be used")


def _gamma_space(chunks: dict[bytes, bytes]) -> ColourSpace | None:
    gamma, points = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) not in (0, 4) or gamma == bytes(4) or len(points) not in (0, 32):
        raise UnusableProfile("damaged")
    chromaticities = [v / 100_000 for v in struct.unpack(f">{len(points) // 4}I", points)]
    return values_space(
        source=" and ".join(n for n, v in (("gAMA", gamma), ("cHRM", points)) if v),
        gamma=100_000 / struct.unpack(">I", gamma)[0] if gamma else None,
        white=chromaticities[:2],
        primaries=chromaticities[2:],
    )


def _profile_chunk(chunks: dict[bytes, bytes]) -> bytes:
    """The profile of an iCCP chunk: a name, the method 0, a zlib stream."""
    if b"iCCP" not in chunks:
        return b""
    _, _, rest = chunks[b"iCCP"].partition(b"\0")
    try:
        return zlib.decompressobj().decompress(rest[1:], _MAX_PROFILE + 1)
    except zlib.error as error:
        raise UnusableProfile(f"damaged: {error}") from error


def _space(
    find: Callable[[], ColourSpace | None], failed: str
) -> tuple[ColourSpace | None, tuple[str, ...]]:
    try:
        space = find()
    except UnusableProfile as error:
        return None, (f"{failed} ({error}); its colours are taken as sRGB",)
    return space, ()


def _embedded_exif(window: ByteSource) -> Exif:
    try:
        tiff = Tiff(window)
        return read_exif(tiff.directory(tiff.first))
    except CaptureUnreadable as error:
        return Exif(remarks=(f"EXIF left out ({str(error).removeprefix(f'{window.name}: ')})",))
