"""Release: the crops of a dataset with frozen splits, a card, checksums and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defocus_ds.config import config_from_dict
from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.croissant import CROISSANT_NAME, croissant
from defocus_ds.dataset.duplicates import (
    Duplicate,
    find_duplicates,
    scene_features,
    scene_groups,
)
from defocus_ds.dataset.folders import replaced_folder
from defocus_ds.dataset.frozen import (
    SPLITS_NAME,
    FrozenSplits,
    freeze_splits,
    read_splits,
    splits_csv,
)
from defocus_ds.dataset.manifest import SCENES_NAME, read_info, read_scenes
from defocus_ds.dataset.pairs import built_pairs, image_hashes
from defocus_ds.dataset.pixels import read_luma
from defocus_ds.dataset.release_card import card, citation
from defocus_ds.dataset.release_facts import RELEASE_NAME, About, release_facts
from defocus_ds.dataset.release_shards import LevelCrops, write_level
from defocus_ds.dataset.review import Review, read_review
from defocus_ds.dataset.shards import (
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    crop_record,
    has_crops,
)
from defocus_ds.dataset.stale import stale_levels
from defocus_ds.dataset.steps import Progress, Steps
from defocus_ds.dataset.tables import (
    read_table,
)
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Level
from defocus_ds.store import inside, sha256_bytes, sha256_file, write_bytes, write_json
from defocus_ds.wording import command_line

__all__ = ["ReleaseReport", "release"]


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """What `release` did.

    Attributes:
        folder: the release.
        crops: level -> split -> crops.
        scenes: split -> scenes.
        duplicates: near-duplicate scenes, kept in one split.
        left_out: scene or pair -> why it is not in the release.
        notes: what a person should know.
    """

    folder: Path
    crops: dict[str, dict[str, int]]
    scenes: dict[str, int]
    duplicates: tuple[Duplicate, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]


def release(
    dataset: Path | str,
    out: Path | str,
    *,
    about: About,
    levels: Sequence[str] | None = None,
    review: Path | None = None,
    previous: Path | None = None,
    test_share: float | None = None,
    val_share: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ReleaseReport:
    """Write a release of a built dataset's crops.

    Every crop's pixels are compared with its SHA-256 on the way.  Scenes that show the same place
    are found by their sharp images and go to one split, which is then written down for good.

    Args:
        dataset: folder that `build` made, with crops.
        out: a new folder.
        about: name, licence and authors, for the card and the citation.
        levels: to release; None takes all that have crops.
        review: a ``review.csv``; the pairs that a person rejected in it are left out.
        previous: an earlier release of the growing dataset, whose splits are kept.
        test_share, val_share: of the crops; None takes the dataset's configuration.
        seed: of the splits.
        progress: called with (done, total, label).

    Raises:
        DatasetError: not a built dataset, no crops, crops of an earlier build, a damaged shard,
            ``out`` exists, or splits of the previous release that leak.
    """
    root, out = Path(dataset), Path(out)
    if out.exists():
        raise DatasetError(
            f"{out}: exists. A release is frozen; give a new folder, and --previous {out} to keep "
            "its splits."
        )
    info = read_info(root)
    tile = config_from_dict(info["config"]).tile
    rows = read_scenes(root / SCENES_NAME)
    decided = None if review is None else read_review(review)
    chosen, left_out = _levels(root, rows, levels, decided)
    counts: Counter[str] = Counter()
    for item in chosen:
        counts.update(item.crops)
    step = Steps(progress, 2 * len(counts) + counts.total())
    duplicates = _duplicates(root, rows, sorted(counts), step)
    groups = scene_groups(counts, duplicates)
    splits = freeze_splits(
        counts,
        groups,
        seed=seed,
        test_share=tile.test_share if test_share is None else test_share,
        val_share=tile.val_share if val_share is None else val_share,
        previous=None if previous is None else read_splits(previous),
    )
    left_out |= splits.left_out
    table = splits_csv(splits.by_scene, groups)
    with replaced_folder(out) as fresh:
        crops = {
            item.level.value: write_level(
                fresh / "crops" / item.level.value,
                item,
                splits.by_scene,
                splits_digest=sha256_bytes(table.encode()),
                step=step,
            )
            for item in chosen
        }
        facts = release_facts(
            info,
            [row for row in rows if row["scene"] in splits.by_scene],
            about=about,
            crops=crops,
            splits=splits.by_scene,
            duplicates=duplicates,
            left_out=left_out,
            seed=seed,
            review=None if decided is None else decided.sha256,
        )
        write_bytes(fresh / SPLITS_NAME, table.encode())
        write_json(fresh / RELEASE_NAME, facts)
        write_bytes(fresh / "README.md", card(facts).encode())
        write_bytes(fresh / "CITATION.cff", citation(facts).encode())
        shards = {p.relative_to(fresh).as_posix(): p for p in fresh.glob("crops/*/*-of-*.parquet")}
        digests = {name: sha256_file(path) for name, path in shards.items()}
        sizes = {name: path.stat().st_size for name, path in shards.items()}
        write_json(fresh / CROISSANT_NAME, croissant(facts, digests=digests, sizes=sizes))
        write_sums(fresh, digests)
    return ReleaseReport(
        out,
        crops,
        dict(Counter(splits.by_scene.values())),
        tuple(duplicates),
        left_out,
        tuple(_notes(previous, splits, crops)),
    )


def _levels(
    root: Path,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str] | None,
    review: Review | None,
) -> tuple[list[LevelCrops], dict[str, str]]:
    """The levels to release, and the pairs left out of them."""
    folders = {level: root / "crops" / level.value for level in BLURRED_LEVELS}
    there = [level for level in BLURRED_LEVELS if has_crops(folders[level])]
    asked = [level for level in BLURRED_LEVELS if level.value in names] if names else there
    missing = [level.value for level in asked if level not in there]
    if missing or not asked:
        again = command_line("crop", root, "--level", (missing or ["low"])[0])
        raise DatasetError(f"{root}: no crops of {', '.join(missing) or 'any level'}. Run {again}")
    if stale := [level.value for level in asked if level.value in stale_levels(root)]:
        again = command_line("crop", root, "--level", stale[0])
        raise DatasetError(f"{root}: the {stale[0]} crops are of an earlier build. Run {again}")
    found: list[LevelCrops] = []
    left_out: dict[str, str] = {}
    for level in asked:
        pairs, others = built_pairs(root, rows, level)
        if review is not None:
            pairs, others = review.applied(pairs, others)
        left_out |= {str(item.pair): "; ".join(item.reasons) for item in others}
        path = folders[level] / MANIFEST_NAME
        table = read_table(path, MANIFEST_SCHEMA)
        images = {built.pair.scene: image_hashes(built) for built in pairs}
        crops = Counter(table.column("scene").to_pylist())
        found.append(
            LevelCrops(
                level,
                folders[level],
                {scene: count for scene, count in crops.items() if scene in images},
                images,
                crop_record(path, table.schema.metadata),
            )
        )
    if not any(item.crops for item in found):
        raise DatasetError(f"{root}: the review leaves no crop.")
    return found, left_out


def _duplicates(
    root: Path, rows: Sequence[Mapping[str, Any]], scenes: Sequence[str], step: Steps
) -> list[Duplicate]:
    """Near-duplicates among the scenes, by their sharp images."""
    sharp = {row["scene"]: row for row in rows if row["level"] == Level.SHARP.value}
    features = {}
    for scene in scenes:
        row = sharp[scene]
        luma = read_luma(
            inside(root, row["image"]),
            size=(row["width"], row["height"]),
            sha256=row["image_sha256"],
        )
        features[scene] = scene_features(luma)
        step(f"looked at {scene}")
    return find_duplicates(features, progress=lambda _done, _total, name: step(f"compared {name}"))


def _notes(
    previous: Path | None, splits: FrozenSplits, crops: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    if previous is not None:
        gone = sorted(set(read_splits(previous)) - set(splits.by_scene))
        if gone:
            yield (
                f"{len(gone)} of the scenes of {previous} are no longer there: "
                f"{', '.join(gone[:5])}{', ...' if len(gone) > 5 else ''}."
            )
    for level, counts in crops.items():
        if "test" not in counts:
            yield f"no {level} crop is in test; more scenes give it some."
