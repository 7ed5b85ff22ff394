"""The draft of a shoot.csv: settled scenes as they are, the rest as the best guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from defocus_ds.errors import StageFailed
from defocus_ds.frames import Level
from defocus_ds.stages.ingest.brackets import Judged
from defocus_ds.stages.ingest.groups import BRACKET, Found, Member
from defocus_ds.stages.ingest.shoot_csv import DraftRow, draft_csv

__all__ = ["draft_table"]

_DAMAGED = "a capture beside it cannot be read, so the level is not guessed"

_MAX_MEASURED = 8  # captures of one scene whose sharpness is worth decoding for a comment


def draft_table(
    judged: Sequence[Judged],
    leftover: Sequence[tuple[str, Member]],
    *,
    root_name: str,
    damaged: frozenset[str],
    measure: Callable[[Sequence[Found]], tuple[float | None, ...]] | None,
) -> str:
    """Write down what is known and what is guessed.

    Args:
        judged: groups that were found, good and bad.
        leftover: captures in no group, with the scene they may be of.
        root_name: scene of captures in the shoot's own folder.
        damaged: folders that hold a capture that cannot be read: the order of the others is no
            guess at their levels.
        measure: relative sharpness of captures; None: do not guess by sharpness.

    Returns:
        CSV text; a level is empty where there is no guess, and a comment says why.
    """
    rows: list[DraftRow] = []
    for item in judged:
        rows += _group_rows(item)
    scenes: dict[str, list[Member]] = {}
    for scene, member in leftover:
        scenes.setdefault(scene or root_name, []).append(member)
    for scene, members in scenes.items():
        whole = not any(member.found.folder in damaged for member in members)
        rows += _loose_rows(scene, members, measure, whole=whole)
    return draft_csv(rows)


def _group_rows(item: Judged) -> list[DraftRow]:
    group = item.group
    rows = []
    told = group.by in ("csv", "name")
    if item.bracket is not None:
        comment = f"grouped by {group.by}"
    else:
        comment = f"UNCERTAIN: {'as named' if told else 'ordered by falling sharpness'}"
    if not told and item.bracket is None and not item.order:
        return [
            DraftRow(member.found.rel, group.scene, None, None, f"UNCERTAIN: {_DAMAGED}")
            for member in group.members
        ]
    keep_order = told or item.bracket is not None
    members = group.members if keep_order else item.order
    for member, by_order in zip(members, Level, strict=False):
        level = member.level or by_order
        offset = level.offset if member.offset is None else member.offset
        rows.append(DraftRow(member.found.rel, group.scene, level, offset, comment))
    return rows


def _loose_rows(
    scene: str,
    members: Sequence[Member],
    measure: Callable[[Sequence[Found]], tuple[float | None, ...]] | None,
    *,
    whole: bool,
) -> list[DraftRow]:
    values: tuple[float | None, ...] = (None,) * len(members)
    if measure is not None and len(members) <= _MAX_MEASURED:
        try:
            values = measure([m.found for m in members])
        except StageFailed:
            measure = None  # the capture that cannot be decoded has its own complaint
    ranked = list(zip(members, values, strict=True))
    if all(value is not None for value in values):
        ranked.sort(key=lambda pair: -(pair[1] or 0.0))
    guess = whole and 2 <= len(members) <= BRACKET and all(v is not None for v in values)
    rows = []
    for (member, value), by_sharpness in zip(ranked, [*Level, *[None] * len(ranked)], strict=False):
        level = member.level or (by_sharpness if guess else None)
        told = "" if value is None else f", relative sharpness {value:.2f}"
        told += "" if whole else f"; {_DAMAGED}"
        offset = None if level is None else level.offset
        rows.append(DraftRow(member.found.rel, scene, level, offset, f"UNCERTAIN{told}"))
    return rows
