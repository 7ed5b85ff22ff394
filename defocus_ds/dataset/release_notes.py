"""What a person should know of a release's splits."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from defocus_ds.dataset.frozen import FrozenSplits
from defocus_ds.wording import first_names

__all__ = ["growth_notes", "moved_notes", "share_notes"]

_SHARE_MISSED = 0.2  # of a share that is worth a word


def growth_notes(
    previous: Path | None,
    before: Mapping[str, str],
    sharp: Container[str],
    splits: FrozenSplits,
    returned: Sequence[str],
) -> Iterator[str]:
    """What becomes of an earlier release's splits.

    Args:
        previous: the earlier release; None where there is none.
        before: scenes -> split of it, and of those that releases before it held out.
        sharp: scenes that have a sharp image.
        splits: of the new release.
        returned: pairs that a person's review kept out of the earlier release, and this one has.
    """
    if returned:
        yield (
            f"{len(returned)} of the pairs that a review left out of {previous} are released now: "
            f"{first_names(returned)}. Give --review again to leave them out."
        )
    gone = sorted(before.keys() - splits.by_scene.keys())
    if gone:
        yield (
            f"{len(gone)} scenes of {previous}, or held out before it, are not released again: "
            f"{first_names(gone)}."
        )
    if unseen := [scene for scene in gone if before[scene] != "train" and scene not in sharp]:
        yield (
            f"{len(unseen)} of them were held out and have no image any more: their captures are "
            "known under any name, but other shots of the same place cannot be found and may be "
            f"in train: {first_names(unseen)}."
        )
    if previous is not None:
        yield (
            "the splits are those of the previous release; its crops are the same only where "
            "images and tiling are: see `defocus-ds diff`."
        )


def moved_notes(
    by_crop: Mapping[str, str], splits: FrozenSplits, *, grouped: Container[str], grown: bool
) -> Iterator[str]:
    """Scenes whose split is another one than in the dataset's own crops, and why.

    Args:
        by_crop: scene -> split that `crop` gave it.
        splits: of the release.
        grouped: scenes that have near-duplicates.
        grown: whether the splits are those of an earlier release.
    """
    now = splits.by_scene
    moved = [scene for scene in now if by_crop.get(scene, now[scene]) != now[scene]]
    if moved:
        why = "an earlier release decided" if grown else "release balances by crops"
        pairs = sum(scene in grouped for scene in moved)
        together = f", and keeps near-duplicates ({pairs} of them) together" if pairs else ""
        yield (
            f"{len(moved)} of {len(now)} scenes have another split than in the dataset's own crops "
            f"({first_names([f'{s} {by_crop[s]} -> {now[s]}' for s in moved])}): {why}"
            f"{together}. Train on the release, not on the dataset, if you test on the release."
        )


def share_notes(
    crops: Mapping[str, Mapping[str, int]],
    splits: FrozenSplits,
    *,
    shares: Mapping[str, float] | None,
) -> Iterator[str]:
    """Shares that were missed, levels without a crop in a split that was asked for, and why.

    Args:
        crops: level -> split -> crops.
        splits: of the release.
        shares: that were asked for, of "test" and "val"; None where the splits are an earlier
            release's.
    """
    total = sum(sum(counts.values()) for counts in crops.values())
    for split in ("test", "val"):
        asked = 0.0 if shares is None else shares[split]
        found = sum(counts.get(split, 0) for counts in crops.values()) / total
        if asked and abs(found - asked) > max(_SHARE_MISSED * asked, 0.01):
            yield (
                f"{split} has {found:.0%} of the crops, asked were {asked:.0%}: whole scenes, and "
                "near-duplicates together, come no nearer."
            )
        held = sorted(scene for scene, own in splits.by_scene.items() if own == split)
        for level in (level for level, counts in crops.items() if split not in counts):
            without = f"no {level} crop is in {split}"
            if held:
                have = "has" if len(held) == 1 else "have"
                named = f"{first_names(held)}, held out for every level"
                cause = f"{without}: {named}, {have} no {level} crops."
                other = f"Another --seed or --{split}-share may hold out others."
                yield cause if shares is None else f"{cause} {other}"
            elif asked:
                yield f"{without}; more scenes give it some."
