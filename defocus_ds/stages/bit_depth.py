"""Samples of few bits stored in 16: told by what no capture of a scene exceeds."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["few_bits"]

_FULL = 65535
_SURE = 1 << 14  # two unused bits in a whole bracket: not a picture of 16 bits
_PERHAPS = 1 << 15


def few_bits(highest: Sequence[int | None], *, white: int, linear: bool) -> tuple[bool, str] | None:
    """Whether 16-bit samples of one scene hold fewer bits, and what to do.

    Args:
        highest: largest stored sample of each capture; None for one that is not of 16 bits.
        white: ``develop.white``; what it is set to is believed.
        linear: whether the file declares a space of its own, whose values may lie low.

    Returns:
        Whether it is certain enough to refuse the captures, and the words; None: nothing speaks
        for it.
    """
    known = [value for value in highest if value is not None]
    if white or not known or len(known) < len(highest) or max(known) >= _PERHAPS:
        return None
    top = max(known)
    bits = max(8, top.bit_length())
    which = "in all captures" if len(known) > 1 else "in it"
    return (
        top < _SURE and not linear,
        f"the highest value {which} is {top} of {_FULL}: {bits}-bit data? Give --set "
        f"develop.white={(1 << bits) - 1}; if the scene is that dark, --set develop.white={_FULL}.",
    )
