"""The manifest of a released split: which crops of which images, with which checksums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from defocus_ds.dataset.shards import crop_record
from defocus_ds.dataset.split import SPLITS
from defocus_ds.dataset.tables import read_table
from defocus_ds.errors import DatasetError

__all__ = [
    "LEVEL",
    "RELEASED_SCHEMA",
    "Released",
    "read_released",
    "released_names",
    "released_test_images",
]

# how the synthetic blur of MMSP 2024 is called beside low, medium and high
LEVEL = "average-5x5"
_MAX_ROWS = 100_000

RELEASED_SCHEMA = pa.schema(
    [
        pa.field("scene", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("x", pa.int32(), nullable=False),
        pa.field("y", pa.int32(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("q_sharp", pa.float64(), nullable=False),
        pa.field("q_blurred", pa.float64(), nullable=False),
        pa.field("sha256_file", pa.string(), nullable=False),
        pa.field("sha256_image", pa.string(), nullable=False),
        pa.field("sha256_sharp", pa.string(), nullable=False),
        pa.field("sha256_blurred", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Released:
    """A released split: its rows, sorted by split and scene, and how they were made."""

    name: str
    path: Path
    rows: tuple[dict[str, Any], ...]
    record: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Split -> crops, in the order train, val, test."""
        found = Counter(row["split"] for row in self.rows)
        return {split: found[split] for split in SPLITS if found[split]}


def released_names() -> tuple[str, ...]:
    """Names of the splits that come with the package."""
    # manifests of built datasets lie in the same folder
    found = (path for path in _manifests().glob("*.parquet") if _is_released(path))
    return tuple(sorted(path.stem for path in found))


def released_test_images() -> dict[tuple[int, int], dict[str, str]]:
    """(width, height) -> SHA-256 of a file, or of its pixels -> its released test split.

    Nothing may be trained on these; `released_test_split` looks one image up.
    """
    found: dict[tuple[int, int], dict[str, str]] = {}
    for name in released_names():
        for row in read_released(name).rows:
            if row["split"] == "test":
                digests = found.setdefault((row["width"], row["height"]), {})
                for column in ("sha256_file", "sha256_image"):
                    digests[row[column]] = f"{name} test"
    return found


def read_released(name: str | Path) -> Released:
    """A released split by name, or a manifest file of the same kind.

    Args:
        name: one of `released_names`, or the path of a Parquet file.

    Raises:
        DatasetError: unknown name, damaged file, another format, or rows that contradict
            themselves.
    """
    path = Path(name)
    if path.suffix != ".parquet":
        path = _manifests() / f"{name}.parquet"
        if str(name) not in released_names():
            known = ", ".join(released_names()) or "none"
            raise DatasetError(f"released split {str(name)!r}; known: {known}, or give a file.")
    table = read_table(path, RELEASED_SCHEMA, max_rows=_MAX_ROWS)
    record = crop_record(path, table.schema.metadata)
    if record.get("level") != LEVEL or not isinstance(record.get("released"), str):
        raise DatasetError(f"{path}: not a released split of level {LEVEL}.")
    rows = table.to_pylist()
    _check_rows(path, rows)
    return Released(record["released"], path, tuple(rows), record)


def _manifests() -> Path:
    """In a wheel beside the modules, in a checkout at its root."""
    package = Path(__file__).parents[1]
    packed = package / "_manifests"
    return packed if packed.is_dir() else package.parent / "manifests"


def _is_released(path: Path) -> bool:
    return bool(pq.read_schema(path).names == RELEASED_SCHEMA.names)


def _check_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    seen = set()
    for row in rows:
        x, y, size = row["x"], row["y"], row["size"]
        where = f"{path}: {row['scene']}"
        if row["split"] not in SPLITS:
            raise DatasetError(f"{where}: unknown split {row['split']!r}.")
        if min(x, y) < 0 or size < 1 or x + size > row["width"] or y + size > row["height"]:
            raise DatasetError(
                f"{where}: the crop of {size} px at ({x}, {y}) lies beyond its "
                f"{row['width']}x{row['height']} image."
            )
        if row["scene"] in seen:
            raise DatasetError(f"{where}: named twice.")
        seen.add(row["scene"])
