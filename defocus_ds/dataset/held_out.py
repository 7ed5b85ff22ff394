"""decisions.json: what a release decided of scenes, of which later ones read what is held out.

It is a file of its own since it grows with the scenes, and release.json is read by everyone who
opens a release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from defocus_ds.dataset.duplicates import Duplicate
from defocus_ds.dataset.manifest import read_object
from defocus_ds.dataset.release_facts import RELEASE_NAME
from defocus_ds.errors import DatasetError

__all__ = [
    "DECISIONS_NAME",
    "HeldOut",
    "check_names",
    "decisions",
    "held_out_now",
    "read_decisions",
    "read_held_out",
    "same_captures",
]

DECISIONS_NAME = "decisions.json"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A scene that a release, or one before it, keeps from training.

    Attributes:
        split: "test" or "val".
        image_sha256: of its sharp image; "" where that is not known.
        source_sha256: of the capture that it was developed from; "" where that is not known.
    """

    split: str
    image_sha256: str = ""
    source_sha256: str = ""

    def is_of(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of scenes.parquet is of this scene's sharp capture."""
        return any(
            own and own == row[key]
            for key, own in (
                ("image_sha256", self.image_sha256),
                ("source_sha256", self.source_sha256),
            )
        )


def decisions(
    duplicates: Sequence[Duplicate],
    *,
    left_out: Mapping[str, str],
    held_out: Mapping[str, HeldOut],
) -> dict[str, Any]:
    """The contents of decisions.json.

    Args:
        duplicates: near-duplicate scenes.
        left_out: scene or pair -> why.
        held_out: scene -> what this release and those before it hold out.
    """
    return {
        "near_duplicates": [asdict(pair) for pair in duplicates],
        "left_out": dict(sorted(left_out.items())),
        "held_out": {scene: asdict(known) for scene, known in sorted(held_out.items())},
    }


def read_decisions(release: Path) -> dict[str, Any]:
    """What `decisions` gave of a release, or nothing for a folder without release.json.

    Raises:
        DatasetError: missing in a release, damaged or too large.
    """
    if not (release / RELEASE_NAME).is_file():
        return {"near_duplicates": [], "left_out": {}, "held_out": {}}
    path = release / DECISIONS_NAME
    if not path.is_file():
        raise DatasetError(
            f"{release}: no {DECISIONS_NAME}, which says what the release holds out. Copy it "
            "again; of a release without one, made by an earlier version, name a folder with its "
            "splits.csv alone."
        )
    found = read_object(path)
    for key in ("left_out", "held_out"):
        if not isinstance(found.get(key), dict):
            raise DatasetError(f"{path}: {key} is not what release writes.")
    return found


def read_held_out(release: Path, splits: Mapping[str, str]) -> dict[str, HeldOut]:
    """Scene -> what a release, and those before it, held out.

    Args:
        release: its folder.
        splits: of it, from `defocus_ds.dataset.frozen.read_splits`.

    Raises:
        DatasetError: its decisions.json is damaged.
    """
    found: dict[str, HeldOut] = {}
    for scene, record in read_decisions(release)["held_out"].items():
        try:
            found[scene] = HeldOut(**record)
            if record["split"] not in ("val", "test") or not all(
                isinstance(text, str) for text in record.values()
            ):
                raise ValueError(str(record)[:80])
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{release / DECISIONS_NAME}: held_out of {scene[:80]!r} is not what release "
                f"writes ({error})."
            ) from error
    for scene, split in splits.items():
        if split == "train":
            found.pop(scene, None)
        elif scene not in found or found[scene].split != split:
            found[scene] = HeldOut(split)
    return found


def held_out_now(
    splits: Mapping[str, str],
    sharp: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, HeldOut],
) -> dict[str, HeldOut]:
    """What a new release holds out, and what those before it did.

    Args:
        splits: scene -> split of the new release.
        sharp: scene -> row of its sharp image in scenes.parquet.
        before: of the release before.
    """
    now = {
        scene: HeldOut(
            split, sharp[scene]["image_sha256"] or "", sharp[scene]["source_sha256"] or ""
        )
        for scene, split in splits.items()
        if split != "train"
    }
    return {**before, **now}


def check_names(
    sharp: Mapping[str, Mapping[str, Any]], before: Mapping[str, HeldOut], *, previous: Path
) -> None:
    """Refuse a dataset in which the name of a scene that was held out means another capture.

    Raises:
        DatasetError: names it.
    """
    for scene, known in before.items():
        named = known.image_sha256 or known.source_sha256
        if named and scene in sharp and not known.is_of(sharp[scene]):
            raise DatasetError(
                f"{scene}: {previous} holds out another capture under this name, for "
                f"{known.split}. Give the scenes the names that they had there, and new ones to "
                "new scenes, then build, crop and release again."
            )


def same_captures(
    sharp: Mapping[str, Mapping[str, Any]], before: Mapping[str, HeldOut]
) -> list[Duplicate]:
    """Scenes that were held out under another name, whether that one is there or not."""
    images = {known.image_sha256: scene for scene, known in before.items()}
    sources = {known.source_sha256: scene for scene, known in before.items()}
    found = []
    for scene, row in sharp.items():
        old = images.get(row["image_sha256"]) or sources.get(row["source_sha256"])
        if old is not None and old != scene and before[old].is_of(row):
            one, other = sorted((old, scene))
            found.append(Duplicate(one, other, 0, 1.0))
    return found
