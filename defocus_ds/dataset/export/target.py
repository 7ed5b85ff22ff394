"""Where an export is written: a folder that gains files, and keeps their SHA-256 as it goes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from defocus_ds.dataset.checksums import SUMS_NAME, read_sums
from defocus_ds.dataset.export.record import EXPORT_NAME, read_record
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.store import sha256_bytes

__all__ = ["HashedFile", "Target", "refuse_foreign"]


class HashedFile:
    """A file being written whose SHA-256 is known at the end; ``size`` is in bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append these bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def hexdigest(self) -> str:
        """SHA-256 of what was written, 64 hexadecimal digits."""
        return self._digest.hexdigest()


class Target:
    """A new folder and its SHA256SUMS, which has a line for every file, sorted at the end.

    Nothing is kept in memory for the files that are done.  A context manager.

    Args:
        root: an empty folder; whoever made it makes it appear whole.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sums = (root / SUMS_NAME).open("xb")
        self.files = 0
        self.bytes = 0

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sums.close()
        if kind is None:
            path = self._root / SUMS_NAME
            lines = path.read_text(encoding="ascii").splitlines(keepends=True)
            path.write_text("".join(sorted(lines, key=_name_in)), encoding="ascii")

    def add(self, name: str, data: bytes) -> None:
        """Write a whole file.

        Args:
            name: path in the folder, of characters that `defocus_ds.dataset.export.names` makes.

        Raises:
            DatasetError: the export has that file already.
        """
        with self._created(name) as file:
            file.write(data)
        self._done(name, sha256_bytes(data), len(data))

    @contextmanager
    def opened(self, name: str) -> Iterator[HashedFile]:
        """A file to write piece by piece; errors as in `add`."""
        with self._created(name) as file:
            hashed = HashedFile(file)
            yield hashed
        self._done(name, hashed.hexdigest(), hashed.size)

    def _created(self, name: str) -> BinaryIO:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return path.open("xb")
        except FileExistsError as error:
            raise DatasetError(
                f"two crops would be {name}: one place of a scene is there twice, or this file "
                "system takes two scenes' names for one. `defocus-ds verify` the source."
            ) from error

    def _done(self, name: str, digest: str, size: int) -> None:
        self._sums.write(f"{digest}  {name}\n".encode())
        self.files += 1
        self.bytes += size


def _name_in(line: str) -> str:
    return line.partition("  ")[2]


def refuse_foreign(out: Path) -> None:
    """Pass if ``out`` is absent, empty, or an earlier export with nothing added to it.

    Raises:
        InputError: anything else; the text names what would be lost.
    """
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise InputError(f"{out}: exists and is not a folder; give another -o.")
    if not any(out.iterdir()):
        return
    try:
        read_record(out)
        ours = {SUMS_NAME, *read_sums(out)}
    except DatasetError as error:
        raise InputError(
            f"{out}: exists and is not an earlier export with its {EXPORT_NAME} and {SUMS_NAME}; "
            "give another -o, or move it away."
        ) from error
    for folder, folders, names in os.walk(out):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in sorted([*names, *links]):
            if (here / name).relative_to(out).as_posix() not in ours:
                raise InputError(
                    f"{here / name}: not a file of the earlier export in {out}, which a new one "
                    "replaces as a whole. Move it away, or give another -o."
                )
