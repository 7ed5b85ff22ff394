"""Rebuild a released split from anyone's copy of the images: the same bytes for everyone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from defocus_ds.dataset.checksums import list_files, write_sums
from defocus_ds.dataset.folders import replaced_folder
from defocus_ds.dataset.pixels import encode_png, pixels_sha256
from defocus_ds.dataset.released_images import ImageFolder, Unusable, blurred_crop
from defocus_ds.dataset.released_manifest import LEVEL, Released, read_released
from defocus_ds.dataset.shards import (
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    ShardWriter,
    crop_metadata,
    crop_record,
    manifest_metadata,
)
from defocus_ds.dataset.split import SPLITS
from defocus_ds.dataset.tables import read_table, table_writer, with_metadata
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Crop
from defocus_ds.store import sha256_file
from defocus_ds.wording import first_names

__all__ = [
    "ReleasedCrops",
    "ReleasedReport",
    "build_released",
    "cut_released",
]

Progress = Callable[[int, int, str], None]

# the disk of the same variance: (5^2 - 1) / 12 = r^2 / 4 along each axis
_RADIUS_PX = math.sqrt(8)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ReleasedCrops:
    """What could be cut from a folder of images, and every reason why the rest could not."""

    crops: tuple[Crop, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReleasedReport:
    """What was written; ``kept`` is split -> crops."""

    name: str
    folder: Path
    kept: dict[str, int]


def cut_released(
    released: Released,
    images: Path | str,
    *,
    splits: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> ReleasedCrops:
    """Cut and blur every crop of a released split from a folder of images; nothing is written.

    Files are found by name anywhere in the folder, whatever its layout and their extension; what
    counts is that the decoded pixels have the hashes of the manifest.

    Args:
        released: from `read_released`.
        images: the user's copy.
        splits: which to cut; None is all.
        progress: called with (done, total, label).

    Returns:
        Crops in the order of the rows, each with its row of
        `defocus_ds.dataset.shards.MANIFEST_SCHEMA`, and all problems at once.

    Raises:
        DatasetError: no such folder, or a split that is not in the manifest.
    """
    wanted = _wanted(released, splits)
    rows = [row for row in released.rows if row["split"] in wanted]
    folder = ImageFolder(Path(images))
    crops, problems = [], []
    for done, row in enumerate(rows, 1):
        try:
            crops.append(_cut(row, folder))
        except Unusable as problem:
            problems.append(f"{row['file']}: {problem}")
        if progress is not None:
            progress(done, len(rows), row["file"])
    return ReleasedCrops(tuple(crops), tuple(problems))


def build_released(
    name: str | Path,
    images: Path | str,
    output: Path | str,
    *,
    splits: Iterable[str] | None = None,
    on_problem: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> ReleasedReport:
    """Write a released split as shards that `load_crops` reads, the same bytes for everyone.

    Args:
        name: as for `read_released`.
        images: the user's copy of the images.
        output: folder to make; if it is there, it must be one that this made for the same name.
        splits: which to write; None is all.
        on_problem: called with every reason why an image cannot be used, before the error.
        progress: called with (done, total, label).

    Returns:
        What was written, into ``output/crops/average-5x5`` and ``output/SHA256SUMS``.

    Raises:
        DatasetError: an image is missing or different (the text names the first ones), or the
            folder holds something else.
    """
    released = read_released(name)
    root = Path(output)
    _check_output(root, released)
    cut = cut_released(released, images, splits=splits, progress=progress)
    if cut.problems:
        for problem in cut.problems:
            if on_problem is not None:
                on_problem(problem)
        raise DatasetError(_problems_text(released, images, cut))
    counts = Counter(crop.row["split"] for crop in cut.crops)
    kept = {split: counts[split] for split in SPLITS if counts[split]}
    with replaced_folder(root / "crops" / LEVEL) as fresh:
        _write(fresh, cut.crops, kept, _shard_record(released))
    write_sums(root)
    return ReleasedReport(released.name, root, kept)


def _wanted(released: Released, splits: Iterable[str] | None) -> set[str]:
    wanted = set(released.counts if splits is None else splits)
    if unknown := wanted - set(released.counts):
        raise DatasetError(
            f"{released.name}: no split {', '.join(sorted(unknown))}; "
            f"there: {', '.join(released.counts)}."
        )
    return wanted


def _cut(row: Mapping[str, Any], folder: ImageFolder) -> Crop:
    """The crop of one row, every hash checked."""
    rgb = folder.find(
        row["file"],
        size=(row["width"], row["height"]),
        sha256=row["sha256_image"],
        sha256_file=row["sha256_file"],
    )
    sharp, blurred = blurred_crop(rgb, x=row["x"], y=row["y"], size=row["size"])
    for kind, pixels in (("sharp", sharp), ("blurred", blurred)):
        if (found := pixels_sha256(pixels)) != row[f"sha256_{kind}"]:
            raise Unusable(
                f"the {kind} crop has SHA-256 {found[:12]}..., the manifest "
                f"{row[f'sha256_{kind}'][:12]}..., though the image is right; please report this"
            )
    place = {"level": LEVEL, "blur_radius_px": _RADIUS_PX, "residual_px": 0.0}
    place |= dict.fromkeys(("image_sha256_sharp", "image_sha256_blurred"), row["sha256_file"])
    whole = {**place, **row}
    return Crop(blurred, sharp, {name: whole.get(name) for name in MANIFEST_SCHEMA.names})


def _problems_text(released: Released, images: Path | str, cut: ReleasedCrops) -> str:
    shown = first_names(cut.problems, most=_SHOWN, between="; ")
    total = len(cut.problems) + len(cut.crops)
    return (
        f"{images}: {len(cut.problems)} of {total} images of {released.name} cannot be used: "
        f"{shown}. They must be the published files: {released.record['images']}."
    )


def _check_output(root: Path, released: Released) -> None:
    if not root.exists() or (root.is_dir() and not list_files(root)):
        return
    manifest = root / "crops" / LEVEL / MANIFEST_NAME
    if manifest.is_file():
        table = read_table(manifest, MANIFEST_SCHEMA)
        if crop_record(manifest, table.schema.metadata).get("released") == released.name:
            return
    raise DatasetError(f"{root}: exists and is not a built {released.name}; give a new folder.")


def _shard_record(released: Released) -> dict[str, Any]:
    return {**released.record, "dataset_digest": sha256_file(released.path)}


def _write(
    folder: Path, crops: Sequence[Crop], counts: Mapping[str, int], record: Mapping[str, Any]
) -> None:
    with ShardWriter.opened(folder, counts, crop_metadata(record)) as shards:
        for crop in crops:
            images = {
                kind: {"bytes": encode_png(pixels), "path": f"{crop.row['scene']}_{kind}.png"}
                for kind, pixels in (("sharp", crop.sharp), ("blurred", crop.blurred))
            }
            whole = {k: v for k, v in crop.row.items() if not k.startswith("image_sha256_")}
            shards.write(whole | images)
    schema = with_metadata(MANIFEST_SCHEMA, manifest_metadata(record))
    with table_writer(folder / MANIFEST_NAME, schema) as writer:
        writer.write_table(pa.Table.from_pylist([crop.row for crop in crops], schema=schema))
