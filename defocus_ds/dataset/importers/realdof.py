"""Paired folders without splits, as RealDOF: ``source`` and ``target``, or a list of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from defocus_ds.dataset.importers.dpdd import LEVEL, PairedFolders, pairs_of
from defocus_ds.dataset.importers.listing import (
    SUFFIXES,
    ImportOptions,
    Listing,
    PairFiles,
    listed,
)
from defocus_ds.errors import DatasetError
from defocus_ds.store import inside

__all__ = ["LIST_NAME", "list_realdof"]

LIST_NAME = "pairs.txt"
_MAX_BYTES = 1 << 26


def list_realdof(root: Path, options: ImportOptions) -> Listing:
    """The pairs of a test set: every one is in the split ``test``.

    Where ``pairs.txt`` is there it decides: a line names the blurred file, white space or a tab,
    and the sharp one, relative to the folder; with tabs a name may hold blanks.  Empty lines and
    lines that start with ``#`` are skipped.  Else ``source`` (blurred) and ``target`` (sharp) are
    paired by equal names, or by order as `pairs_of` says.

    Args:
        root: the folder.
        options: the level's name.

    Raises:
        DatasetError: neither the list nor the two folders, or a list that cannot be read; the
            line is named.
    """
    level = options.level or LEVEL
    refused: dict[str, str] = {}
    if (root / LIST_NAME).is_file():
        pairs = list(_pairs_of_list(root, level, refused))
    else:
        below = root / "RealDOF"  # as it is unpacked
        base = below if (below / "source").is_dir() else root
        pairs, how = pairs_of(
            base, PairedFolders("test", "source", "target"), level=level, refused=refused
        )
        return listed(base, pairs, refused, paired={"test": how})
    return listed(root, pairs, refused)


def _pairs_of_list(root: Path, level: str, refused: dict[str, str]) -> Iterator[PairFiles]:
    path = root / LIST_NAME
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {_MAX_BYTES}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 ({error}).") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        names = [n.strip() for n in line.split("\t")] if "\t" in line else line.split()
        if len(names) != 2:
            raise DatasetError(
                f"{path}:{number}: {len(names)} names, need two: the blurred file, the sharp one."
            )
        files = [inside(root, name) for name in names]
        for name, file in zip(names, files, strict=True):
            if not file.is_file() or file.suffix.lower() not in SUFFIXES:
                refused[name] = f"{LIST_NAME}:{number} names it, and it is no image file"
                break
        else:
            blurred, sharp = files
            yield PairFiles(blurred.stem, "test", level, sharp, blurred)
