"""What there is to build: the scenes of a shoot, less those that are to be skipped."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from defocus_ds.config import BuildConfig
from defocus_ds.errors import DatasetError, InputError, ShootError
from defocus_ds.frames import Bracket, Level, Shoot
from defocus_ds.pipeline.journal import listing_digest, read_journal
from defocus_ds.wording import command_line, first_names

__all__ = ["apply_skips", "look"]


def look(
    shoot: Path,
    dataset: Path,
    config: BuildConfig,
    on_scan: Callable[[str, int, int], None] | None,
) -> tuple[Shoot, str]:
    """Scan the shoot; roles that were confirmed on the very same files are not confirmed again."""
    from defocus_ds.stages.ingest import survey

    listing = listing_digest(shoot)
    known = ""
    with suppress(DatasetError):
        known = read_journal(dataset).listing
    found = None
    options: dict[str, Any] = {
        "limits": config.limits,
        "white": config.develop.white,
        "progress": on_scan,
    }
    if known == listing:  # files of these names and times had nothing to complain of
        found = survey(shoot, confirm=False, **options).shoot
        # a lost permission or another limit changes neither name nor time
        found = None if found.errors else replace(found, complaints=())
    if found is None:
        found = survey(shoot, confirm=True, **options).shoot
    if not found.brackets:
        said = [str(c).removeprefix(f"{shoot}: ").rstrip(".") for c in found.complaints]
        reasons = first_names(said, most=1) or "no captures found"
        raise ShootError(
            f"{shoot}: no usable scene ({reasons}). See: {command_line('scan', shoot)}"
        )
    return found, "" if found.complaints else listing


def apply_skips(
    brackets: Sequence[Bracket], skip: Sequence[str]
) -> tuple[list[Bracket], dict[tuple[str, Level], str]]:
    """The brackets to build and, for every capture left out, the option that did it."""
    names = {b.scene for b in brackets} | {str(p) for b in brackets for p in b.pairs}
    for name in skip:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"--skip {name}: no such scene or pair in the shoot.{hint}")
    kept: list[Bracket] = []
    skipped: dict[tuple[str, Level], str] = {}
    for bracket in brackets:
        out = {p.level for p in bracket.pairs if {bracket.scene, str(p)} & set(skip)}
        skipped |= {(bracket.scene, level): f"--skip {bracket.scene}/{level}" for level in out}
        if len(out) < len(bracket.pairs):
            rest = tuple(c for c in bracket if c.level not in out)
            kept.append(replace(bracket, captures=rest))
        else:
            skipped[(bracket.scene, Level.SHARP)] = f"--skip {bracket.scene}"
    return kept, skipped
