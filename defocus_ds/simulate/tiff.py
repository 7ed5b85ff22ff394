"""Little-endian TIFF directories: the container of a CR2 file (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

__all__ = ["Directory", "layout"]

_FORMATS = {"short": (3, "H"), "long": (4, "I"), "sshort": (8, "h")}


@dataclass(slots=True)
class Directory:
    """One image file directory being filled: entries, child directories, strips.

    ``child`` and ``strip`` entries hold the offsets of what they are given, which `layout`
    fills in when every size is known.
    """

    entries: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    strips: dict[int, bytes] = field(default_factory=dict)

    def integers(self, tag: int, kind: str, *values: int) -> None:
        """``kind`` is "short", "long" or "sshort"."""
        code, letter = _FORMATS[kind]
        self.entries[tag] = (code, len(values), struct.pack(f"<{len(values)}{letter}", *values))

    def shorts(self, tag: int, values: npt.NDArray[np.uint16]) -> None:
        self.entries[tag] = (3, values.size, values.astype("<u2").tobytes())

    def text(self, tag: int, value: str) -> None:
        data = value.encode("ascii", "replace") + b"\0"
        self.entries[tag] = (2, len(data), data)

    def rationals(self, tag: int, *values: Fraction) -> None:
        pairs = b"".join(struct.pack("<II", v.numerator, v.denominator) for v in values)
        self.entries[tag] = (5, len(values), pairs)

    def undefined(self, tag: int, data: bytes) -> None:
        self.entries[tag] = (7, len(data), data)

    def child(self, tag: int, directory: Directory) -> None:
        self.entries[tag] = (4, 1, b"\0\0\0\0")
        self.children[tag] = directory

    def maker_note(self, directory: Directory) -> None:
        """Canon's makernote: a directory stored as the value of tag 0x927C."""
        self.entries[0x927C] = (7, directory.size, b"")
        self.children[0x927C] = directory

    def strip(self, tag: int, data: bytes) -> None:
        self.entries[tag] = (4, 1, b"\0\0\0\0")
        self.strips[tag] = data

    @property
    def head_size(self) -> int:
        return 2 + 12 * len(self.entries) + 4

    @property
    def size(self) -> int:
        """Bytes of the directory and its out-of-line values, without children and strips."""
        return self.head_size + sum(
            _even(len(v)) for _, _, v in self.entries.values() if len(v) > 4
        )


def layout(header: bytes, directories: Sequence[Directory]) -> tuple[bytes, tuple[int, ...]]:
    """Chain directories after a header, their strips behind them all.

    Args:
        header: bytes before the first directory, even in number.
        directories: in chain order.

    Returns:
        The file's bytes and the offset of every directory of the chain.
    """
    tree: list[tuple[Directory, Directory | None, int]] = []  # directory, parent, tag

    def visit(directory: Directory, parent: Directory | None, tag: int) -> None:
        tree.append((directory, parent, tag))
        for child_tag, child in directory.children.items():
            visit(child, directory, child_tag)

    for directory in directories:
        visit(directory, None, 0)
    offsets: dict[int, int] = {}
    at = len(header)
    for directory, _, _ in tree:
        offsets[id(directory)] = at
        at += directory.size
    strip_parts: list[bytes] = []
    strip_at: dict[tuple[int, int], int] = {}
    for directory, _, _ in tree:
        for tag, data in directory.strips.items():
            strip_at[id(directory), tag] = at
            strip_parts.append(data + b"\0" * (len(data) % 2))
            at += _even(len(data))
    chain = [offsets[id(d)] for d in directories]
    following = dict(zip(chain, [*chain[1:], 0], strict=True))
    parts = [header]
    for directory, _, _ in tree:
        start = offsets[id(directory)]
        parts.append(_directory(directory, start, following.get(start, 0), offsets, strip_at))
    return b"".join(parts + strip_parts), tuple(chain)


def _directory(
    directory: Directory,
    start: int,
    following: int,
    offsets: dict[int, int],
    strip_at: dict[tuple[int, int], int],
) -> bytes:
    head = [struct.pack("<H", len(directory.entries))]
    values: list[bytes] = []
    at = start + directory.head_size
    for tag, (code, count, data) in sorted(directory.entries.items()):
        if tag in directory.children:
            inline = struct.pack("<I", offsets[id(directory.children[tag])])
        elif tag in directory.strips:
            inline = struct.pack("<I", strip_at[id(directory), tag])
        elif len(data) > 4:
            inline = struct.pack("<I", at)
            values.append(data + b"\0" * (len(data) % 2))
            at += _even(len(data))
        else:
            inline = data.ljust(4, b"\0")
        head.append(struct.pack("<HHI", tag, code, count) + inline)
    return b"".join([*head, struct.pack("<I", following), *values])


def _even(size: int) -> int:
    return size + size % 2
