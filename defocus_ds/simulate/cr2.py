"""A Canon CR2 file, written so that LibRaw, exiftool and the camera's own tags agree with it.

Layout (lclevy.free.fr/cr2 describes what the cameras write): a TIFF header with a ``CR``
marker, then four directories: the preview with EXIF and the makernote, a thumbnail, a small
uncompressed picture, and the raw samples as a sliced lossless JPEG.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.simulate import ljpeg
from defocus_ds.simulate.makernote import maker_note, picture_area
from defocus_ds.simulate.tiff import Directory, layout
from defocus_ds.store import write_bytes

__all__ = ["BORDER_LEFT", "BORDER_RIGHT", "BORDER_TOP", "CaptureTags", "cr2_bytes", "write_cr2"]

# masked border of the 5D Mark III's sensor, raw pixels; the rest is developed
BORDER_LEFT, BORDER_TOP, BORDER_RIGHT = 122, 80, 2

_BITS = 14
_THUMBNAIL = (160, 120)


@dataclass(frozen=True, slots=True)
class CaptureTags:
    """What the camera notes about a capture.

    ``white_balance`` is (R, G, G, B) as the camera stores it, green at 1024; ``black`` and
    ``white`` are raw levels; focus distances are in metres, at most 655.35; ``file_number`` is
    the four digits of the file's name; ``taken`` has no zone.
    """

    taken: datetime
    file_number: int = 1
    exposure_s: float = 1 / 60
    iso: int = 200
    f_number: float = 4.0
    focal_length_mm: int = 105
    lens: str = "EF24-105mm f/4L IS USM"
    serial: int = 42024001
    focus_distance_upper_m: float = 2.0
    focus_distance_lower_m: float = 1.9
    white_balance: tuple[int, int, int, int] = (1956, 1024, 1024, 1626)
    black: int = 2048
    white: int = 15488


def write_cr2(
    path: Path,
    mosaic: npt.NDArray[np.uint16],
    *,
    info: CaptureTags,
    preview: UInt8Image | None = None,
    slices: int = 2,
) -> bytes:
    """`cr2_bytes`, written atomically to ``path``; returns the bytes."""
    data = cr2_bytes(mosaic, info=info, preview=preview, slices=slices)
    write_bytes(path, data)
    return data


def cr2_bytes(
    mosaic: npt.NDArray[np.uint16],
    *,
    info: CaptureTags,
    preview: UInt8Image | None = None,
    slices: int = 2,
) -> bytes:
    """A Canon EOS 5D Mark III raw file.

    Args:
        mosaic: ``(raw_height, raw_width)`` uint16 below 2**14, RGGB from the top-left, the whole
            sensor with its masked border (`BORDER_LEFT`, `BORDER_TOP`, `BORDER_RIGHT`), which
            must hold the black level and noise: LibRaw measures black there.
        info: what the camera notes; nothing else enters the file, no clock.
        preview: ``(h, w, 3)`` uint8 sRGB picture for viewers; None puts in a grey one.
        slices: vertical stripes the samples are stored in, as the camera does.

    Returns:
        The bytes of the file; equal arguments give equal bytes.

    Raises:
        InputError: wrong shape or dtype, or a value the format cannot hold.
    """
    if mosaic.ndim != 2 or mosaic.dtype != np.uint16 or min(mosaic.shape) <= BORDER_LEFT + 2:
        raise InputError(
            f"CR2: got {mosaic.dtype} {mosaic.shape}; need (height, width) uint16 with its border."
        )
    height, width = mosaic.shape
    if slices < 1 or width % (2 * slices) or height % 2:
        raise InputError(
            f"CR2: {width}x{height} raw pixels in {slices} slices; need an even height and a "
            f"width that is a multiple of {2 * slices}."
        )
    stripe = width // slices
    stripes = [mosaic[:, x : x + stripe].reshape(-1) for x in range(0, width, stripe)]
    stream = ljpeg.encode(np.concatenate(stripes).reshape(height, width), bits=_BITS)
    if preview is None:
        preview = np.full((height // 8, width // 8, 3), 128, np.uint8)
    raw = Directory()
    raw.integers(0x0103, "short", 6)
    raw.strip(0x0111, stream)
    raw.integers(0x0117, "long", len(stream))
    raw.integers(0xC5D8, "long", 1)
    raw.integers(0xC5E0, "long", 1)  # RGGB
    raw.integers(0xC640, "short", slices - 1, stripe, stripe)
    raw.integers(0xC6C5, "long", 1)
    directories = (
        _picture(preview, info, _exif(info, (width, height))),
        _thumbnail(preview),
        _small_picture(preview),
        raw,
    )
    header = struct.pack("<2sHI2sBBI", b"II", 42, 16, b"CR", 2, 0, 0)
    data, chain = layout(header, directories)
    return data[:12] + struct.pack("<I", chain[-1]) + data[16:]


def _picture(preview: UInt8Image, info: CaptureTags, exif: Directory) -> Directory:
    jpeg = _jpeg(preview, quality=90)
    stamp = info.taken.strftime("%Y:%m:%d %H:%M:%S")
    directory = Directory()
    directory.integers(0x0100, "short", preview.shape[1])
    directory.integers(0x0101, "short", preview.shape[0])
    directory.integers(0x0102, "short", 8, 8, 8)
    directory.integers(0x0103, "short", 6)
    directory.text(0x010F, "Canon")
    directory.text(0x0110, "Canon EOS 5D Mark III")
    directory.strip(0x0111, jpeg)
    directory.integers(0x0112, "short", 1)
    directory.integers(0x0117, "long", len(jpeg))
    directory.rationals(0x011A, Fraction(72))
    directory.rationals(0x011B, Fraction(72))
    directory.integers(0x0128, "short", 2)
    directory.text(0x0132, stamp)
    directory.text(0x013B, "")
    directory.child(0x8769, exif)
    return directory


def _exif(info: CaptureTags, raw_size: tuple[int, int]) -> Directory:
    stamp = info.taken.strftime("%Y:%m:%d %H:%M:%S")
    exposure = Fraction(info.exposure_s).limit_denominator(8000)
    border = (BORDER_LEFT, BORDER_TOP, BORDER_RIGHT)
    left, top, right, bottom = picture_area(raw_size, border)
    picture = (right - left + right % 2, bottom - top + bottom % 2)  # odd where inclusive
    directory = Directory()
    directory.rationals(0x829A, exposure)
    directory.rationals(0x829D, Fraction(info.f_number).limit_denominator(10))
    directory.integers(0x8822, "short", 1)  # manual exposure
    directory.integers(0x8827, "short", info.iso)
    directory.integers(0x8830, "short", 2)  # recommended exposure index
    directory.integers(0x8832, "long", info.iso)
    directory.undefined(0x9000, b"0230")
    directory.text(0x9003, stamp)
    directory.text(0x9004, stamp)
    directory.integers(0x9207, "short", 5)  # pattern metering
    directory.integers(0x9209, "short", 16)  # flash off
    directory.rationals(0x920A, Fraction(info.focal_length_mm))
    for tag in (0x9290, 0x9291, 0x9292):
        directory.text(tag, "00")  # this camera does not count parts of a second
    directory.integers(0xA001, "short", 1)  # sRGB
    directory.integers(0xA002, "short", picture[0])
    directory.integers(0xA003, "short", picture[1])
    directory.integers(0xA402, "short", 1)
    directory.integers(0xA403, "short", 1)
    directory.text(0xA431, f"{info.serial:012d}")
    directory.rationals(0xA432, Fraction(24), Fraction(105), Fraction(0), Fraction(0))
    directory.text(0xA434, info.lens)
    directory.text(0xA435, "0000000000")
    directory.maker_note(maker_note(info, raw_size, border))
    return directory


def _thumbnail(preview: UInt8Image) -> Directory:
    jpeg = _jpeg(_resized(preview, _THUMBNAIL), quality=80)
    directory = Directory()
    directory.strip(0x0201, jpeg)
    directory.integers(0x0202, "long", len(jpeg))
    return directory


def _small_picture(preview: UInt8Image) -> Directory:
    width = max(16, preview.shape[1] // 8)
    height = max(16, preview.shape[0] // 8)
    samples = _resized(preview, (width, height)).astype("<u2") << 6
    directory = Directory()
    directory.integers(0x0100, "short", width)
    directory.integers(0x0101, "short", height)
    directory.integers(0x0102, "short", 16, 16, 16)
    directory.integers(0x0103, "short", 1)
    directory.integers(0x0106, "short", 2)
    directory.strip(0x0111, samples.tobytes())
    directory.integers(0x0115, "short", 3)
    directory.integers(0x0116, "short", height)
    directory.integers(0x0117, "long", samples.nbytes)
    directory.integers(0x011C, "short", 1)
    directory.integers(0xC5D9, "long", 2)
    directory.integers(0xC6C5, "long", 3)
    return directory


def _resized(image: UInt8Image, size: tuple[int, int]) -> npt.NDArray[Any]:
    import cv2

    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _jpeg(image: npt.NDArray[Any], *, quality: int) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "encoding an 8-bit array as JPEG cannot fail"
    return data.tobytes()
