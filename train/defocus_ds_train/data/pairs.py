"""Crop pairs of a built dataset or a release, decoded once into the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from defocus_ds.dataset.loaders import Crops, load_crops
from defocus_ds.dataset.shards import CROP_SCHEMA, find_shards, level_folder, shard_files
from defocus_ds.dataset.tables import open_table, read_group
from defocus_ds.errors import DatasetError
from defocus_ds_train.data.cache import CachedCrop, CropCache, Progress, cached_crops

__all__ = ["has_split", "open_pairs", "rows_digest"]

# what a crop is: everything else in a row follows from these
_IDENTITY = pa.schema(
    [
        CROP_SCHEMA.field(name)
        for name in ("scene", "level", "split", "x", "y", "size", "sha256_sharp", "sha256_blurred")
    ]
)


def has_split(root: Path, level: str, split: str) -> bool:
    """Whether a dataset has crops of this level and split.

    Raises:
        DatasetError: no crops of the level at all.
    """
    return split in shard_files(level_folder(root, level))


def open_pairs(
    root: Path, *, level: str, split: str, size: int, cache: Path, progress: Progress | None = None
) -> CropCache:
    """All crop pairs of one level and split, every pixel checked against its row's SHA-256.

    Args:
        root: a built dataset, a release, or a ``crops`` folder.
        level: "low", "medium" or "high".
        split: "train", "val" or "test".
        size: side in px that the crops must have.
        cache: folder of all caches.
        progress: called with (done, total, label) while they are decoded.

    Raises:
        DatasetError: the level or split is absent, damaged, empty, or of another size.
    """
    crops = load_crops(root, level=level, split=split, check=True)
    if len(crops) == 0:
        raise DatasetError(f"{crops.folder}: split {split!r} holds no crops; run `crop` again.")
    found = crops[0].row["size"]
    if found != size:
        raise DatasetError(
            f"{crops.folder}: crops of {found} px, the recipe trains on {size} px. "
            f"Give --set size={found}, or cut others with `defocus-ds crop --size {size}`."
        )
    return cached_crops(
        cache,
        rows_digest(root, level=level, split=split),
        count=len(crops),
        size=size,
        paired=True,
        crops=lambda: _decoded(crops),
        progress=progress,
    )


def rows_digest(root: Path, *, level: str, split: str) -> str:
    """SHA-256 over the rows of one level and split, 64 hexadecimal digits.

    It covers the place and the pixels of every crop in order, and neither the names of the files
    nor how Parquet stores them: a release and the dataset that it was made from may agree.

    Raises:
        DatasetError: the level or split is absent, or a shard is damaged.
    """
    digest = hashlib.sha256()
    for shard in find_shards(level_folder(root, level), split):
        with open_table(shard.path, CROP_SCHEMA) as file:
            for group in range(file.metadata.num_row_groups):
                table = read_group(file, group, path=shard.path, schema=_IDENTITY)
                columns = [table.column(name).to_pylist() for name in _IDENTITY.names]
                for row in zip(*columns, strict=True):
                    digest.update(repr(row).encode())
    return digest.hexdigest()


def _decoded(crops: Crops) -> Iterator[CachedCrop]:
    for crop in crops:
        yield CachedCrop(crop.row["scene"], crop.sharp, crop.blurred)
