"""``defocus-ds split``: released splits, rebuilt from the user's own copy of the images."""

from __future__ import annotations

from pathlib import Path

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]

_split_option = click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "val", "test"]),
    help="Only this split. Repeatable.",
)


@click.group("split", epilog="Example: defocus-ds split build kodak24 --images kodak -o kodak24")
def command() -> None:
    """Rebuild the crops of a released split from your copy of its images.

    A released split is a list of crops and checksums without pixels. Everyone who has the images
    gets the same shards, byte for byte.
    """


@command.command("list", epilog="Example: defocus-ds split list")
@json_option
def list_splits(as_json: bool) -> None:
    """The splits that come with this version, and where their images are found."""
    from defocus_ds.dataset.released_manifest import read_released, released_names

    found = [read_released(name) for name in released_names()]
    if as_json:
        echo_json([{"name": r.name, "crops": r.counts, **r.record} for r in found])
        return
    for released in found:
        counts = ", ".join(f"{split} {count}" for split, count in released.counts.items())
        click.echo(f"{released.name:<10} {counts:<32} {released.record['images']}")


@command.command(
    "build",
    epilog="Example: defocus-ds split build bsd500 --images BSDS500/data/images -o bsd500 "
    "--split test",
)
@click.argument("name")
@click.option(
    "--images",
    type=existing_path,
    required=True,
    metavar="DIR",
    help="Your copy of the images, in any layout.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to make; an earlier build of the same split is replaced.",
)
@_split_option
@json_option
def build(name: str, images: Path, output: Path, splits: tuple[str, ...], as_json: bool) -> None:
    """Cut and blur the crops of NAME into shards.

    NAME is one of `defocus-ds split list`, or a manifest file. Every image and every crop is
    checked against its SHA-256; what is missing or different is listed on stderr, all of it, and
    nothing is written then (exit code 2). Load the result with
    load_crops(DIR, level="average-5x5", split="test").
    """
    from dataclasses import asdict

    from defocus_ds.dataset.released import build_released
    from defocus_ds_cli.progress import Progress

    problems: list[str] = []
    with Progress("split") as progress:
        try:
            report = build_released(
                name,
                images,
                output,
                splits=splits or None,
                on_problem=problems.append,
                progress=progress,
            )
        finally:
            for problem in problems:
                click.echo(problem, err=True)
    if as_json:
        echo_json({**asdict(report), "folder": str(report.folder)})
        return
    counts = ", ".join(f"{split} {count}" for split, count in report.kept.items())
    total = counted(sum(report.kept.values()), "crop")
    click.echo(f"{report.folder}: {report.name}, {total} ({counts})")


@command.command(
    "make",
    epilog="Example: defocus-ds split make mine --images photographs -o mine.parquet "
    "--origin https://example.org/photographs",
)
@click.argument("name")
@click.option("--images", type=existing_path, required=True, metavar="DIR", help="The images.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE.parquet",
    help="The manifest to write.",
)
@click.option(
    "--origin",
    required=True,
    metavar="TEXT",
    help="Where a person gets these images; shown when some are missing.",
)
@click.option(
    "--size", type=click.IntRange(min=16), default=128, show_default=True, help="Side in pixels."
)
def make(name: str, images: Path, output: Path, origin: str, size: int) -> None:
    """Write the manifest of a new split: the centre crops of a folder of images.

    With train, val or test below the folder these are the splits; else all is test.
    """
    from defocus_ds.dataset.released_make import make_released
    from defocus_ds_cli.progress import Progress

    with Progress("split") as progress:
        released = make_released(name, images, output, origin=origin, size=size, progress=progress)
    counts = ", ".join(f"{split} {count}" for split, count in released.counts.items())
    click.echo(f"{output}: {released.name} ({counts})")
