"""Brackets by name: ``<object><n>_{original|lbc|mbc|hbc}``, as MMSP 2024 names its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from defocus_ds.frames import Complaint, Level
from defocus_ds.stages.ingest.groups import Found, Group, Grouping, Member, needs_file, scene_name

__all__ = ["group_by_name"]

# the authors' codes and our own level names
_CODES = {
    "original": Level.SHARP,
    "lbc": Level.LOW,
    "mbc": Level.MEDIUM,
    "hbc": Level.HIGH,
    **{level.value: level for level in Level},
}
_NAME = re.compile(
    rf"(?:(?P<object>.*?)[_-])?(?P<code>{'|'.join(_CODES)})(?P<rest>[_-].*)?", re.IGNORECASE
)


def group_by_name(found: Sequence[Found], *, root_name: str) -> tuple[Grouping, frozenset[str]]:
    """Group the captures whose names say what they are.

    Args:
        found: captures, unreadable ones too.
        root_name: scene of files in the shoot's own folder named by level alone.

    Returns:
        The grouping, and the ``rel`` of every file whose name took part in it.
    """
    sets = _named_sets(found)
    named = frozenset(item.rel for members in sets.values() for item, _, _ in members)
    groups: list[Group] = []
    leftover: list[tuple[str, Member]] = []
    complaints: list[Complaint] = []
    shared = Counter(key[:2] for key in sets)
    for (folder, name, rest), members in sets.items():
        shown = next((n for _, level, n in members if level is Level.SHARP), members[0][2])
        plain = shown or (root_name if folder == "." else folder)
        scene = scene_name(plain + rest if shared[folder, name] > 1 else plain)
        problem = _name_problem(scene, members)
        if problem is None:
            by_level = {level: item for item, level, _ in members}
            ordered = tuple(Member(by_level[lv], lv, lv.offset) for lv in Level)
            groups.append(Group(scene, "name", ordered))
        else:
            complaints.append(problem)
            leftover += [(scene, Member(f, lv)) for f, lv, _ in members if f.header is not None]
    return Grouping(tuple(groups), tuple(leftover), tuple(complaints)), named


def _named_sets(
    found: Sequence[Found],
) -> dict[tuple[str, str, str], list[tuple[Found, Level, str]]]:
    """(folder, object, trailing part) -> files with their level and the object as written."""
    sets: dict[tuple[str, str, str], list[tuple[Found, Level, str]]] = {}
    for item in found:
        match = _NAME.fullmatch(item.stem)
        if match is None or (match["rest"] and not match["object"]):
            continue
        name, rest = match["object"] or "", match["rest"] or ""
        key = item.folder, name.casefold(), rest.casefold()
        sets.setdefault(key, []).append((item, _CODES[match["code"].lower()], name))
    # a lone file with more text behind the code is a coincidence: my_original_idea.jpg
    return {key: members for key, members in sets.items() if len(members) > 1 or not key[2]}


def _name_problem(scene: str, members: Sequence[tuple[Found, Level, str]]) -> Complaint | None:
    unreadable = next((item for item, _, _ in members if item.header is None), None)
    if unreadable is not None:
        return needs_file(scene, unreadable)
    files: dict[Level, list[str]] = {}
    for item, level, _ in members:
        files.setdefault(level, []).append(item.rel)
    for level, names in files.items():
        if len(names) > 1:
            return Complaint(
                "error",
                scene,
                f"{len(names)} files are its {level} capture by name: {', '.join(names)}. "
                "Move one away, or say which in shoot.csv.",
            )
    absent = [level for level in Level if level not in files]
    if absent:
        return Complaint(
            "error",
            scene,
            f"by their names {', '.join(n for names in files.values() for n in names)} belong "
            f"together, but there is no {' and no '.join(absent)} capture. Add what is missing, "
            "or list the scene in shoot.csv, which may have fewer levels.",
        )
    return None
