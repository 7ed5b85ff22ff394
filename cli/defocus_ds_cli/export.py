"""``defocus-ds export``: the crops in the layouts that other training code reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]


@click.command(
    "export",
    epilog="Example: defocus-ds export dataset -o pairs --to basicsr --level low",
)
@click.argument("source", type=existing_path)
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder to make; the same export there is made again.",
)
@click.option(
    "--to",
    required=True,
    type=click.Choice(["webdataset", "basicsr", "dpdd"]),
    help="Layout of the export.",
)
@click.option(
    "--level",
    "levels",
    multiple=True,
    metavar="LEVEL",
    help="Only this level. Repeatable [default: all that have crops].",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Let go of an export there of another layout, source or levels.",
)
@json_option
def command(
    source: Path, out: Path, to: str, levels: tuple[str, ...], replace: bool, as_json: bool
) -> None:
    """Write the crops in a layout of other training code.

    SOURCE is a built dataset with crops, a release, or a folder of crops; it stays as it is. The
    PNG files and the rows are the same. Every crop is compared with its SHA-256 on the way, and
    nothing is written if one differs.
    """
    from defocus_ds.dataset.export import export
    from defocus_ds_cli.progress import Progress

    with Progress("export") as progress:
        report = export(
            source, out, to=to, levels=levels or None, replace=replace, progress=progress
        )
    if as_json:
        echo_json({**dataclasses.asdict(report), "out": str(report.out)})
        return
    megabytes = report.bytes / 1e6
    click.echo(f"{report.out}: {to}, {counted(report.files, 'file')}, {megabytes:.1f} MB")
    for level, splits in report.crops.items():
        for split, count in splits.items():
            click.echo(f"  {level:<12}{split:<6}{count:>8}")
