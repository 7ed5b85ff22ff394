"""What a dataset's folder remembers of its builds: the shoot, the options, the failures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defocus_ds.config import BuildConfig, config_from_dict
from defocus_ds.dataset.folders import being_written
from defocus_ds.dataset.kinds import what_it_is
from defocus_ds.errors import ConfigError, DatasetError
from defocus_ds.frames import Bracket
from defocus_ds.pipeline.plan import STAGES, current_versions, file_stamps
from defocus_ds.store import inside, read_json, sha256_bytes, write_json
from defocus_ds.wording import command_line

__all__ = [
    "Journal",
    "clear_failure",
    "failure_basis",
    "listing_digest",
    "read_failure",
    "read_journal",
    "refuse_unfinished",
    "write_failure",
    "write_journal",
]


@dataclass(frozen=True, slots=True)
class Journal:
    """The latest build of a folder.

    ``scenes`` are those of the shoot in order, ``skipped`` those left out entirely by option,
    ``left_out`` the captures and folders that cannot be used: (where, why).
    ``listing`` is the `listing_digest` of a shoot whose scan had nothing to complain of, so that
    its roles need not be confirmed again; empty otherwise.
    """

    shoot: str
    config: BuildConfig
    scenes: tuple[str, ...]
    skipped: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    listing: str


def write_journal(dataset: Path, journal: Journal) -> None:
    """Write ``receipts/shoot.json`` atomically."""
    write_json(
        _journal_path(dataset),
        {
            "shoot": journal.shoot,
            "config": journal.config.as_dict(),
            "scenes": list(journal.scenes),
            "skipped": list(journal.skipped),
            "left_out": [list(entry) for entry in journal.left_out],
            "listing": journal.listing,
        },
    )


def read_journal(dataset: Path) -> Journal:
    """The latest build.

    Raises:
        DatasetError: none was begun here, or the file is damaged.
    """
    path = _journal_path(dataset)
    if not path.is_file():
        found = what_it_is(dataset, unknown="nothing was built here")
        raise DatasetError(
            f"{dataset}: no receipts/shoot.json; {found}. "
            "Make a dataset with: defocus-ds build SHOOT -o DATASET"
        )
    try:
        record = read_json(path)
        return Journal(
            shoot=str(record["shoot"]),
            config=config_from_dict(record["config"]),
            scenes=_names(record["scenes"]),
            skipped=_names(record["skipped"]),
            left_out=tuple((str(where), str(why)) for where, why in record["left_out"]),
            listing=str(record["listing"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise DatasetError(
            f"{path}: damaged ({type(error).__name__}: {error}). Delete it and build again."
        ) from error


def refuse_unfinished(dataset: Path) -> None:
    """Tell a build that was interrupted from a folder that is no dataset.

    Raises:
        DatasetError: a build was begun here and has not written dataset.json yet.
    """
    if (dataset / "dataset.json").exists() or not _journal_path(dataset).is_file():
        return
    if being_written(dataset):
        raise DatasetError(f"{dataset}: its build is at work. Wait for it; see: defocus-ds status")
    again = command_line("build", read_journal(dataset).shoot, "-o", dataset)
    raise DatasetError(f"{dataset}: this build is unfinished; go on with: {again}")


def listing_digest(shoot: Path) -> str:
    """Digest of the names, sizes and times of everything in a shoot; contents are not read."""
    found: list[tuple[list[str], int, int]] = []
    for folder, folders, files in os.walk(shoot):
        here = [] if folder == str(shoot) else os.path.relpath(folder, shoot).split("/")
        for name in folders + files:
            stat = os.lstat(f"{folder}/{name}")
            found.append(([*here, name], stat.st_size, stat.st_mtime_ns))
    entries = [("/".join(parts), size, time) for parts, size, time in sorted(found)]
    return sha256_bytes(json.dumps(entries).encode())


def write_failure(dataset: Path, scene: str, *, stage: str, error: str, basis: str) -> None:
    """Remember why a scene failed, and on what basis it would fail again."""
    write_json(_failure_path(dataset, scene), {"stage": stage, "error": error, "basis": basis})


def read_failure(dataset: Path, scene: str) -> dict[str, str] | None:
    """``{stage, error, basis}``; None when there is none or it is damaged."""
    try:
        record: Any = read_json(_failure_path(dataset, scene))
        return {key: str(record[key]) for key in ("stage", "error", "basis")}
    except (DatasetError, KeyError, TypeError):
        return None


def clear_failure(dataset: Path, scene: str) -> None:
    """The scene has passed."""
    _failure_path(dataset, scene).unlink(missing_ok=True)


def failure_basis(bracket: Bracket, shoot: Path, config: BuildConfig) -> str:
    """Digest of what could make a failed scene succeed: its files, the options, the versions."""
    versions = [current_versions(stage) for stage in STAGES[config.preset]]
    parts = [file_stamps(bracket, shoot), config.as_dict(), versions]
    return sha256_bytes(json.dumps(parts, sort_keys=True).encode())


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("a list of scene names is expected")
    return tuple(values)


def _journal_path(dataset: Path) -> Path:
    return dataset / "receipts" / "shoot.json"


def _failure_path(dataset: Path, scene: str) -> Path:
    return inside(dataset, f"receipts/{scene}/failure.json")
