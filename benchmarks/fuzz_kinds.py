"""Damage that captures come by: cards that lose blocks, bits that flip, headers that lie.

A kind takes the bytes of a file and a generator, and returns other bytes, or None where the
file has nothing that it could damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from fuzz_places import SIZES, directories, entries, frames, get, pointers, put, segments

__all__ = ["KINDS", "damaged", "huge_size"]

Damage = Callable[[bytearray, np.random.Generator], bytes | None]

HUGE = 30_000
_SECTOR = 512
_OTHER_STARTS = (
    b"\xff\xd8\xff\xe1",
    b"\x89PNG\r\n\x1a\n",
    b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0",
    b"PK\x03\x04",
    b"HEAPCCDR",
    bytes(16),
)


def damaged(kind: str, data: bytes, rng: np.random.Generator) -> bytes | None:
    """The file after damage of a kind; None where it cannot have it or it changed nothing."""
    for _ in range(5):
        found = KINDS[kind](bytearray(data), rng)
        if found is not None and found != data:
            return bytes(found)
    return None


def _one_bit(data: bytearray, rng: np.random.Generator) -> bytes:
    return _flipped(data, int(rng.integers(len(data))), rng)


def _header_bit(data: bytearray, rng: np.random.Generator) -> bytes:
    return _flipped(data, int(rng.integers(min(1024, len(data)))), rng)


def _flipped(data: bytearray, at: int, rng: np.random.Generator) -> bytes:
    data[at] ^= 1 << int(rng.integers(8))
    return data


def _bytes(data: bytearray, rng: np.random.Generator) -> bytes:
    for at in rng.integers(len(data), size=int(rng.integers(1, 17))):
        data[at] = int(rng.integers(256))
    return data


def _truncated(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _block(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    """Start and length of some sectors of a card, at most a quarter of the file."""
    most = max(1, len(data) // 4 // _SECTOR)
    length = min(int(2 ** rng.uniform(0, 7)), most)
    start = int(rng.integers(max(1, len(data) // _SECTOR - length + 1)))
    return start * _SECTOR, min(length * _SECTOR, len(data) - start * _SECTOR)


def _zeroed(data: bytearray, rng: np.random.Generator) -> bytes:
    at, size = _block(data, rng)
    data[at : at + size] = bytes(size)
    return data


def _repeated(data: bytearray, rng: np.random.Generator) -> bytes:
    at, size = _block(data, rng)
    other = int(rng.integers(max(1, (len(data) - size) // _SECTOR))) * _SECTOR
    data[at : at + size] = data[other : other + size]
    return data


def _swapped(data: bytearray, rng: np.random.Generator) -> bytes:
    at, size = _block(data, rng)
    other = int(rng.integers(max(1, (len(data) - size) // _SECTOR))) * _SECTOR
    if abs(other - at) < size:
        return data
    one, two = data[at : at + size], data[other : other + size]
    data[at : at + size], data[other : other + size] = two, one
    return data


def _lost(data: bytearray, rng: np.random.Generator) -> bytes:
    at, size = _block(data, rng)
    return data[:at] + data[at + size :]


def _inserted(data: bytearray, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data) + 1))
    return data[:at] + rng.bytes(int(2 ** rng.uniform(0, 12))) + data[at:]


def _padded(data: bytearray, rng: np.random.Generator) -> bytes:
    size = int(2 ** rng.uniform(0, 16))
    return data + (bytes(size) if rng.random() < 0.5 else rng.bytes(size))


def _other_start(data: bytearray, rng: np.random.Generator) -> bytes:
    start = _OTHER_STARTS[int(rng.integers(len(_OTHER_STARTS)))]
    return start + data[len(start) :]


def _field(data: bytearray, rng: np.random.Generator) -> bytes | None:
    """Tag, type, count or value of one field is another number."""
    found = list(entries(data))
    if not found:
        return None
    at = found[int(rng.integers(len(found)))].at
    offset, form = ((0, "H"), (2, "H"), (4, "I"), (8, "I"))[int(rng.integers(4))]
    most = 2 ** (8 * struct.calcsize(form))
    put(data, form, at + offset, int(rng.integers(most)) >> int(rng.integers(0, 24)))
    return data


def _values(data: bytearray, rng: np.random.Generator) -> bytes | None:
    """A few words among the values of one field, as of the white balance."""
    found = [e for e in entries(data) if 4 < e.size < 2**16 and e.values_at < len(data)]
    if not found:
        return None
    entry = found[int(rng.integers(len(found)))]
    for _ in range(int(rng.integers(1, 5))):
        at = entry.values_at + int(rng.integers(entry.size))
        if at < len(data):
            data[at] = int(rng.integers(256))
    return data


def _offset(data: bytearray, rng: np.random.Generator) -> bytes | None:
    """A directory is sought somewhere else."""
    places = pointers(data)
    if not places:
        return None
    at = places[int(rng.integers(len(places)))]
    put(data, "I", at, int(rng.integers(int(len(data) * 1.2))))
    return data


def _loop(data: bytearray, rng: np.random.Generator) -> bytes | None:
    """A directory that leads to itself or to the first one."""
    places = pointers(data)
    targets = [start for start, _ in directories(data)]
    if not places or not targets:
        return None
    at = places[int(rng.integers(len(places)))]
    put(data, "I", at, targets[int(rng.integers(len(targets)))])
    return data


def _swapped_strips(data: bytearray, rng: np.random.Generator) -> bytes | None:
    """Two strips of pixels, or two slices of a raw, have changed places."""
    places = []
    for entry in entries(data):
        step = SIZES.get(entry.kind, 1)
        if entry.tag in (0x0111, 0xC640) and entry.size < 2**16:
            form = {2: "H", 4: "I"}[step]
            places += [(form, entry.values_at + step * i) for i in range(entry.count)]
    for _ in range(20):
        if len(places) < 2:
            return None
        one, two = (places[int(i)] for i in rng.choice(len(places), 2, replace=False))
        if one[0] == two[0] and get(data, *one) != get(data, *two):
            first, second = get(data, *one), get(data, *two)
            put(data, *one, second)
            put(data, *two, first)
            return data
    return None


def huge_size(data: bytearray, rng: np.random.Generator | None = None) -> bytes | None:
    """All that declares the size of the picture says 30000x30000."""
    changed = False
    for entry in entries(data):
        if entry.tag in (0x0100, 0x0101) and entry.kind in (3, 4):
            put(data, "H" if entry.kind == 3 else "I", entry.at + 8, HUGE)
            changed = True
        if entry.tag == 0xC640 and entry.count == 3 and entry.values_at + 6 <= len(data):
            struct.pack_into("<HHH", data, entry.values_at, 1, HUGE // 2, HUGE // 2)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        data[16:24] = struct.pack(">II", HUGE, HUGE)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return data
    for frame in frames(data):
        columns = 1 if data[frame + 1] != 0xC3 else data[frame + 9]
        data[frame + 5 : frame + 9] = struct.pack(">HH", HUGE, HUGE // columns)
        changed = True
    return data if changed else None


def _segment(data: bytearray, rng: np.random.Generator) -> bytes | None:
    """The name or length of a JPEG segment or PNG chunk is another."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        places = []
        at = 8
        while at + 8 <= len(data):
            places += [at + i for i in range(8)]
            at += 12 + int.from_bytes(data[at : at + 4], "big")
    elif data[:2] == b"\xff\xd8":
        places = [at + 1 + i for at in segments(data, 0) for i in range(3)]
    else:
        return None
    data[places[int(rng.integers(len(places)))]] = int(rng.integers(256))
    return data


KINDS: dict[str, Damage] = {
    "one bit": _one_bit,
    "one bit of the first KiB": _header_bit,
    "1 to 16 bytes": _bytes,
    "truncated": _truncated,
    "sectors zeroed": _zeroed,
    "sectors repeated": _repeated,
    "sectors swapped": _swapped,
    "sectors lost": _lost,
    "bytes inserted": _inserted,
    "bytes appended": _padded,
    "another file's first bytes": _other_start,
    "a field of a directory": _field,
    "values of a field": _values,
    "offset of a directory": _offset,
    "loop of directories": _loop,
    "strips or slices swapped": _swapped_strips,
    "a JPEG segment or PNG chunk": _segment,
    "declared 30000x30000": huge_size,
}
