"""Random access to a file that never reads past its end, nor much at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from defocus_ds.errors import CaptureUnreadable

__all__ = ["ByteSource", "open_source"]

_MAX_READ = 16 * 2**20


class ByteSource:
    """A window of a file: offsets count from its start, reads beyond its end are refused.

    Attributes:
        name: the file, for messages.
        size: bytes in the window.
    """

    def __init__(self, file: BinaryIO, *, name: str, start: int, size: int) -> None:
        self.name = name
        self.size = size
        self._file = file
        self._start = start

    def read(self, offset: int, count: int, what: str) -> bytes:
        """``count`` bytes at ``offset``.

        Raises:
            CaptureUnreadable: outside the window, or more than 16 MiB; ``what`` is in the text.
        """
        self.check(offset, count, what)
        if count > _MAX_READ:
            raise CaptureUnreadable(
                f"{self.name}: {what} is declared {count} bytes long (at most {_MAX_READ} make "
                "sense). The file is damaged; copy it again."
            )
        self._file.seek(self._start + offset)
        return self._file.read(count)

    def check(self, offset: int, count: int, what: str) -> None:
        """Raise `CaptureUnreadable` unless ``count`` bytes at ``offset`` lie in the window."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise CaptureUnreadable(
                f"{self.name}: {what} should be bytes {offset} to {offset + count}, but there are "
                f"only {self.size}. The file is truncated or damaged; copy it again."
            )

    def peek(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``; fewer, or none, near and past the end."""
        available = max(0, min(count, self.size - offset, _MAX_READ))
        self._file.seek(self._start + offset)
        return self._file.read(available)

    def window(self, offset: int, size: int, what: str) -> ByteSource:
        """The part of ``size`` bytes at ``offset``, which must lie inside."""
        self.check(offset, size, what)
        return ByteSource(self._file, name=self.name, start=self._start + offset, size=size)


@contextmanager
def open_source(path: Path) -> Iterator[ByteSource]:
    """The whole file as a source.

    Raises:
        CaptureUnreadable: it cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise CaptureUnreadable(
            f"{path.name}: cannot be opened ({error.strerror or error}). Check its permissions."
        ) from error
    with file:
        yield ByteSource(file, name=path.name, start=0, size=os.fstat(file.fileno()).st_size)
