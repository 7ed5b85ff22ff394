"""The part of `verify` that reads dataset.json, scenes.parquet and the images they name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defocus_ds.config import config_from_dict
from defocus_ds.dataset.checksums import read_sums
from defocus_ds.dataset.findings import Findings
from defocus_ds.dataset.manifest import (
    INFO_NAME,
    MAX_SCENE_ROWS,
    SCENE_SCHEMA,
    SCENES_NAME,
    VERDICTS,
    read_info,
    row_problems,
)
from defocus_ds.dataset.pixels import png_size
from defocus_ds.dataset.tables import read_table
from defocus_ds.errors import ConfigError, DatasetError
from defocus_ds.frames import Level
from defocus_ds.store import inside

__all__ = ["check_scenes"]

_HEADER_BYTES = 33


def check_scenes(
    root: Path, hashes: Mapping[str, str], findings: Findings
) -> list[dict[str, Any]] | None:
    """Check a dataset's own records against each other and against the images.

    Args:
        root: the dataset.
        hashes: relative path -> SHA-256 of the files there.
        findings: collects what is wrong.

    Returns:
        The rows of scenes.parquet that are sound; None if the file cannot be read.
    """
    rows = _rows(root, findings)
    _check_info(root, rows, hashes, findings)
    if rows is None:
        return None
    problems = list(row_problems(rows))
    for name, column, message in problems:
        findings.add(SCENES_NAME, f"a sound {column!r} of {name}", message)
    bad = {name for name, _, _ in problems}
    sound = [row for row in rows if f"{row['scene']}/{row['level']}" not in bad]
    reported = _already_reported(root, hashes)
    for row in sound:
        if row["image"] is not None:
            _check_image(root, row, hashes, reported, findings)
    named = {row["image"] for row in rows}
    for name in hashes:
        if name.startswith(("images/", "rejected/")) and name not in named:
            findings.add(name, f"a row in {SCENES_NAME}", "none", "Remove the file.")
    _check_sharp(sound, findings)
    return sound


def _rows(root: Path, findings: Findings) -> list[dict[str, Any]] | None:
    try:
        table = read_table(root / SCENES_NAME, SCENE_SCHEMA, max_rows=MAX_SCENE_ROWS)
        rows: list[dict[str, Any]] = table.to_pylist()
    except (DatasetError, ValueError) as error:
        findings.add(SCENES_NAME, "a table of the dataset's images", str(error))
        return None
    return rows


def _check_info(
    root: Path,
    rows: list[dict[str, Any]] | None,
    hashes: Mapping[str, str],
    findings: Findings,
) -> None:
    try:
        info = read_info(root)
        config_from_dict(info["config"])
    except (DatasetError, ConfigError, TypeError, AttributeError) as error:
        findings.add(INFO_NAME, "a record of this format", str(error))
        return
    if rows is None:
        return
    pairs = Counter(row["verdict"] for row in rows if row["level"] != Level.SHARP)
    counts = {
        "scenes": len({row["scene"] for row in rows}),
        "images": sum(row["image"] is not None for row in rows),
        "pairs": {verdict: pairs[verdict] for verdict in VERDICTS},
    }
    for name, count in counts.items():
        if (stated := info.get(name)) != count:
            findings.add(INFO_NAME, f"{name} = {count}, as in {SCENES_NAME}", repr(stated))
    if (stated := info.get("digest")) != (digest := hashes.get(SCENES_NAME)):
        findings.add(INFO_NAME, f"digest {digest} of {SCENES_NAME}", repr(stated))


def _already_reported(root: Path, hashes: Mapping[str, str]) -> set[str]:
    """Files whose checksum is wrong or absent: one finding for the damage is enough."""
    try:
        sums = read_sums(root)
    except DatasetError:
        return set()
    return {name for name, digest in sums.items() if hashes.get(name) != digest}


def _check_image(
    root: Path,
    row: Mapping[str, Any],
    hashes: Mapping[str, str],
    reported: set[str],
    findings: Findings,
) -> None:
    name = row["image"]
    try:
        path = inside(root, name)
        if not path.is_file():
            raise FileNotFoundError("no such file")
        with path.open("rb") as file:
            size = png_size(file.read(_HEADER_BYTES), mode="RGB", where=name)
    except DatasetError as error:
        findings.add(name, "an 8-bit RGB PNG inside the dataset", str(error))
        return
    except (OSError, ValueError) as error:
        if name not in reported:
            findings.add(name, f"an image, as {SCENES_NAME} says", f"unreadable ({error})")
        return
    findings.checked["images"] += 1
    if size != (row["width"], row["height"]):
        findings.add(name, f"{row['width']}x{row['height']} px", f"{size[0]}x{size[1]} px")
    if name not in reported and hashes.get(name) != row["image_sha256"]:
        findings.add(
            name,
            f"SHA-256 {row['image_sha256']}, as {SCENES_NAME} says",
            str(hashes.get(name)),
        )


def _check_sharp(rows: list[dict[str, Any]], findings: Findings) -> None:
    """Every kept pair needs a kept sharp image; no two rows may share a file."""
    kept = {
        row["scene"] for row in rows if row["level"] == Level.SHARP and row["verdict"] == "keep"
    }
    for row in rows:
        if row["verdict"] == "keep" and row["scene"] not in kept:
            findings.add(
                SCENES_NAME, f"a kept sharp image of {row['scene']}", f"only {row['level']} kept"
            )
    uses = Counter(row["image"] for row in rows if row["image"] is not None)
    for name, count in uses.items():
        if count > 1:
            findings.add(SCENES_NAME, f"one row for {name}", f"{count} rows")
