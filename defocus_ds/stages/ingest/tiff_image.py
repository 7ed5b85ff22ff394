"""The picture in a TIFF file: which page it is, and whether its pixels can be read rightly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.ingest.tiff import Ifd, Tiff

__all__ = ["TiffPicture", "check_strips", "holds_raw", "tiff_picture"]

_MAX_PAGES = 1000
_PHOTOMETRIC = {
    3: "palette colours",
    4: "a transparency mask",
    5: "CMYK",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32844: "LogL",
    32845: "LogLuv",
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_RAW_PHOTOMETRIC = (32803, 34892)  # colour filter array, linear raw
_JPEG = (6, 7)
_SAMPLE_KINDS = {2: "signed integers", 3: "floating point", 5: "complex", 6: "complex"}
_ICC_PROFILE = 0x8773


@dataclass(frozen=True, slots=True)
class TiffPicture:
    """The picture of a TIFF file.

    Attributes:
        page: its directory.
        width, height: in pixels as stored.
        bits: a sample, 8 or 16.
        grey: whether it has one channel of colour.
        has_alpha: whether there is a sample more than its colours need.
        pages: how many pages the file has, thumbnails and masks not counted.
    """

    page: Ifd
    width: int
    height: int
    bits: int
    grey: bool
    has_alpha: bool
    pages: int

    @property
    def icc_profile(self) -> bytes:
        """Of any size that a file may hold, unlike other values; empty where there is none."""
        entry = self.page.entries.get(_ICC_PROFILE)
        if entry is None:
            return b""
        return self.page.tiff.source.read(entry.offset, entry.count, "the ICC profile")


def holds_raw(tiff: Tiff) -> bool:
    """Whether a TIFF structure is a raw: a CR2, a DNG, or samples of a colour filter array."""
    if tiff.source.peek(8, 2) == b"CR" or 0xC612 in tiff.directory(tiff.first):  # DNGVersion
        return True
    return any(page.integer(0x0106) in _RAW_PHOTOMETRIC for page in _directories(tiff))


def tiff_picture(tiff: Tiff) -> TiffPicture:
    """The largest page that is neither a thumbnail nor a mask; the first of equal ones.

    Raises:
        CaptureUnreadable: there is none, it is damaged, or its samples are of a kind that is not
            read; the text names the property.
    """
    name = tiff.source.name
    pages = [page for page in _directories(tiff) if page.integer(0x0100) and page.integer(0x0101)]
    if not pages:
        raise CaptureUnreadable(f"{name}: a TIFF that names no size. Copy it again.")
    full = [page for page in pages if not _is_reduced(page)]
    if not full:
        raise CaptureUnreadable(
            f"{name}: a TIFF that holds only thumbnails (NewSubfileType 1). Give the picture "
            "itself, or the raw."
        )
    page = max(full, key=_area)
    _check_samples(name, page)
    grey = page.integer(0x0106) in (None, _WHITE_IS_ZERO, _BLACK_IS_ZERO) and _samples(page) < 3
    return TiffPicture(
        page,
        page.integer(0x0100) or 0,
        page.integer(0x0101) or 0,
        (page.integers(0x0102) or (1,))[0],
        grey,
        _samples(page) > _colours(page),
        len(full),
    )


def _directories(tiff: Tiff) -> Iterator[Ifd]:
    """Every directory of the chain, each before its sub-directories."""
    seen: set[int] = set()
    waiting = [tiff.first]
    while waiting and len(seen) < _MAX_PAGES:
        offset = waiting.pop(0)
        if offset in seen or not offset:
            continue
        seen.add(offset)
        page = tiff.directory(offset)
        yield page
        waiting = [*page.integers(0x014A), page.following, *waiting]


def _is_reduced(page: Ifd) -> bool:
    kind = page.integer(0x00FE) or 0
    return bool(kind & 0b101) or page.integer(0x00FF) == 2 or page.integer(0x0106) == 4


def _area(page: Ifd) -> int:
    return (page.integer(0x0100) or 0) * (page.integer(0x0101) or 0)


def _samples(page: Ifd) -> int:
    return page.integer(0x0115) or 1


def _colours(page: Ifd) -> int:
    photometric = page.integer(0x0106)
    if photometric is None:
        return 3 if _samples(page) >= 3 else 1
    return 3 if photometric in (_RGB, _YCBCR) else 1


def _check_samples(name: str, page: Ifd) -> None:
    """Refuse, by the name of the property, what cannot be read rightly."""
    photometric = page.integer(0x0106)
    bits = set(page.integers(0x0102)) or {1}
    kinds = set(page.integers(0x0153)) - {1, 4} or {1}

    def refuse(what: str) -> CaptureUnreadable:
        return CaptureUnreadable(
            f"{name}: a TIFF of {what} (need RGB or grey of 8 or 16 bits, unsigned). Convert it."
        )

    if photometric not in (None, _WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        raise refuse(_PHOTOMETRIC.get(photometric, f"photometric interpretation {photometric}"))
    if kinds != {1}:
        raise refuse(f"{_SAMPLE_KINDS.get(min(kinds), 'unknown')} samples")
    if len(bits) > 1:
        raise refuse(f"samples of {sorted(bits)} bits")
    if bits not in ({8}, {16}):
        depth = bits.pop()
        raise refuse("1 bit a sample (bilevel)" if depth == 1 else f"{depth} bits a sample")
    if photometric == _YCBCR and page.integer(0x0103) not in _JPEG:
        raise refuse("YCbCr values without JPEG compression")
    colours, samples = _colours(page), _samples(page)
    if samples not in (colours, colours + 1) or (photometric == _PALETTE and samples > 1):
        raise refuse(f"{samples} samples a pixel")
    if photometric == _PALETTE and (bits != {8} or len(page.integers(0x0140)) != 3 * 256):
        raise refuse("palette colours without a palette of 256")
    if (page.integer(0x80E5) or 1) > 1 or (page.integer(0x80E6) or 1) > 1:  # ImageDepth, TileDepth
        raise refuse("a volume")


def check_strips(page: Ifd) -> None:
    """Every strip or tile of a page must be there and in the file.

    Raises:
        CaptureUnreadable: one is not, or they do not make a picture of its size.
    """
    source = page.tiff.source
    width, height = page.integer(0x0100) or 0, page.integer(0x0101) or 0
    tiled = 0x0144 in page
    offsets = page.integers(0x0144 if tiled else 0x0111)
    counts = page.integers(0x0145 if tiled else 0x0117)
    if not offsets:
        raise CaptureUnreadable(f"{source.name}: a TIFF without pixels. Copy it again.")
    if tiled:
        across, down = page.integer(0x0142) or 0, page.integer(0x0143) or 0
    else:
        across, down = width, min(page.integer(0x0116) or height, height)
    if not (across and down) or across * down > 4 * width * height + 2**20:
        raise CaptureUnreadable(
            f"{source.name}: tiles of {across}x{down} in a TIFF of {width}x{height}. "
            "The file is damaged; copy it again."
        )
    needed = -(-width // across) * -(-height // down)
    if page.integer(0x011C) == 2:  # PlanarConfiguration: each sample by itself
        needed *= _samples(page)
    if not len(offsets) == len(counts) == needed:
        raise CaptureUnreadable(
            f"{source.name}: {len(offsets)} strips and {len(counts)} lengths in the TIFF, need "
            f"{needed}. The file is damaged; copy it again."
        )
    for offset, count in zip(offsets, counts, strict=True):
        if not count:
            raise CaptureUnreadable(
                f"{source.name}: a strip of 0 bytes in the TIFF. The file is damaged or "
                "incomplete; copy it again."
            )
        source.check(offset, count, "a strip of pixels")
