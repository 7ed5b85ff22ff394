"""The splits of a release: whole groups of near-duplicates, balanced by crops, and then frozen."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defocus_ds.dataset.duplicates import Duplicate, scene_groups
from defocus_ds.dataset.split import SPLITS, hash_fraction
from defocus_ds.errors import ConfigError, DatasetError

__all__ = [
    "SPLITS_NAME",
    "FrozenSplits",
    "freeze_splits",
    "grow_splits",
    "read_frozen",
    "read_splits",
    "splits_csv",
]

SPLITS_NAME = "splits.csv"
_COLUMNS = ("scene", "split", "group")
_MAX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class FrozenSplits:
    """Split of every released scene; ``left_out`` has the others with the reason."""

    by_scene: dict[str, str]
    left_out: dict[str, str]


def freeze_splits(
    crops: Mapping[str, int],
    groups: Mapping[str, str],
    *,
    seed: int,
    test_share: float,
    val_share: float,
    levels: Mapping[str, Collection[str]] | None = None,
) -> FrozenSplits:
    """Give every group of scenes to one split.

    Groups are taken in the order of a hash, those with crops at every level before the others: to
    test while they fit into its share of the crops, to val likewise, the others to train.  One
    stays in train, of those with crops at every level if there are any.

    Args:
        crops: scene -> number of its crops, all levels together.
        groups: scene -> name of its group, see `defocus_ds.dataset.duplicates.scene_groups`.
        seed: of the hash.
        test_share, val_share: shares of all crops, at most 1 together.
        levels: scene -> levels at which it has crops; None does not tell levels apart.

    Raises:
        ConfigError: shares that are no shares.
    """
    if not (test_share >= 0 and val_share >= 0 and test_share + val_share <= 1):
        raise ConfigError(
            f"test share {test_share:g}, val share {val_share:g}: give shares of at least 0 and at "
            "most 1 together."
        )
    members: dict[str, list[str]] = {}
    for scene in sorted(crops):
        members.setdefault(groups[scene], []).append(scene)
    order = sorted(members, key=lambda name: (hash_fraction(seed, name), name))
    levels = levels or {}
    everywhere = {level for own in levels.values() for level in own}
    whole = {
        name
        for name, scenes in members.items()
        if everywhere <= {level for scene in scenes for level in levels.get(scene, ())}
    }
    sizes = {name: sum(crops[scene] for scene in scenes) for name, scenes in members.items()}
    total = sum(sizes.values())
    splits = dict.fromkeys(order, "train")
    for split, share in (("test", test_share), ("val", val_share)):
        left = [name for name in order if splits[name] == "train"]
        best = [name for name in left if name in whole]
        others = [name for name in left if name not in whole]
        # one group at least stays for training
        taken = _filled(best, sizes, share * total, least=1)[: max(0, len(best) - 1)]
        rest = share * total - sum(sizes[name] for name in taken)
        more = _filled(others, sizes, rest, least=0 if taken else 1)
        for name in taken + more[: len(others) if best else max(0, len(others) - 1)]:
            splits[name] = split
    return FrozenSplits({scene: splits[groups[scene]] for scene in sorted(crops)}, {})


def grow_splits(
    scenes: Iterable[str], duplicates: Sequence[Duplicate], *, previous: Mapping[str, str]
) -> FrozenSplits:
    """The splits of an earlier release for a dataset that has grown.

    Scenes of that release keep their splits and new ones go to train.  A new one that is a
    near-duplicate of a scene held out (val, test), directly or through others, is left out, so
    that the sets held out stay what they are and nothing of them is trained on.

    Args:
        scenes: to release.
        duplicates: among these and the scenes that were held out, whether they are still
            released or not.
        previous: scene -> split in the release before.

    Raises:
        DatasetError: near-duplicates that the previous release has in different splits.
    """
    wanted = set(scenes)
    everyone = wanted | {name for pair in duplicates for name in (pair.one, pair.other)}
    old = [pair for pair in duplicates if pair.one in previous and pair.other in previous]
    for members in _members(scene_groups(everyone & previous.keys(), old)):
        if len({previous[scene] for scene in members}) > 1:
            named = ", ".join(f"{scene} ({previous[scene]})" for scene in members)
            raise DatasetError(
                f"the previous release leaks: near-duplicates in different splits: {named}. "
                "Leave one out with a review, or release without --previous."
            )
    splits: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for members in _members(scene_groups(everyone, duplicates)):
        held_out = next((s for s in members if previous.get(s, "train") != "train"), None)
        for scene in members:
            if scene not in wanted:
                continue
            if scene in previous:
                splits[scene] = previous[scene]
            elif held_out is None:
                splits[scene] = "train"
            else:
                split = previous[held_out]
                left_out[scene] = f"leak: a near-duplicate of {held_out}, held out for {split}"
    return FrozenSplits(dict(sorted(splits.items())), dict(sorted(left_out.items())))


def splits_csv(by_scene: Mapping[str, str], groups: Mapping[str, str]) -> str:
    """The table of splits: scene, split, and the group of near-duplicates that it is one of."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((scene, by_scene[scene], groups[scene]) for scene in sorted(by_scene))
    return text.getvalue()


def read_splits(release: Path) -> dict[str, str]:
    """Scene -> split of a release; errors as in `read_frozen`."""
    return {scene: split for scene, (split, _) in read_frozen(release).items()}


def read_frozen(release: Path) -> dict[str, tuple[str, str]]:
    """Scene -> split and group of a release.

    Raises:
        DatasetError: no release, or its table is damaged; the line is named.
    """
    path = release / SPLITS_NAME
    if not path.is_file():
        raise DatasetError(f"{release}: no {SPLITS_NAME}; is this a folder that release made?")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {_MAX_BYTES}.")
    found: dict[str, tuple[str, str]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            if tuple(next(lines, ())) != _COLUMNS:
                raise DatasetError(f"{path}: the columns are not {', '.join(_COLUMNS)}.")
            for cells in lines:
                if len(cells) != 3 or not cells[0] or cells[1] not in SPLITS or cells[0] in found:
                    raise DatasetError(f"{path}: line {lines.line_num}: {cells} is not a split.")
                found[cells[0]] = cells[1], cells[2]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a CSV table in UTF-8 ({error}).") from error
    return found


def _filled(
    order: Sequence[str], sizes: Mapping[str, int], target: float, *, least: int
) -> list[str]:
    """Groups that together come near a number of crops, taken in order while they fit.

    One more is taken where that comes nearer, or where fewer than ``least`` fitted: a set that was
    asked for is not empty.
    """
    taken: list[str] = []
    total = 0
    for name in order:
        if target > 0 and total + sizes[name] <= target:
            taken.append(name)
            total += sizes[name]
    rest = [name for name in order if name not in taken]
    if target > 0 and rest:
        best = min(rest, key=lambda name: abs(total + sizes[name] - target))
        if len(taken) < least or abs(total + sizes[best] - target) < abs(total - target):
            taken.append(best)
    return taken


def _members(groups: Mapping[str, str]) -> list[list[str]]:
    """The scenes of each group, sorted."""
    members: dict[str, list[str]] = {}
    for scene, name in groups.items():
        members.setdefault(name, []).append(scene)
    return [sorted(scenes) for scenes in members.values()]
