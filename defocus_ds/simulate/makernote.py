"""The part of Canon's makernote that raw developers and archivists read.

Tag names are exiftool's (Image::ExifTool::TagNames, Canon Tags).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from defocus_ds.simulate.tiff import Directory

if TYPE_CHECKING:
    from defocus_ds.simulate.cr2 import CaptureTags

__all__ = ["maker_note", "picture_area"]

_MODEL_ID = 0x80000285  # EOS 5D Mark III
_COLOR_DATA_WORDS = 1312  # readers know this camera's ColorData by its length
_DAYLIGHT_K = 5200


def maker_note(
    info: CaptureTags, raw_size: tuple[int, int], border: tuple[int, int, int]
) -> Directory:
    """Canon's makernote for one capture.

    Args:
        info: what the camera notes.
        raw_size: (width, height) of the whole sensor in raw pixels.
        border: masked raw pixels at the left, the top and the right.

    Returns:
        A directory to be stored as the value of EXIF tag 0x927C.
    """
    upper, lower = (
        min(65535, round(100 * d))
        for d in (info.focus_distance_upper_m, info.focus_distance_lower_m)
    )
    directory = Directory()
    directory.shorts(0x0001, _camera_settings())
    directory.integers(0x0002, "short", 2, info.focal_length_mm, 0, 0)
    directory.shorts(0x0004, _shot_info(info, upper, lower))
    directory.text(0x0006, "Canon EOS 5D Mark III")
    directory.text(0x0007, "Firmware Version 1.2.3")
    directory.integers(0x0008, "long", 1_000_000 + info.file_number)
    directory.text(0x0009, "")
    directory.integers(0x000C, "long", info.serial)
    directory.integers(0x0010, "long", _MODEL_ID)
    directory.shorts(0x0093, _file_info(upper, lower))
    directory.text(0x0095, info.lens)
    directory.shorts(0x00E0, _sensor_info(raw_size, border))
    directory.shorts(0x4001, _color_data(info))
    return directory


def picture_area(
    raw_size: tuple[int, int], border: tuple[int, int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the picture in raw pixels, as SensorInfo holds them.

    At full size it is what the camera itself writes; otherwise what makes LibRaw develop all
    that is inside the border, which it does if the last two are exclusive.
    """
    if raw_size == (5920, 3950):
        return (140, 96, 5899, 3935)
    left, top, right = border
    return (left, top, raw_size[0] - right, raw_size[1])


def _words(count: int, values: dict[int, int], *, sized: bool = True) -> npt.NDArray[np.uint16]:
    words = np.zeros(count, np.uint16)
    if sized:
        words[0] = 2 * count  # most of Canon's arrays begin with their length in bytes
    for index, value in values.items():
        words[index] = value & 0xFFFF
    return words


def _camera_settings() -> npt.NDArray[np.uint16]:
    return _words(
        49,
        {
            1: 2,  # macro mode off
            3: 4,  # quality: raw
            7: 3,  # manual focus
            9: 6,  # record mode: CR2
            17: 3,  # evaluative metering
            20: 4,  # exposure mode: manual
            22: 237,  # lens type: EF 24-105mm f/4L IS USM
            23: 105,
            24: 24,
            25: 1,  # focal units a mm
        },
    )


def _shot_info(info: CaptureTags, upper: int, lower: int) -> npt.NDArray[np.uint16]:
    aperture = round(64 * np.log2(info.f_number))  # APEX values in 1/32 stops
    exposure = round(-32 * np.log2(info.exposure_s))
    return _words(
        34,
        {
            2: round(32 * np.log2(info.iso / 100 * 32)),
            4: aperture,
            5: exposure,
            7: 1,  # white balance: daylight
            19: upper,
            20: lower,
            21: aperture,
            22: exposure,
            26: 248,  # camera type: EOS
        },
    )


def _file_info(upper: int, lower: int) -> npt.NDArray[np.uint16]:
    return _words(33, {20: upper, 21: lower})


def _sensor_info(raw_size: tuple[int, int], border: tuple[int, int, int]) -> npt.NDArray[np.uint16]:
    width, height = raw_size
    area = picture_area(raw_size, border)
    return _words(17, {1: width, 2: height, 3: 1, 4: 1, **dict(enumerate(area, 5))})


def _color_data(info: CaptureTags) -> npt.NDArray[np.uint16]:
    values = {0: 10}  # version
    for start in (0x3F, 0x44, 0x49):  # as shot, auto, measured
        values |= dict(enumerate((*info.white_balance, _DAYLIGHT_K), start))
    values |= dict.fromkeys(range(0x114, 0x118), info.black)  # average of the masked border
    values |= dict.fromkeys(range(0x1F8, 0x1FC), info.black)
    values |= {0x1FC: info.white, 0x1FD: info.white, 0x1FE: 10000}
    return _words(_COLOR_DATA_WORDS, values, sized=False)
