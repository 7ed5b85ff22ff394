"""Load crops: map-style random access to the shards of one split, safe in worker processes."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from defocus_ds.dataset.manifest import read_object
from defocus_ds.dataset.pixels import decode_png, pixels_sha256
from defocus_ds.dataset.release_facts import RELEASE_NAME
from defocus_ds.dataset.remote import is_url, remote_shards
from defocus_ds.dataset.shards import (
    CROP_SCHEMA,
    MANIFEST_SCHEMA,
    find_shards,
    level_folder,
    spread,
)
from defocus_ds.dataset.stale import refuse_stale
from defocus_ds.dataset.tables import open_table, read_group
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Crop, UInt8Image

__all__ = ["Crops", "decode_crop", "load_crops"]

_CACHED_GROUPS = 4
_OPEN_FILES = 256
MAX_CROP_SIZE = 4096
_COLUMNS = [name for name in MANIFEST_SCHEMA.names if name in CROP_SCHEMA.names]


def load_crops(root: Path | str, *, level: str, split: str, check: bool = False) -> Crops:
    """The crops of one level and split.

    Args:
        root: a built dataset, a release, or a ``crops`` folder; or the URL of one with
            SHA256SUMS, which fsspec opens ("https://...", "s3://...").
        level: "low", "medium" or "high".
        split: "train", "val" or "test".
        check: compare every crop's pixels with its SHA-256 when it is read.

    Returns:
        A sequence of `defocus_ds.frames.Crop`.  A release says how many crops it has, and its
        shards are opened when they are read from; otherwise the end of every shard is read to count
        its rows.  It pickles small, and opens its files in every process that indexes it.

    Raises:
        DatasetError: the level or split is absent, a shard is missing, one that was opened is
            damaged or of another format, or the crops are of an earlier build of their dataset.
    """
    if is_url(root):
        files: Sequence[Path | str] = remote_shards(str(root), level=level, split=split)
        return Crops(f"{str(root).rstrip('/')}/{level}", split, files, check=check)
    folder = level_folder(Path(root), level)
    refuse_stale(folder)
    shards = [shard.path for shard in find_shards(folder, split)]
    return Crops(folder, split, shards, check=check, rows=_stated_rows(folder, split))


class Crops:
    """Map-style access: ``len(crops)``, ``crops[i]``, iteration in order.

    One access reads one row group (32 crops); the last few are kept.  `arrays` decodes all of
    them at once, for a set that fits in memory.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        shards: Sequence[Path | str],
        *,
        check: bool = False,
        rows: int | None = None,
    ) -> None:
        self.folder = folder
        self.split = split
        self.check = check
        self._paths = list(shards)
        if rows is None:
            self._sizes = [self._rows_of(path) for path in self._paths]
        else:
            self._sizes = spread(rows, len(self._paths))
        self._starts = [0, *accumulate(self._sizes)]
        self._forget()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Crop:
        """The crop at ``index``; negative counts from the end.

        Raises:
            IndexError: out of range.
            TypeError: not an integer; slices are not supported.
            DatasetError: damaged; the text names shard and row.
        """
        if not isinstance(index, int | np.integer):
            raise TypeError(f"crops are indexed by an integer, not {type(index).__name__}.")
        position = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= position < len(self):
            raise IndexError(f"crop {index} of {len(self)}.")
        shard = bisect_right(self._starts, position) - 1
        row = position - self._starts[shard]
        _, firsts = self._opened(shard)
        group = bisect_right(firsts, row) - 1
        return decode_crop(
            self._rows(shard, group)[row - firsts[group]],
            where=f"{self._paths[shard]}: row {row}",
            check=self.check,
        )

    def __iter__(self) -> Iterator[Crop]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"Crops({str(self.folder)!r}, {self.split!r}, {len(self)} crops)"

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_files", "_cache", "_process"):
            state.pop(name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def arrays(self) -> tuple[UInt8Image, UInt8Image]:
        """(blurred, sharp), each (N, size, size) uint8: 2 * N * size^2 bytes.

        Raises:
            DatasetError: as in indexing, or crops of more than one size.
        """
        size = self[0].sharp.shape[0]
        blurred = np.empty((len(self), size, size), np.uint8)
        sharp = np.empty_like(blurred)
        for index, crop in enumerate(self):
            if crop.sharp.shape != (size, size):
                raise DatasetError(
                    f"{self.folder}: crops of {size} and {crop.sharp.shape[0]} px in one split."
                )
            blurred[index], sharp[index] = crop.blurred, crop.sharp
        return blurred, sharp

    def _forget(self) -> None:
        self._process = os.getpid()
        self._files: dict[int, tuple[Any, list[int]]] = {}
        self._cache: OrderedDict[tuple[int, int], list[dict[str, Any]]] = OrderedDict()

    def _rows_of(self, path: Path | str) -> int:
        with open_table(path, CROP_SCHEMA) as file:
            return int(file.metadata.num_rows)

    def _opened(self, shard: int) -> tuple[Any, list[int]]:
        """A shard's open file, and the first row of each of its row groups."""
        if self._process != os.getpid():
            self._forget()  # a forked worker must not share its parent's file positions
        if shard not in self._files:
            path = self._paths[shard]
            file = open_table(path, CROP_SCHEMA)
            groups = range(file.metadata.num_row_groups)
            ends = accumulate(file.metadata.row_group(group).num_rows for group in groups)
            *firsts, rows = [0, *ends]
            if rows != self._sizes[shard]:
                raise DatasetError(
                    f"{path}: {rows} rows, need {self._sizes[shard]}. Copy it again."
                )
            if len(self._files) == _OPEN_FILES:
                self._files.pop(next(iter(self._files)))[0].close()
            self._files[shard] = file, firsts
        return self._files[shard]

    def _rows(self, shard: int, group: int) -> list[dict[str, Any]]:
        """The rows of a row group, from the cache or the file."""
        key = shard, group
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        table = read_group(
            self._opened(shard)[0], group, path=self._paths[shard], schema=CROP_SCHEMA
        )
        rows: list[dict[str, Any]] = table.to_pylist()
        self._cache[key] = rows
        if len(self._cache) > _CACHED_GROUPS:
            self._cache.popitem(last=False)
        return rows


def _stated_rows(folder: Path, split: str) -> int | None:
    """Crops of a level and split that the release around its folder states; None without one."""
    folder = folder.resolve()
    path = folder.parent.parent / RELEASE_NAME
    if folder.parent.name != "crops" or not path.is_file():
        return None
    try:
        stated = read_object(path)["crops"][folder.name][split]
    except (KeyError, TypeError):
        stated = None
    if not isinstance(stated, int) or stated < 1:
        raise DatasetError(
            f"{path}: does not say how many {folder.name} crops are in {split}. Copy it again."
        )
    return stated


def decode_crop(record: dict[str, Any], *, where: str, check: bool) -> Crop:
    """A row of a shard as pixels and the columns without them.

    Args:
        record: a row of `defocus_ds.dataset.shards.CROP_SCHEMA`.
        where: what errors call it.
        check: compare the pixels with the row's SHA-256.

    Raises:
        DatasetError: a size out of range, a PNG of another size, or pixels of another hash.
    """
    size = record["size"]
    if not 1 <= size <= MAX_CROP_SIZE:
        raise DatasetError(f"{where}: size {size} px, limit {MAX_CROP_SIZE}.")
    pixels = {}
    for name in ("sharp", "blurred"):
        image = record[name]
        if image is None or image["bytes"] is None:
            raise DatasetError(f"{where}: no {name} image.")
        label = f"{where}: {name}"
        pixels[name] = decode_png(image["bytes"], size=(size, size), mode="L", where=label)
        if check and (found := pixels_sha256(pixels[name])) != record[f"sha256_{name}"]:
            raise DatasetError(
                f"{label}: pixels have SHA-256 {found[:12]}..., "
                f"the row says {str(record[f'sha256_{name}'])[:12]}...."
            )
    row = {column: record[column] for column in _COLUMNS}
    return Crop(pixels["blurred"], pixels["sharp"], row)
