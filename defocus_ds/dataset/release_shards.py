"""The shards of a release: a level's rows with their new splits, pixels checked on the way."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from defocus_ds.dataset.loaders import decode_crop
from defocus_ds.dataset.shards import (
    CROP_SCHEMA,
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    REJECTED_NAME,
    REJECTED_SCHEMA,
    Shard,
    ShardWriter,
    crop_metadata,
    crop_record,
    find_shards,
    manifest_metadata,
    manifest_writer,
    shard_files,
)
from defocus_ds.dataset.split import SPLITS
from defocus_ds.dataset.tables import (
    open_table,
    read_group,
    read_table,
    table_writer,
    with_metadata,
)
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level
from defocus_ds.wording import command_line

__all__ = ["LevelCrops", "add_row", "write_level"]

_SHARED = [name for name in MANIFEST_SCHEMA.names if name in CROP_SCHEMA.names and name != "split"]


@dataclass(frozen=True, slots=True)
class LevelCrops:
    """A level's crops in the dataset.

    ``crops`` is scene -> number of crops to release, ``digests`` scene -> SHA-256 over its rows in
    the manifest, ``splits`` scene -> split that `crop` gave it, ``images`` scene -> the hashes of
    its images by column of the manifest, for every kept pair; ``record`` what the manifest says of
    how it was made.
    """

    level: Level
    folder: Path
    crops: dict[str, int]
    digests: dict[str, str]
    splits: dict[str, str]
    images: dict[str, dict[str, str]]
    record: dict[str, Any]


def write_level(
    folder: Path,
    item: LevelCrops,
    splits: Mapping[str, str],
    *,
    without: Collection[str],
    splits_digest: str,
    step: Callable[[str], None],
) -> dict[str, int]:
    """Write shards, manifest and rejections of one level; one row group is held at a time.

    Args:
        folder: to write to; it does not exist.
        item: what to write.
        splits: scene -> split; other scenes are left out.
        without: scenes that were left out, whose rejections are not released either.
        splits_digest: SHA-256 of the table of splits; recorded.
        step: called with a label for every crop.

    Returns:
        Split -> crops.

    Raises:
        DatasetError: a damaged shard, pixels of another hash, or shards that are not those of
            the manifest.
    """
    folder.mkdir(parents=True)
    left = Counter({s: n for s, n in item.crops.items() if s in splits})
    seen = {scene: hashlib.sha256() for scene in left}
    counts: Counter[str] = Counter()
    for scene, crops in left.items():
        counts[splits[scene]] += crops
    ordered = {split: counts[split] for split in SPLITS if counts[split]}
    record = item.record | {"splits": splits_digest}
    with (
        ShardWriter.opened(folder, ordered, crop_metadata(record)) as shards,
        manifest_writer(folder / MANIFEST_NAME, manifest_metadata(record)) as manifest,
    ):
        for row in _rows(item.folder, item.record):
            scene = row["scene"]
            if scene not in left:
                continue
            if left[scene] == 0:
                raise _other_rows(item, scene)
            left[scene] -= 1
            add_row(seen[scene], row)
            row["split"] = splits[scene]
            shards.write(row)
            manifest(row | item.images[scene])
            step(f"{item.level.value} {scene}")
        for scene, digest in seen.items():
            if left[scene] or digest.hexdigest() != item.digests[scene]:
                raise _other_rows(item, scene)
    if (item.folder / REJECTED_NAME).is_file():
        schema = with_metadata(REJECTED_SCHEMA, manifest_metadata(record))
        found = read_table(item.folder / REJECTED_NAME, REJECTED_SCHEMA)
        scenes = pa.array(sorted(item.images.keys() - without), pa.string())
        with table_writer(folder / REJECTED_NAME, schema) as writer:
            writer.write_table(found.filter(pc.is_in(found.column("scene"), scenes)).cast(schema))
    return ordered


def add_row(digest: Any, row: Mapping[str, Any]) -> None:
    """Add a row to the digest of its scene: all that a manifest and a shard both say of it."""
    digest.update(repr([row[name] for name in _SHARED]).encode())


def _other_rows(item: LevelCrops, scene: str) -> DatasetError:
    verify = command_line("verify", item.folder.parent.parent)
    return DatasetError(
        f"{item.folder}: the shards have other rows of {scene} than {MANIFEST_NAME}. Run {verify}"
    )


def _rows(folder: Path, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of all shards of a level, pixels checked, sorted by scene as each split is."""
    streams = (_split_rows(find_shards(folder, split), record) for split in shard_files(folder))
    return heapq.merge(*streams, key=lambda row: row["scene"])


def _split_rows(shards: Sequence[Shard], record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        number = 0
        with open_table(shard.path, CROP_SCHEMA) as file:
            if crop_record(shard.path, file.schema_arrow.metadata) != record:
                raise DatasetError(
                    f"{shard.path}: it says that it was made otherwise than {MANIFEST_NAME} beside "
                    "it. Crop the level again."
                )
            for group in range(file.metadata.num_row_groups):
                table = read_group(file, group, path=shard.path, schema=CROP_SCHEMA)
                for row in table.to_pylist():
                    decode_crop(row, where=f"{shard.path}: row {number}", check=True)
                    number += 1
                    yield row
