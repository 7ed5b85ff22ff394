"""The part of `verify` that compares splits of scenes: shard with shard, and with splits.csv."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from defocus_ds.dataset.findings import MADE_AGAIN, Findings
from defocus_ds.dataset.frozen import SPLITS_NAME, read_frozen
from defocus_ds.errors import DatasetError

__all__ = ["check_frozen", "check_splits"]

_AGAIN = f"Copy the file again, or {MADE_AGAIN['release']}."


def check_splits(seen: Mapping[str, Mapping[str, str]], findings: Findings) -> None:
    """No scene in two splits, over all levels.

    Args:
        seen: scene -> split -> the first shard that has crops of the scene in that split.
        findings: collects what is wrong.
    """
    for scene, splits in sorted(seen.items()):
        if len(splits) > 1:
            advice = "Crop all levels again with one seed and one set of shares."
            if findings.kind != "dataset":
                advice = f"Copy the file again, or {MADE_AGAIN[findings.kind]}."
            first, *others = sorted(splits)
            for other in others:
                findings.add(
                    splits[other],
                    f"{scene} in {first} only, as in {splits[first]}",
                    f"{scene} in {other}",
                    advice,
                )


def check_frozen(
    root: Path,
    seen: Mapping[str, Mapping[str, str]],
    described: Collection[str],
    findings: Findings,
) -> None:
    """A release's splits.csv: the same scenes and splits as its crops, groups whole.

    Args:
        root: a release; of another folder, splits.csv is compared if it is there.
        seen: as in `check_splits`.
        described: scenes of which a manifest has rows; their shards may be damaged.
        findings: collects what is wrong; each names the scene.
    """
    if not (findings.kind == "release" or (root / SPLITS_NAME).exists()):
        return
    try:
        frozen = read_frozen(root)
    except (DatasetError, OSError) as error:
        findings.add(SPLITS_NAME, "a table of scene, split and group", str(error), _AGAIN)
        return
    for scene, (split, _) in sorted(frozen.items()):
        for other, file in sorted(seen.get(scene, {}).items()):
            if other != split:
                findings.add(
                    SPLITS_NAME, f"{scene} in {other}, as in {file}", f"{scene} in {split}", _AGAIN
                )
        if scene not in seen and scene not in described:
            findings.add(SPLITS_NAME, f"crops of {scene}, {split}", "none", _AGAIN)
    for scene, splits in sorted(seen.items()):
        if scene not in frozen:
            file = splits[min(splits)]
            findings.add(SPLITS_NAME, f"a line for {scene}, as in {file}", "none", _AGAIN)
    first: dict[str, str] = {}
    for scene, (split, group) in sorted(frozen.items()):
        known = first.setdefault(group, scene)
        if split != frozen[known][0]:
            findings.add(
                SPLITS_NAME,
                f"group {group} in one split: {known} is in {frozen[known][0]}",
                f"{scene} in {split}",
                _AGAIN,
            )
