"""What a benchmark found: a row an image, a score a method, and the files that keep them."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from defocus_ds.dataset.pixels import decode_png, encode_png, pixels_sha256
from defocus_ds.dataset.tables import read_table, table_writer, with_metadata
from defocus_ds.errors import DatasetError
from defocus_ds.frames import UInt8Image
from defocus_ds.store import atomic_path, sha256_file
from defocus_ds_train.benchmark.sets import TestCrop

__all__ = [
    "BenchReport",
    "ImageRow",
    "Restoration",
    "Sample",
    "Score",
    "SetInfo",
    "Times",
    "identity_digest",
    "load_restoration",
    "save_restoration",
    "save_rows",
]

_KEY = "defocus_ds"
_MAX_IMAGES = 1_000_000
_LIBRARIES = ("torch", "numpy", "cv2", "skimage", "PIL", "defocus_ds")
# what the restored pixels and their figures come from, below the folder of both packages
_SOURCES = ("defocus_ds/measure", "defocus_ds_train/baselines", "defocus_ds_train")
_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds an image: the median over batches, after a warm-up, the device synchronised."""

    seconds: float
    batch: int
    device: str


@dataclass(frozen=True, slots=True)
class ImageRow:
    """The figures of one restored image, by the name of the metric."""

    set: str
    image: str
    method: str
    protocol: str
    sha256: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Score:
    """The means of one method over one set.

    Attributes:
        rows: names under which the paper may have the method.
        means: metric -> mean over the images; for several sets, the mean of their means.
        times: None where nothing was computed.
    """

    set: str
    method: str
    full_name: str
    protocol: str
    rows: tuple[str, ...]
    images: int
    means: Mapping[str, float]
    times: Times | None
    identity: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetInfo:
    """A set that was measured; ``released`` names the released split that it is, if any."""

    name: str
    images: int
    digest: str
    released: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One crop, and what each method made of it, by label."""

    set: str
    crop: TestCrop
    restored: tuple[tuple[str, UInt8Image], ...]


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that was found; ``metrics`` maps names to full names.

    A metric that no score has could not be measured: its full name says why.
    """

    sets: tuple[SetInfo, ...]
    metrics: Mapping[str, str]
    digits: Mapping[str, int]
    scores: tuple[Score, ...]
    images: tuple[ImageRow, ...]
    samples: tuple[Sample, ...] = ()

    def with_absent(self, why: Mapping[str, str]) -> BenchReport:
        """With metrics that stand in the tables without figures: name -> why."""
        digits = dict.fromkeys(why, 3)
        return replace(self, metrics={**self.metrics, **why}, digits={**self.digits, **digits})

    def as_dict(self, *, times: bool = True) -> dict[str, Any]:
        """For JSON: sets, metrics and scores; infinities are None."""
        scores = []
        for score in self.scores:
            table = asdict(score)
            table["means"] = {k: _finite(v) for k, v in score.means.items()}
            del table["rows"]
            if not times:
                del table["times"]
            scores.append(table)
        return {
            "sets": [asdict(one) for one in self.sets],
            "metrics": dict(self.metrics),
            "scores": scores,
        }


@dataclass(frozen=True, slots=True)
class Restoration:
    """What one method made of one set: images in its order, and figures known so far."""

    images: tuple[UInt8Image, ...]
    values: Mapping[str, tuple[float, ...]]
    times: Times | None


def identity_digest(set_digest: str, identity: Mapping[str, Any], device: str) -> str:
    """16 hexadecimal digits of everything that decides the restored pixels and their figures:
    also the sources of methods and metrics, and the versions of what they call."""
    table = {
        "set": set_digest,
        "method": dict(identity),
        "device": device,
        "versions": {name: importlib.import_module(name).__version__ for name in _LIBRARIES},
        "sources": _sources_digest(),
    }
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


def save_restoration(
    path: Path,
    restoration: Restoration,
    *,
    names: Sequence[str],
    digest: str,
    metrics: Mapping[str, str],
) -> None:
    """Write one method's images and figures, atomically; the same content, the same bytes.

    Args:
        path: the Parquet file.
        restoration: its images and figures; times are kept elsewhere, as they vary.
        names: of the images.
        digest: from `identity_digest`.
        metrics: name -> full name of every figure.
    """
    record = {"digest": digest, "metrics": dict(metrics)}
    schema = with_metadata(_schema(restoration.values), {_KEY: json.dumps(record, sort_keys=True)})
    columns: dict[str, Any] = {
        "image": list(names),
        "restored": [
            {"bytes": encode_png(image), "path": f"{name}.png"}
            for name, image in zip(names, restoration.images, strict=True)
        ],
        "sha256": [pixels_sha256(image) for image in restoration.images],
        **{name: list(values) for name, values in restoration.values.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(path) as temporary,
        table_writer(temporary, schema, stored=("restored.bytes",)) as writer,
    ):
        writer.write_table(pa.Table.from_pydict(columns, schema=schema))


def load_restoration(
    path: Path, *, crops: Mapping[str, tuple[int, int]], digest: str, metrics: Mapping[str, str]
) -> Restoration | None:
    """What `save_restoration` wrote, if it is that of this method and set.

    Args:
        path: the Parquet file.
        crops: name -> (height, width), in order.
        digest: from `identity_digest`.
        metrics: the figures to load, those with the same full name.

    Returns:
        None when it is absent, damaged, or of anything else: then it proves nothing.
    """
    try:
        record = json.loads((pq.read_schema(path).metadata or {})[_KEY.encode()])
        known = {k: v for k, v in record["metrics"].items() if isinstance(k, str)}
        if record["digest"] != digest:
            return None
        table = read_table(path, _schema(known), max_rows=_MAX_IMAGES)
        rows = table.to_pylist()
        if [row["image"] for row in rows] != list(crops):
            return None
        images = []
        for row in rows:
            size = crops[row["image"]][::-1]
            where = f"{path}: {row['image']}"
            image = decode_png(row["restored"]["bytes"], size=size, mode="L", where=where)
            if pixels_sha256(image) != row["sha256"]:
                return None
            images.append(image)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        DatasetError,
        pa.ArrowException,
    ):
        return None
    same = [name for name, full in metrics.items() if known.get(name) == full]
    values = {name: tuple(float(row[name]) for row in rows) for name in same}
    return Restoration(tuple(images), values, None)


def save_rows(path: Path, rows: Sequence[ImageRow], metrics: Sequence[str]) -> None:
    """All rows of all methods as one Parquet file, without pixels."""
    texts = ("set", "image", "method", "protocol", "sha256")
    schema = pa.schema(
        [pa.field(name, pa.string(), nullable=False) for name in texts]
        + [pa.field(name, pa.float64(), nullable=False) for name in metrics]
    )
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in texts}
    columns |= {name: [row.values[name] for row in rows] for name in metrics}
    with atomic_path(path) as temporary, table_writer(temporary, schema) as writer:
        writer.write_table(pa.Table.from_pydict(columns, schema=schema))


def _schema(metrics: Mapping[str, Any]) -> Any:
    return pa.schema(
        [
            pa.field("image", pa.string(), nullable=False),
            pa.field("restored", _IMAGE, nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in metrics),
        ]
    )


@functools.cache
def _sources_digest() -> str:
    total = hashlib.sha256()
    for place, files in _source_files().items():
        for path in files:
            total.update(f"{place}/{path.name} {sha256_file(path)}\n".encode())
    return total.hexdigest()


def _source_files() -> dict[str, list[Path]]:
    found = {}
    for place in _SOURCES:
        package, _, folder = place.partition("/")
        root = Path(str(importlib.import_module(package).__file__)).parent / folder
        found[place] = sorted(root.glob("*.py"))
    return found


def _finite(value: float) -> float | None:
    """JSON knows no infinity: the PSNR of equal images is null."""
    return value if math.isfinite(value) else None
