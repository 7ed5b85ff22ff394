"""What a capture file says of itself, by kind of file, before any pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from defocus_ds.config import LimitsConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import CaptureInfo
from defocus_ds.stages.ingest.cr2 import read_cr2
from defocus_ds.stages.ingest.exif import Exif, read_exif
from defocus_ds.stages.ingest.images import read_image
from defocus_ds.stages.ingest.source import ByteSource, open_source
from defocus_ds.stages.ingest.tiff import Tiff

__all__ = ["IMAGE_SUFFIXES", "RAW_SUFFIXES", "UNREAD_SUFFIXES", "Header", "read_header"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
_TIFF_RAWS = frozenset({".dng", ".nef", ".nrw", ".arw", ".sr2", ".pef", ".srw", ".erf", ".3fr"})
_OTHER_RAWS = frozenset(
    {".cr3", ".crw", ".orf", ".rw2", ".raf", ".iiq", ".mrw", ".x3f", ".mef", ".mos", ".raw", ".rwl"}
)
RAW_SUFFIXES = frozenset({".cr2"}) | _TIFF_RAWS | _OTHER_RAWS
# pictures that a person might expect to be read: worth a word, unlike a text file
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".webp", ".bmp", ".gif", ".jp2", ".jxl", ".psd", ".exr", ".hdr"}
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
        path: a file whose suffix is one of `RAW_SUFFIXES` or `IMAGE_SUFFIXES`.
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
        if suffix == ".cr2":
            return _cr2_header(source, most)
        if suffix in RAW_SUFFIXES:
            return _other_raw_header(source, tiff_based=suffix in _TIFF_RAWS)
        image = read_image(source, max_megapixels=most)
    size = image.width, image.height
    return Header(
        _info("image", size, image.bits, image.exif),
        orientation=image.exif.orientation,
        remarks=image.remarks,
    )


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
    if tiff_based:
        tiff = Tiff(source)
        exif = read_exif(tiff.directory(tiff.first))
    return Header(_info("raw", (0, 0), 0, exif), orientation=exif.orientation, remarks=exif.remarks)


def _info(kind: str, size: tuple[int, int], bits: int, exif: Exif) -> CaptureInfo:
    return CaptureInfo(kind=kind, width=size[0], height=size[1], bits=bits, **exif.fields)
