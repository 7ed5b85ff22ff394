"""The splits of a release: whole groups of near-duplicates, balanced by crops, and then frozen."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defocus_ds.dataset.split import SPLITS, hash_fraction
from defocus_ds.errors import DatasetError

__all__ = ["SPLITS_NAME", "FrozenSplits", "freeze_splits", "read_splits", "splits_csv"]

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
    previous: Mapping[str, str] | None = None,
) -> FrozenSplits:
    """Give every group of scenes to one split.

    Groups are taken in the order of a hash: to test while they fit into its share of the crops,
    to val likewise, the others to train.  With a previous release
    its scenes keep their splits: new ones go to train, and a new one that is a near-duplicate of
    a scene held out (val, test) is left out, so that the sets held out stay as they are.

    Args:
        crops: scene -> number of its crops, all levels together.
        groups: scene -> name of its group, see `defocus_ds.dataset.duplicates.scene_groups`.
        seed: of the hash.
        test_share, val_share: shares of all crops.
        previous: scene -> split in the release before.

    Raises:
        DatasetError: near-duplicates that the previous release has in different splits.
    """
    members: dict[str, list[str]] = {}
    for scene in sorted(crops):
        members.setdefault(groups[scene], []).append(scene)
    if previous is not None:
        return _grown(members, previous)
    order = sorted(members, key=lambda name: (hash_fraction(seed, name), name))
    sizes = {name: sum(crops[scene] for scene in scenes) for name, scenes in members.items()}
    total = sum(sizes.values())
    splits = dict.fromkeys(order, "train")
    for split, share in (("test", test_share), ("val", val_share)):
        left = [name for name in order if splits[name] == "train"]
        # one group at least stays for training
        for name in _filled(left, sizes, share * total)[: len(left) - 1]:
            splits[name] = split
    return FrozenSplits({scene: splits[groups[scene]] for scene in sorted(crops)}, {})


def splits_csv(by_scene: Mapping[str, str], groups: Mapping[str, str]) -> str:
    """The table of splits: scene, split, and the group of near-duplicates that it is one of."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((scene, by_scene[scene], groups[scene]) for scene in sorted(by_scene))
    return text.getvalue()


def read_splits(release: Path) -> dict[str, str]:
    """Scene -> split of a release.

    Raises:
        DatasetError: no release, or its table is damaged; the line is named.
    """
    path = release / SPLITS_NAME
    if not path.is_file():
        raise DatasetError(f"{release}: no {SPLITS_NAME}; is this a folder that release made?")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {_MAX_BYTES}.")
    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            if tuple(next(lines, ())) != _COLUMNS:
                raise DatasetError(f"{path}: the columns are not {', '.join(_COLUMNS)}.")
            for cells in lines:
                if len(cells) != 3 or not cells[0] or cells[1] not in SPLITS or cells[0] in found:
                    raise DatasetError(f"{path}: line {lines.line_num}: {cells} is not a split.")
                found[cells[0]] = cells[1]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a CSV table in UTF-8 ({error}).") from error
    return found


def _filled(order: Sequence[str], sizes: Mapping[str, int], target: float) -> list[str]:
    """Groups that together come near a number of crops, taken in order while they fit.

    One more is taken where that comes nearer, or where nothing fitted: a set that was asked for
    is not empty.
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
        if not taken or abs(total + sizes[best] - target) < abs(total - target):
            taken.append(best)
    return taken


def _grown(members: Mapping[str, list[str]], previous: Mapping[str, str]) -> FrozenSplits:
    """The previous splits, and new scenes where they leak nothing."""
    splits: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for scenes in members.values():
        known = {scene: previous[scene] for scene in scenes if scene in previous}
        if len(set(known.values())) > 1:
            named = ", ".join(f"{scene} ({split})" for scene, split in known.items())
            raise DatasetError(
                f"the previous release leaks: near-duplicates in different splits: {named}. "
                "Leave one out with a review, or release without --previous."
            )
        held_out = next((s for s in known.items() if s[1] != "train"), None)
        for scene in scenes:
            if scene in known:
                splits[scene] = known[scene]
            elif held_out is None:
                splits[scene] = "train"
            else:
                left_out[scene] = (
                    f"leak: a near-duplicate of {held_out[0]}, held out for {held_out[1]}"
                )
    return FrozenSplits(dict(sorted(splits.items())), dict(sorted(left_out.items())))
