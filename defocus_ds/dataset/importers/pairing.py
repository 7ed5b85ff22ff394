"""Which blurred image belongs to which sharp one: by equal names, or by their order."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["MAX_NUMBER_GAP", "order_problem", "pairs_by_order"]

# DPDD's two shutter releases of a pair are 1 or 2 numbers apart, whichever was first
MAX_NUMBER_GAP = 3
_NUMBERED = re.compile(r"(?P<text>.*?)(?P<number>\d+)(?P<view>_[CLRclr])?")


def pairs_by_order(blurred: Sequence[str], sharp: Sequence[str]) -> list[tuple[str, str]]:
    """The names of two folders, each sorted, one beside the other.

    >>> pairs_by_order(["1P0A0898", "1P0A0890"], ["1P0A0899", "1P0A0891"])
    [('1P0A0890', '1P0A0891'), ('1P0A0898', '1P0A0899')]
    """
    return list(zip(sorted(blurred), sorted(sharp), strict=True))


def order_problem(blurred: Sequence[str], sharp: Sequence[str]) -> str | None:
    """Why the order of two folders' names does not pair them; None: it does.

    It does where there are as many on either side, and the numbers of names that stand side by
    side differ by at most `MAX_NUMBER_GAP`.

    >>> order_problem(["a10"], ["a11", "a12"])
    '1 blurred and 2 sharp images'
    >>> order_problem(["a10", "a20"], ["a11", "a28"])
    "'a20' would be paired with 'a28' (numbers may differ by at most 3)"
    """
    if len(blurred) != len(sharp):
        return f"{len(blurred)} blurred and {len(sharp)} sharp images"
    for one, other in pairs_by_order(blurred, sharp):
        a, b = _NUMBERED.fullmatch(one), _NUMBERED.fullmatch(other)
        near = (
            a is not None
            and b is not None
            and a["text"] == b["text"]
            and abs(int(a["number"]) - int(b["number"])) <= MAX_NUMBER_GAP
        )
        if one != other and not near:
            return (
                f"{one!r} would be paired with {other!r} (numbers may differ by at most "
                f"{MAX_NUMBER_GAP})"
            )
    return None
