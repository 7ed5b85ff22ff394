"""Brackets by time and number: four captures in a row with nothing else changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from defocus_ds.frames import Complaint
from defocus_ds.stages.ingest.groups import (
    BRACKET,
    Found,
    Group,
    Grouping,
    Member,
    count_captures,
    list_names,
    natural_key,
    scene_name,
)

__all__ = ["group_by_time", "in_capture_order"]

_MAX_GAP_S = 60.0


def group_by_time(members: Sequence[Found], *, scene: str, where: str) -> Grouping:
    """Cut the readable captures of one folder into runs, and runs into fours.

    A run ends where a setting changes, a number is left out, or a minute passes.

    Args:
        members: captures with headers.
        scene: start of the scenes' names; may be empty.
        where: the folder, for messages.

    Returns:
        Groups in capture order, their levels open, and what does not come in fours.
    """
    ordered = in_capture_order(members)
    if not all(f.header is not None and f.header.info.taken for f in ordered):
        message = (
            f"{count_captures(len(ordered))} without capture times ({list_names(ordered)}): a "
            f"scene is told by its names, by a folder of exactly {BRACKET}, or by times. "
            "Say which file is which in shoot.csv."
        )
        leftover = tuple((scene, Member(f)) for f in ordered)
        return Grouping((), leftover, (Complaint("error", where, message),))
    groups: list[Group] = []
    odd: list[list[Found]] = []
    for run in _runs(ordered):
        if len(run) % BRACKET:
            odd.append(run)
            continue
        for at in range(0, len(run), BRACKET):
            cut = run[at : at + BRACKET]
            name = scene_name(f"{scene}-{cut[0].stem}" if scene else cut[0].stem)
            groups.append(Group(name, "run", tuple(Member(f) for f in cut), run=run[0].rel))
    if not odd:
        return Grouping(tuple(groups))
    files = [f for run in odd for f in run]
    sizes = ", ".join(str(len(run)) for run in odd[:6]) + (", ..." if len(odd) > 6 else "")
    message = (
        f"{count_captures(len(files))} in runs of {sizes} ({list_names(files)}); a bracket is "
        f"exactly {BRACKET}, taken within {_MAX_GAP_S:g} s of each other with one lens, focal "
        "length and ISO. Say which file is which in shoot.csv."
    )
    leftover = tuple((scene, Member(f)) for f in files)
    return Grouping(tuple(groups), leftover, (Complaint("error", where, message),))


def in_capture_order(items: Sequence[Found]) -> list[Found]:
    """By time, then number, then name; by name alone if a time is missing."""
    timed = all(f.header is not None and f.header.info.taken for f in items)
    numbers = dict(zip((f.rel for f in items), _numbers(items), strict=False))

    def moment(item: Found) -> tuple[str, int]:
        taken = item.header.info.taken if item.header is not None else None
        return taken or "", numbers.get(item.rel, 0)

    by_name = sorted(items, key=lambda f: natural_key(f.rel))
    return sorted(by_name, key=moment) if timed else by_name


def _runs(ordered: Sequence[Found]) -> list[list[Found]]:
    numbers = _numbers(ordered)
    runs: list[list[Found]] = []
    for index, item in enumerate(ordered):
        if index and _follows(ordered[index - 1], item):
            step = numbers[index] - numbers[index - 1] if numbers else 1
            if step in (0, 1) or step <= -9990:  # the counter goes from 9999 to 1
                runs[-1].append(item)
                continue
        runs.append([item])
    return runs


def _follows(before: Found, item: Found) -> bool:
    if before.header is None or item.header is None:
        return False
    a, b = before.header.info, item.header.info
    same = all(
        getattr(a, name) == getattr(b, name)
        for name in ("kind", "width", "height", "serial", "lens", "iso", "focal_length_mm")
    )
    gap = datetime.fromisoformat(b.taken or "") - datetime.fromisoformat(a.taken or "")
    return same and gap.total_seconds() <= _MAX_GAP_S


def _numbers(items: Sequence[Found]) -> list[int]:
    """File numbers by the camera, else by the names; empty unless every file has one."""
    noted = [f.header.info.file_number for f in items if f.header is not None]
    whole = [n for n in noted if n is not None]
    if len(whole) == len(items):
        return whole
    digits = [re.findall(r"[0-9]+", f.stem) for f in items]
    return [int(d[-1]) for d in digits] if all(digits) else []
