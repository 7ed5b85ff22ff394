"""Photos come in with their luma and go out with another, everything else as it was."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms
from toy_network import scene_rgb

from defocus_ds.config import BuildConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds_train.restore_photo import Photo, encode_png, read_photo

CONFIG = BuildConfig()


def rgb(bits: int = 8) -> npt.NDArray[np.uint8 | np.uint16]:
    white = 2**bits - 1
    return np.asarray(np.round(white * scene_rgb((61, 43))), f"uint{bits}")


def ycbcr(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """JPEG's luma and chroma of 8-bit RGB, unrounded."""
    matrix = [
        [0.299, 0.587, 0.114],
        [-0.168736, -0.331264, 0.5],
        [0.5, -0.418688, -0.081312],
    ]
    converted: npt.NDArray[np.float64] = pixels @ np.array(matrix).T
    return converted


def test_luma_of_8_bits_is_what_networks_are_trained_on() -> None:
    expected = np.asarray(Image.fromarray(rgb()).convert("YCbCr"))[..., 0]
    assert np.array_equal(Photo(rgb()).luma, expected)


def test_luma_of_16_bits_is_not_rounded() -> None:
    luma = Photo(rgb(16)).luma
    assert luma.dtype == np.float32
    assert np.allclose(luma, ycbcr(rgb(16))[..., 0] / 65535, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_luma_of_grey_is_the_grey(dtype: type[np.generic]) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(2, 128).astype(dtype)
    luma = Photo(grey).luma
    assert np.allclose(luma, grey if dtype is np.uint8 else grey / 65535, atol=1e-7)


def test_luma_changes_and_chroma_stays() -> None:
    pixels = np.clip(rgb(), 60, 180)  # so that nothing is clipped
    change = np.random.default_rng(0).uniform(-0.2, 0.2, pixels.shape[:2]).astype(np.float32)
    result = Photo(pixels).with_luma(change)
    difference = ycbcr(result) - ycbcr(pixels)
    assert np.abs(difference[..., 0] - 255 * change).max() <= 0.5 + 1e-4  # rounding
    assert np.abs(difference[..., 1:]).max() <= 0.5


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
def test_no_change_changes_nothing(bits: int, grey: bool) -> None:
    pixels = rgb(bits)[..., 0] if grey else rgb(bits)
    result = Photo(pixels).with_luma(np.zeros(pixels.shape[:2], np.float32))
    assert result.dtype == pixels.dtype
    assert np.array_equal(result, pixels)


def test_a_change_beyond_the_range_is_clipped() -> None:
    change = np.ones((43, 61), np.float32)
    assert (Photo(rgb()).with_luma(change) == 255).all()
    assert (Photo(rgb(16)).with_luma(-change) == 0).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_reads_and_writes_depth_and_channels(
    tmp_path: Path, suffix: str, bits: int, channels: int
) -> None:
    pixels = rgb(bits)
    stored = {
        1: pixels[..., 0],
        3: pixels[..., ::-1],
        4: np.dstack([pixels[..., ::-1], np.full(pixels.shape[:2], 2**bits - 1, pixels.dtype)]),
    }[channels]
    path = tmp_path / f"photo{suffix}"
    assert cv2.imwrite(str(path), stored)
    photo = read_photo(path, config=CONFIG)
    assert photo.bits == bits
    assert np.array_equal(photo.pixels, pixels[..., 0] if channels == 1 else pixels)
    assert photo.notes == (("its alpha channel is ignored",) if channels == 4 else ())
    (tmp_path / "back.png").write_bytes(encode_png(photo, photo.pixels))
    back = read_photo(tmp_path / "back.png", config=CONFIG)
    assert back.bits == bits
    assert np.array_equal(back.pixels, photo.pixels)


def test_orientation_and_profile_reach_the_result(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb()).save(tmp_path / "a.jpg", quality=95, exif=exif, icc_profile=profile)
    photo = read_photo(tmp_path / "a.jpg", config=CONFIG)
    with Image.open(tmp_path / "a.jpg") as stored:
        assert np.array_equal(photo.pixels, np.asarray(stored))  # not turned
    (tmp_path / "a.png").write_bytes(encode_png(photo, photo.pixels))
    with Image.open(tmp_path / "a.png") as back:
        assert back.getexif()[0x0112] == 6
        assert back.info["icc_profile"] == profile
        back.load()
        assert np.array_equal(np.asarray(back), photo.pixels)
    again = read_photo(tmp_path / "a.png", config=CONFIG)
    assert (again.orientation, again.profile) == (6, profile)


def test_a_profile_of_other_channels_is_left_out(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(rgb()[..., 0]).save(tmp_path / "grey.png", icc_profile=profile)
    photo = read_photo(tmp_path / "grey.png", config=CONFIG)
    assert photo.pixels.ndim == 2
    assert photo.profile is None
    assert photo.notes == ("its colour profile does not fit the result and is left out",)


def test_equal_pixels_give_equal_bytes() -> None:
    photo = Photo(rgb(), orientation=3)
    assert encode_png(photo, photo.pixels) == encode_png(photo, photo.pixels.copy())


@pytest.mark.parametrize("bits", [8, 16])
def test_damage_is_named(tmp_path: Path, bits: int) -> None:
    done, encoded = cv2.imencode(".png", rgb(bits))
    assert done
    data = bytearray(encoded.tobytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(CaptureUnreadable, match=r"a\.png: .*damaged"):
        read_photo(tmp_path / "a.png", config=CONFIG)
    (tmp_path / "b.png").write_bytes(encoded.tobytes()[:-200])
    with pytest.raises(CaptureUnreadable, match=r"b\.png: "):
        read_photo(tmp_path / "b.png", config=CONFIG)


def test_a_raw_is_developed_as_a_sharp_capture_is(small_shoot: Path) -> None:
    from defocus_ds.pipeline.pair import load_pair

    raws = sorted(small_shoot.rglob("*.CR2"))
    photo = read_photo(raws[0], config=CONFIG)
    assert np.array_equal(photo.pixels, load_pair(raws[0], raws[1], config=CONFIG).sharp)


def test_png_is_whole() -> None:
    photo = Photo(rgb(16), orientation=8, profile=b"\0" * 16 + b"RGB " + bytes(200))
    with Image.open(io.BytesIO(encode_png(photo, photo.pixels))) as image:
        image.verify()  # the checksum of every chunk
