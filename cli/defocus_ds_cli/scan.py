"""``defocus-ds scan``: what is in a shoot, and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option, settings_options

if TYPE_CHECKING:
    from defocus_ds.stages.ingest import Survey

__all__ = ["command"]

_COLUMNS = ("scene", "level", "file", "exposure", "lens", "focus", "sharpness")


@click.command("scan", epilog="Example: defocus-ds scan shoot")
@click.argument("shoot", type=existing_path)
@click.option(
    "--no-confirm",
    "confirm",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not confirm the roles by falling sharpness: headers only, no pixels.",
)
@settings_options("develop.white=4095")
@json_option
def command(
    shoot: Path, confirm: bool, config: Path | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Group the captures of a shoot into scenes and check them; decodes nothing at full size.

    Captures belong together by shoot.csv (columns file, scene, level, offset), else by names such
    as lamp3_original, lamp3_lbc, lamp3_mbc, lamp3_hbc, else by lying in a folder of exactly four,
    else by times and numbers.  When anything is uncertain, a draft is written to
    shoot.draft.csv in the shoot: correct it and rename it to shoot.csv.  Captures that can be
    read but are in no scene are listed with a dash for the scene.

    Exits with 1 when a scene or file was kept out, with 2 when no scene is usable.
    """
    from defocus_ds.config import load_config
    from defocus_ds.stages.ingest import survey
    from defocus_ds_cli.progress import StageProgress

    build_config = load_config(None, config, settings)
    with StageProgress({"headers": None, "sharpness": None}) as progress:
        found = survey(
            shoot,
            confirm=confirm,
            limits=build_config.limits,
            white=build_config.develop.white,
            progress=progress.update,
        )
    draft = None if found.shoot.draft_csv is None else _save_draft(shoot, found.shoot.draft_csv)
    if as_json:
        echo_json(_as_json(found, draft))
    else:
        _show(found)
        if draft is not None:
            click.echo(f"draft: {draft}")
    if not found.shoot.brackets:
        sys.exit(2)
    if found.shoot.errors:
        sys.exit(1)


def _save_draft(shoot: Path, text: str) -> str:
    """Write the draft if nothing is overwritten by it; returns what became of it."""
    from defocus_ds.store import write_bytes

    target = shoot / "shoot.draft.csv"
    if target.exists():
        if target.read_bytes() == text.encode():
            return f"{target} (up to date)"
        return f"{target} exists and is left as it is; delete it for a new draft"
    try:
        write_bytes(target, text.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        return f"would be written to {target}, but that cannot be done ({reason}):\n{text}"
    return str(target)


def _show(found: Survey) -> None:
    rows = _rows(found)
    if rows and sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*_COLUMNS, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
    elif rows:
        for row in (_COLUMNS, *rows):
            click.echo("\t".join(row))
    for complaint in found.shoot.complaints:
        click.echo(f"{complaint.severity}: {complaint}")
    errors, total = len(found.shoot.errors), len(found.shoot.complaints)
    click.echo(
        f"{counted(len(found.shoot.brackets), 'scene')}, {counted(errors, 'error')}, "
        f"{counted(total - errors, 'warning')}"
    )


def _rows(found: Survey) -> list[tuple[str, ...]]:
    rows = [
        _row(found, capture.path, bracket.scene, f"{capture.level} +{capture.offset}")
        for bracket in found.shoot.brackets
        for capture in bracket
    ]
    return rows + [_row(found, path, "-", "-") for path in found.ungrouped]


def _row(found: Survey, path: Path, scene: str, level: str) -> tuple[str, ...]:
    info = found.captures[path].info
    sharpness = found.sharpness.get(path)
    return (
        scene,
        level,
        path.relative_to(found.shoot.root).as_posix(),
        _exposure(info.exposure_s, info.f_number, info.iso),
        _lens(info.lens, info.focal_length_mm),
        _distance(info.focus_distance_m),
        "-" if sharpness is None else f"{sharpness:.2f}",
    )


def _exposure(exposure_s: float | None, f_number: float | None, iso: int | None) -> str:
    parts = []
    if exposure_s:
        whole = exposure_s >= 0.4
        parts.append(f"{exposure_s:g} s" if whole else f"1/{1 / exposure_s:.0f} s")
    if f_number:
        parts.append(f"f/{f_number:.2g}")
    if iso:
        parts.append(f"ISO {iso}")
    return " ".join(parts) or "-"


def _lens(name: str | None, focal_length_mm: float | None) -> str:
    if focal_length_mm is None:
        return name or "-"
    focal = f"{focal_length_mm:.4g} mm"
    return f"{name} at {focal}" if name else focal


def _distance(metres: tuple[float, float] | None) -> str:
    if metres is None:
        return "-"
    upper, lower = ("inf" if value > 655 else f"{value:g}" for value in metres)
    return f"{lower}-{upper} m" if upper != lower else f"{upper} m"


def _as_json(found: Survey, draft: str | None) -> dict[str, Any]:
    from dataclasses import asdict

    shoot = found.shoot

    def name(path: Path) -> str:
        return path.relative_to(shoot.root).as_posix()

    return {
        "shoot": str(shoot.root),
        "scenes": [
            {
                "scene": bracket.scene,
                "grouped_by": found.grouped_by[bracket.scene],
                "captures": [
                    {
                        "file": name(capture.path),
                        "level": str(capture.level),
                        "offset": capture.offset,
                        "sharpness": found.sharpness.get(capture.path),
                        "info": asdict(capture.info),
                    }
                    for capture in bracket
                ],
            }
            for bracket in shoot.brackets
        ],
        "captures": {
            name(path): asdict(header.info) | {"orientation": header.orientation}
            for path, header in found.captures.items()
        },
        "ungrouped": [name(path) for path in found.ungrouped],
        "complaints": [asdict(complaint) for complaint in shoot.complaints],
        "draft": draft,
    }
