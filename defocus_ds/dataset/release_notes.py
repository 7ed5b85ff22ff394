"""What a person should know of a release's splits."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from defocus_ds.dataset.frozen import FrozenSplits

__all__ = ["growth_notes", "test_notes"]


def growth_notes(
    previous: Path | None,
    before: Mapping[str, str],
    sharp: Container[str],
    splits: FrozenSplits,
) -> Iterator[str]:
    """What becomes of an earlier release's splits.

    Args:
        previous: the earlier release; None where there is none.
        before: scenes -> split of it, and of those that releases before it held out.
        sharp: scenes that have a sharp image.
        splits: of the new release.
    """
    gone = sorted(before.keys() - splits.by_scene.keys())
    if gone:
        yield (
            f"{len(gone)} scenes of {previous}, or held out before it, are not released again: "
            f"{_few(gone)}."
        )
    if unseen := [scene for scene in gone if before[scene] != "train" and scene not in sharp]:
        yield (
            f"{len(unseen)} of them were held out and have no image any more: their captures are "
            "known under any name, but other shots of the same place cannot be found and may be "
            f"in train: {_few(unseen)}."
        )
    if previous is not None:
        yield (
            "the splits are those of the previous release; its crops are the same only where "
            "images and tiling are: see `defocus-ds diff`."
        )


def test_notes(
    crops: Mapping[str, Mapping[str, int]], splits: FrozenSplits, *, test_share: float | None
) -> Iterator[str]:
    """Levels without a crop in test, and why.

    Args:
        crops: level -> split -> crops.
        splits: of the release.
        test_share: that was asked for; None where the splits are an earlier release's.
    """
    test = sorted(scene for scene, split in splits.by_scene.items() if split == "test")
    for level in (level for level, counts in crops.items() if "test" not in counts):
        without = f"no {level} crop is in test"
        if test:
            have = "has" if len(test) == 1 else "have"
            cause = f"{without}: {_few(test)}, held out for every level, {have} no {level} crops."
            other = "Another --seed or --test-share may hold out others."
            yield cause if test_share is None else f"{cause} {other}"
        elif test_share:
            yield f"{without}; more scenes give it some."


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
