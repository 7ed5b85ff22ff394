"""Which captures belong together: by shoot.csv, by name, by folder, by time and number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from defocus_ds.frames import Complaint, Level
from defocus_ds.stages.ingest.by_name import group_by_name
from defocus_ds.stages.ingest.by_time import group_by_time, in_capture_order
from defocus_ds.stages.ingest.groups import (
    BRACKET,
    Found,
    Group,
    Grouping,
    Member,
    count_captures,
    list_names,
    needs_file,
    scene_name,
)
from defocus_ds.stages.ingest.shoot_csv import ShootTable

__all__ = ["group_captures"]


def group_captures(found: Sequence[Found], table: ShootTable, *, root_name: str) -> Grouping:
    """Group captures by the first of the four ways that applies to each.

    Args:
        found: every capture of the shoot, unreadable ones too, sorted by `natural_key`.
        table: the parsed shoot.csv; empty where there is none.
        root_name: name of a scene that lies in the shoot's own folder.

    Returns:
        The grouping; nothing is decided by sharpness here.
    """
    parts = [_by_table(found, table)]
    settled_folders = {str(PurePosixPath(file).parent) for file in table.files}
    rest = [f for f in found if f.rel not in table.files]
    by_name, named = group_by_name(rest, root_name=root_name)
    parts.append(by_name)
    folders: dict[str, list[Found]] = {}
    for item in rest:
        if item.rel not in named and item.header is not None:
            folders.setdefault(item.folder, []).append(item)
    for folder, members in folders.items():
        crowd = [f for f in found if f.folder == folder and f.header is not None]
        own = folder == "."
        lost = [f for f in rest if f.folder == folder and f.header is None and f.rel not in named]
        if folder in settled_folders:
            parts.append(_unlisted(folder, members))
        elif len(members) == BRACKET == len(crowd):
            ordered = tuple(Member(f) for f in in_capture_order(members))
            scene = scene_name(root_name if own else folder)
            parts.append(Grouping((Group(scene, "folder", ordered),)))
        else:
            scene, where = ("", root_name) if own else (scene_name(folder), folder)
            if lost and len(crowd) + len(lost) == BRACKET:
                whose = Grouping((), tuple((scene, Member(f)) for f in in_capture_order(members)))
                parts.append(replace(whose, complaints=(needs_file(where, lost[0]),)))
            else:
                grouped = group_by_time(members, scene=scene, where=where)
                parts.append(_mentioning(grouped, lost))
    return _unique_scenes(
        [g for part in parts for g in part.groups],
        [f for part in parts for f in part.leftover],
        [c for part in parts for c in part.complaints],
    )


def _by_table(found: Sequence[Found], table: ShootTable) -> Grouping:
    by_rel = {f.rel: f for f in found}
    complaints = list(table.complaints)
    scenes: dict[str, list[Member]] = {}
    broken = set(table.bad_scenes)
    for row in table.rows:
        item = by_rel.get(row.file)
        if item is None:
            broken.add(row.scene)
            complaints.append(
                Complaint(
                    "error",
                    f"shoot.csv:{row.line}",
                    f"{row.file} is not among the captures of the shoot. "
                    "Is the name right, also in upper and lower case?",
                )
            )
        elif item.header is None:
            broken.add(row.scene)
            complaints.append(needs_file(row.scene, item))
        else:
            scenes.setdefault(row.scene, []).append(Member(item, row.level, row.offset))
    order = list(Level)
    groups = tuple(
        Group(scene, "csv", tuple(sorted(members, key=lambda m: order.index(m.level or order[0]))))
        for scene, members in scenes.items()
        if scene not in broken
    )
    return Grouping(groups, (), tuple(complaints))


def _mentioning(grouping: Grouping, lost: Sequence[Found]) -> Grouping:
    """What does not come in fours beside captures that cannot be read may be their doing."""
    if not lost:
        return grouping
    cause = f" {list_names(lost)} cannot be read and may belong to it: copy again first."
    told = tuple(replace(c, message=c.message + cause) for c in grouping.complaints)
    return replace(grouping, complaints=told)


def _unlisted(folder: str, members: Sequence[Found]) -> Grouping:
    complaint = Complaint(
        "warning",
        "shoot.csv",
        f"does not name {count_captures(len(members))} of the folder {folder} "
        f"({list_names(members)}); they are left out.",
    )
    return Grouping((), (), (complaint,))


def _unique_scenes(
    groups: list[Group], leftover: list[tuple[str, Member]], complaints: list[Complaint]
) -> Grouping:
    """Refuse scenes whose names differ in nothing, or only in case."""
    seen: dict[str, Group] = {}
    kept: list[Group] = []
    for group in groups:
        first = seen.setdefault(group.scene.casefold(), group)
        if first is group:
            kept.append(group)
            continue
        files = f"{first.members[0].found.rel} and {group.members[0].found.rel}"
        complaints.append(
            Complaint(
                "error",
                group.scene,
                f"two scenes have this name ({files}); the first is kept. Rename one, or name "
                "both in shoot.csv.",
            )
        )
        leftover += [(group.scene, m) for m in group.members]
    return Grouping(tuple(kept), tuple(leftover), tuple(complaints))
