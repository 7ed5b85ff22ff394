"""The one writer of imports: crops wait in a spool until their number is known."""

from __future__ import annotations

import hashlib
import heapq
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from defocus_ds.dataset import tables
from defocus_ds.dataset.importers.cut import PairPixels, PairReader, Refused, crop_rows
from defocus_ds.dataset.importers.listing import ImportOptions, Listing, PairFiles
from defocus_ds.dataset.shards import (
    CROP_FORMAT,
    CROP_SCHEMA,
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    ShardWriter,
    crop_metadata,
    manifest_metadata,
)
from defocus_ds.dataset.split import SPLITS
from defocus_ds.dataset.tables import open_table, read_group, table_writer, with_metadata

__all__ = ["write_crops"]

_SPOOL = ".spool"
_GROUP_ROWS = 128
_MANIFEST_ROWS = 4096
_PNG_LEAVES = ("sharp.bytes", "blurred.bytes")

_Counts = dict[str, dict[str, int]]


def write_crops(
    out: Path,
    root: Path,
    listing: Listing,
    *,
    options: ImportOptions,
    record: Mapping[str, Any],
    step: Callable[[str], None],
) -> tuple[_Counts, dict[str, str]]:
    """Cut every pair of a listing into ``crops/<level>/`` of a new folder.

    Args:
        out: an empty folder; whoever made it makes it appear whole.
        root: what the names of refused files are relative to.
        listing: from an importer.
        options: size, stride, number and seed of the crops.
        record: what shards and manifests say of how they were made.
        step: called with a label, twice for every pair.

    Returns:
        Level -> split -> crops; and the refused files, those of the listing and those that the
        pixels rule out.
    """
    refused = dict(listing.refused)
    digest = hashlib.sha256()
    images: dict[tuple[str, str], dict[str, str]] = {}
    with _Spool(out / _SPOOL) as spool:
        reader = PairReader(root, options)
        for pair in listing.pairs:
            try:
                pixels = reader.read(pair)
            except Refused as problem:
                refused[problem.path.relative_to(root).as_posix()] = str(problem)
                step(pair.scene)
                step(pair.scene)
                continue
            for row in crop_rows(pair, pixels, size=options.size):
                spool.add(row)
            images[pair.scene, pair.level] = _hashes(pixels)
            digest.update(repr((_place(pair), *_hashes(pixels).values())).encode())
            step(f"cut {pair.scene} {pair.level}")
    made = dict(record) | {"format": CROP_FORMAT, "dataset_digest": digest.hexdigest()}
    for level, counts in spool.counts.items():
        _write_level(
            out / "crops" / level, spool.rows(level), counts, made | {"level": level}, images, step
        )
    shutil.rmtree(out / _SPOOL)
    return spool.counts, dict(sorted(refused.items()))


class _Spool:
    """Rows on disk by level and split, in the order they came.

    A file that has as many row groups as `open_table` reads is followed by another.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[tuple[str, str], Any] = {}
        self._pending: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._written: Counter[tuple[str, str]] = Counter()
        self._groups: Counter[tuple[str, str]] = Counter()
        self._paths: dict[tuple[str, str], list[Path]] = {}
        self._closers: dict[tuple[str, str], ExitStack] = {}

    def __enter__(self) -> _Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            for key in self._pending if error is None else ():
                self._flush(key)

    @property
    def counts(self) -> _Counts:
        """Level -> split -> rows."""
        return {
            level: {split: n for split in SPLITS if (n := self._written[level, split])}
            for level in dict.fromkeys(level for level, _ in self._pending)
        }

    def add(self, row: dict[str, Any]) -> None:
        key = row["level"], row["split"]
        self._pending.setdefault(key, []).append(row)
        if len(self._pending[key]) == _GROUP_ROWS:
            self._flush(key)

    def rows(self, level: str) -> Iterator[dict[str, Any]]:
        """All rows of a level, sorted by scene as each split is."""
        streams = (self._split(level, split) for split in self.counts[level])
        return heapq.merge(*streams, key=lambda row: row["scene"])

    def _split(self, level: str, split: str) -> Iterator[dict[str, Any]]:
        for path in self._paths[level, split]:
            with open_table(path, CROP_SCHEMA) as file:
                for group in range(file.metadata.num_row_groups):
                    yield from read_group(file, group, path=path, schema=CROP_SCHEMA).to_pylist()

    def _flush(self, key: tuple[str, str]) -> None:
        rows, self._pending[key] = self._pending[key], []
        if not rows:
            return
        if self._groups[key] % tables.MAX_GROUPS == 0:
            self._next_file(key)
        self._files[key].write_table(pa.Table.from_pylist(rows, schema=CROP_SCHEMA))
        self._groups[key] += 1
        self._written[key] += len(rows)

    def _next_file(self, key: tuple[str, str]) -> None:
        if key in self._closers:
            self._closers[key].close()
        paths = self._paths.setdefault(key, [])
        paths.append(self._folder / f"{'-'.join(key)}-{len(paths)}.parquet")
        self._closers[key] = self._stack.enter_context(ExitStack())
        self._files[key] = self._closers[key].enter_context(
            table_writer(paths[-1], CROP_SCHEMA, stored=_PNG_LEAVES)
        )


def _write_level(
    folder: Path,
    rows: Iterator[dict[str, Any]],
    counts: Mapping[str, int],
    record: Mapping[str, Any],
    images: Mapping[tuple[str, str], dict[str, str]],
    step: Callable[[str], None],
) -> None:
    """Shards and manifest of one level."""
    folder.mkdir(parents=True)
    schema = with_metadata(MANIFEST_SCHEMA, manifest_metadata(record))
    pending: list[dict[str, Any]] = []
    scene = None
    with (
        ShardWriter.opened(folder, counts, crop_metadata(record)) as shards,
        table_writer(folder / MANIFEST_NAME, schema) as manifest,
    ):
        for row in rows:
            shards.write(row)
            whole = {name: row[name] for name in MANIFEST_SCHEMA.names if name in row}
            pending.append(whole | images[row["scene"], row["level"]])
            if len(pending) == _MANIFEST_ROWS:
                manifest.write_table(pa.Table.from_pylist(pending, schema=schema))
                pending = []
            if row["scene"] != scene:
                scene = row["scene"]
                step(f"wrote {scene} {row['level']}")
        manifest.write_table(pa.Table.from_pylist(pending, schema=schema))


def _hashes(pixels: PairPixels) -> dict[str, str]:
    """The columns by which a manifest names a pair's images."""
    return {
        "image_sha256_sharp": pixels.sha256_sharp,
        "image_sha256_blurred": pixels.sha256_blurred,
    }


def _place(pair: PairFiles) -> tuple[str, str, str]:
    return pair.scene, pair.level, pair.split
