"""Scan a shoot: every capture, every bracket, every complaint, in one pass over the headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from defocus_ds.config import LimitsConfig
from defocus_ds.dataset.kinds import what_it_is
from defocus_ds.errors import ShootError, StageFailed
from defocus_ds.frames import Complaint, Shoot
from defocus_ds.stages.decoding import Decoder
from defocus_ds.stages.ingest.brackets import Judged, compare_scenes, judge_group
from defocus_ds.stages.ingest.captures import (
    Progress,
    find_captures,
    list_remarks,
    read_headers,
    without_twins,
)
from defocus_ds.stages.ingest.draft import draft_table
from defocus_ds.stages.ingest.grouping import group_captures
from defocus_ds.stages.ingest.groups import Found, Group, natural_key, scene_name
from defocus_ds.stages.ingest.header import Header
from defocus_ds.stages.ingest.roles import Measured, measure_captures
from defocus_ds.stages.ingest.shoot_csv import SHOOT_CSV, ShootTable, parse_shoot_csv

__all__ = ["Survey", "scan", "survey"]


@dataclass(frozen=True, slots=True)
class Survey:
    """A shoot and what the scan found on the way.

    Attributes:
        shoot: brackets, complaints, draft.
        sharpness: path -> sharpness relative to the sharpest of its scene, where measured.
        grouped_by: scene -> "csv", "name", "folder" or "run".
        captures: path -> header of every capture that can be read, in a scene or not.
        ungrouped: those of ``captures`` that are in no bracket, in natural order.
    """

    shoot: Shoot
    sharpness: dict[Path, float]
    grouped_by: dict[str, str]
    captures: dict[Path, Header]

    @property
    def ungrouped(self) -> tuple[Path, ...]:
        grouped = {capture.path for bracket in self.shoot.brackets for capture in bracket}
        return tuple(path for path in self.captures if path not in grouped)


def scan(root: Path | str, *, confirm: bool = True, progress: Progress | None = None) -> Shoot:
    """Find the brackets of a shoot.

    Args:
        root: folder of captures; nothing is written to it.
        confirm: check the roles by falling sharpness, which decodes previews.
        progress: called with what is done, how many are done and of how many.

    Returns:
        Brackets in natural order of their names, and every complaint at once.  A capture or
        scene with an "error" complaint is in no bracket.

    Raises:
        ShootError: the folder does not exist, is not a folder, or is a dataset or release.
    """
    return survey(root, confirm=confirm, progress=progress).shoot


def survey(
    root: Path | str,
    *,
    confirm: bool = True,
    limits: LimitsConfig | None = None,
    white: int = 0,
    progress: Progress | None = None,
) -> Survey:
    """`scan`, with what it measured.

    Args:
        root, confirm, progress: as in `scan`.
        limits: default `LimitsConfig()`.
        white: ``develop.white``.
    """
    root, limits = Path(root), limits or LimitsConfig()
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise ShootError(f"{root}: {state}. Name the folder that holds the captures.")
    _refuse_dataset(root)
    with Decoder(limits) as decoder:
        return _survey(root, confirm, limits, white, progress or (lambda *_: None), decoder)


def _refuse_dataset(root: Path) -> None:
    if found := what_it_is(root):
        raise ShootError(f"{root}: {found}; not a shoot. Name the folder that holds the captures.")


def _survey(
    root: Path, confirm: bool, limits: LimitsConfig, white: int, tell: Progress, decoder: Decoder
) -> Survey:
    files, complaints = find_captures(root)
    table = _read_table(root)
    files, shadowed = without_twins(files, table.files)
    complaints += shadowed
    found, unreadable = read_headers(root, files, limits, tell, decoder)
    complaints += unreadable
    if not found:
        complaints.append(Complaint("error", str(root), "no captures in this folder."))
    elif not table.usable:
        complaints += table.complaints
        return Survey(Shoot(root, (), tuple(complaints), None), {}, {}, _headers(root, found))
    root_name = root.resolve().name
    grouping = group_captures(found, table, root_name=root_name)
    complaints += [*grouping.complaints, *list_remarks(found)]
    sharpness: dict[str, float] = {}
    judged: list[Judged] = []
    for done, group in enumerate(grouping.groups):
        tell("sharpness", done, len(grouping.groups))
        judged.append(_judge(group, root, confirm, white, decoder, sharpness))
    tell("sharpness", len(grouping.groups), len(grouping.groups))
    judged = _fail_whole_runs(judged)
    for item in judged:
        complaints += item.complaints
    good = [j for j in judged if j.bracket is not None]
    good.sort(key=lambda j: natural_key(j.group.scene))
    brackets = tuple(j.bracket for j in good if j.bracket is not None)
    complaints += compare_scenes(brackets)
    draft = None
    unsure = any(j.bracket is None or (j.uncertain and j.group.by != "csv") for j in judged)
    if grouping.leftover or unsure:
        draft = draft_table(
            judged,
            grouping.leftover,
            root_name=scene_name(root_name),
            damaged=frozenset(f.folder for f in found if f.header is None),
            measure=(lambda items: _measure(items, root, white, decoder).sharpness)
            if confirm
            else None,
        )
    complaints.sort(key=lambda c: c.severity != "error")
    return Survey(
        Shoot(root, brackets, tuple(complaints), draft),
        {root / rel: value for rel, value in sharpness.items()},
        {j.group.scene: j.group.by for j in good},
        _headers(root, found),
    )


def _read_table(root: Path) -> ShootTable:
    path = root / SHOOT_CSV
    if not path.exists():
        return ShootTable(())
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        complaint = Complaint("error", SHOOT_CSV, f"cannot be read as UTF-8 text ({error}).")
        return ShootTable((), complaints=(complaint,), usable=False)
    return parse_shoot_csv(text)


def _headers(root: Path, found: Sequence[Found]) -> dict[Path, Header]:
    return {root / f.rel: f.header for f in found if f.header is not None}


def _judge(
    group: Group,
    root: Path,
    confirm: bool,
    white: int,
    decoder: Decoder,
    sharpness: dict[str, float],
) -> Judged:
    """Measure a group, note the values in ``sharpness``, and decide."""
    if not confirm:
        return judge_group(group, None, root=root)
    try:
        measured = _measure([m.found for m in group.members], root, white, decoder)
    except StageFailed as error:
        complaint = Complaint("error", group.scene, f"left out, because of {error}")
        return Judged(group, None, (complaint,), ())
    sharpness |= {
        m.found.rel: v
        for m, v in zip(group.members, measured.sharpness, strict=True)
        if v is not None
    }
    return judge_group(group, measured, root=root, white=white)


def _measure(items: Sequence[Found], root: Path, white: int, decoder: Decoder) -> Measured:
    captures = [(root / item.rel, item.header) for item in items if item.header is not None]
    return measure_captures(captures, decoder=decoder, white=white)


def _fail_whole_runs(judged: Sequence[Judged]) -> list[Judged]:
    """A run is cut in fours by counting: if one four is wrong, the count is off for all."""
    wrong = {
        j.group.run: j.group.scene for j in judged if j.group.by == "run" and j.bracket is None
    }
    result = []
    for item in judged:
        if item.group.run in wrong and item.bracket is not None:
            message = (
                f"left out, because it was cut from the same run as {wrong[item.group.run]}, "
                "which is uncertain. Say which file is which in shoot.csv."
            )
            complaint = Complaint("error", item.group.scene, message)
            item = replace(item, bracket=None, complaints=(*item.complaints, complaint))
        result.append(item)
    return result
