"""export.json: what an export holds, and what it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from defocus_ds.dataset.kinds import folder_kind, what_it_is
from defocus_ds.errors import DatasetError

__all__ = [
    "EXPORT_FORMAT",
    "EXPORT_NAME",
    "MAX_RECORD_BYTES",
    "ExportRecord",
    "ExportedTar",
    "json_line",
    "read_record",
    "record_of",
    "refuse_export",
]

EXPORT_NAME = "export.json"
EXPORT_FORMAT = 1
MAX_RECORD_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class ExportedTar:
    """One tar of a WebDataset export: its path in the export, its crops, its size in bytes."""

    file: str
    crops: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ExportedStream:
    """One level and split of an export.

    Attributes:
        rows_sha256: of the places and pixel hashes of its crops in order: the same for a dataset
            and its exports, and for a release with the same splits.
        dataset_digest: SHA-256 of the scenes.parquet or manifest that the crops were cut from,
            if the shards say it.
        tars: of a WebDataset export, in order; empty for the others.
    """

    level: str
    split: str
    crops: int
    rows_sha256: str
    dataset_digest: str | None
    tars: tuple[ExportedTar, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """What export.json says; ``to`` is the format, ``versions`` are those of the tools."""

    to: str
    streams: tuple[ExportedStream, ...]
    versions: dict[str, str]
    format: int = EXPORT_FORMAT

    def as_json(self) -> bytes:
        """Canonical JSON: sorted keys, two-space indent, final newline."""
        text = json.dumps(asdict(self), sort_keys=True, indent=2, ensure_ascii=False)
        return (text + "\n").encode()


def read_record(out: Path) -> ExportRecord:
    """The record of an export.

    Raises:
        DatasetError: missing, not a record, or of another format version.
    """
    path = out / EXPORT_NAME
    if not path.is_file():
        other = what_it_is(out, unknown="" if out.is_dir() else "it does not exist")
        reason = f"{other}. " if other else ""
        raise DatasetError(
            f"{out}: no {EXPORT_NAME}, so not an export; {reason}Crops of a dataset, release or "
            "import are read by `load_crops`, and exported by `defocus-ds export --to webdataset`."
        )
    if (size := path.stat().st_size) > MAX_RECORD_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {MAX_RECORD_BYTES}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}).") from error
    return record_of(data, where=str(path))


def record_of(data: bytes, *, where: str) -> ExportRecord:
    """The record that the bytes of an export.json hold; errors call it ``where``.

    Raises:
        DatasetError: not a record, or of another format version.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: cannot be read as JSON ({error}).") from error
    version = value.get("format") if isinstance(value, dict) else None
    if version != EXPORT_FORMAT:
        raise DatasetError(f"{where}: format {version!r}, this version reads {EXPORT_FORMAT}.")
    try:
        streams = tuple(_stream(stream) for stream in value["streams"])
        return ExportRecord(str(value["to"]), streams, dict(value["versions"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DatasetError(f"{where}: not the record of an export ({error!r}).") from error


def refuse_export(folder: Path) -> None:
    """Say so where crops are looked for in an export, or in a folder of one, and what reads it.

    Raises:
        DatasetError: it is an export, or its record is damaged.
    """
    for root in (folder, folder.parent):
        if folder_kind(root) == "export":
            to = read_record(root).to
            reader = (
                "`defocus_ds.as_webdataset` reads it"
                if to == "webdataset"
                else "its PNG files are for other training code"
            )
            raise DatasetError(
                f"{root}: this is an export to {to} ({EXPORT_NAME}): {reader}. Crops "
                "are loaded from the dataset, release or import that it was made of."
            )


def json_line(row: dict[str, Any], *, where: str) -> bytes:
    """A row as one line of JSON, keys sorted, without newline; numbers keep every digit.

    Raises:
        DatasetError: a number that JSON cannot hold.
    """
    try:
        text = json.dumps(
            row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except ValueError as error:
        raise DatasetError(f"{where}: a number that is not finite; JSON has none.") from error


def _stream(value: dict[str, Any]) -> ExportedStream:
    tars = [
        ExportedTar(str(tar["file"]), int(tar["crops"]), int(tar["bytes"])) for tar in value["tars"]
    ]
    return ExportedStream(
        level=str(value["level"]),
        split=str(value["split"]),
        crops=int(value["crops"]),
        rows_sha256=str(value["rows_sha256"]),
        dataset_digest=value["dataset_digest"],
        tars=tuple(tars),
    )
