"""``defocus-ds diff``: how two datasets, releases or folders of crops differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option

if TYPE_CHECKING:
    from defocus_ds.dataset.diff import Change, Difference, NameDifference
    from defocus_ds.dataset.diff_crops import LevelDifference

__all__ = ["command"]

_SHOWN = 5


@click.command(
    "diff",
    epilog="Example: defocus-ds diff release-1.0 release-1.1; defocus-ds diff old new --all --json",
)
@click.argument("a", type=existing_path)
@click.argument("b", type=existing_path)
@click.option("--all", "everything", is_flag=True, help=f"List everything, not {_SHOWN} of each.")
@json_option
def command(a: Path, b: Path, everything: bool, as_json: bool) -> None:
    """Say how B differs from A by scene, crop, image, configuration and bytes.

    Each is a built dataset, a release or a folder of crops.  They are compared by what they say
    of themselves (manifests, scenes.parquet, SHA256SUMS), without decoding a pixel; `verify` says
    whether that is true.  Exits with 0 when nothing differs, 1 when something does.
    """
    from defocus_ds.dataset.diff import diff
    from defocus_ds_cli.progress import Progress

    with Progress("diff") as progress:
        found = diff(a, b, progress=progress)
    shown = None if everything else _SHOWN
    if as_json:
        echo_json(_as_dict(found, shown))
    else:
        for line in _lines(found, shown):
            click.echo(line)
    if not found.equal:
        raise click.exceptions.Exit(1)


def _lines(found: Difference, shown: int | None) -> Iterator[str]:
    crops = ", ".join(f"{level.level} {level.crops[0]}" for level in found.crops) or "none"
    if found.equal:
        yield f"{found.a} and {found.b} are equal (crops compared: {crops})"
    else:
        yield f"A: {found.a}"
        yield f"B: {found.b}"
    yield from _named_lines("scenes", found.scenes, "in another split", shown)
    yield from _named_lines("levels", found.levels, "changed", shown)
    for level in found.crops:
        yield from _level_lines(level, shown)
    yield from _named_lines("images", found.images, "changed", shown, values=False)
    yield from _named_lines("verdicts", found.verdicts, "changed", shown)
    yield from _named_lines("configuration", found.config, "changed", shown)
    yield from _named_lines("versions", found.versions, "changed", shown)
    yield from _named_lines("files", found.files, "changed", shown, values=False)
    for note in found.notes:
        yield f"note: {note}"


def _named_lines(
    title: str, found: NameDifference, change: str, shown: int | None, *, values: bool = True
) -> Iterator[str]:
    if not found:
        return
    counts = (
        (len(found.only_a), "only in A"),
        (len(found.only_b), "only in B"),
        (len(found.changed), change),
    )
    yield f"{title}: " + ", ".join(f"{count} {what}" for count, what in counts if count)
    for sign, names in (("-", found.only_a), ("+", found.only_b)):
        yield from _listed((f"  {sign} {name}" for name in names), len(names), shown)
    changes = (
        f"  ~ {item.name}" + (f": {_text(item.a)} -> {_text(item.b)}" if values else "")
        for item in found.changed
    )
    yield from _listed(changes, len(found.changed), shown)


def _level_lines(level: LevelDifference, shown: int | None) -> Iterator[str]:
    if not level:
        return
    kinds = (
        ("-", "only in A", level.only_a),
        ("+", "only in B", level.only_b),
        ("~", "other pixels", level.pixels),
        ("=", "the same pixels measured otherwise", level.measured),
    )
    parts = ", ".join(f"{len(places)} {what}" for _, what, places in kinds if places)
    yield f"crops {level.level}: {parts}; A has {level.crops[0]}, B {level.crops[1]}"
    for column, count in level.columns.items():
        yield f"  {column}: {counted(count, 'crop')}"
    for sign, what, places in kinds:
        lines = (f"  {sign} {s} ({x}, {y}) {size} px: {what}" for s, x, y, size in places)
        yield from _listed(lines, len(places), shown)


def _listed(lines: Iterable[str], count: int, shown: int | None) -> Iterator[str]:
    yield from islice(lines, shown)
    if shown is not None and count > shown:
        yield f"    ... {count - shown} more, see --all"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_dict(found: Difference, shown: int | None) -> dict[str, Any]:
    names = ("scenes", "images", "verdicts", "levels", "config", "versions", "files")
    return {
        "a": str(found.a),
        "b": str(found.b),
        "equal": found.equal,
        **{name: _named_dict(getattr(found, name), shown) for name in names},
        "crops": {level.level: _level_dict(level, shown) for level in found.crops},
        "notes": list(found.notes),
    }


def _named_dict(found: NameDifference, shown: int | None) -> dict[str, Any]:
    def change(item: Change) -> dict[str, Any]:
        return {"name": item.name, "a": item.a, "b": item.b}

    return {
        "counts": {
            "only_a": len(found.only_a),
            "only_b": len(found.only_b),
            "changed": len(found.changed),
        },
        "only_a": list(found.only_a[:shown]),
        "only_b": list(found.only_b[:shown]),
        "changed": [change(item) for item in found.changed[:shown]],
    }


def _level_dict(level: LevelDifference, shown: int | None) -> dict[str, Any]:
    kinds = {
        "only_a": level.only_a,
        "only_b": level.only_b,
        "pixels": level.pixels,
        "measured": level.measured,
    }
    return {
        "crops": {"a": level.crops[0], "b": level.crops[1]},
        "counts": {name: len(places) for name, places in kinds.items()},
        "columns": level.columns,
        **{name: [list(place) for place in islice(p, shown)] for name, p in kinds.items()},
    }
