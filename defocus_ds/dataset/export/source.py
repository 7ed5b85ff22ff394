"""What is exported: the crops of each level and split, in order, checked, as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defocus_ds.dataset.loaders import decode_crop
from defocus_ds.dataset.shards import (
    CROP_SCHEMA,
    crop_record,
    find_shards,
    has_crops,
    level_folder,
    shard_files,
)
from defocus_ds.dataset.stale import refuse_stale
from defocus_ds.dataset.tables import open_table, read_group
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS

__all__ = ["StoredCrop", "Stream", "open_streams"]

_BATCH_ROWS = 32


@dataclass(frozen=True, slots=True)
class StoredCrop:
    """A crop with the PNG bytes of its shard.

    Attributes:
        index: from 0, within its level and split.
        row: the columns without pixels.
        sharp, blurred: 8-bit grey PNG files.
    """

    index: int
    row: dict[str, Any]
    sharp: bytes
    blurred: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """The crops of one level and split.

    Attributes:
        shards: their files, in order.
        count: number of crops that the shards declare.
        dataset_digest: SHA-256 of the scenes.parquet or manifest that the crops were cut from;
            None where another program has rewritten the shards.
    """

    level: str
    split: str
    shards: tuple[Path, ...]
    count: int
    dataset_digest: str | None

    def crops(self) -> Iterator[StoredCrop]:
        """Every crop in order; one row group is in memory at a time.

        Raises:
            DatasetError: damaged, pixels of another hash than the row states, or a row of another
                level or split; the text names shard and row.
        """
        index = 0
        for path in self.shards:
            first = 0
            with open_table(path, CROP_SCHEMA) as file:
                for group in range(file.metadata.num_row_groups):
                    table = read_group(file, group, path=path, schema=CROP_SCHEMA)
                    for batch in table.to_batches(_BATCH_ROWS):
                        for row in batch.to_pylist():
                            yield self._checked(index, row, f"{path}: row {first}")
                            index, first = index + 1, first + 1

    def _checked(self, index: int, record: dict[str, Any], where: str) -> StoredCrop:
        row = decode_crop(record, where=where, check=True).row
        for column, expected in (("level", self.level), ("split", self.split)):
            if row[column] != expected:
                raise DatasetError(f"{where}: {column} {row[column]!r} in a shard of {expected!r}.")
        if row["x"] < 0 or row["y"] < 0:
            raise DatasetError(f"{where}: at ({row['x']}, {row['y']}), outside of any image.")
        return StoredCrop(index, row, record["sharp"]["bytes"], record["blurred"]["bytes"])


def open_streams(source: Path, levels: Sequence[str] | None) -> list[Stream]:
    """The levels and splits of a source, known levels first, train before val before test.

    Args:
        source: a built dataset, a release, or a ``crops`` folder.
        levels: names; None takes all that have crops.

    Raises:
        DatasetError: no crops, a level that is absent, a shard that is missing or unreadable, or
            crops of an earlier build.
    """
    if levels is not None:
        folders = [level_folder(source, level) for level in _ordered(levels)]
    else:
        folders = _all_levels(source)
    streams = []
    for folder in folders:
        refuse_stale(folder)
        for split in shard_files(folder):
            paths = tuple(shard.path for shard in find_shards(folder, split))
            count, digests = 0, set()
            for path in paths:
                with open_table(path, CROP_SCHEMA) as file:
                    count += file.metadata.num_rows
                    digests.add(_dataset_digest(path, file.schema_arrow.metadata))
            if len(digests) != 1:
                raise DatasetError(
                    f"{folder}: the {split} shards were cut from {len(digests)} different builds. "
                    "Run `crop` again, or copy them again."
                )
            if count:
                streams.append(Stream(folder.name, split, paths, count, digests.pop()))
    if not streams:
        names = ", ".join(str(folder) for folder in folders)
        raise DatasetError(f"{names}: no shard holds a crop.")
    return streams


def _dataset_digest(path: Path, metadata: Mapping[bytes, bytes] | None) -> str | None:
    if b"defocus_ds" not in (metadata or {}):
        return None
    return str(crop_record(path, metadata).get("dataset_digest"))


def _ordered(levels: Sequence[str]) -> list[str]:
    known = [level.value for level in BLURRED_LEVELS]
    return sorted(
        set(levels), key=lambda level: (known.index(level) if level in known else 9, level)
    )


def _all_levels(source: Path) -> list[Path]:
    """Folders with crops; those in ``crops/`` win, as in `load_crops`."""
    found: dict[str, Path] = {}
    for parent in (source / "crops", source):
        for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
            if has_crops(folder):
                found.setdefault(folder.name, folder)
    if not found:
        return [level_folder(source, BLURRED_LEVELS[0].value)]  # which says why there is none
    return [found[level] for level in _ordered(list(found))]
