"""``defocus-ds import``: crops from image trees that others made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]

_SHOWN = 20


@click.command(
    "import",
    epilog="Example: defocus-ds import sharp DF2K -o synthetic --images 2100 --test-share 0",
)
@click.argument("kind", type=click.Choice(["authors", "dpdd", "realdof", "sharp"]))
@click.argument("source", type=existing_path)
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="A new folder.",
)
@click.option("--size", type=int, metavar="PX", help="Side of a crop [default: 128].")
@click.option(
    "--stride", type=int, metavar="PX", help="Step between crops of real pairs [default: the size]."
)
@click.option(
    "--blur",
    metavar="average5|disk:PX",
    help="sharp: 5x5 average of the 8-bit crop, or a disk in linear light [default: average5].",
)
@click.option(
    "--per-image", type=int, metavar="N", help="sharp: random crops of an image [default: 64]."
)
@click.option(
    "--images",
    type=click.IntRange(1),
    metavar="N",
    help="sharp: only N images, chosen by hash [default: all].",
)
@click.option(
    "--level",
    metavar="NAME",
    help="Name of the level [default: defocus, or the blur's; authors: low, medium, high].",
)
@click.option(
    "--test-share",
    type=float,
    metavar="X",
    help="authors, sharp: share of the scenes in test [default: 0.1].",
)
@click.option("--val-share", type=float, metavar="X", help="The same for val [default: 0].")
@click.option(
    "--seed", type=int, metavar="N", help="Of splits, choice and random places [default: 0]."
)
@json_option
def command(
    kind: str,
    source: Path,
    out: Path,
    as_json: bool,
    **choices: int | float | str | None,
) -> None:
    """Cut luma crops from an image tree that others made, into checked shards.

    \b
    authors   <object><n>_original|lbc|mbc|hbc, as in the MMSP 2024 paper
    dpdd      {train,val,test}_c/{source,target}/NAME.png
    realdof   source/ and target/, or pairs.txt; all of it is test
    sharp     any folder of sharp images, blurred synthetically

    Nothing is aligned, and what was not measured says so.  A file that cannot be used is named
    with its reason and the others are imported; the exit code is 1 then.
    """
    from defocus_ds.dataset.importers import ImportOptions, import_images
    from defocus_ds_cli.progress import Progress

    given = {name: value for name, value in choices.items() if value is not None}
    options = dataclasses.replace(ImportOptions(), **given)  # type: ignore[arg-type]
    with Progress("import") as progress:
        report = import_images(kind, source, out, options=options, progress=progress)
    if as_json:
        echo_json({**dataclasses.asdict(report), "out": str(report.out)})
    else:
        total = sum(sum(counts.values()) for counts in report.crops.values())
        scenes = counted(sum(report.scenes.values()), "scene")
        click.echo(f"{report.out}: {counted(total, 'crop')} from {scenes}")
        for level, counts in report.crops.items():
            for split, count in counts.items():
                click.echo(f"  {level:<12}{split:<6}{count:>8}")
        for note in report.notes:
            click.echo(f"note: {note}")
    if report.refused:
        click.echo(f"{counted(len(report.refused), 'file')} refused:", err=True)
        for name, why in list(report.refused.items())[:_SHOWN]:
            click.echo(f"  {name}: {why}", err=True)
        if len(report.refused) > _SHOWN:
            click.echo(f"  ... all of them are in {report.out / 'import.json'}", err=True)
        raise click.exceptions.Exit(1)
