"""Release: the crops of a dataset with frozen splits, a card, checksums and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defocus_ds.config import config_from_dict
from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.croissant import CROISSANT_NAME, croissant
from defocus_ds.dataset.duplicates import (
    Duplicate,
    equal_images,
    find_duplicates,
    scene_features,
    scene_groups,
)
from defocus_ds.dataset.folders import only_writer, replaced_folder
from defocus_ds.dataset.frozen import (
    SPLITS_NAME,
    FrozenSplits,
    freeze_splits,
    grow_splits,
    read_splits,
    splits_csv,
)
from defocus_ds.dataset.held_out import (
    DECISIONS_NAME,
    check_names,
    decisions,
    held_out_now,
    read_decisions,
    read_held_out,
    same_captures,
)
from defocus_ds.dataset.manifest import SCENES_NAME, read_info, read_scenes
from defocus_ds.dataset.pixels import read_luma
from defocus_ds.dataset.release_card import card, citation
from defocus_ds.dataset.release_facts import RELEASE_NAME, About, release_facts
from defocus_ds.dataset.release_levels import level_crops
from defocus_ds.dataset.release_notes import growth_notes, moved_notes, share_notes
from defocus_ds.dataset.release_shards import LevelCrops, write_level
from defocus_ds.dataset.review import read_review
from defocus_ds.dataset.steps import Progress, Steps
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import Level
from defocus_ds.store import inside, sha256_bytes, sha256_file, write_bytes, write_json

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
            ``out`` exists or lies in the dataset, splits of the previous release that leak, or a
            scene that it holds out and that has its name for another capture now.
        InputError: shares or a seed beside ``previous``.
        ConfigError: shares that are no shares.
    """
    from defocus_ds.pipeline.journal import refuse_unfinished

    root, out = Path(dataset), Path(out)
    _refuse_place(root, out)
    if previous is not None and (test_share is not None or val_share is not None or seed):
        raise InputError(
            "--previous keeps its splits; leave out --test-share, --val-share and --seed."
        )
    refuse_unfinished(root)
    info = read_info(root)
    before = {} if previous is None else read_splits(previous)
    earlier = {} if previous is None else read_held_out(previous, before)
    before |= {scene: known.split for scene, known in earlier.items()}
    with only_writer(root, sweep=True):
        rows = read_scenes(root / SCENES_NAME)
        decided = None if review is None else read_review(review)
        chosen, left_out = level_crops(root, rows, names=levels, review=decided)
        counts: Counter[str] = Counter()
        for item in chosen:
            counts.update(item.crops)
        # scenes held out before must be compared too, whether they are released again or not
        sharp = _sharp_images(rows, counts.keys() | earlier.keys())
        if previous is not None:
            check_names(sharp, earlier, previous=previous)
        step = Steps(progress, 2 * len(sharp) + counts.total())
        duplicates = _duplicates(root, sharp, step)
        duplicates += _unknown(duplicates, same_captures(sharp, earlier))
        shares = None
        if previous is None:
            tile = config_from_dict(info["config"]).tile
            shares = {
                "test": tile.test_share if test_share is None else test_share,
                "val": tile.val_share if val_share is None else val_share,
            }
            splits = freeze_splits(
                counts,
                scene_groups(sharp, duplicates),
                seed=seed,
                test_share=shares["test"],
                val_share=shares["val"],
                levels=_levels(chosen),
            )
        else:
            splits = grow_splits(counts, duplicates, previous=before)
        left_out |= splits.left_out | _without_crops(chosen, splits)
        chosen = [item for item in chosen if item.crops.keys() & splits.by_scene.keys()]
        if not chosen:
            raise DatasetError(f"{root}: no crop is left to release.")
        # a scene that is left out joins no others
        own = [p for p in duplicates if {p.one, p.other} <= splits.by_scene.keys()]
        table = splits_csv(splits.by_scene, scene_groups(splits.by_scene, own))
        with replaced_folder(out) as fresh:
            crops = {
                item.level.value: write_level(
                    fresh / "crops" / item.level.value,
                    item,
                    splits.by_scene,
                    without=splits.left_out.keys(),
                    splits_digest=sha256_bytes(table.encode()),
                    step=step,
                )
                for item in chosen
            }
            decided_of = decisions(
                duplicates,
                left_out=left_out,
                held_out=held_out_now(splits.by_scene, sharp, earlier),
            )
            facts = release_facts(
                info,
                list(_released_rows(rows, chosen, splits)),
                about=about,
                crops=crops,
                splits=splits.by_scene,
                decisions=decided_of,
                seed=seed if previous is None else None,
                review=decided.sha256 if decided else _obeyed(chosen),
            )
            write_bytes(fresh / SPLITS_NAME, table.encode())
            write_json(fresh / DECISIONS_NAME, decided_of)
            _describe(fresh, facts)
    return ReleaseReport(
        out,
        crops,
        dict(Counter(splits.by_scene.values())),
        tuple(duplicates),
        left_out,
        (
            *growth_notes(previous, before, sharp, splits, _returned(previous, chosen, splits)),
            *moved_notes(
                {scene: split for item in chosen for scene, split in item.splits.items()},
                splits,
                grouped={name for pair in own for name in (pair.one, pair.other)},
                grown=previous is not None,
            ),
            *share_notes(crops, splits, shares=shares),
        ),
    )


def _describe(folder: Path, facts: Mapping[str, Any]) -> None:
    """Everything that is written from the facts, and the checksums."""
    write_json(folder / RELEASE_NAME, facts)
    write_bytes(folder / "README.md", card(facts).encode())
    write_bytes(folder / "CITATION.cff", citation(facts).encode())
    shards = {p.relative_to(folder).as_posix(): p for p in folder.glob("crops/*/*-of-*.parquet")}
    digests = {name: sha256_file(path) for name, path in shards.items()}
    sizes = {name: path.stat().st_size for name, path in shards.items()}
    write_json(folder / CROISSANT_NAME, croissant(facts, digests=digests, sizes=sizes))
    write_sums(folder, digests)


def _obeyed(chosen: Sequence[LevelCrops]) -> str | dict[str, str | None] | None:
    """SHA-256 of the review that the crops obeyed; by level where they obeyed different ones."""
    found = {item.level.value: item.record.get("review") for item in chosen}
    first, *others = found.values()
    return first if all(other == first for other in others) else found


def _returned(
    previous: Path | None, chosen: Sequence[LevelCrops], splits: FrozenSplits
) -> list[str]:
    """Pairs to release that a review left out of the release before."""
    if previous is None:
        return []
    out = read_decisions(previous)["left_out"]
    reviewed = {pair for pair, why in out.items() if str(why).startswith("review:")}
    return sorted(
        pair
        for item in chosen
        for scene in item.crops.keys() & splits.by_scene.keys()
        if (pair := f"{scene}/{item.level}") in reviewed
    )


def _levels(chosen: Sequence[LevelCrops]) -> dict[str, set[str]]:
    """Scene -> the levels at which it has crops."""
    levels: dict[str, set[str]] = {}
    for item in chosen:
        for scene in item.crops:
            levels.setdefault(scene, set()).add(item.level.value)
    return levels


def _without_crops(chosen: Sequence[LevelCrops], splits: FrozenSplits) -> dict[str, str]:
    """Kept pairs of which no crop is released."""
    return {
        f"{scene}/{item.level}": (
            "crops: none kept; crop obeyed a review, which may have rejected the pair"
            if "review" in item.record
            else "crops: none kept"
        )
        for item in chosen
        for scene in sorted(item.images.keys() - item.crops.keys() - splits.left_out.keys())
    }


def _sharp_images(
    rows: Sequence[Mapping[str, Any]], scenes: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    """Scene -> the row of its sharp image, where there is one."""
    return {
        row["scene"]: row
        for row in rows
        if row["level"] == Level.SHARP.value and row["image"] and row["scene"] in scenes
    }


def _duplicates(root: Path, sharp: Mapping[str, Mapping[str, Any]], step: Steps) -> list[Duplicate]:
    """Near-duplicates among the scenes, by their sharp images."""
    features = {}
    for scene, row in sorted(sharp.items()):
        luma = read_luma(
            inside(root, row["image"]),
            size=(row["width"], row["height"]),
            sha256=row["image_sha256"],
        )
        features[scene] = scene_features(luma)
        step(f"looked at {scene}")
    found = find_duplicates(features, progress=lambda _done, _total, name: step(f"compared {name}"))
    same = equal_images({scene: row["image_sha256"] for scene, row in sharp.items()})
    return found + _unknown(found, same)


def _unknown(known: Sequence[Duplicate], more: Sequence[Duplicate]) -> list[Duplicate]:
    """Those of ``more`` whose scenes are not a pair yet."""
    pairs = {(pair.one, pair.other) for pair in known}
    return [pair for pair in more if (pair.one, pair.other) not in pairs]


def _released_rows(
    rows: Sequence[Mapping[str, Any]], chosen: Sequence[LevelCrops], splits: FrozenSplits
) -> Iterator[Mapping[str, Any]]:
    """Rows of the captures that the released crops are cut from."""
    released = {item.level.value: item.crops.keys() & splits.by_scene.keys() for item in chosen}
    released[Level.SHARP.value] = {scene for scenes in released.values() for scene in scenes}
    return (row for row in rows if row["scene"] in released.get(row["level"], ()))


def _refuse_place(root: Path, out: Path) -> None:
    if out.exists() and not (out / RELEASE_NAME).is_file():
        raise DatasetError(f"{out}: exists, and is no release. Give a new folder.")
    if out.exists():
        raise DatasetError(
            f"{out}: exists. A release is frozen; give a new folder, and --previous {out} to keep "
            "its splits."
        )
    if out.resolve().is_relative_to(root.resolve()):
        raise DatasetError(f"{out}: lies in the dataset. Give a folder beside it.")
