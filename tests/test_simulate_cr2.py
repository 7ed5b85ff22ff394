"""CR2 files, read back by LibRaw, imagecodecs with tifffile, and exiftool."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import rawpy
import tifffile

from defocus_ds.errors import InputError
from defocus_ds.simulate.cr2 import CaptureTags, cr2_bytes, write_cr2

TAGS = CaptureTags(
    taken=datetime(2024, 5, 1, 10, 2, 3),
    file_number=17,
    exposure_s=1 / 125,
    iso=400,
    f_number=5.6,
    focal_length_mm=85,
    focus_distance_upper_m=2.57,
    focus_distance_lower_m=2.31,
    white_balance=(2100, 1024, 1024, 1500),
)


def sensor_noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A whole sensor: black and noise in the border, anything inside."""
    rng = np.random.default_rng(seed)
    width, height = size
    mosaic = rng.normal(2048, 5, (height + 80, width + 124)).round().astype(np.uint16)
    mosaic[80:, 122:-2] = rng.integers(2048, 15488, (height, width))
    return mosaic


def picture(size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[0 : size[1] // 2, 0 : size[0] // 2]
    return np.stack([x % 256, y % 256, (x + y) // 8 % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "slices"),
    [((744, 496), 2), ((240, 160), 1), ((644, 300), 3), ((320, 722), 2)],
)
def test_libraw_reads_every_sample(tmp_path: Path, size: tuple[int, int], slices: int) -> None:
    mosaic = sensor_noise(size)
    path = tmp_path / "IMG_0017.CR2"
    write_cr2(path, mosaic, info=TAGS, preview=picture(size), slices=slices)
    _read_by_libraw(path, mosaic, size)


@pytest.mark.slow
def test_libraw_reads_a_full_size_file(tmp_path: Path) -> None:
    mosaic = sensor_noise((5796, 3870))
    path = tmp_path / "IMG_0017.CR2"
    write_cr2(path, mosaic, info=TAGS)
    _read_by_libraw(path, mosaic, (5796, 3870))


def _read_by_libraw(path: Path, mosaic: np.ndarray, size: tuple[int, int]) -> None:
    with rawpy.imread(str(path)) as raw:
        assert (raw.sizes.width, raw.sizes.height) == size
        assert np.array_equal(raw.raw_image, mosaic)
        assert np.array_equal(raw.raw_image_visible, mosaic[80:, 122:-2])
        assert raw.raw_pattern.tolist() == [[0, 1], [3, 2]]  # RGGB
        assert raw.camera_whitebalance == [2100, 1024, 1500, 1024]
        assert raw.white_level == 15488
        assert max(abs(level - 2048) for level in raw.black_level_per_channel) <= 1


def test_the_strip_is_a_lossless_jpeg_of_its_slices() -> None:
    mosaic = sensor_noise((744, 496))
    data = cr2_bytes(mosaic, info=TAGS)
    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages[3]
        offset, size = page.dataoffsets[0], page.databytecounts[0]
        count, width, last = page.tags[0xC640].value
    samples = imagecodecs.jpegsof3_decode(data[offset : offset + size])
    assert (count, width, last) == (1, 434, 434)
    assert samples.dtype == np.uint16
    stripes = samples.reshape(2, 576, 434)
    assert np.array_equal(np.hstack(list(stripes)), mosaic)
    assert data[offset + size - 2 : offset + size] == b"\xff\xd9"


def test_the_header_is_canons() -> None:
    data = cr2_bytes(sensor_noise((240, 160)), info=TAGS)
    assert data[:4] == b"II*\0"
    assert data[8:12] == b"CR\2\0"
    raw_directory = int.from_bytes(data[12:16], "little")
    with tifffile.TiffFile(BytesIO(data)) as file:
        assert file.pages[3].offset == raw_directory
        assert file.pages[0].tags["Model"].value == "Canon EOS 5D Mark III"


def test_preview_and_thumbnail_show_the_picture() -> None:
    shown = picture((744, 496))
    data = cr2_bytes(sensor_noise((744, 496)), info=TAGS, preview=shown)
    with tifffile.TiffFile(BytesIO(data)) as file:
        tags = file.pages[1].tags
        preview = _jpeg(data, file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0])
        thumbnail = _jpeg(data, tags[0x0201].value[0], tags[0x0202].value[0])
        small = file.pages[2].asarray() >> 6
    assert preview.shape == shown.shape
    smooth = (shown[..., 0] > 8) & (shown[..., 0] < 247)  # JPEG rings where the ramp falls back
    assert np.abs(preview.astype(int) - shown)[smooth].mean() < 5
    assert thumbnail.shape == (120, 160, 3)
    expected = cv2.resize(shown, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.array_equal(small, expected)


def _jpeg(data: bytes, offset: int, size: int) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(data[offset : offset + size], np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(found)[..., ::-1]


def test_exiftool_reads_what_the_camera_noted(tmp_path: Path) -> None:
    exiftool = shutil.which("exiftool")
    if exiftool is None:
        pytest.skip("exiftool is not installed; Debian package libimage-exiftool-perl")
    path = tmp_path / "IMG_0017.CR2"
    write_cr2(path, sensor_noise((744, 496)), info=TAGS)
    done = subprocess.run(
        [exiftool, "-j", "-n", "-G1", "-all", "-validate", str(path)],
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)[0]
    expected = {
        "File:FileType": "CR2",
        "IFD0:Make": "Canon",
        "IFD0:Model": "Canon EOS 5D Mark III",
        "ExifIFD:ExposureTime": 0.008,
        "ExifIFD:FNumber": 5.6,
        "ExifIFD:ISO": 400,
        "ExifIFD:DateTimeOriginal": "2024:05:01 10:02:03",
        "ExifIFD:FocalLength": 85,
        "ExifIFD:LensModel": "EF24-105mm f/4L IS USM",
        "Canon:FocusDistanceUpper": 2.57,
        "Canon:FocusDistanceLower": 2.31,
        "Canon:FileNumber": 1000017,
        "Canon:WB_RGGBLevelsAsShot": "2100 1024 1024 1500",
        "Canon:PerChannelBlackLevel": "2048 2048 2048 2048",
        "Canon:NormalWhiteLevel": 15488,
        "Canon:SensorWidth": 868,
        "IFD3:RawImageSegmentation": "1 434 434",
        "ExifTool:Validate": "0 0 0",  # errors, warnings, minor warnings
    }
    assert {key: found.get(key) for key in expected} == expected
    assert int(found["ExifIFD:SerialNumber"]) == int(found["Canon:SerialNumber"]) == TAGS.serial


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    mosaic = sensor_noise((240, 160))
    data = write_cr2(tmp_path / "a.CR2", mosaic, info=TAGS)
    assert (tmp_path / "a.CR2").read_bytes() == data == cr2_bytes(mosaic, info=TAGS)
    later = replace(TAGS, taken=datetime(2024, 5, 1, 10, 2, 4))
    assert cr2_bytes(mosaic, info=later) != data


@pytest.mark.parametrize(
    ("mosaic", "slices", "message"),
    [
        (np.zeros((240, 364), np.float32), 2, "float32"),
        (np.zeros((240, 366), np.uint16), 2, "multiple of 4"),
        (np.zeros((241, 364), np.uint16), 2, "even height"),
        (np.zeros((80, 100), np.uint16), 2, "border"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    mosaic: np.ndarray, slices: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cr2_bytes(mosaic, info=TAGS, slices=slices)
