"""PNG files of 8-bit photographs: one filter, one Huffman code a block, the same bytes anywhere.

Any reader of PNG reads them.  `decode` takes only what `encode` writes; other files are for a
whole decoder.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numba
import numpy as np

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.png.pack import bound, pack
from defocus_ds.png.unpack import LITERALS_ONLY, unpack

__all__ = ["decode", "encode"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_HEADER = len(_SIGNATURE) + 8 + 13 + 4
_ZLIB = b"\x78\x01"  # a window of 32 KB, the fastest level
_PAETH = 4
_COLOURS = {1: 0, 3: 2}
_MAX_IDAT = 2**31 - 1


def encode(pixels: UInt8Image) -> bytes:
    """PNG bytes of (H, W) luma or (H, W, 3) RGB, uint8; equal pixels give equal bytes.

    Raises:
        InputError: another shape or dtype, or more than a PNG chunk holds.
    """
    image = np.ascontiguousarray(pixels)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in _COLOURS:
        raise InputError(f"PNG: got {image.dtype} {image.shape}; need (H, W[, 3]) uint8.")
    if image.size == 0:
        raise InputError(f"PNG: no pixels in {image.shape}.")
    height, width = image.shape[:2]
    filtered = np.empty((height, width * channels + 1), np.uint8)
    _filter(image.reshape(height, width * channels), channels, filtered)
    packed = np.empty(bound(filtered.size), np.uint32)
    length = pack(filtered.reshape(-1), packed)
    stream = packed.astype("<u4", copy=False).view(np.uint8)[:length].data
    check = struct.pack(">I", zlib.adler32(filtered.data))
    if len(_ZLIB) + length + len(check) > _MAX_IDAT:
        raise InputError(f"PNG: {width}x{height} pixels are more than one chunk holds.")
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    chunks = (_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", _ZLIB, stream, check), _END)
    return b"".join(chunks)


def decode(data: bytes) -> UInt8Image | None:
    """Pixels of what `encode` wrote, or None: another encoder's file, or a damaged one.

    Args:
        data: the whole file.  Its declared size decides how much memory is taken: check it first.

    Returns:
        (H, W) or (H, W, 3) uint8, checked by the file's own sums.
    """
    if len(data) < _HEADER + 12 + 6 + len(_END) or not data.startswith(_SIGNATURE):
        return None
    size, name, width, height, *kind = struct.unpack_from(">I4sIIBBBBB", data, len(_SIGNATURE))
    length, idat = struct.unpack_from(">I4s", data, _HEADER)
    start = _HEADER + 8
    stop = start + length
    if (size, name, idat) != (13, b"IHDR", b"IDAT") or data[stop + 4 :] != _END:
        return None
    if kind not in ([8, 0, 0, 0, 0], [8, 2, 0, 0, 0]) or not width or not height:
        return None
    if not _is_sound(data, 12, _HEADER - 4) or not _is_sound(data, start - 4, stop):
        return None
    channels = 3 if kind[1] else 1
    stream = data[start + 2 : stop - 4]
    words = np.frombuffer(stream + bytes(16 - len(stream) % 8), "<u8").astype(np.uint64, copy=False)
    if data[start : start + 2] != _ZLIB or height * (width * channels + 1) > 8 * len(stream):
        return None  # a literal takes one bit at least
    filtered = np.empty((height, width * channels + 1), np.uint8)
    if unpack(words, len(stream), filtered.reshape(-1)) != LITERALS_ONLY:
        return None
    if zlib.adler32(filtered.data) != struct.unpack_from(">I", data, stop - 4)[0]:
        return None
    image = np.empty((height, width * channels), np.uint8)
    if not _unfilter(filtered, channels, image):
        return None
    return image.reshape(height, width, 3) if channels == 3 else image


def _chunk(name: bytes, *parts: Any) -> tuple[Any, ...]:
    check = zlib.crc32(name)
    for part in parts:
        check = zlib.crc32(part, check)
    length = sum(len(part) for part in parts)
    return struct.pack(">I", length), name, *parts, struct.pack(">I", check)


def _is_sound(data: bytes, start: int, stop: int) -> bool:
    """Whether the CRC after a chunk's name and content is theirs."""
    stated: int = struct.unpack_from(">I", data, stop)[0]
    return zlib.crc32(memoryview(data)[start:stop]) == stated


@numba.njit(cache=True, nogil=True)
def _filter(image: Any, step: Any, out: Any) -> None:
    """Differences to Paeth's prediction, after the byte that names the filter of each line."""
    width = image.shape[1]
    for y in range(image.shape[0]):
        out[y, 0] = _PAETH
        for x in range(min(step, width)):
            out[y, x + 1] = image[y, x] - (image[y - 1, x] if y else np.uint8(0))
        if y == 0:  # nothing above: the left one is the prediction
            for x in range(step, width):
                out[y, x + 1] = image[y, x] - image[y, x - step]
            continue
        left, above, corner = image[y, : width - step], image[y - 1, step:], image[y - 1]
        line, to = image[y, step:], out[y, step + 1 :]
        for x in range(width - step):
            near = _paeth(np.int16(left[x]), np.int16(above[x]), np.int16(corner[x]))
            to[x] = line[x] - near


@numba.njit(cache=True, nogil=True)
def _unfilter(filtered: Any, step: Any, image: Any) -> Any:
    """The inverse of `_filter`; False where another filter is named."""
    none = np.zeros(image.shape[1], np.uint8)
    for y in range(image.shape[0]):
        if filtered[y, 0] != _PAETH:
            return False
        above = image[y - 1] if y else none
        if step == 1:
            _unfilter_line(filtered[y, 1:], above, image[y])
        else:
            for c in range(step):
                _unfilter_line(filtered[y, 1 + c :: step], above[c::step], image[y, c::step])
    return True


@numba.njit(cache=True, nogil=True)
def _unfilter_line(line: Any, above: Any, to: Any) -> None:
    left, corner = np.int32(0), np.int32(0)
    for x in range(line.size):
        up = np.int32(above[x])
        left = (np.int32(line[x]) + _paeth(left, up, corner)) & np.int32(255)
        to[x] = left
        corner = up


@numba.njit(cache=True, nogil=True)
def _paeth(left: Any, above: Any, corner: Any) -> Any:
    """Of three neighbours the one nearest to left + above - corner (Paeth 1991)."""
    a, b = above - corner, left - corner
    to_left, to_above, to_corner = abs(a), abs(b), abs(a + b)
    rest = above if to_above <= to_corner else corner
    return left if to_left <= to_above and to_left <= to_corner else rest
