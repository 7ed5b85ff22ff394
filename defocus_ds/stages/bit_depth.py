"""Samples of few bits stored in 16: told by what no capture of a scene exceeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["FewBits", "few_bits"]

_FULL = 65535
_SURE = 1 << 14  # two unused bits in a whole bracket: not a picture of 16 bits
_PERHAPS = 1 << 15


@dataclass(frozen=True, slots=True)
class FewBits:
    """Samples that seem to hold fewer than their 16 bits.

    Attributes:
        certain: whether to refuse the captures.
        finding: in words.
        way_out: the settings to give.
    """

    certain: bool
    finding: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.finding} {self.way_out}"


def few_bits(
    highest: Sequence[int | None], *, white: int = 0, declared: bool = False
) -> FewBits | None:
    """Whether 16-bit samples of one scene hold fewer bits.

    Args:
        highest: largest stored sample of each capture; None for one that is not of 16 bits.
        white: ``develop.white``; what it is set to is believed.
        declared: whether the files declare a colour space of their own; values of linear light
            may lie low.
    """
    known = [value for value in highest if value is not None]
    if white or not known or len(known) < len(highest) or max(known) >= _PERHAPS:
        return None
    top = max(known)
    bits = max(8, top.bit_length())
    return FewBits(
        top < _SURE and not declared,
        f"the highest value{' in all captures' if len(known) > 1 else ''} is {top} of {_FULL}: "
        f"{bits}-bit data?",
        f"Give --set develop.white={(1 << bits) - 1}; if the scene is that dark, "
        f"--set develop.white={_FULL}.",
    )
