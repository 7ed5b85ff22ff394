"""``shoot.csv``: the person's own word on which file is which, and the draft of one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from defocus_ds.frames import Complaint, Level

__all__ = ["SHOOT_CSV", "CsvRow", "DraftRow", "ShootTable", "draft_csv", "parse_shoot_csv"]

SHOOT_CSV = "shoot.csv"
_REQUIRED = ("file", "scene", "level")
_KNOWN = (*_REQUIRED, "offset", "comment")
_SCENE = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True, slots=True)
class CsvRow:
    """A line of the table; ``file`` is relative to the shoot, with ``/``."""

    line: int
    file: str
    scene: str
    level: Level
    offset: int


@dataclass(frozen=True, slots=True)
class ShootTable:
    """The good rows, the scenes that have a bad one, and what is wrong.

    ``files`` are all that a row names, good or bad.  ``usable`` is False when the table as a whole
    says nothing (no such columns, not text).
    """

    rows: tuple[CsvRow, ...]
    bad_scenes: frozenset[str] = frozenset()
    complaints: tuple[Complaint, ...] = ()
    files: frozenset[str] = frozenset()
    usable: bool = True


@dataclass(frozen=True, slots=True)
class DraftRow:
    """A line of a draft; an empty ``level`` is for the person to fill in."""

    file: str
    scene: str
    level: Level | None
    offset: int | None
    comment: str = ""


def parse_shoot_csv(text: str) -> ShootTable:
    """Read the table: columns file, scene, level and optionally offset and comment.

    Args:
        text: comma- or semicolon-separated, one header line; lines that start with # and
            empty lines do not count.

    Returns:
        Rows and complaints, each with its line number; nothing is raised.
    """
    numbered = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not numbered:
        return _unusable(1, "the table is empty; it needs the columns file, scene, level, offset")
    first, header = numbered[0]
    separator = ";" if ";" in header and "," not in header else ","
    columns = [c.lower() for c in _cells(header, separator)]
    missing = [c for c in _REQUIRED if c not in columns]
    unknown = [c for c in columns if c not in _KNOWN]
    if missing or unknown or len(set(columns)) < len(columns):
        wrong = f"no column {missing[0]!r}" if missing else f"columns {columns} are not understood"
        return _unusable(
            first,
            f"{wrong}; need file, scene, level and may have offset, comment. Separate columns by "
            "commas",
        )
    named: set[str] = set()
    rows: list[CsvRow] = []
    bad_scenes: set[str] = set()
    complaints: list[Complaint] = []
    for number, line in numbered[1:]:
        cells = _cells(line, separator)
        row = dict(zip(columns, cells, strict=False))
        if file := row.get("file"):
            named.add(_posix(file))
        found = (
            _row(number, row)
            if len(cells) == len(columns)
            else f"{len(cells)} cells, but the header has {len(columns)}. Separate columns by "
            f"{'semicolons' if separator == ';' else 'commas'}"
        )
        if isinstance(found, str):
            complaints.append(_complaint(number, found))
            bad_scenes.add(row.get("scene", ""))
        else:
            rows.append(found)
    for number, scene, message in _contradictions(rows):
        complaints.append(_complaint(number, message))
        bad_scenes.add(scene)
    return ShootTable(tuple(rows), frozenset(bad_scenes), tuple(complaints), frozenset(named))


def draft_csv(rows: Iterable[DraftRow]) -> str:
    """The text of a draft table; a person corrects it and renames it to shoot.csv."""
    out = io.StringIO()
    out.write("# Draft: check every line, fill in empty levels, delete lines you do not want,\n")
    out.write(f"# then rename this file to {SHOOT_CSV}. Levels: sharp, low, medium, high.\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "scene", "level", "offset", "comment"))
    for row in rows:
        offset = "" if row.offset is None else row.offset
        writer.writerow((row.file, row.scene, row.level or "", offset, row.comment))
    return out.getvalue()


def _posix(file: str) -> str:
    return PurePosixPath(file.replace("\\", "/")).as_posix()


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [c.strip() for c in next(csv.reader([line], delimiter=separator))]
    except csv.Error:
        return []


def _row(number: int, cells: dict[str, str]) -> CsvRow | str:
    """The row, or what is wrong with it."""
    file = cells["file"].replace("\\", "/")
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", file):
        return f"the file {cells['file']!r} must be a path inside the shoot, relative to it"
    if not _SCENE.fullmatch(cells["scene"]):
        return (
            f"the scene {cells['scene']!r} must be letters, digits, '.', '_' and '-', "
            "at most 100, starting with a letter or digit"
        )
    name = cells["level"].lower()
    if name not in list(Level):
        return f"the level {cells['level']!r} must be one of {', '.join(Level)}"
    level = Level(name)
    try:
        offset = int(cells.get("offset") or level.offset)
    except ValueError:
        return f"the offset {cells['offset']!r} must be a whole number of focus-ring marks"
    if level is Level.SHARP and offset != 0:
        return f"the sharp capture has offset {offset}; offsets count from it, so it has 0"
    return CsvRow(number, path.as_posix(), cells["scene"], level, offset)


def _contradictions(rows: list[CsvRow]) -> Iterable[tuple[int, str, str]]:
    """(line, scene, what is wrong) where rows cannot all be true."""
    files: dict[str, CsvRow] = {}
    levels: dict[tuple[str, Level], CsvRow] = {}
    scenes: dict[str, list[CsvRow]] = {}
    spelling: dict[str, str] = {}
    for row in rows:
        if (first := files.setdefault(row.file, row)) is not row:
            yield row.line, row.scene, f"{row.file} is already named on line {first.line}"
        if (taken := levels.setdefault((row.scene, row.level), row)) is not row:
            yield (
                row.line,
                row.scene,
                f"{row.scene} has its {row.level} capture on line {taken.line} already",
            )
        written = spelling.setdefault(row.scene.casefold(), row.scene)
        if written != row.scene:
            yield row.line, row.scene, f"the scene {row.scene} is written {written} elsewhere"
        scenes.setdefault(row.scene, []).append(row)
    for scene, members in scenes.items():
        found = {row.level for row in members}
        if Level.SHARP not in found:
            yield members[0].line, scene, f"{scene} has no sharp capture"
        elif len(found) < 2:
            yield members[0].line, scene, f"{scene} has no blurred capture"
        ordered = sorted(members, key=lambda row: list(Level).index(row.level))
        offsets = [row.offset for row in ordered]
        if len(found) == len(members) and sorted(set(offsets), key=abs) != offsets:
            yield (
                ordered[-1].line,
                scene,
                f"the offsets of {scene} are {offsets}; they must grow from sharp to high",
            )


def _unusable(line: int, message: str) -> ShootTable:
    return ShootTable((), complaints=(_complaint(line, message),), usable=False)


def _complaint(line: int, message: str) -> Complaint:
    return Complaint("error", f"{SHOOT_CSV}:{line}", f"{message}.")
