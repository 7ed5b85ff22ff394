"""The columns of a level's crops without pixels, read a few rows at a time for `diff`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from defocus_ds.dataset.shards import (
    CROP_SCHEMA,
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    crop_record,
    find_shards,
    shard_files,
)
from defocus_ds.dataset.tables import open_table, text_limit
from defocus_ds.errors import DatasetError

__all__ = ["CropTable", "Keys"]

Keys = npt.NDArray[np.uint64]

_IMAGES = (("image_sha256_sharp", "sharp"), ("image_sha256_blurred", None))
# digests of what a level was made from; `diff` names the differences themselves
_DIGESTS = ("dataset_digest", "splits", "review")
# rows looked at at once
_BATCH_ROWS = 4096
_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


class CropTable:
    """The columns of one level without pixels, read anew for each use.

    They are those of the manifest, or of the shards where there is none.

    Args:
        folder: of the level.

    Raises:
        DatasetError: neither is there, or a file of another schema.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = folder / MANIFEST_NAME
        self._schema = MANIFEST_SCHEMA if manifest.is_file() else CROP_SCHEMA
        self.has_images = self._schema is MANIFEST_SCHEMA
        self._files = [manifest]
        if not self.has_images:
            self._files = [
                shard.path for split in shard_files(folder) for shard in find_shards(folder, split)
            ]
        self._length = 0
        self.record: dict[str, Any] = {}
        for path in self._files:
            with open_table(path, self._schema) as file:
                self._length += file.metadata.num_rows
                metadata = file.schema_arrow.metadata
                if not self.record and b"defocus_ds" in (metadata or {}):
                    self.record = crop_record(path, metadata)
        for name in _DIGESTS:
            self.record.pop(name, None)

    def __len__(self) -> int:
        return self._length

    def keys(self, codes: dict[str, int]) -> tuple[Keys, dict[str, set[str]]]:
        """Place of every crop, and scene -> its splits.

        Args:
            codes: scene -> number; gains the scenes that are new.

        Returns:
            (N, 2) uint64: scene and size, x and y, 32 bits each.
        """
        keys = np.empty((len(self), 2), np.uint64)
        splits: dict[str, set[str]] = {}
        for start, batch in self._batches("scene", "split", "x", "y", "size"):
            for scene, split in _pairs(batch):
                splits.setdefault(scene, set()).add(split)
                codes.setdefault(scene, len(codes))
            names = batch.column("scene")
            known = np.array([codes.get(n, 0) for n in names.dictionary.to_pylist()], np.uint64)
            x, y, size = (
                batch.column(name).to_numpy().astype(np.uint32).astype(np.uint64)
                for name in ("x", "y", "size")
            )
            rows = slice(start, start + len(batch))
            keys[rows, 0] = known[names.indices.to_numpy()] << np.uint64(32) | size
            keys[rows, 1] = x << np.uint64(32) | y
        return keys, splits

    def images(self, level: str) -> Iterator[tuple[str, str, str]]:
        """(scene, level, SHA-256) of the images that the manifest names; some more than once."""
        for column, kind in _IMAGES if self.has_images else ():
            for _, batch in self._batches("scene", column):
                for scene, digest in _pairs(batch):
                    yield scene, kind or level, digest

    def digests(self, name: str) -> npt.NDArray[np.uint64]:
        """(N, 2) uint64: the first half of each SHA-256 of a column."""
        found = np.empty((len(self), 2), np.uint64)
        for start, batch in self._batches(name):
            where = f"{self.folder}: column {name!r}"
            found[start : start + len(batch)] = _halves(batch.column(0), where)
        return found

    def values(self, name: str) -> npt.NDArray[np.float64]:
        """(N,) float64 of a measured column; NaN where it says nothing."""
        found = np.full(len(self), np.nan)
        for start, batch in self._batches(name):
            column = batch.column(0).to_numpy(zero_copy_only=False)
            found[start : start + len(batch)] = column
        return found

    def _batches(self, *names: str) -> Iterator[tuple[int, Any]]:
        """(number of the first row, a few rows of these columns), texts as dictionaries.

        Whole row groups are not read: that of a manifest may have every crop.  A column that a
        file lacks, because it came later, gives nothing.
        """
        start = 0
        for path in self._files:
            with open_table(path, self._schema) as file:
                rows = file.metadata.num_rows
                if all(name in file.schema_arrow.names for name in names):
                    first = start
                    for batch in _checked(file, path, names, self._schema):
                        yield first, batch
                        first += len(batch)
                    if first != start + rows:
                        raise DatasetError(f"{path}: {first - start} rows, it declares {rows}.")
                start += rows
        if start != len(self):
            raise DatasetError(f"{self.folder}: it changed while it was read; run diff again.")


def _checked(file: Any, path: Path, names: Sequence[str], schema: Any) -> Iterator[Any]:
    """Record batches of some columns: no null where the schema has none, texts in limits.

    Read as a dictionary, a column whose texts all differ gathers the texts of its row group.  A
    hash is therefore read as it is, unless the group is small, once it is known that no text is
    stored once and long for many rows.
    """
    try:
        with _without_dictionaries(file, path, names) as plain:
            for group in range(file.metadata.num_row_groups):
                small = file.metadata.row_group(group).num_rows <= _BATCH_ROWS
                if not small:
                    for first in islice(_batches(file, 1, group, names), 1):
                        _check_texts(first, path, names)
                for batch in _batches(file if small else plain, _BATCH_ROWS, group, names):
                    batch.validate(full=True)
                    for name in names:
                        if batch.column(name).null_count and not schema.field(name).nullable:
                            raise DatasetError(f"{path}: column {name!r} holds a null.")
                    _check_texts(batch, path, names)
                    yield batch
    except (OSError, ValueError, pa.ArrowException) as error:
        text = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path} is damaged ({text}).") from error


def _batches(file: Any, rows: int, group: int, names: Sequence[str]) -> Iterator[Any]:
    found: Iterator[Any] = file.iter_batches(
        rows, row_groups=[group], columns=list(names), use_threads=False
    )
    return found


def _without_dictionaries(file: Any, path: Path, names: Sequence[str]) -> Any:
    """The same file with hashes read as they are."""
    return pq.ParquetFile(
        path,
        metadata=file.metadata,
        read_dictionary=[name for name in names if "sha256" not in name],
        pre_buffer=False,
        page_checksum_verification=True,
    )


def _check_texts(batch: Any, path: Path, names: Sequence[str]) -> None:
    for name in names:
        texts = _spelled(batch.column(name))
        if pa.types.is_string(texts.type):
            longest = pc.max(pc.binary_length(texts)).as_py() or 0
            if longest > (limit := text_limit(name)):
                raise DatasetError(
                    f"{path}: column {name!r}: a text of {longest} bytes, limit {limit}."
                )


def _spelled(column: Any) -> Any:
    return column.dictionary if pa.types.is_dictionary(column.type) else column


def _pairs(batch: Any) -> Iterator[tuple[str, str]]:
    """The different combinations of the first two columns, which are texts."""
    one, other = (
        column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        for column in batch.columns[:2]
    )
    width = max(len(other.dictionary), 1)
    codes = one.indices.to_numpy().astype(np.int64) * width + other.indices.to_numpy()
    for code in np.unique(codes).tolist():
        yield one.dictionary[code // width].as_py(), other.dictionary[code % width].as_py()


def _halves(texts: Any, where: str) -> npt.NDArray[np.uint64]:
    """(n, 2) uint64 of the first 32 hexadecimal digits of an Arrow array of SHA-256 sums."""
    if not len(texts):
        return np.empty((0, 2), np.uint64)
    if pa.types.is_dictionary(texts.type):
        found: Keys = _halves(texts.dictionary, where)[texts.indices.to_numpy()]
        return found
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
    if (np.diff(offsets) != 64).any():
        raise DatasetError(f"{where}: a text that is not a SHA-256.")
    digits = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, 64)
    values = _DIGITS[digits[:, :32]]
    if values.max() > 15:
        raise DatasetError(f"{where}: a text that is not a SHA-256.")
    return np.ascontiguousarray(values[:, ::2] << 4 | values[:, 1::2]).view(np.uint64)
