"""What a capture file says of itself, by kind of file, before any pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from defocus_ds.config import LimitsConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import CaptureInfo
from defocus_ds.stages.ingest.cr2 import read_cr2
from defocus_ds.stages.ingest.exif import Exif, read_exif
from defocus_ds.stages.ingest.images import read_image
from defocus_ds.stages.ingest.source import ByteSource, open_source
from defocus_ds.stages.ingest.tiff import Tiff
from defocus_ds.stages.ingest.tiff_image import holds_raw

__all__ = [
    "IMAGE_SUFFIXES",
    "RAW_SUFFIXES",
    "UNREAD_SUFFIXES",
    "Header",
    "looks_like",
    "read_header",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
_TIFF_RAWS = frozenset([".dng", ".nef", ".nrw", ".arw", ".sr2", ".pef", ".srw", ".erf", ".3fr"])
# of cameras that LibRaw knows; other files are raws where their first bytes say so
# fmt: off
RAW_SUFFIXES = _TIFF_RAWS | frozenset([
    ".cr2", ".cr3", ".crw", ".srf", ".ptx", ".fff", ".orf", ".rw2", ".rwl", ".raw", ".raf", ".iiq",
    ".mrw", ".mdc", ".x3f", ".mef", ".mos", ".kdc", ".dcr", ".dcs", ".drf", ".k25", ".kc2", ".dc2",
    ".bay", ".cap", ".cs1", ".gpr", ".nksc", ".pxn", ".qtk", ".rdc", ".rwz", ".sti", ".ari",
])
# fmt: on
# pictures that a person might expect to be read: worth a word, unlike a text file
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".webp", ".bmp", ".gif", ".jp2", ".jxl", ".psd", ".exr", ".hdr"}
)
_CLASSIC_TIFF = (b"II*\0", b"MM\0*")
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", *_CLASSIC_TIFF, b"II+\0", b"MM\0+")
# (offset, bytes) by which raws that are not TIFFs begin: Canon's CRW and CR3, Fujifilm, Minolta,
# Sigma, Olympus, Panasonic, Phase One
_RAW_STARTS = (
    (6, b"HEAPCCDR"),
    (4, b"ftypcrx "),
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"\0MRM"),
    (0, b"FOVb"),
    (0, b"IIRO"),
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\0"),
    (0, b"IIII"),
    (0, b"MMMM"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """A capture's information and what the stages need beside it.

    Attributes:
        info: width and height are 0 when only LibRaw can tell (``needs_libraw``).
        orientation: EXIF's 1 to 8; pixels are used as stored.
        raw_size: (width, height) of the sensor in raw pixels, of a CR2.
        preview: (offset, bytes) of a JPEG inside the file.
        remarks: parts that were left out or ignored.
    """

    info: CaptureInfo
    orientation: int = 1
    raw_size: tuple[int, int] | None = None
    preview: tuple[int, int] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def needs_libraw(self) -> bool:
        return self.info.width == 0


def read_header(path: Path, *, limits: LimitsConfig | None = None) -> Header:
    """Read and check the header of one capture.

    Args:
        path: any file; what it holds decides, not its suffix.
        limits: default `LimitsConfig()`; only ``max_megapixels`` is used.

    Returns:
        The header; a few milliseconds, whatever the size of the file.

    Raises:
        CaptureUnreadable: empty, truncated, damaged, or not what its name says.
    """
    most = (limits or LimitsConfig()).max_megapixels
    suffix = path.suffix.lower()
    with open_source(path) as source:
        if source.size == 0:
            raise CaptureUnreadable(f"{path.name}: the file is empty (0 bytes). Copy it again.")
        if suffix == ".cr2" or _is_cr2(source):
            return _cr2_header(source, most)
        known = _is_raw(source)
        if known or suffix in RAW_SUFFIXES:
            return _other_raw_header(source, tiff_based=not known and suffix in _TIFF_RAWS)
        image = read_image(source, max_megapixels=most)
    size = image.width, image.height
    info, remarks = _info("image", size, image.bits, image.exif), image.remarks
    if image.colour is not None:
        info = replace(info, colour_space=image.colour.name)
        remarks = (f"its colours are converted to sRGB from {image.colour.name}", *remarks)
    return Header(info, orientation=image.exif.orientation, remarks=remarks)


def looks_like(path: Path) -> str | None:
    """What the first bytes of a file say, whatever its suffix.

    Returns:
        "raw", "image" for a JPEG, PNG or TIFF, else None; None also where it cannot be read.
    """
    try:
        with open_source(path) as source:
            if _is_cr2(source) or _is_raw(source):
                return "raw"
            return "image" if source.peek(0, 8).startswith(_IMAGE_STARTS) else None
    except (CaptureUnreadable, OSError):
        return None


def _is_cr2(source: ByteSource) -> bool:
    head = source.peek(0, 10)
    return head[:4] in _CLASSIC_TIFF and head[8:] == b"CR"


def _is_raw(source: ByteSource) -> bool:
    """A raw of another kind, whose first image may be a thumbnail that looks like a TIFF's."""
    head = source.peek(0, 16)
    if head[:4] in _CLASSIC_TIFF:
        return holds_raw(Tiff(source))
    return any(head[at : at + len(start)] == start for at, start in _RAW_STARTS)


def _cr2_header(source: ByteSource, most: float) -> Header:
    cr2 = read_cr2(source, max_megapixels=most)
    info = _info("raw", cr2.size or (0, 0), cr2.bits, cr2.exif)
    if cr2.size is not None and info.white_balance is None:
        raise CaptureUnreadable(
            f"{source.name}: the header holds no white balance (ColorData is missing, damaged or "
            "zero), so its colours cannot be developed. Copy the file again."
        )
    return Header(
        info,
        orientation=cr2.exif.orientation,
        raw_size=cr2.raw_size,
        preview=cr2.preview,
        remarks=cr2.exif.remarks,
    )


def _other_raw_header(source: ByteSource, *, tiff_based: bool) -> Header:
    exif = Exif()
    if tiff_based or source.peek(0, 4) in _CLASSIC_TIFF:
        tiff = Tiff(source)
        exif = read_exif(tiff.directory(tiff.first))
    return Header(_info("raw", (0, 0), 0, exif), orientation=exif.orientation, remarks=exif.remarks)


def _info(kind: str, size: tuple[int, int], bits: int, exif: Exif) -> CaptureInfo:
    return CaptureInfo(kind=kind, width=size[0], height=size[1], bits=bits, **exif.fields)
