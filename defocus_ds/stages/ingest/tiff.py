"""TIFF directories read with bounds (TIFF 6.0, section 2): the container of EXIF and of CR2.

Nothing a file declares is trusted: offsets and counts are checked against the file, and values
are limited in size.  Directories are read one at a time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.ingest.source import ByteSource
from defocus_ds.wording import printable

__all__ = ["Entry", "Ifd", "Tiff"]

_MAX_VALUE = 2**20

# type code -> (bytes, struct letter); rationals are two integers, texts and blobs are bytes
_TYPES = {
    1: (1, "B"),
    2: (1, "c"),
    3: (2, "H"),
    4: (4, "I"),
    5: (8, "II"),
    6: (1, "b"),
    7: (1, "B"),
    8: (2, "h"),
    9: (4, "i"),
    10: (8, "ii"),
    11: (4, "f"),
    12: (8, "d"),
    13: (4, "I"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A field of a directory; ``offset`` is where its values lie."""

    tag: int
    kind: int
    count: int
    offset: int


class Tiff:
    """A TIFF structure; ``first`` is where its first directory lies.

    Raises:
        CaptureUnreadable: no TIFF header, or of another version than 42.
    """

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        head = source.read(0, 8, "the TIFF header")
        if head[:2] not in (b"II", b"MM"):
            raise CaptureUnreadable(
                f"{source.name}: no TIFF header (starts with {head[:4]!r}, need II or MM)."
            )
        self.order = "<" if head[:2] == b"II" else ">"
        magic, self.first = struct.unpack(self.order + "HI", head[2:8])
        if magic != 42:
            hint = " BigTIFF is not read; save as classic TIFF." if magic == 43 else ""
            raise CaptureUnreadable(f"{source.name}: TIFF version {magic}, need 42.{hint}")

    def directory(self, offset: int) -> Ifd:
        """The directory at ``offset``."""
        count = self._unpack("H", offset, "a TIFF directory")[0]
        data = self.source.read(offset + 2, 12 * count, "a TIFF directory")
        entries: dict[int, Entry] = {}
        for index in range(count):
            tag, kind, values = struct.unpack_from(self.order + "HHI", data, 12 * index)
            if kind not in _TYPES:
                continue  # the standard asks readers to skip types they do not know
            size = _TYPES[kind][0] * values
            at = offset + 2 + 12 * index + 8
            if size > 4:
                at = struct.unpack_from(self.order + "I", data, 12 * index + 8)[0]
            entries.setdefault(tag, Entry(tag, kind, values, at))
        end = self.source.peek(offset + 2 + 12 * count, 4)
        following = struct.unpack(self.order + "I", end)[0] if len(end) == 4 else 0
        return Ifd(self, entries, offset, following)

    def _unpack(self, letters: str, offset: int, what: str) -> tuple[int, ...]:
        form = self.order + letters
        return struct.unpack(form, self.source.read(offset, struct.calcsize(form), what))


@dataclass(frozen=True, slots=True)
class Ifd:
    """One directory: typed access to its values; an absent tag is None or ``()``.

    It lies at ``offset``; ``following`` is where the next of its chain lies, 0 after the last.
    """

    tiff: Tiff
    entries: dict[int, Entry]
    offset: int = 0
    following: int = 0

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def blob(self, tag: int) -> bytes:
        """The bytes of a tag's value, at most 1 MiB."""
        entry = self.entries.get(tag)
        if entry is None:
            return b""
        size = _TYPES[entry.kind][0] * entry.count
        if size > _MAX_VALUE:
            raise CaptureUnreadable(
                f"{self.tiff.source.name}: tag 0x{tag:04X} is declared {size} bytes long (at most "
                f"{_MAX_VALUE} are read). The file is damaged; copy it again."
            )
        return self.tiff.source.read(entry.offset, size, f"the value of tag 0x{tag:04X}")

    def integers(self, tag: int) -> tuple[int, ...]:
        """All values of an integer tag."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind in (2, 5, 10, 11, 12):
            return ()
        letter = _TYPES[entry.kind][1]
        return struct.unpack(f"{self.tiff.order}{entry.count}{letter}", self.blob(tag))

    def integer(self, tag: int) -> int | None:
        """The first value of an integer tag."""
        values = self.integers(tag)
        return values[0] if values else None

    def number(self, tag: int) -> float | None:
        """The first value of a numeric tag; a rational with a zero below is None."""
        values = self.numbers(tag)
        return values[0] if values else None

    def numbers(self, tag: int) -> tuple[float | None, ...]:
        """All values of a numeric tag; a rational with a zero below is None."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind == 2:
            return ()
        size, letters = _TYPES[entry.kind]
        data = self.blob(tag)
        found = struct.iter_unpack(self.tiff.order + letters, data[: len(data) // size * size])
        if entry.kind in (5, 10):
            return tuple(above / below if below else None for above, below in found)
        return tuple(float(value) for (value,) in found)

    def text(self, tag: int) -> str | None:
        """A text tag without padding; None when absent, empty or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind != 2:
            return None
        value = self.blob(tag).split(b"\0")[0].decode("utf-8", "replace").strip()
        return printable(value) or None

    def child(self, tag: int) -> Ifd | None:
        """The directory whose offset is a tag's value."""
        offset = self.integer(tag)
        return None if offset is None else self.tiff.directory(offset)
