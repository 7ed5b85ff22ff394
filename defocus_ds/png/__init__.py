"""PNG files of 8-bit photographs: one filter, one Huffman code a block, the same bytes anywhere.

Any reader of PNG reads them.  `decode` takes only what `encode` writes; other files are for a
whole decoder.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.png.adler import adler32
from defocus_ds.png.pack import bound, pack
from defocus_ds.png.paeth import apply_paeth, undo_paeth
from defocus_ds.png.unpack import LITERALS_ONLY, unpack

__all__ = ["decode", "encode"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_HEADER = len(_SIGNATURE) + 8 + 13 + 4
_ZLIB = b"\x78\x01"  # a window of 32 KB, the fastest level
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
    apply_paeth(image.reshape(height, width * channels), channels, filtered)
    packed = np.empty(bound(filtered.size), np.uint32)
    flat = filtered.reshape(-1)
    length = pack(flat, packed)
    stream = packed.astype("<u4", copy=False).view(np.uint8)[:length].data
    check = struct.pack(">I", adler32(flat))
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
    flat = filtered.reshape(-1)
    if unpack(words, len(stream), flat) != LITERALS_ONLY:
        return None
    if adler32(flat) != struct.unpack_from(">I", data, stop - 4)[0]:
        return None
    image = np.empty((height, width * channels), np.uint8)
    if not undo_paeth(filtered, channels, image):
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
