"""Pixels of JPEG, PNG and TIFF files: right to the sample, or refused by the property's name."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.decode_image import decode_image, decode_stored
from defocus_ds.stages.ingest.header import read_header
from defocus_ds.stages.pictures import picture_header, read_picture

Pixels = npt.NDArray[Any]

LOSSLESS = (None, "lzw", "zlib", "packbits", "zstd", "lzma", "jpeg2000", "webp", "jpegxl", "png")
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "planes": {"planarconfig": "separate"},
    "predictor": {"predictor": True},
    "big-endian": {"byteorder": ">"},
}


@pytest.fixture(scope="module")
def rgb16() -> Pixels:
    """Smooth in x and y, and no two channels, rows or columns alike."""
    y, x = np.mgrid[:45, :67] / 66
    planes = np.stack([x, y, (x + y) / 2], axis=-1)
    return np.asarray(np.round(65535 * planes), np.uint16)


def of_bits(rgb16: Pixels, bits: int) -> Pixels:
    return rgb16 if bits == 16 else np.asarray(rgb16 >> 8, np.uint8)


def tiff(pixels: Pixels, **options: Any) -> bytes:
    if options.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, 2, 0).copy()
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **({"photometric": "rgb"} | options))
    return out.getvalue()


def tag(code: int, kind: str, value: Any) -> dict[str, Any]:
    return {"extratags": [(code, kind, 1, value, True)]}


def stored(data: bytes, name: str = "a.tif") -> Pixels:
    return decode_stored(Path(name), data).pixels


def refused(data: bytes) -> str:
    with pytest.raises(CaptureUnreadable) as caught:
        decode_stored(Path("a.tif"), data)
    text = str(caught.value)
    assert text.startswith("a.tif: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_lossless_codec_of_a_tiff_gives_its_samples(
    rgb16: Pixels, bits: int, layout: str
) -> None:
    pixels = of_bits(rgb16, bits)
    tried = 0
    for compression in LOSSLESS:
        if (layout, compression, bits) == ("big-endian", "jpeg2000", 16):
            continue  # refused, see below
        try:
            data = tiff(pixels, compression=compression, **LAYOUTS[layout])
        except (ValueError, NotImplementedError, KeyError):
            continue  # no such file: WebP of 16 bits, predictors of codecs that predict themselves
        assert np.array_equal(stored(data), pixels), compression
        tried += 1
    assert tried >= (3 if layout == "predictor" else 6)


def test_a_tiff_whose_samples_would_be_swapped_is_refused(rgb16: Pixels) -> None:
    data = tiff(rgb16, compression="jpeg2000", byteorder=">")
    assert "16 bits with compression JPEG2000 in a big-endian TIFF" in refused(data)


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_of_either_polarity_is_the_same_picture(rgb16: Pixels, bits: int) -> None:
    grey = of_bits(rgb16, bits)[..., 2]
    positive = tiff(grey, photometric="minisblack")
    negative = tiff(np.iinfo(grey.dtype).max - grey, photometric="miniswhite")
    assert np.array_equal(stored(positive), grey)
    assert np.array_equal(stored(negative), grey)
    assert np.array_equal(decode_image(Path("a.tif"), negative), decode_image(Path("b"), positive))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_never_changes_a_colour(rgb16: Pixels, bits: int, planar: str) -> None:
    pixels = of_bits(rgb16, bits)
    alpha = np.full(pixels.shape[:2], 40, pixels.dtype)
    rgba = np.dstack([pixels, alpha])
    for kind in ("unassalpha", "unspecified"):
        data = tiff(rgba, planarconfig=planar, extrasamples=[kind])
        assert np.array_equal(stored(data), pixels)
        assert decode_stored(Path("a"), data).header.has_alpha
    multiplied = tiff(rgba, planarconfig=planar, extrasamples=["assocalpha"])
    assert "multiplied by a transparency (associated alpha)" in refused(multiplied)
    rgba[..., 3] = np.iinfo(pixels.dtype).max
    opaque = tiff(rgba, planarconfig=planar, extrasamples=["assocalpha"])
    assert np.array_equal(stored(opaque), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["tif", "png", "jpg"])
def test_pixels_are_as_stored_and_the_orientation_is_carried(
    tmp_path: Path, rgb16: Pixels, kind: str, bits: int, orientation: int
) -> None:
    """Whichever door a picture comes in by."""
    pixels = of_bits(rgb16, bits if kind != "jpg" else 8)
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        path.write_bytes(tiff(pixels, **tag(0x0112, "H", orientation)))
    elif kind == "png":
        path.write_bytes(png(pixels, (b"eXIf", orientation_only(orientation))))
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
    found = decode_stored(path, path.read_bytes())
    assert found.header.exif.orientation == orientation
    assert read_header(path).orientation == orientation
    assert np.abs(found.pixels.astype(int) - pixels).max() <= (3 if kind == "jpg" else 0)
    assert np.array_equal(read_picture(path).pixels, found.pixels)
    assert (picture_header(path).width, picture_header(path).height) == (67, 45)


def test_every_reader_of_the_product_takes_a_turned_tiff_as_stored(
    tmp_path: Path, rgb16: Pixels
) -> None:
    from defocus_ds.config import BuildConfig
    from defocus_ds.dataset.importers.images import image_size, read_image
    from defocus_ds.measure.luma import luma_of_file
    from defocus_ds.stages.tile import luma
    from defocus_ds_train.restore_photo import encode_png, read_photo

    pixels = of_bits(rgb16, 8)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(pixels, **tag(0x0112, "H", 6)))
    assert image_size(path) == (67, 45)
    assert np.array_equal(read_image(path).pixels, luma(pixels))
    assert np.array_equal(luma_of_file(path), luma(pixels))
    photo = read_photo(path, config=BuildConfig())
    assert np.array_equal(photo.pixels, pixels)
    (tmp_path / "back.png").write_bytes(encode_png(photo, photo.pixels))
    back = read_photo(tmp_path / "back.png", config=BuildConfig())
    assert np.array_equal(back.pixels, pixels)
    assert back.orientation == 6


def pages(*items: tuple[Pixels, dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for pixels, options in items:
            writer.write(pixels, **({"photometric": "rgb"} | options))
    return out.getvalue()


@pytest.mark.parametrize("place", ["before", "after", "below"])
def test_a_thumbnail_is_never_the_picture(rgb16: Pixels, place: str) -> None:
    picture, small = of_bits(rgb16, 8), of_bits(rgb16, 8)[::3, ::3].copy()
    main: dict[str, Any] = {"subifds": 1} if place == "below" else {}
    thumbnail: dict[str, Any] = {"subfiletype": 1}
    if place == "before":
        data = pages((small, thumbnail), (picture, main))
    else:
        data = pages((picture, main), (small, thumbnail))
    found = decode_stored(Path("a.tif"), data)
    assert np.array_equal(found.pixels, picture)
    assert found.header.remarks == ()


def test_a_picture_below_its_thumbnail_keeps_the_files_tags(rgb16: Pixels, tmp_path: Path) -> None:
    picture, small = of_bits(rgb16, 16), of_bits(rgb16, 8)[::3, ::3].copy()
    maker = {"extratags": [(0x010F, "s", 0, "Maker", True), (0x0112, "H", 1, 3, True)]}
    data = pages((small, {"subfiletype": 1, "subifds": 1, **maker}), (picture, {}))
    (tmp_path / "a.tif").write_bytes(data)
    assert np.array_equal(stored(data), picture)
    header = read_header(tmp_path / "a.tif")
    assert (header.info.make, header.orientation, header.info.bits) == ("Maker", 3, 16)


def test_several_pages_are_said_and_the_largest_is_used(rgb16: Pixels) -> None:
    one, two = of_bits(rgb16, 8), of_bits(rgb16, 8)[::-1].copy()
    found = decode_stored(Path("a.tif"), pages((one, {}), (two, {}), (one, {})))
    assert np.array_equal(found.pixels, one)
    assert "it has 3 pages; only the largest (67x45)" in found.header.remarks[0]
    found = decode_stored(Path("a.tif"), pages((one[::2].copy(), {}), (two, {})))
    assert np.array_equal(found.pixels, two)
    mask = {"subfiletype": 4, "photometric": "minisblack"}
    found = decode_stored(Path("a.tif"), pages((one, {}), (one[..., 0] > 9, mask)))
    assert found.header.remarks == ()


def test_only_thumbnails_are_refused(rgb16: Pixels) -> None:
    assert "only thumbnails" in refused(pages((of_bits(rgb16, 8), {"subfiletype": 1})))


def test_a_palette_gives_its_colours(rgb16: Pixels) -> None:
    image = Image.fromarray(of_bits(rgb16, 8)).quantize(256)
    out = io.BytesIO()
    image.save(out, "tiff")
    expected = np.asarray(image.convert("RGB"), int)
    assert np.abs(stored(out.getvalue()).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_inside_a_tiff_is_what_libtiff_reads(
    rgb16: Pixels, subsampling: tuple[int, int]
) -> None:
    for tile in (None, (32, 32)):
        for photometric in ("rgb", "ycbcr"):
            options = {"photometric": photometric, "compression": "jpeg", "tile": tile}
            if photometric == "ycbcr":
                options["subsampling"] = subsampling
            data = tiff(of_bits(rgb16, 8), **options)
            with Image.open(io.BytesIO(data)) as image:
                assert np.array_equal(stored(data), np.asarray(image.convert("RGB")))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "CMYK": ({"shape": 4, "photometric": "separated"}, "CMYK"),
    "CIELab": ({"shape": 3, "photometric": "cielab"}, "CIELab"),
    "five samples": ({"shape": 5, "photometric": "rgb"}, "5 samples a pixel"),
    "YCbCr": ({"shape": 3, "photometric": "ycbcr"}, "YCbCr values without JPEG"),
    "bilevel": ({"shape": 0, "dtype": bool, "photometric": "minisblack"}, r"1 bit .*bilevel"),
    "32 bits": ({"shape": 3, "dtype": np.uint32}, "32 bits a sample"),
    "signed": ({"shape": 3, "dtype": np.int16}, "signed integers"),
    "floating point": ({"shape": 3, "dtype": np.float32}, "floating point"),
    "12 bits": ({"shape": 3, "dtype": np.uint16, "bitspersample": 12}, "12 bits a sample"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_samples_are_refused_by_their_name(kind: str) -> None:
    options, says = REFUSED[kind]
    options = dict(options)
    channels, dtype = options.pop("shape"), options.pop("dtype", np.uint8)
    pixels = np.ones((20, 30, channels) if channels else (20, 30), dtype)
    text = refused(tiff(pixels, **options))
    assert re.search(says, text), text
    assert "Convert it" in text


def test_bigtiff_is_refused_by_its_name(rgb16: Pixels) -> None:
    assert "BigTIFF" in refused(tiff(rgb16, bigtiff=True))


def test_a_missing_strip_is_not_black(rgb16: Pixels) -> None:
    """Readers fill what a file leaves out with zeros."""
    data = bytearray(tiff(rgb16, rowsperstrip=9, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        counts = file.pages[0].tags["StripByteCounts"]
    size = 2 if int(counts.dtype) == 3 else 4
    data[counts.valueoffset : counts.valueoffset + size] = bytes(size)
    assert "a strip of 0 bytes" in refused(bytes(data))


def test_nothing_is_printed(
    rgb16: Pixels, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither by libpng, which dislikes some chunks, nor by tifffile, which logs."""
    decode_stored(Path("a.png"), png(rgb16, (b"iCCP", b"x\0\0" + zlib.compress(b"junk" * 50))))
    decode_stored(Path("b.png"), png(rgb16, (b"gAMA", bytes(4)), (b"cHRM", b"short")))
    odd = bytearray(tiff(of_bits(rgb16, 8), description="x" * 40))
    odd[odd.index(b"x" * 40)] = 0xFF  # not ASCII
    decode_stored(Path("c.tif"), bytes(odd))
    assert capfd.readouterr() == ("", "")


def png(pixels: Pixels, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 or 16 bits with chunks before its pixels."""
    import imagecodecs

    plain = bytes(imagecodecs.png_encode(pixels))
    extra = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return plain[:33] + extra + plain[33:]


def orientation_only(value: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_png_gives_its_samples(rgb16: Pixels, mode: str) -> None:
    image = Image.fromarray(of_bits(rgb16, 8)).convert(mode)
    out = io.BytesIO()
    image.save(out, "png")
    expected = image.convert("L" if mode in ("1", "L", "LA") else "RGB")
    assert np.array_equal(stored(out.getvalue(), "a.png"), np.asarray(expected))


def test_an_animated_png_is_said(rgb16: Pixels) -> None:
    frames = [Image.fromarray(of_bits(rgb16, 8)), Image.fromarray(of_bits(rgb16, 8)[::-1])]
    out = io.BytesIO()
    frames[0].save(out, "png", save_all=True, append_images=frames[1:])
    found = decode_stored(Path("a.png"), out.getvalue())
    assert np.array_equal(found.pixels, of_bits(rgb16, 8))
    assert "animated" in found.header.remarks[0]


def test_jpegs_of_other_kinds_are_refused_by_their_name(rgb16: Pixels) -> None:
    import imagecodecs

    out = io.BytesIO()
    Image.fromarray(of_bits(rgb16, 8)).convert("CMYK").save(out, "jpeg")
    assert "CMYK" in refused(out.getvalue())
    lossless = bytes(imagecodecs.ljpeg_encode(of_bits(rgb16, 8)[..., 0].copy()))
    assert "lossless" in refused(lossless)


@pytest.mark.parametrize("kind", ["bmp", "ppm", "webp"])
def test_pictures_that_are_no_captures_are_read_too(
    tmp_path: Path, rgb16: Pixels, kind: str
) -> None:
    path = tmp_path / f"a.{kind}"
    pixels = of_bits(rgb16, 8)
    Image.fromarray(pixels).save(path, **({"lossless": True} if kind == "webp" else {}))
    assert np.array_equal(read_picture(path).pixels, pixels)
    with pytest.raises(CaptureUnreadable, match="not a JPEG, PNG or TIFF"):
        read_header(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CaptureUnreadable, match=rf"a\.{kind}: "):
        read_picture(path)
