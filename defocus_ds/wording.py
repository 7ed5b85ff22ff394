"""Words for people: commands to paste, counted nouns."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

__all__ = ["INSTALL_EXPORT", "INSTALL_TRAIN", "command_line", "counted", "first_names", "printable"]

INSTALL_EXPORT = "in your copy of defocus-ds, pip install -c constraints.txt -e '.[export]'"
INSTALL_TRAIN = "in your copy of defocus-ds, pip install -c constraints.txt -e '.[train]'"


def command_line(*words: str | Path) -> str:
    """A ``defocus-ds`` command that can be pasted into a shell.

    >>> command_line("build", "my shoot", "-o", "dataset")
    "defocus-ds build 'my shoot' -o dataset"
    """
    return shlex.join(["defocus-ds", *map(str, words)])


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "scene"), counted(2, "scene")
    ('1 scene', '2 scenes')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_names(names: Sequence[object], *, most: int = 5, between: str = ", ") -> str:
    """The first few of some names, or of findings, and how many more there are.

    >>> first_names(["a", "b", "c"], most=2), first_names(["a", "b"], most=2)
    ('a, b and 1 more', 'a, b')
    """
    more = len(names) - most
    return between.join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")


def printable(text: str) -> str:
    """Text of a file on one line: what a terminal would act on, or not show, is replaced.

    >>> printable("EF50mm\\n\\x1b[2J") == "EF50mm\\ufffd\\ufffd[2J"
    True
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
