"""What a release takes from the levels of a dataset: which crops, and what is left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defocus_ds.dataset.pairs import built_pairs, image_hashes
from defocus_ds.dataset.release_shards import LevelCrops, add_row
from defocus_ds.dataset.review import Review
from defocus_ds.dataset.shards import MANIFEST_NAME, MANIFEST_SCHEMA, crop_record, has_crops
from defocus_ds.dataset.stale import crop_again, stale_levels
from defocus_ds.dataset.tables import read_table
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS
from defocus_ds.wording import command_line

__all__ = ["level_crops"]


def level_crops(
    root: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    names: Sequence[str] | None,
    review: Review | None,
) -> tuple[list[LevelCrops], dict[str, str]]:
    """The crops to release, level by level, and the pairs left out of them with the reason.

    Args:
        root: the dataset.
        rows: of scenes.parquet.
        names: of the levels; None takes all that have crops.
        review: whose rejected pairs are left out.

    Raises:
        DatasetError: no crops, crops of an earlier build, or a damaged manifest.
    """
    folders = {level: root / "crops" / level.value for level in BLURRED_LEVELS}
    there = [level for level in BLURRED_LEVELS if has_crops(folders[level])]
    asked = [level for level in BLURRED_LEVELS if level.value in names] if names else there
    missing = [level.value for level in asked if level not in there]
    if missing or not asked:
        again = command_line("crop", root, "--level", (missing or ["low"])[0])
        raise DatasetError(f"{root}: no crops of {', '.join(missing) or 'any level'}. Run {again}")
    old = stale_levels(root)
    if stale := [level.value for level in asked if level.value in old]:
        again = crop_again(root, stale[0])
        raise DatasetError(f"{root}: the {stale[0]} crops are of an earlier build. Run {again}")
    found: list[LevelCrops] = []
    left_out: dict[str, str] = {}
    for level in asked:
        pairs, others = built_pairs(root, rows, level)
        if review is not None:
            pairs, others = review.applied(pairs, others)
        # the text of a failure may name folders of this machine
        left_out |= {
            str(item.pair): "failed: it was not built"
            if item.verdict == "failed"
            else "; ".join(item.reasons)
            for item in others
        }
        for pair in review.overruled(others) if review is not None else ():
            left_out[str(pair)] += "; accepted in the review, but build left it out"
        path = folders[level] / MANIFEST_NAME
        table = read_table(path, MANIFEST_SCHEMA)
        images = {built.pair.scene: image_hashes(built) for built in pairs}
        crops, digests, splits = _scenes(table)
        found.append(
            LevelCrops(
                level,
                folders[level],
                {scene: count for scene, count in crops.items() if scene in images},
                digests,
                splits,
                images,
                crop_record(path, table.schema.metadata),
            )
        )
    if not any(item.crops for item in found):
        raise DatasetError(f"{root}: no crop is left to release.")
    return found, left_out


def _scenes(manifest: Any) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
    """Scene -> its rows in a manifest, the digest of them, and its split there."""
    digests: dict[str, Any] = {}
    splits: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for part in manifest.to_batches(4096):
        for row in part.to_pylist():
            counts[row["scene"]] += 1
            splits[row["scene"]] = row["split"]
            add_row(digests.setdefault(row["scene"], hashlib.sha256()), row)
    return dict(counts), {scene: d.hexdigest() for scene, d in digests.items()}, splits
