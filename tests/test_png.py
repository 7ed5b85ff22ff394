"""Our PNG files: every reader reads them, and damage to them is never taken for pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from defocus_ds import png
from defocus_ds.errors import InputError
from defocus_ds.png.adler import adler32
from defocus_ds.png.pack import bound, pack
from defocus_ds.png.unpack import LITERALS_ONLY, unpack

SHAPES = [(1, 1), (1, 1, 3), (1, 9), (7, 1), (2, 3, 3), (128, 128), (300, 301, 3), (700, 701)]


def photo(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth content with noise."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.integers(-2, 3, shape), axis=1) + np.cumsum(rng.integers(-1, 2, shape), 0)
    return np.asarray(128 + walk, np.int64).astype(np.uint8)


def contents(shape: tuple[int, ...]) -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    rare = np.minimum(rng.geometric(0.5, shape) - 1, 40)  # codes beyond the longest one allowed
    return {
        "photo": photo(shape),
        "noise": rng.integers(0, 256, shape).astype(np.uint8),
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "rare": (2 ** (rare % 9) * rare % 256).astype(np.uint8),
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_every_reader_has_the_same_pixels(shape: tuple[int, ...]) -> None:
    for name, image in contents(shape).items():
        data = png.encode(image)
        by_pillow = np.asarray(Image.open(io.BytesIO(data)))
        by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert by_opencv is not None
        own = png.decode(data)
        assert own is not None
        assert np.array_equal(by_pillow, image), name
        assert np.array_equal(by_opencv if image.ndim == 2 else by_opencv[..., ::-1], image), name
        assert np.array_equal(own, image), name
        assert own.dtype == np.uint8


def test_a_view_into_an_image_is_encoded_as_its_copy() -> None:
    image = photo((64, 80, 3))
    view = image[3:40, 5:60, ::-1]
    assert png.encode(view) == png.encode(view.copy())


def test_photographs_are_smaller_than_by_pillow() -> None:
    for seed in range(3):
        crop = photo((128, 128), seed)
        buffer = io.BytesIO()
        Image.fromarray(crop).save(buffer, "PNG", compress_level=6)
        assert len(png.encode(crop)) < 1.01 * len(buffer.getvalue())


@given(st.binary(min_size=1, max_size=3000))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_any_bytes_come_back_through_zlib(content: bytes) -> None:
    data = np.frombuffer(content, np.uint8)
    out = np.empty(bound(data.size), np.uint32)
    length = pack(data, out)
    stream = out.view(np.uint8)[:length].tobytes()
    assert zlib.decompress(stream, wbits=-15) == content


def test_several_blocks_each_with_its_own_code() -> None:
    parts = [photo((300, 300), 1), np.zeros((300, 300), np.uint8), photo((300, 301), 2)[:, 1:]]
    data = np.concatenate([p.reshape(-1) for p in parts])
    out = np.empty(bound(data.size), np.uint32)
    stream = out.view(np.uint8)[: pack(data, out)].tobytes()
    assert zlib.decompress(stream, wbits=-15) == data.tobytes()


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_any_image_comes_back(image: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(png.decode(png.encode(image)), image)


def test_a_changed_byte_is_never_taken_for_pixels() -> None:
    data = png.encode(photo((24, 24)))
    for place in range(len(data)):
        for flip in (1, 0x80):
            damaged = bytearray(data)
            damaged[place] ^= flip
            assert png.decode(bytes(damaged)) is None, place
    for length in range(len(data)):
        assert png.decode(data[:length]) is None
    assert png.decode(data + b"\0") is None


@given(st.data())
@settings(max_examples=300, derandomize=True, deadline=None)
def test_hostile_streams_with_right_sums_stay_inside(data: st.DataObject) -> None:
    """Sums are recomputed after the damage, so that the decoder itself has to cope with it."""
    size = data.draw(st.sampled_from([(8, 8), (24, 24), (200, 400)]))
    stream = bytearray(zlib_stream(png.encode(photo(size))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(stream) - 1, 200)))
        stream[place] = data.draw(st.integers(0, 255))
    del stream[data.draw(st.integers(1, len(stream))) :]
    words = np.frombuffer(bytes(stream) + bytes(16 - len(stream) % 8), np.uint64)
    guarded = np.full(size[0] * (size[1] + 1) + 64, 77, np.uint8)
    out = guarded[32:-32]
    status = unpack(words, len(stream), out)
    assert (guarded[:32] == 77).all()
    assert (guarded[-32:] == 77).all()
    try:
        real = zlib.decompress(bytes(stream), wbits=-15)
    except zlib.error:
        real = b""
    if status == LITERALS_ONLY:
        assert out.tobytes() == real


def test_bytes_after_the_last_block_are_damage() -> None:
    """Every other reader looks for the sum right after it."""
    data = png.encode(photo((24, 24)))
    stream = zlib_stream(data)
    idat = data[41:43] + stream + bytes(24) + data[-20:-16]
    chunk = b"IDAT" + idat
    longer = data[:33] + struct.pack(">I", len(idat)) + chunk
    longer += struct.pack(">I", zlib.crc32(chunk)) + data[-12:]
    with pytest.raises(OSError, match="broken data stream"):
        Image.open(io.BytesIO(longer)).load()
    assert png.decode(longer) is None
    exact = data[41:43] + stream + data[-20:-16]
    same = data[:33] + struct.pack(">I", len(exact)) + b"IDAT" + exact
    same += struct.pack(">I", zlib.crc32(b"IDAT" + exact)) + data[-12:]
    assert same == data


def zlib_stream(data: bytes) -> bytes:
    """The DEFLATE stream of one of our files."""
    length = struct.unpack_from(">I", data, 33)[0]
    return data[33 + 8 + 2 : 33 + 8 + length - 4]


def test_files_of_other_encoders_are_left_to_a_whole_decoder(tmp_path: Path) -> None:
    image = photo((50, 60, 3))
    Image.fromarray(image).save(tmp_path / "pillow.png")
    cv2.imwrite(str(tmp_path / "opencv.png"), image)
    Image.fromarray(image).convert("P").save(tmp_path / "palette.png")
    for path in tmp_path.iterdir():
        assert png.decode(path.read_bytes()) is None


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint16), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_other_pixels_are_refused(pixels: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="PNG: "):
        png.encode(pixels)


@pytest.mark.parametrize("shape", [(63, 65), (64, 64), (129, 5), (65, 4096), (66, 4097)])
def test_lines_undone_side_by_side_and_one_by_one_are_the_same(shape: tuple[int, int]) -> None:
    """64 lines at once where they are narrow; the last ones may be fewer."""
    for name, image in contents(shape).items():
        assert np.array_equal(png.decode(png.encode(image)), image), name


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 16_512, 300_001])
def test_checksum_is_that_of_zlib(size: int) -> None:
    highest = np.full(size, 255, np.uint8)
    for data in (np.random.default_rng(size).integers(0, 256, size).astype(np.uint8), highest):
        assert adler32(data) == zlib.adler32(data.data)
