"""Declared colour spaces become sRGB: what a file says of its colours, against closed forms."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageCms
from test_decode_image import png

from defocus_ds.config import BuildConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.optics import to_encoded
from defocus_ds.stages.decode_image import decode_image, decode_stored
from defocus_ds.stages.ingest.header import read_header

SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3 = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PROPHOTO = (0.734699, 0.265301, 0.159597, 0.840403, 0.036598, 0.000105)
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)


def to_xyz(primaries: tuple[float, ...], white: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Linear RGB -> XYZ of a space, by its chromaticities (Lindbloom)."""
    xy = np.array(primaries).reshape(3, 2)
    columns = np.stack([xy[:, 0] / xy[:, 1], np.ones(3), (1 - xy.sum(1)) / xy[:, 1]])
    wx, wy = white
    scale = np.linalg.solve(columns, [wx / wy, 1, (1 - wx - wy) / wy])
    return np.asarray(columns * scale)


def encoded_in(
    light: npt.NDArray[Any], primaries: tuple[float, ...], gamma: float
) -> npt.NDArray[np.uint16]:
    """16-bit values, of a space of white D65, of linear light given in sRGB's primaries."""
    matrix = np.linalg.solve(to_xyz(primaries, D65), to_xyz(SRGB, D65))
    values = np.clip(light @ matrix.T, 0, 1) ** (1 / gamma)
    return np.asarray(np.round(65535 * values), np.uint16)


@pytest.fixture(scope="module")
def light() -> npt.NDArray[np.float64]:
    """Linear light in sRGB's primaries, dark and bright, grey and coloured."""
    rng = np.random.default_rng(5)
    colours = rng.uniform(0, 1, (32, 40, 3)) * np.geomspace(0.002, 1, 40)[:, None]
    colours[0] = np.linspace(0, 1, 40)[:, None]
    return np.asarray(colours)


@pytest.fixture(scope="module")
def expected(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 255 * np.asarray(to_encoded(light.astype(np.float32)), np.float64)


def profile(primaries: tuple[float, ...], gamma: float) -> bytes:
    spread = [v for at in (0, 2, 4) for v in (*primaries[at : at + 2], 1.0)]
    return bytes(
        imagecodecs.cms_profile("rgb", whitepoint=(*D65, 1.0), primaries=spread, gamma=gamma)
    )


def tiff(pixels: npt.NDArray[Any], *tags: tuple[Any, ...]) -> bytes:
    out = io.BytesIO()
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(out, pixels, photometric=photometric, extratags=list(tags))
    return out.getvalue()


def icc(data: bytes) -> tuple[Any, ...]:
    return (0x8773, "B", len(data), data, True)


def chunk_gama(exponent: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 / exponent))


def chunk_chrm(primaries: tuple[float, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100_000 * v) for v in (*D65, *primaries)))


@pytest.mark.parametrize(
    ("primaries", "gamma"),
    [(SRGB, 1.0), (SRGB, 1.8), (P3, 2.2), (P3, 1.0), (ADOBE, 2.2), (PROPHOTO, 1.8)],
)
@pytest.mark.parametrize("how", ["icc in tiff", "icc in png", "gAMA and cHRM"])
def test_16_bits_of_a_declared_space_become_those_of_srgb(
    light: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    how: str,
    primaries: tuple[float, ...],
    gamma: float,
) -> None:
    pixels = encoded_in(light, primaries, gamma)
    if how == "icc in tiff":
        data = tiff(pixels, icc(profile(primaries, gamma)))
    elif how == "icc in png":
        packed = b"x\0\0" + zlib.compress(profile(primaries, gamma))
        data = png(pixels, (b"iCCP", packed))
    else:
        data = png(pixels, chunk_gama(gamma), chunk_chrm(primaries))
    found = decode_image(Path("a"), data)
    assert np.abs(found - expected).max() < 1.0  # half a level is rounding
    stored = np.abs(np.round(pixels / 257.0) - expected).max()
    assert stored > 4  # so that taking them as sRGB would fail
    colour = decode_stored(Path("a"), data).colour
    assert colour is not None
    assert colour.name


def test_8_bits_are_converted_without_banding(light: npt.NDArray[np.float64]) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    out = io.BytesIO()
    Image.fromarray(ramp).save(out, "png", icc_profile=profile(SRGB, 1.8))
    found = decode_image(Path("a.png"), out.getvalue())[0, :, 0]
    exact = 255 * np.asarray(to_encoded((np.arange(256, dtype=np.float32) / 255) ** 1.8))
    assert np.abs(found - exact).max() < 0.52


def test_a_grey_picture_has_a_grey_profile(expected: npt.NDArray[np.float64]) -> None:
    values = np.round(65535 * np.linspace(0, 1, 40)[None]).astype(np.uint16)
    linear = bytes(imagecodecs.cms_profile("gray", whitepoint=(*D50, 1.0), gamma=1.0))
    for declared in (linear, profile(SRGB, 1.0)):
        found = decode_image(Path("a.tif"), tiff(values, icc(declared)))
        assert found.shape == (1, 40, 3)
        assert np.abs(found[0] - expected[0]).max() < 1.0


SILENT: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "nothing": (),
    "gAMA 1/2.2": (chunk_gama(2.2),),
    "sRGB over gAMA": ((b"sRGB", b"\0"), chunk_gama(1.0)),
    "gAMA and cHRM of sRGB": (chunk_gama(2.2), chunk_chrm(SRGB)),
    "cICP of sRGB": ((b"cICP", bytes([1, 13, 0, 1])), chunk_gama(1.0)),
}


@pytest.mark.parametrize("kind", SILENT)
def test_srgb_is_left_as_it_is_and_silent(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(png(pixels, *SILENT[kind]))
    header = read_header(tmp_path / "a.png")
    assert header.remarks == ()
    assert header.info.colour_space is None
    assert np.array_equal(decode_image(Path("a"), (tmp_path / "a.png").read_bytes()), pixels)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_an_srgb_profile_is_silent_in_every_format(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(path, icc_profile=srgb)
    assert read_header(path).remarks == ()
    with Image.open(path) as image:
        assert np.array_equal(decode_image(path, path.read_bytes()), np.asarray(image))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_what_was_converted_is_said_once_and_recorded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (30, 20), (200, 40, 40)).save(path, icc_profile=profile(P3, 2.2))
    header = read_header(path)
    assert header.info.colour_space == "RGB built-in (ICC profile)"
    assert header.remarks == ("its colours are converted to sRGB from RGB built-in (ICC profile)",)
    red = decode_image(path, path.read_bytes())[10, 15].astype(int)
    assert red[0] > 205
    assert red[1] < 40


def exif_of(**tags: Any) -> Image.Exif:
    exif = Image.Exif()
    sub = exif.get_ifd(0x8769)
    if "space" in tags:
        sub[0xA001] = tags["space"]
    if "gamma" in tags:
        sub[0xA500] = tags["gamma"]
    if "interop" in tags:
        sub[0xA005] = {1: tags["interop"]}
    if "primaries" in tags:
        exif[0x013F] = tags["primaries"]
    return exif


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"space": 1}, None),
        ({"space": 65535, "interop": "R03"}, "Adobe RGB (1998) of gamma 2.2 (EXIF)"),
        ({"space": 2}, "Adobe RGB (1998) of gamma 2.2 (EXIF)"),
        ({"space": 65535, "gamma": 2.2, "primaries": P3}, "Display P3 of gamma 2.2 (EXIF)"),
        ({"space": 65535, "gamma": 1.0}, "sRGB linear (EXIF)"),
    ],
)
def test_exif_declares_a_space_where_there_is_no_profile(
    tmp_path: Path, tags: dict[str, Any], name: str | None
) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (32, 32), (90, 140, 60)).save(path, exif=exif_of(**tags), quality=100)
    header = read_header(path)
    assert header.info.colour_space == name
    assert len(header.remarks) == (name is not None)
    found = decode_image(path, path.read_bytes())[16, 16]
    assert (abs(int(found[0]) - 90) <= 2) == (name is None)


def test_a_space_that_is_not_named_is_a_remark(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (32, 32)).save(path, exif=exif_of(space=65535))
    (remark,) = read_header(path).remarks
    assert "EXIF says that its colours are not sRGB, but not which" in remark
    assert "taken as sRGB" in remark


@pytest.mark.parametrize("kind", ["junk", "cut", "of CMYK", "of Lab", "grey for colours"])
def test_a_profile_that_cannot_be_used_is_a_remark(tmp_path: Path, kind: str) -> None:
    whole = profile(P3, 2.2)
    unusable = {
        "junk": b"junk" * 100,
        "cut": whole[:200],
        "of CMYK": whole[:16] + b"CMYK" + whole[20:],
        "of Lab": bytes(imagecodecs.cms_profile("lab4")),
        "grey for colours": bytes(imagecodecs.cms_profile("gray", gamma=1.0)),
    }[kind]
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(pixels, icc(unusable)))
    (remark,) = read_header(tmp_path / "a.tif").remarks
    assert remark.startswith("its colour profile cannot be used (")
    assert np.array_equal(decode_image(Path("a"), (tmp_path / "a.tif").read_bytes()), pixels)


def test_hdr_is_refused() -> None:
    pixels = np.zeros((4, 4, 3), np.uint16)
    with pytest.raises(CaptureUnreadable, match="HDR"):
        decode_image(Path("a.png"), png(pixels, (b"cICP", bytes([9, 16, 0, 1]))))


def test_a_restored_photo_keeps_a_space_that_looks_like_srgb(tmp_path: Path) -> None:
    from defocus_ds_train.restore_photo import encode_png, read_photo

    pixels = np.random.default_rng(4).integers(0, 256, (20, 30, 3), np.uint8)
    wide = profile(ADOBE, 2.2)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=wide)
    photo = read_photo(tmp_path / "a.png", config=BuildConfig())
    assert np.array_equal(photo.pixels, pixels)
    assert photo.profile == wide
    assert photo.notes == ()
    (tmp_path / "back.png").write_bytes(encode_png(photo, photo.pixels))
    with Image.open(tmp_path / "back.png") as back:
        assert back.info["icc_profile"] == wide


def test_a_linear_photo_is_restored_in_srgb(
    tmp_path: Path, light: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]
) -> None:
    """The network was trained on sRGB and sees linear values too dark."""
    from defocus_ds_train.restore_photo import read_photo

    (tmp_path / "a.tif").write_bytes(tiff(encoded_in(light, SRGB, 1.0), icc(profile(SRGB, 1.0))))
    photo = read_photo(tmp_path / "a.tif", config=BuildConfig())
    assert photo.bits == 16
    assert np.abs(photo.pixels / 257 - expected).max() < 0.05
    assert photo.profile is None
    assert "converted to sRGB" in photo.notes[0]


def test_real_adobe_rgb_of_a_camera(real_data: Path) -> None:
    """Canon declares Adobe RGB by EXIF alone."""
    path = real_data / "canon/_K6A7941.JPG"
    assert read_header(path).info.colour_space == "Adobe RGB (1998) of gamma 2.2 (EXIF)"
    data = path.read_bytes()
    stored = decode_stored(path, data).pixels[::16, ::16].reshape(-1, 3) / 255.0
    found = decode_image(path, data)[::16, ::16].reshape(-1, 3)
    matrix = np.linalg.solve(to_xyz(SRGB, D65), to_xyz(ADOBE, D65))
    exact = 255 * np.asarray(to_encoded(np.clip(stored**2.2 @ matrix.T, 0, 1).astype(np.float32)))
    assert np.abs(found - exact).max() < 1.5  # its white is given to three digits
    assert np.abs(255 * stored - exact).max() > 20
