"""Files that belong together before anyone has looked at their pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from defocus_ds.frames import Complaint, Level
from defocus_ds.stages.ingest.header import Header

__all__ = [
    "BRACKET",
    "Found",
    "Group",
    "Grouping",
    "Member",
    "count_captures",
    "list_names",
    "natural_key",
    "needs_file",
    "scene_name",
]

BRACKET = 4


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the shoot; ``rel`` is relative to it with ``/``; no header if unreadable."""

    rel: str
    header: Header | None

    @property
    def folder(self) -> str:
        return str(PurePosixPath(self.rel).parent)

    @property
    def stem(self) -> str:
        return PurePosixPath(self.rel).stem


@dataclass(frozen=True, slots=True)
class Member:
    """A capture in a group; ``level`` is None where only sharpness can tell."""

    found: Found
    level: Level | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Captures that should make a bracket, in order of level or else of capture.

    ``by`` is "csv", "name", "folder" or "run".  ``run`` numbers the run a group was cut
    from: if one group of a run is wrong, all of them are.
    """

    scene: str
    by: str
    members: tuple[Member, ...]
    run: str = ""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups, captures in no group with the scene they might be of, and what is wrong."""

    groups: tuple[Group, ...]
    leftover: tuple[tuple[str, Member], ...] = ()
    complaints: tuple[Complaint, ...] = ()


def natural_key(rel: str) -> tuple[tuple[str | int, ...], ...]:
    """Sorts ``FS-2`` before ``FS-10``, folder by folder, whatever the case."""
    # the pattern's group makes every second part a number
    return tuple(
        tuple(
            int(piece) if at % 2 else piece
            for at, piece in enumerate(re.split(r"([0-9]+)", part.casefold()))
        )
        for part in PurePosixPath(rel).parts
    )


def scene_name(text: str) -> str:
    """A name fit for a folder: letters, digits, ``.``, ``_`` and ``-``."""
    return re.sub(r"[^\w.-]+", "-", text).strip("._-")[:100] or "scene"


def needs_file(scene: str, item: Found) -> Complaint:
    """The complaint of a scene one of whose captures is unreadable."""
    return Complaint(
        "error",
        scene,
        f"left out, because its capture {item.rel} cannot be read. Copy that file again.",
    )


def count_captures(number: int) -> str:
    """``1 capture``, ``2 captures``."""
    return f"{number} capture{'' if number == 1 else 's'}"


def list_names(items: Iterable[Found]) -> str:
    """File names, at most five of them."""
    names = [PurePosixPath(f.rel).name for f in items]
    return ", ".join(names[:4]) + (f", ... {names[-1]}" if len(names) > 4 else "")
