"""Stale crops: those that were cut from an earlier build than the one beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defocus_ds.dataset.manifest import INFO_NAME, SCENES_NAME, read_object, read_scenes
from defocus_ds.dataset.pairs import BuiltPair, built_pairs
from defocus_ds.dataset.shards import (
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    REJECTED_NAME,
    REJECTED_SCHEMA,
    crop_record,
    has_crops,
)
from defocus_ds.dataset.tables import distinct, open_table, read_table
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Level
from defocus_ds.store import sha256_file
from defocus_ds.wording import command_line

__all__ = [
    "crop_again",
    "earlier_build",
    "obeyed_review",
    "refuse_stale",
    "stale_levels",
    "valid_rejections",
]


def stale_levels(dataset: Path, *, digest: str | None = None) -> list[str]:
    """Levels whose crops do not belong to the present scenes.parquet; `crop` cuts them again.

    Args:
        dataset: folder that `build` made; it need not hold crops.
        digest: SHA-256 of its scenes.parquet; None reads the file, which may be large.

    Returns:
        Names, in the order of the levels.  A level whose manifest cannot be opened, or, if it is
        of another build, cannot be compared with scenes.parquet, counts as stale.
    """
    scenes = dataset / SCENES_NAME
    if digest is None and scenes.is_file():
        digest = sha256_file(scenes)
    folders = {level: dataset / "crops" / level.value for level in BLURRED_LEVELS}
    return [
        level.value
        for level, folder in folders.items()
        if has_crops(folder) and not _is_current(dataset, level, folder, digest)
    ]


def refuse_stale(folder: Path) -> None:
    """Refuse crops of an earlier build: their pairs may have been rejected since.

    Args:
        folder: of a level; one that lies in no built dataset passes.

    Raises:
        DatasetError: names the way out.
    """
    folder = folder.resolve()
    dataset = folder.parent.parent
    levels = [level for level in BLURRED_LEVELS if dataset / "crops" / level.value == folder]
    needed = (dataset / SCENES_NAME, dataset / INFO_NAME, folder / MANIFEST_NAME)
    if not levels or not all(path.is_file() for path in needed):
        return
    # as stated: the table itself is large, and `verify` compares the two
    if not _is_current(dataset, levels[0], folder, read_object(needed[1]).get("digest")):
        raise DatasetError(
            f"{folder}: cut from an earlier build than the one beside it, which may have rejected "
            f"some of its pairs. Run {crop_again(dataset, levels[0])}"
        )


def crop_again(dataset: Path, level: str, *, named: str | None = None) -> str:
    """The command that cuts a level again, with the option of a review if its crops obeyed one.

    Args:
        dataset: whose crops they are.
        level: "low", "medium" or "high".
        named: what the command calls the dataset; None takes its path.
    """
    words = ["crop", named or dataset, "--level", level]
    if obeyed_review(dataset / "crops" / level):
        words += ["--review", "review.csv"]
    return command_line(*words)


def obeyed_review(folder: Path) -> bool:
    """Whether the crops of a level's folder are known to have obeyed a review."""
    path = folder / MANIFEST_NAME
    try:
        with open_table(path, MANIFEST_SCHEMA) as file:
            return crop_record(path, file.schema_arrow.metadata).get("review") is not None
    except DatasetError:
        return False


def earlier_build(
    folder: Path, manifest: Any, pairs: Mapping[str, BuiltPair], digest: str | None
) -> str | None:
    """The digest of the scenes.parquet that a level was cut from, if it is not the present one.

    Crops rebuilt from a manifest keep that manifest's record, to be the same to the byte.  They
    are told by the rejections they lack, and are current as long as the images are.

    Args:
        folder: of the level.
        manifest: its table, with metadata.
        pairs: scene -> kept pair of the present dataset at this level.
        digest: SHA-256 of the present scenes.parquet.

    Returns:
        None where the crops are current.

    Raises:
        DatasetError: the manifest does not say how it was made.
    """
    named = crop_record(folder / MANIFEST_NAME, manifest.schema.metadata).get("dataset_digest")
    if named == digest:
        return None
    if not (folder / REJECTED_NAME).exists():
        images = {
            (scene, built.sharp_sha256, built.blurred_sha256) for scene, built in pairs.items()
        }
        columns = ("scene", "image_sha256_sharp", "image_sha256_blurred")
        if images.issuperset(distinct(manifest, *columns)):
            return None
    return str(named)


def valid_rejections(folder: Path, manifest: Path, digest: str) -> Any:
    """The rejections beside a level's crops, if they are those of a manifest.

    Args:
        folder: of the level; it need not exist.
        manifest: the file that crops are to be rebuilt from.
        digest: SHA-256 of the present scenes.parquet.

    Returns:
        An Arrow table with its metadata; None where the manifest is not this folder's own, or
        was made from another build, or the rejections are gone or damaged.
    """
    own, rejected = folder / MANIFEST_NAME, folder / REJECTED_NAME
    if not own.is_file() or not rejected.is_file() or sha256_file(own) != sha256_file(manifest):
        return None
    try:
        table = read_table(rejected, REJECTED_SCHEMA)
        record = crop_record(rejected, table.schema.metadata)
    except DatasetError:
        return None
    return table if record.get("dataset_digest") == digest else None


def _is_current(dataset: Path, level: Level, folder: Path, digest: str | None) -> bool:
    path = folder / MANIFEST_NAME
    try:
        with open_table(path, MANIFEST_SCHEMA) as file:
            record = crop_record(path, file.schema_arrow.metadata)
        if record.get("dataset_digest") == digest:
            return True
        manifest = read_table(path, MANIFEST_SCHEMA)
        pairs, _ = built_pairs(dataset, read_scenes(dataset / SCENES_NAME), level)
        by_scene = {built.pair.scene: built for built in pairs}
        return earlier_build(folder, manifest, by_scene, digest) is None
    except DatasetError:
        return False
