"""From a group of captures to a bracket: roles confirmed, settings equal, or a complaint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

from defocus_ds.frames import Bracket, Capture, Complaint, Level
from defocus_ds.stages.bit_depth import few_bits
from defocus_ds.stages.ingest.groups import Group, Member
from defocus_ds.stages.ingest.roles import FALLS, RISES, Measured

__all__ = ["Judged", "compare_scenes", "judge_group"]

_FIXED = {
    "kind": "kind of file",
    "model": "camera",
    "serial": "body serial number",
    "lens": "lens",
    "focal_length_mm": "focal length in mm",
    "iso": "ISO",
}


_MAX_STOPS = 1 / 3 + 0.01  # of exposure time; the margin is for rounded figures


@dataclass(frozen=True, slots=True)
class Judged:
    """A group that became a bracket, or not; ``order`` is by falling sharpness.

    ``order`` is empty where sharpness could not be measured, as a capture cannot be decoded.
    """

    group: Group
    bracket: Bracket | None
    complaints: tuple[Complaint, ...]
    order: tuple[Member, ...]
    uncertain: bool = False


def judge_group(group: Group, measured: Measured | None, *, root: Path, white: int = 0) -> Judged:
    """Confirm the roles of a group and that only the focus ring was moved.

    Args:
        group: levels given, or open and in capture order.
        measured: of its members; None: their pixels were not looked at.
        root: the shoot.
        white: ``develop.white``.

    Returns:
        The bracket if nothing speaks against it, and every complaint.
    """
    levels = [member.level or level for member, level in zip(group.members, Level, strict=False)]
    complaints = _settings(group)
    sharpness = measured.sharpness if measured is not None else None
    dark = _few_bits(group, measured, white)
    values = sharpness or [None] * len(group.members)
    order = tuple(
        member
        for _, _, member in sorted(
            (-(v or 0.0), at, m)
            for at, (v, m) in enumerate(zip(values, group.members, strict=True))
        )
    )
    doubt = _doubt(group, levels, sharpness, order)
    if dark is not None:
        complaints.append(dark)
    if doubt is not None and (dark is None or dark.severity != "error"):
        complaints.append(doubt)
    bracket = None
    if not any(c.severity == "error" for c in complaints):
        captures = tuple(
            Capture(
                root / member.found.rel,
                level,
                level.offset if member.offset is None else member.offset,
                member.found.header.info,
            )
            for member, level in zip(group.members, levels, strict=True)
            if member.found.header is not None
        )
        bracket = Bracket(group.scene, captures)
    return Judged(group, bracket, tuple(complaints), order, uncertain=doubt is not None)


def compare_scenes(brackets: Sequence[Bracket]) -> tuple[Complaint, ...]:
    """Warnings for settings that are equal within each scene but not across the shoot."""
    found: list[Complaint] = []
    for name, words in _FIXED.items():
        scenes: dict[Any, list[str]] = {}
        for bracket in brackets:
            scenes.setdefault(getattr(bracket.sharp.info, name), []).append(bracket.scene)
        if len(scenes) > 1:
            parts = [
                f"{_shown(value)} ({len(members)} scene{'s' * (len(members) > 1)}, "
                f"first {members[0]})"
                for value, members in scenes.items()
            ]
            found.append(
                Complaint(
                    "warning",
                    "shoot",
                    f"the {words} differs between scenes: {', '.join(parts)}. One dataset "
                    "usually has one; check that this is meant.",
                )
            )
    return tuple(found)


def _settings(group: Group) -> list[Complaint]:
    complaints = []
    for name, words in _FIXED.items():
        if text := _differs(group, attrgetter(f"header.info.{name}")):
            complaints.append(
                Complaint(
                    "error",
                    group.scene,
                    f"the {words} differs: {text}. In a bracket only the focus ring may move; "
                    "leave the capture out, or group the files in shoot.csv.",
                )
            )
    if text := _differs(group, _size):
        complaints.append(
            Complaint(
                "error",
                group.scene,
                f"the picture size differs: {text}. Use files as the camera made them.",
            )
        )
    if text := _differs(group, attrgetter("header.info.f_number")):
        complaints.append(
            Complaint("warning", group.scene, f"the f-number differs: {text}; so will the blur.")
        )
    times = [m.found.header.info.exposure_s for m in group.members if m.found.header is not None]
    known = [time for time in times if time]
    stops = log2(max(known) / min(known)) if known else 0.0
    if stops > _MAX_STOPS and (text := _differs(group, _exposure_time)):
        complaints.append(
            Complaint(
                "warning",
                group.scene,
                f"the exposure time differs by {stops:.1f} stops: {text} (at most 1/3 stop is "
                "expected). Are these captures of one scene, in constant light?",
            )
        )
    if text := _differs(group, attrgetter("header.orientation")):
        complaints.append(
            Complaint(
                "warning",
                group.scene,
                f"the EXIF orientation differs: {text}; pixels are used as stored. "
                "If the camera was turned between captures, leave the scene out.",
            )
        )
    return complaints


def _few_bits(group: Group, measured: Measured | None, white: int) -> Complaint | None:
    if measured is None:
        return None
    headers = [m.found.header for m in group.members if m.found.header is not None]
    declared = any(header.info.colour_space for header in headers)
    found = few_bits(measured.highest, white=white, declared=declared)
    if found is None:
        return None
    return Complaint("error" if found.certain else "warning", group.scene, str(found))


def _exposure_time(found: Any) -> str | None:
    time: float | None = found.header.info.exposure_s
    if not time:
        return None
    return f"{time:g} s" if time >= 0.4 else f"1/{1 / time:.0f} s"


def _size(found: Any) -> str:
    return f"{found.header.info.width}x{found.header.info.height}"


def _differs(group: Group, get: Callable[[Any], Any]) -> str | None:
    """The values with their files if there is more than one; silent files do not count."""
    values: dict[Any, list[str]] = {}
    for member in group.members:
        value = get(member.found)
        if value is not None:
            values.setdefault(value, []).append(PurePosixPath(member.found.rel).name)
    if len(values) < 2:
        return None
    return ", ".join(f"{_shown(value)} ({', '.join(names)})" for value, names in values.items())


def _doubt(
    group: Group,
    levels: Sequence[Level],
    sharpness: Sequence[float | None] | None,
    order: Sequence[Member],
) -> Complaint | None:
    guessed = group.by in ("folder", "run")
    if sharpness is None:
        if not guessed:
            return None
        return Complaint(
            "warning",
            group.scene,
            "roles were given in the order of capture and not confirmed by sharpness.",
        )
    if any(value is None for value in sharpness):
        blank = [
            PurePosixPath(m.found.rel).name
            for m, v in zip(group.members, sharpness, strict=True)
            if v is None
        ]
        return Complaint(
            "error" if guessed else "warning",
            group.scene,
            f"{', '.join(blank)} has no texture whose sharpness could confirm the roles. "
            "Look at it; shoot.csv settles the roles.",
        )
    known = [value or 0.0 for value in sharpness]
    worst = max(b / a for a, b in zip(known, known[1:], strict=False))
    if worst <= FALLS:
        return None
    contradicted = worst >= RISES
    told = ", ".join(
        f"{PurePosixPath(m.found.rel).name} ({level}, {value:.2f})"
        for m, level, value in zip(group.members, levels, known, strict=True)
    )
    if group.by == "csv":
        return Complaint(
            "warning",
            group.scene,
            f"sharpness does not fall from level to level: {told}. shoot.csv is followed.",
        )
    by_sharpness = " ".join(PurePosixPath(m.found.rel).name for m in order)
    if group.by == "name":
        return Complaint(
            "error" if contradicted else "warning",
            group.scene,
            f"sharpness {'contradicts' if contradicted else 'hardly confirms'} the names: {told}; "
            f"by falling sharpness it is {by_sharpness}. If the names are right, list the scene "
            "in shoot.csv.",
        )
    by_capture = " ".join(PurePosixPath(m.found.rel).name for m in group.members)
    return Complaint(
        "error",
        group.scene,
        f"the roles are not certain: the order of capture is {by_capture}, that of falling "
        f"sharpness is {by_sharpness} (relative sharpness by capture: "
        f"{', '.join(f'{v:.2f}' for v in known)}). Say which file is which in shoot.csv.",
    )


def _shown(value: Any) -> str:
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
