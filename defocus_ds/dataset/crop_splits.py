"""The splits that `crop` gives, and what a person should know of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from defocus_ds.config import TileConfig
from defocus_ds.dataset.pairs import BuiltPair, kept_scenes
from defocus_ds.dataset.shards import MANIFEST_NAME, MANIFEST_SCHEMA
from defocus_ds.dataset.split import Splits, assign_splits
from defocus_ds.dataset.tables import distinct, read_table
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Level
from defocus_ds.wording import first_names

__all__ = ["other_splits", "scene_splits", "without_test"]


def scene_splits(
    rows: list[dict[str, Any]], tile: TileConfig, *, seed: int, notes: list[str]
) -> Splits:
    """Splits of the scenes with a kept pair at any level: they must not depend on the level."""
    scenes = kept_scenes(rows)
    splits = assign_splits(scenes, seed=seed, test_share=tile.test_share, val_share=tile.val_share)
    if splits.forced is not None:
        notes.append(
            f"no scene fell into test by its hash: {splits.forced} was made test. "
            "This may change when scenes are added."
        )
    return splits


def without_test(level: str, splits: Splits, pairs: Sequence[BuiltPair]) -> str:
    """Why no crop of a level is in test."""
    cropped = {built.pair.scene for built in pairs}
    held = [name for name, split in splits.by_scene.items() if split == "test"]
    if gone := [name for name in held if name not in cropped]:
        return f"no {level} crop is in test: {first_names(gone)}, of test, left out at this level."
    return f"no {level} crop is in test; more scenes give it some."


def other_splits(root: Path, chosen: Level, splits: Splits) -> Iterator[str]:
    """Levels whose crops have scenes in other splits: one trains on what another tests on."""
    for level in BLURRED_LEVELS:
        path = root / "crops" / level.value / MANIFEST_NAME
        if level is chosen or not path.is_file():
            continue
        try:
            theirs = distinct(read_table(path, MANIFEST_SCHEMA), "scene", "split")
        except DatasetError:  # `verify` names the damage
            continue
        scenes = [scene for scene, split in theirs if splits.by_scene.get(scene, split) != split]
        if scenes:
            yield (
                f"in the {level.value} crops {first_names(scenes)} have another split than here, "
                "so what is tested on at one level may be trained on at the other. Cut them with "
                "the same --seed and test share."
            )
