"""Crop shards: their columns, their names, how they are written and how they are found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from defocus_ds.dataset.kinds import refuse_other_folder
from defocus_ds.dataset.split import SPLITS
from defocus_ds.dataset.tables import table_writer, with_metadata
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS
from defocus_ds.wording import command_line

__all__ = [
    "CROP_FORMAT",
    "CROP_SCHEMA",
    "MANIFEST_NAME",
    "MANIFEST_SCHEMA",
    "REJECTED_NAME",
    "REJECTED_SCHEMA",
    "Shard",
    "ShardWriter",
    "crop_metadata",
    "crop_record",
    "find_shards",
    "has_crops",
    "level_folder",
    "manifest_metadata",
    "manifest_writer",
    "shard_counts",
    "shard_files",
    "spread",
]

CROP_FORMAT = 1
MANIFEST_NAME = "manifest.parquet"
REJECTED_NAME = "rejected.parquet"
SHARD_ROWS = 4096
_MANIFEST_ROWS = 4096
# one random access reads one row group: about 0.7 MB of 128 x 128 pairs
GROUP_ROWS = 32
_NAME = re.compile(r"(train|val|test)-(\d{5})-of-(\d{5})\.parquet")
_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_PNG_LEAVES = ("sharp.bytes", "blurred.bytes")

_PLACE = [
    pa.field("scene", pa.string(), nullable=False),
    pa.field("level", pa.string(), nullable=False),
    pa.field("split", pa.string(), nullable=False),
    pa.field("x", pa.int32(), nullable=False),
    pa.field("y", pa.int32(), nullable=False),
    pa.field("size", pa.int32(), nullable=False),
]
_MEASURED = [
    pa.field("blur_radius_px", pa.float64(), nullable=False),
    pa.field("blur_radius_confidence", pa.float64()),
    pa.field("blur_radius_spread_px", pa.float64()),
    pa.field("q_sharp", pa.float64(), nullable=False),
    pa.field("q_blurred", pa.float64(), nullable=False),
    pa.field("residual_px", pa.float64(), nullable=False),
    pa.field("sha256_sharp", pa.string(), nullable=False),
    pa.field("sha256_blurred", pa.string(), nullable=False),
]

CROP_SCHEMA = pa.schema(
    [*_PLACE, pa.field("sharp", _IMAGE), pa.field("blurred", _IMAGE), *_MEASURED]
)
MANIFEST_SCHEMA = pa.schema(
    [
        *_PLACE,
        *_MEASURED,
        pa.field("image_sha256_sharp", pa.string(), nullable=False),
        pa.field("image_sha256_blurred", pa.string(), nullable=False),
    ]
)
REJECTED_SCHEMA = pa.schema(
    [
        *(field for field in _PLACE if field.name != "split"),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("limit", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard file of a split: the ``index``-th of ``total``."""

    path: Path
    split: str
    index: int
    total: int


class ShardWriter:
    """Spreads the rows of each split over shards of nearly equal size, in the order they come.

    Args:
        folder: where the shards go; exists.
        counts: split -> number of rows that will come, so that names can say "of N".
        metadata: for the schema of every shard, from `crop_metadata`.
    """

    def __init__(
        self, folder: Path, counts: Mapping[str, int], metadata: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._schema = with_metadata(CROP_SCHEMA, metadata)
        self._sizes = {split: shard_counts(count) for split, count in counts.items()}
        self._index = dict.fromkeys(counts, 0)
        self._rows: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
        self._written = dict.fromkeys(counts, 0)
        self._open: dict[str, tuple[ExitStack, Any]] = {}

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, counts: Mapping[str, int], metadata: Mapping[str, str]
    ) -> Iterator[ShardWriter]:
        """A writer that is closed, and checked to be full, at the end of the block."""
        writer = cls(folder, counts, metadata)
        try:
            yield writer
        finally:
            for stack, _ in writer._open.values():
                stack.close()
        left = {s: len(sizes) - writer._index[s] for s, sizes in writer._sizes.items()}
        assert not any(left.values()), f"shards left unwritten: {left}"

    def write(self, row: dict[str, Any]) -> None:
        """Add one row of `CROP_SCHEMA`."""
        split = row["split"]
        self._rows[split].append(row)
        size = self._sizes[split][self._index[split]]
        pending = len(self._rows[split])
        if pending == GROUP_ROWS or self._written[split] + pending == size:
            self._flush(split, size)

    def _flush(self, split: str, size: int) -> None:
        if split not in self._open:
            stack = ExitStack()
            name = f"{split}-{self._index[split]:05}-of-{len(self._sizes[split]):05}.parquet"
            writer = stack.enter_context(
                table_writer(self._folder / name, self._schema, stored=_PNG_LEAVES)
            )
            self._open[split] = stack, writer
        rows = self._rows[split]
        self._open[split][1].write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._written[split] += len(rows)
        self._rows[split] = []
        if self._written[split] == size:
            self._open.pop(split)[0].close()
            self._index[split] += 1
            self._written[split] = 0


def shard_counts(rows: int) -> list[int]:
    """Rows of each shard of a split: as few shards as `SHARD_ROWS` allows, sizes within one.

    >>> shard_counts(9000)
    [3000, 3000, 3000]
    """
    return spread(rows, -(-rows // SHARD_ROWS))


def spread(rows: int, shards: int) -> list[int]:
    """Rows of each of so many shards.

    >>> spread(8, 3)
    [2, 3, 3]
    """
    return [rows * (i + 1) // shards - rows * i // shards for i in range(shards)]


@contextmanager
def manifest_writer(
    path: Path, metadata: Mapping[str, str]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What takes the rows of a manifest one after another; a few thousand wait in memory.

    Args:
        path: file to write; the caller makes it appear whole.
        metadata: from `manifest_metadata`.
    """
    schema = with_metadata(MANIFEST_SCHEMA, metadata)
    pending: list[dict[str, Any]] = []
    with table_writer(path, schema) as writer:

        def write(row: dict[str, Any]) -> None:
            pending.append({name: row[name] for name in schema.names})
            if len(pending) == _MANIFEST_ROWS:
                writer.write_table(pa.Table.from_pylist(pending, schema=schema))
                pending.clear()

        yield write
        writer.write_table(pa.Table.from_pylist(pending, schema=schema))


def crop_metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """Schema metadata of a shard: our own record, and the features that `datasets` reads."""
    features = {
        field.name: {"_type": "Image"}
        if field.type == _IMAGE
        else {"dtype": _feature(field.type), "_type": "Value"}
        for field in CROP_SCHEMA
    }
    return manifest_metadata(record) | {
        "huggingface": json.dumps({"info": {"features": features}}, separators=(",", ":"))
    }


def manifest_metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """Schema metadata of a manifest: format version, dataset digest and tiling, as JSON."""
    return {"defocus_ds": json.dumps(record, sort_keys=True, separators=(",", ":"))}


def crop_record(path: Path, metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What a manifest says of how it was made: the inverse of `manifest_metadata`.

    Args:
        path: of the manifest, for the error.
        metadata: of its schema.

    Raises:
        DatasetError: no record, not a JSON object, or of another format version.
    """
    try:
        record = json.loads((metadata or {})[b"defocus_ds"])
    except (KeyError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: its metadata does not say how it was made.") from error
    version = record.get("format") if isinstance(record, dict) else None
    if version != CROP_FORMAT:
        raise DatasetError(f"{path}: format {version!r}, this version reads {CROP_FORMAT}.")
    return dict(record)


def has_crops(folder: Path) -> bool:
    """Whether a folder holds shards or a manifest; folders being written do not count."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return (folder / MANIFEST_NAME).is_file() or bool(shard_files(folder))


def level_folder(root: Path, level: str) -> Path:
    """The folder that holds a level's shards, for a dataset, a release or a ``crops`` folder.

    Raises:
        DatasetError: none of them is there, or ``root`` is something else, which is named.
    """
    from defocus_ds.dataset.export.record import refuse_export  # which reads shards

    if Path(level).name != level:
        raise DatasetError(f"level {level!r}: a level is one of {', '.join(BLURRED_LEVELS)}.")
    parents = (root / "crops", root)
    for parent in parents:
        if has_crops(parent / level):
            return parent / level
    names = {file.parent.name for parent in parents for file in parent.glob("*/*-of-*.parquet")}
    there = ", ".join(dict.fromkeys(n for n in (*BLURRED_LEVELS, *sorted(names)) if n in names))
    if not there:
        if not has_crops(root):
            refuse_export(root)
        refuse_other_folder(root)
    dataset = root.parent if root.name == "crops" else root
    if level not in BLURRED_LEVELS:
        way_out = f"A level is one of {', '.join(BLURRED_LEVELS)}."
    elif any((dataset / name).is_file() for name in ("import.json", "release.json")):
        way_out = "Name one that is there." if there else "Copy it again."
    else:
        way_out = f"Make them with: {command_line('crop', dataset, '--level', level)}"
    raise DatasetError(f"{root}: no crops of level {level!r}; there: {there or 'none'}. {way_out}")


def shard_files(folder: Path) -> dict[str, list[Shard]]:
    """Split -> the shards present, in order; a split may be incomplete."""
    found: dict[str, list[Shard]] = {split: [] for split in SPLITS}
    for path in sorted(folder.iterdir()):
        if match := _NAME.fullmatch(path.name):
            split, index, total = match.groups()
            found[split].append(Shard(path, split, int(index), int(total)))
    return {split: shards for split, shards in found.items() if shards}


def find_shards(folder: Path, split: str) -> list[Shard]:
    """All shards of a split.

    Raises:
        DatasetError: the split is absent or one of its shards is; the text names it.
    """
    present = shard_files(folder)
    if split not in present:
        known = ", ".join(present) or "none"
        raise DatasetError(f"{folder}: no split {split!r}; there: {known}.")
    shards = present[split]
    total = shards[0].total
    present_names = {shard.path.name for shard in shards}
    for index in range(total):
        name = f"{split}-{index:05}-of-{total:05}.parquet"
        if name not in present_names:
            raise DatasetError(f"{folder}: {name} is missing. Copy it again, or run `crop` again.")
    if len(shards) != total:
        names = ", ".join(shard.path.name for shard in shards if shard.total != total)
        raise DatasetError(f"{folder}: shards of two different runs: {names}.")
    return shards


def _feature(kind: Any) -> str:
    return {"double": "float64"}.get(str(kind), str(kind))
