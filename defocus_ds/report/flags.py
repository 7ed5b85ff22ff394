"""What a reviewer should look at first, beside the build's own verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from defocus_ds.dataset.duplicates import Duplicate
from defocus_ds.report.pairs import PairView

__all__ = ["flags_of"]

_TINT = 3.0  # CIEDE2000 that anyone sees, and how many times that of the other pairs


def flags_of(
    pairs: Sequence[PairView], duplicates: Sequence[Duplicate]
) -> dict[str, tuple[str, ...]]:
    """Name of a pair -> what is unusual about it.

    A pair is tinted when its captures differ in colour visibly and much more than those of the
    other pairs do: a lamp went on, or the white balance was not fixed.  Only pairs that the build
    kept are compared, the colours of others are not those of the same places.  A scene is a
    near-duplicate when it shows the same place as another.

    Args:
        pairs: all of a dataset.
        duplicates: from `defocus_ds.dataset.duplicates.find_duplicates`.

    Returns:
        Only pairs that have a flag.
    """
    twins: dict[str, list[str]] = {}
    for found in duplicates:
        for one, other in ((found.one, found.other), (found.other, found.one)):
            twins.setdefault(one, []).append(
                f"near-duplicate of {other}: {found.matched} points lie alike ({found.share:.0%})"
            )
    shot_colours = {
        pair.name: pair.colour_before
        for pair in pairs
        if pair.verdict == "keep" and pair.colour_before is not None
    }
    usual = statistics.median(shot_colours.values()) if shot_colours else 0.0
    flags = {}
    for pair in pairs:
        own = list(twins.get(pair.scene, ()))
        shot = shot_colours.get(pair.name)
        if shot is not None and shot >= _TINT and shot >= _TINT * usual:
            own.append(f"tinted: ΔE {shot:.2f} as shot, {usual:.2f} in the median of all pairs")
        if own:
            flags[pair.name] = tuple(own)
    return flags
