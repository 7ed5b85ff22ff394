"""Where the parts of a capture lie: directories and fields of TIFF files, segments of JPEGs.

Nothing here checks what it reads: it is for sound files, to be damaged afterwards.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["SIZES", "directories", "entries", "frames", "get", "pointers", "put", "segments"]

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_CHILDREN = (0x8769, 0x927C)  # EXIF, Canon's makernote


@dataclass(frozen=True, slots=True)
class _Entry:
    """A field of a directory: where it lies, where its values lie, and what it declares."""

    at: int
    tag: int
    kind: int
    count: int
    values_at: int

    @property
    def size(self) -> int:
        return SIZES.get(self.kind, 1) * self.count


def frames(data: bytearray) -> Iterator[int]:
    """Where the frame headers of the JPEG streams lie: of the file, or of a raw's samples."""
    starts = [0] if data[:2] == b"\xff\xd8" else []
    starts += [
        get(data, "I", e.at + 8)
        for e in entries(data)
        if e.tag == 0x0111 and data[8:10] == b"CR" and e.count == 1
    ]
    for start in starts:
        for at in segments(data, start):
            if data[at + 1] in (0xC0, 0xC1, 0xC2, 0xC3):
                yield at


def segments(data: bytearray, start: int) -> Iterator[int]:
    """Where the segments of a JPEG stream begin, up to its scan."""
    at = start + 2
    while data[start : start + 2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        yield at
        if data[at + 1] == 0xDA:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def pointers(data: bytearray) -> list[int]:
    """Where offsets of directories are written."""
    if not _is_tiff(data):
        return []
    found = [4, *([12] if data[8:10] == b"CR" else [])]
    found += [start + 2 + 12 * count for start, count in directories(data)]
    found += [entry.at + 8 for entry in entries(data) if entry.tag in _CHILDREN]
    return [at for at in found if at + 4 <= len(data)]


def entries(data: bytearray) -> Iterator[_Entry]:
    for start, count in directories(data):
        for at in range(start + 2, start + 2 + 12 * count, 12):
            yield _entry(data, at)


def _entry(data: bytearray, at: int) -> _Entry:
    tag, kind, count = get(data, "H", at), get(data, "H", at + 2), get(data, "I", at + 4)
    inline = SIZES.get(kind, 1) * count <= 4
    return _Entry(at, tag, kind, count, at + 8 if inline else get(data, "I", at + 8))


def directories(data: bytearray) -> list[tuple[int, int]]:
    """(start, entries) of every directory of a TIFF file or CR2; of a JPEG or PNG none."""
    if not _is_tiff(data):
        return []
    found: dict[int, int] = {}
    waiting = [get(data, "I", 4), *([get(data, "I", 12)] if data[8:10] == b"CR" else [])]
    while waiting:
        start = waiting.pop(0)
        if start in found or not 8 <= start < len(data) - 6:
            continue
        count = get(data, "H", start)
        if start + 6 + 12 * count > len(data):
            continue
        found[start] = count
        for at in range(start + 2, start + 2 + 12 * count, 12):
            entry = _entry(data, at)
            if entry.tag in _CHILDREN:
                waiting.append(get(data, "I", at + 8))
        waiting.append(get(data, "I", start + 2 + 12 * count))
    return sorted(found.items())


def _is_tiff(data: bytearray) -> bool:
    return data[:4] == b"II*\0"  # what the seeds are


def get(data: bytearray, form: str, at: int) -> int:
    return int(struct.unpack_from(f"<{form}", data, at)[0])


def put(data: bytearray, form: str, at: int, value: int) -> None:
    struct.pack_into(f"<{form}", data, at, value % 2 ** (8 * struct.calcsize(form)))
