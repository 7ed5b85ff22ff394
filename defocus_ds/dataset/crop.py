"""Crop: a built dataset in, one level's shards, manifest and rejections out."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from defocus_ds.config import BuildConfig, TileConfig, config_from_dict
from defocus_ds.dataset.checksums import SUMS_NAME, read_sums, write_sums
from defocus_ds.dataset.crop_splits import other_splits, scene_splits, without_test
from defocus_ds.dataset.cut import cut_crop
from defocus_ds.dataset.folders import only_writer, replaced_folder
from defocus_ds.dataset.manifest import SCENES_NAME, read_info, read_scenes
from defocus_ds.dataset.pairs import LeftOut, built_pairs, image_hashes
from defocus_ds.dataset.plan import CropPlan, PlannedPair, plan_from_images, plan_from_manifest
from defocus_ds.dataset.review import read_review
from defocus_ds.dataset.shards import (
    MANIFEST_NAME,
    REJECTED_NAME,
    REJECTED_SCHEMA,
    ShardWriter,
    crop_metadata,
    has_crops,
    manifest_metadata,
    manifest_writer,
)
from defocus_ds.dataset.stale import obeyed_review, valid_rejections
from defocus_ds.dataset.steps import Progress, Steps
from defocus_ds.dataset.tables import table_writer, with_metadata
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Level
from defocus_ds.stages.tile import CODES, Tiles
from defocus_ds.store import sha256_file
from defocus_ds.wording import counted, first_names

__all__ = ["CropReport", "crop"]


@dataclass(frozen=True, slots=True)
class CropReport:
    """What `crop` did.

    Attributes:
        folder: where the level's files are.
        size, stride: of the crops in pixels.
        pairs: number of pairs cropped.
        kept: split -> crops written.
        passed: split -> crops that passed every test; empty for a rebuild.
        rejected: reason -> crops rejected.
        left_out: pairs not cropped, with their reasons.
        notes: what a person should know.
    """

    folder: Path
    level: Level
    size: int
    stride: int
    pairs: int
    kept: dict[str, int]
    passed: dict[str, int]
    rejected: dict[str, int]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def crop(
    dataset: Path | str,
    *,
    level: str = "low",
    size: int | None = None,
    stride: int | None = None,
    train: int | None = None,
    test: int | None = None,
    config: TileConfig | None = None,
    seed: int = 0,
    manifest: Path | None = None,
    review: Path | None = None,
    progress: Progress | None = None,
) -> CropReport:
    """Cut the luma crops of one level into ``crops/<level>/``, replacing what was there.

    Args:
        dataset: folder that `build` made.
        level: "low", "medium" or "high".
        size: side in pixels; None takes the configuration's.
        stride: step in pixels; None takes ``size`` if that is given, else the configuration's.
        train, test: exact number of crops, balanced over the scenes; None takes all that pass.
        config: limits and split shares; None takes those in dataset.json.
        seed: of the splits and of the choice.
        manifest: rebuild exactly the rows of this file; no other option then decides anything.
        review: a ``review.csv``; the pairs that a person rejected in it are left out.
        progress: called with (done, total, label).

    Returns:
        Counts and reasons.

    Raises:
        DatasetError: not a built dataset, nothing to crop, or images that are not those named.
        TooFewCrops: fewer crops pass than ``train`` or ``test`` ask for.
        ConfigError: a size, stride or limit out of range.
    """
    from defocus_ds.pipeline.journal import refuse_unfinished

    root = Path(dataset)
    chosen = _blurred_level(level)
    refuse_unfinished(root)
    info = read_info(root)
    with only_writer(root, sweep=True):
        rows = read_scenes(root / SCENES_NAME, records_of=(chosen.value,))
        pairs, left_out = built_pairs(root, rows, chosen)
        decided = None if review is None else read_review(review)
        if decided is not None:
            pairs, left_out = decided.applied(pairs, left_out)
        folder = root / "crops" / chosen.value
        if not pairs:
            reasons = first_names(left_out, most=3, between="; ")
            raise DatasetError(
                f"{root}: no {level} pair to crop: {reasons or 'no scenes'}.{_still_there(folder)}"
            )
        notes: list[str] = []
        if decided is None and obeyed_review(folder):
            notes.append(
                f"the {level} crops before these obeyed a review, which was not given now: pairs "
                "that it rejected are back. Give it with --review to leave them out."
            )
        if decided is not None and (overruled := decided.overruled(left_out)):
            notes.append(
                f"accepted in {review}, but left out by build, and so left out here: "
                f"{counted(len(overruled), 'pair')} ({first_names(overruled)})."
            )
        digest = sha256_file(root / SCENES_NAME)
        before: Any = None
        old = [str(built.pair) for built in pairs if not built.has_radius_map]
        if manifest is not None:
            plan = plan_from_manifest(manifest, pairs, left_out, level=chosen)
            step = Steps(progress, len(plan.pairs))
            before = valid_rejections(folder, manifest, digest)
            if before is None:
                notes.append(
                    f"the manifest does not know what was rejected: there is no {REJECTED_NAME}."
                )
        else:
            tile = _tile_config(info, config, size, stride)
            splits = scene_splits(rows, tile, seed=seed, notes=notes)
            step = Steps(progress, 2 * len(pairs))
            plan = plan_from_images(
                pairs,
                level=chosen,
                config=tile,
                splits=splits,
                wanted={"train": train, "test": test},
                seed=seed,
                dataset_digest=digest,
                review_digest=None if decided is None else decided.sha256,
                step=step,
            )
            if old:
                notes.append(
                    f"{len(old)} of {len(pairs)} pairs have no radius map "
                    f"({first_names(old, most=3)}): the radii of their crops come from a coarse "
                    "grid, without confidence. Build again to have maps."
                )
            if tile.test_share > 0 and not plan.passed["test"]:
                notes.append(without_test(level, splits, pairs))
            notes += other_splits(root, chosen, splits)
        with replaced_folder(folder) as fresh:
            _write(fresh, plan, step)
            if before is not None:
                shutil.copyfile(folder / REJECTED_NAME, fresh / REJECTED_NAME)
        _refresh_sums(root, rows, chosen)
    return CropReport(
        folder,
        chosen,
        plan.record["tile"]["size"],
        plan.record["tile"]["stride"],
        len(plan.pairs),
        plan.counts,
        plan.passed,
        plan.rejected if before is None else _counts(before),
        tuple(left_out),
        tuple(notes),
    )


def _still_there(folder: Path) -> str:
    """What to know of the crops of an earlier run, where a level has none to replace them."""
    if not has_crops(folder):
        return ""
    return (
        f" The crops of an earlier run stay in {folder}. To be without them delete that folder, "
        f"then crop another level or run the same build again: these refresh {SUMS_NAME}."
    )


def _blurred_level(name: str) -> Level:
    for level in BLURRED_LEVELS:
        if level.value == name:
            return level
    raise DatasetError(f"level {name!r}: one of {', '.join(BLURRED_LEVELS)} can be cropped.")


def _tile_config(
    info: dict[str, Any], config: TileConfig | None, size: int | None, stride: int | None
) -> TileConfig:
    """The tiling in force, checked."""
    tile = config if config is not None else config_from_dict(info["config"]).tile
    if size is not None:
        tile = dataclasses.replace(tile, size=size, stride=size)
    if stride is not None:
        tile = dataclasses.replace(tile, stride=stride)
    return BuildConfig(tile=tile).tile


def _write(folder: Path, plan: CropPlan, step: Callable[[str], None]) -> None:
    """Shards, manifest and rejections of a plan; the images of one pair are held at a time."""
    about = manifest_metadata(plan.record)
    with (
        ShardWriter.opened(folder, plan.counts, crop_metadata(plan.record)) as shards,
        manifest_writer(folder / MANIFEST_NAME, about) as manifest,
    ):
        for planned in plan.pairs:
            if planned.rows.num_rows:
                sharp, blurred = planned.built.read()
                for row in planned.rows.to_pylist():
                    whole, images = cut_crop(row, sharp, blurred, planned.built)
                    shards.write(whole | images)
                    manifest(whole | image_hashes(planned.built))
            step(f"cut {planned.built.pair}")
    if all(planned.tiles is not None for planned in plan.pairs):
        schema = with_metadata(REJECTED_SCHEMA, about)
        with table_writer(folder / REJECTED_NAME, schema) as writer:
            tables = [_rejected(planned) for planned in plan.pairs]
            writer.write_table(pa.concat_tables(tables).cast(schema))


def _counts(rejections: Any) -> dict[str, int]:
    """Reason -> rejected crops, of a rejected.parquet."""
    return dict(sorted(Counter(rejections.column("reason").to_pylist()).items()))


def _rejected(planned: PlannedPair) -> Any:
    """Arrow table of a pair's rejected crops."""
    tiles = planned.tiles
    assert isinstance(tiles, Tiles)
    bad = ~tiles.kept
    n = int(bad.sum())
    pair = planned.built.pair
    return pa.table(
        [
            pa.array([pair.scene] * n, pa.string()),
            pa.array([pair.level.value] * n, pa.string()),
            pa.array(tiles.xy[bad, 0], pa.int32()),
            pa.array(tiles.xy[bad, 1], pa.int32()),
            pa.array([tiles.size] * n, pa.int32()),
            pa.array([CODES[code] for code in tiles.code[bad]], pa.string()),
            pa.array(tiles.value[bad], pa.float64()),
            pa.array(tiles.limit[bad], pa.float64()),
        ],
        schema=REJECTED_SCHEMA,
    )


def _refresh_sums(root: Path, rows: list[dict[str, Any]], level: Level) -> None:
    """Hash only what this run wrote: trusting older hashes keeps damage visible to `verify`."""
    known = {row["image"]: row["image_sha256"] for row in rows if row["image"] is not None}
    try:
        before = read_sums(root)
    except DatasetError:
        before = {}
    for name, digest in before.items():
        if name.startswith("crops/") and not name.startswith(f"crops/{level.value}/"):
            known[name] = digest
    write_sums(root, known)
