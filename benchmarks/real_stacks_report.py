"""The table of the real stacks: what each pair was before and after, by several opinions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from results import NO_CLAIM_PX, machine, number, shortened, table, write_json, write_text
from second_opinions import Opinions

from defocus_ds.wording import counted

__all__ = ["Result", "Shifts", "pair_table", "write"]

_MEANING = (
    "Before, after: median length of the shift between the sharp and the blurred capture, block by "
    "block, found by a method that shares no code with the registration but the disk (enhanced "
    "correlation over a range of disk radii), with how many blocks could be measured. There and "
    "back: mean distance from where a point started, by the map and by a registration of the "
    "blurred capture's own. To SIFT: mean distance to the affine map of SIFT features, which holds "
    "the error of those. Claimed: `residual_px` of the record. All in px of the capture."
)
_FAR_BELOW = (
    "The claim may lie far below what the blocks find afterwards: it is the expected error of the "
    "one map, while the blocks also see the parallax between things at different depths, which no "
    "single map removes, and add the error of their own method, which grows with the blur; so "
    "*after* is an upper bound of the map's error, and neither figure is the truth, which nobody "
    "knows here."
)
_VERSIONS = ("defocus-ds", "numpy", "numba", "opencv-python-headless", "SimpleITK")


@dataclass(frozen=True, slots=True)
class Shifts:
    """Median length in px of the shift of the blocks that could be measured, and how many."""

    median_px: float | None = None
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """One pair; ``claimed_px`` is what the build says of its own alignment.

    ``verdict`` is that of the build, or failed where a whole shoot could not be built.
    """

    pair: str
    verdict: str
    reasons: tuple[str, ...]
    before: Shifts = field(default_factory=Shifts)
    after: Shifts = field(default_factory=Shifts)
    claimed_px: float | None = None
    blur_radius_px: float | None = None
    opinions: Opinions = Opinions(None, None)


def write(out: Path, results: Sequence[Result], *, preset: str) -> None:
    """Print the table, and write real_stacks.md and real_stacks.json."""
    computer = machine(_VERSIONS)
    kept = sum(result.verdict == "keep" for result in results)
    parts = [
        "# Real focus stacks\n",
        f"`python benchmarks/real_stacks.py DATA_DIR OUT`, preset `{preset}`: "
        f"{counted(len(results), 'pair')}, {kept} kept.\n",
        pair_table(results),
        _MEANING + "\n",
        _FAR_BELOW + "\n",
        "## Machine\n",
        table(("", ""), sorted(computer.items())),
    ]
    text = "\n".join(parts)
    print(text)
    write_text(out / "real_stacks.md", text)
    write_json(
        out / "real_stacks.json",
        {
            "machine": computer,
            "preset": preset,
            "pairs": [shortened(asdict(result)) for result in results],
        },
    )


def pair_table(results: Sequence[Result]) -> str:
    """One row a pair, in the order given."""
    rows = [
        (
            r.pair,
            _shift(r.before),
            _shift(r.after),
            number(r.opinions.forward_backward_px),
            number(r.opinions.features_px),
            number(_claim(r.claimed_px)),
            number(r.blur_radius_px),
            "; ".join((r.verdict, *r.reasons)),
        )
        for r in results
    ]
    header = ("pair", "before", "after", "there and back", "to SIFT", "claimed", "radius")
    return table((*header, "verdict"), rows)


def _claim(residual_px: float | None) -> float | None:
    """A record holds a huge number where nothing could be claimed."""
    return None if residual_px is None or residual_px >= NO_CLAIM_PX else residual_px


def _shift(shifts: Shifts) -> str:
    return f"{number(shifts.median_px)} ({shifts.blocks})"
