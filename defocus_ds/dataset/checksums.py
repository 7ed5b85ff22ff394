"""SHA256SUMS, in the format of coreutils: ``sha256sum --check SHA256SUMS``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from defocus_ds.errors import DatasetError
from defocus_ds.store import inside, sha256_file, write_bytes

__all__ = ["SUMS_NAME", "list_files", "read_sums", "write_sums"]

SUMS_NAME = "SHA256SUMS"
# records of how a dataset was made, which differ from run to run, and pages made from it
EXCLUDED = ("receipts", "work", "report")
_MAX_BYTES = 1 << 28
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\n\r\\\0]+)")


def list_files(root: Path) -> list[str]:
    """Relative paths of the files SHA256SUMS covers, sorted.

    Left out: ``receipts/``, ``work/``, ``report/``, dotfiles, SHA256SUMS itself.  Folders behind
    symbolic links are not entered.
    """
    found = []
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).as_posix() not in EXCLUDED
        ]
        found += [(here / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(name for name in found if name != SUMS_NAME)


def write_sums(root: Path, known: Mapping[str, str] | None = None) -> None:
    """Write SHA256SUMS atomically.

    Args:
        root: the dataset.
        known: relative path -> SHA-256 of files that need not be read again.

    Raises:
        DatasetError: a file name that the format cannot hold, a link out of the root, or
            something that is not a file.
    """
    known = known or {}
    lines = []
    for name in list_files(root):
        path = inside(root, name)
        if not path.is_file():
            raise DatasetError(f"{path}: not a file; remove it.")
        digest = known.get(name) or sha256_file(path)
        line = f"{digest}  {name}"
        if not (_LINE.fullmatch(line) and name.isprintable()):
            raise DatasetError(f"{root}: {SUMS_NAME} cannot hold the name {name!r}; rename it.")
        lines.append(line + "\n")
    write_bytes(root / SUMS_NAME, "".join(lines).encode())


def read_sums(root: Path) -> dict[str, str]:
    """Relative path -> SHA-256 from SHA256SUMS.

    Raises:
        DatasetError: missing, not in the format, a path outside the root, or one named twice.
    """
    path = root / SUMS_NAME
    if not path.is_file():
        raise DatasetError(f"{path}: missing.")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {_MAX_BYTES}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}).") from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DatasetError(f"{path}:{number}: {line[:80]!r} is not '<sha256>  <path>'.")
        digest, name = match.groups()
        inside(root, name)
        if name in sums:
            raise DatasetError(f"{path}:{number}: {name!r} is named twice.")
        sums[name] = digest
    return sums
