"""Words for people: commands to paste, counted nouns."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["INSTALL_EXPORT", "INSTALL_TRAIN", "command_line", "counted"]

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
