"""What releases hold out, remembered from one to the next by name and by capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defocus_ds.dataset.duplicates import Duplicate
from defocus_ds.dataset.manifest import read_object
from defocus_ds.dataset.release_facts import RELEASE_NAME
from defocus_ds.errors import DatasetError

__all__ = ["HeldOut", "check_names", "held_out_now", "read_held_out", "same_captures"]


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


def read_held_out(release: Path, splits: Mapping[str, str]) -> dict[str, HeldOut]:
    """Scene -> what a release, and those before it, held out.

    Args:
        release: its folder.
        splits: of it, from `defocus_ds.dataset.frozen.read_splits`.

    Raises:
        DatasetError: its release.json is damaged.
    """
    found: dict[str, HeldOut] = {}
    path = release / RELEASE_NAME
    if path.is_file():
        try:
            for scene, record in read_object(path).get("held_out", {}).items():
                found[scene] = HeldOut(**record)
                if record["split"] not in ("val", "test") or not all(
                    isinstance(text, str) for text in record.values()
                ):
                    raise ValueError(f"{scene}: {str(record)[:80]}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(f"{path}: held_out is not what release writes ({error}).") from error
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
    return dict(sorted({**before, **now}.items()))


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
