"""Repair: the shards that fail a check are cut again from the images, and nothing else is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defocus_ds.dataset.checksums import SUMS_NAME, read_sums
from defocus_ds.dataset.cut import cut_crop
from defocus_ds.dataset.findings import Finding, VerifyReport, repair
from defocus_ds.dataset.folders import only_writer, scratch_folder, sweep_dataset
from defocus_ds.dataset.manifest import SCENES_NAME, read_scenes
from defocus_ds.dataset.pairs import BuiltPair, built_pairs
from defocus_ds.dataset.plan import plan_from_manifest
from defocus_ds.dataset.shards import (
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    ShardWriter,
    crop_metadata,
    shard_counts,
)
from defocus_ds.dataset.steps import Progress, Steps
from defocus_ds.dataset.tables import read_table
from defocus_ds.errors import DatasetError, NotWritten
from defocus_ds.frames import BLURRED_LEVELS
from defocus_ds.store import sha256_file

__all__ = ["RepairReport", "repair_shards"]

_SHARD = re.compile(r"(?:.*/)?([^/]+)/(train|val|test)-(\d{5})-of-(\d{5})\.parquet")


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair_shards` did: shards rebuilt, and for the others why not."""

    repaired: tuple[str, ...]
    failed: dict[str, str]


def repair_shards(
    report: VerifyReport, *, images: Path | None = None, progress: Progress | None = None
) -> RepairReport:
    """Rebuild every shard that a finding names, from its level's manifest and the images.

    A rebuilt shard takes the old one's place only if it has the SHA-256 that SHA256SUMS states:
    the repair gives back the very bytes, or leaves the file alone and says so.

    Args:
        report: of `defocus_ds.dataset.verify.verify`.
        images: the built dataset that has the images; None is the checked folder itself.
        progress: called with (done, total, label).

    Raises:
        DatasetError: the images' dataset cannot be read, or another process is writing to it.
    """
    root = report.root
    source = root if images is None else images
    names = _shards(report.findings)
    if not names:
        return RepairReport((), {})
    if report.kind in ("import", "split"):
        why = "it was not cut from the images of a built dataset."
        return RepairReport((), {name: f"{why} {repair(name, kind=report.kind)}" for name in names})
    if not (source / SCENES_NAME).is_file():
        raise DatasetError(
            f"{source}: no {SCENES_NAME}, so there are no images to cut the shards from. Give the "
            "built dataset with --images."
        )
    sums = read_sums(root)
    rows = read_scenes(source / SCENES_NAME)
    step = Steps(progress, len(names))
    repaired, failed = [], {}
    with only_writer(source, sweep=True):
        if report.kind == "release":
            sweep_dataset(root)  # nobody but a repair writes there
        for name in names:
            try:
                _rebuild(root, name, sums, _Images(source, rows))
            except (DatasetError, NotWritten) as error:
                failed[name] = str(error)
            else:
                repaired.append(name)
            step(name)
    return RepairReport(tuple(repaired), failed)


@dataclass(frozen=True, slots=True)
class _Images:
    """Where pairs are read from."""

    root: Path
    rows: Sequence[Mapping[str, Any]]


def _shards(findings: Sequence[Finding]) -> list[str]:
    """The shards that findings name, each once."""
    return sorted({finding.file for finding in findings if _SHARD.fullmatch(finding.file)})


def _rebuild(root: Path, name: str, sums: Mapping[str, str], images: _Images) -> None:
    """Cut one shard again and put it in its place."""
    match = _SHARD.fullmatch(name)
    assert match is not None
    level, split, index, total = match.groups()
    if name not in sums:
        raise DatasetError(f"{SUMS_NAME} has no line for it; it is no shard of this dataset.")
    target = root / name
    chosen = next((known for known in BLURRED_LEVELS if known.value == level), None)
    if chosen is None:
        raise DatasetError(f"{level!r} is none of {', '.join(BLURRED_LEVELS)}. Copy it again.")
    manifest = target.parent / MANIFEST_NAME
    splits = read_table(manifest, MANIFEST_SCHEMA).column("split").to_pylist()
    sizes = shard_counts(splits.count(split))
    if len(sizes) != int(total) or int(index) >= len(sizes):
        raise DatasetError(f"the manifest has rows for {len(sizes)} shards of {split}.")
    start, stop = sum(sizes[: int(index)]), sum(sizes[: int(index) + 1])
    pairs, left_out = built_pairs(images.root, images.rows, chosen)
    plan = plan_from_manifest(manifest, pairs, left_out, level=chosen, part=(split, start, stop))
    rows = [(one.built, row) for one in plan.pairs for row in one.rows.to_pylist()]
    with scratch_folder(target) as folder:
        about = crop_metadata(plan.record)
        with ShardWriter.opened(folder, {split: len(rows)}, about) as shards:
            for whole in _cut(rows):
                shards.write(whole)
        (fresh,) = folder.iterdir()
        if (found := sha256_file(fresh)) != sums[name]:
            raise DatasetError(
                f"cut again it has SHA-256 {found[:12]}..., {SUMS_NAME} states "
                f"{sums[name][:12]}...: the images or the versions of the tools are others."
            )
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(target)


def _cut(rows: Sequence[tuple[BuiltPair, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Rows with pixels; the images of a pair are read once."""
    before: BuiltPair | None = None
    for built, row in rows:
        if built is not before:
            sharp, blurred = built.read()
            before = built
        whole, pixels = cut_crop(row, sharp, blurred, built)
        yield whole | pixels
