"""``defocus-ds release``: crops with frozen splits, a card and checksums."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option, review_option

if TYPE_CHECKING:
    from defocus_ds.dataset.release import ReleaseReport

__all__ = ["command"]

_share = click.FloatRange(min=0, max=1)


@click.command(
    "release",
    epilog="Example: defocus-ds release dataset -o release --licence CC-BY-4.0 "
    "--author 'Doe, Jane'",
)
@click.argument("dataset", type=existing_path)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A new folder; a release is never overwritten.",
)
@click.option(
    "--licence",
    required=True,
    metavar="SPDX",
    help="For example CC-BY-4.0; or another licence's own name, with --licence-url.",
)
@click.option(
    "--licence-url",
    default="",
    metavar="URL",
    help="Of the licence's text [default: its page at spdx.org].",
)
@click.option(
    "--author",
    "authors",
    required=True,
    multiple=True,
    metavar="NAME",
    help="'Family, Given', or the name of a group. Repeatable.",
)
@click.option("--name", metavar="TEXT", help="Of the dataset [default: the folder's].")
@click.option("--release-version", "version", default="1.0.0", show_default=True, metavar="TEXT")
@click.option("--date", default="", metavar="YYYY-MM-DD", help="Of the release, for the citation.")
@click.option("--url", default="", metavar="URL", help="Where it will be found, https://...")
@click.option(
    "--level",
    "levels",
    type=click.Choice(["low", "medium", "high"]),
    multiple=True,
    help="To release; repeatable [default: all that have crops].",
)
@review_option
@click.option(
    "--previous",
    type=existing_path,
    metavar="RELEASE",
    help="Keep the splits of this earlier release; new scenes go to train.",
)
@click.option(
    "--test-share", type=_share, metavar="X", help="Of the crops [default: tile.test_share]."
)
@click.option(
    "--val-share", type=_share, metavar="X", help="Of the crops [default: tile.val_share]."
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of the splits.")
@json_option
def command(
    dataset: Path,
    out: Path,
    licence: str,
    licence_url: str,
    authors: tuple[str, ...],
    name: str | None,
    version: str,
    date: str,
    url: str,
    levels: tuple[str, ...],
    review: Path | None,
    previous: Path | None,
    test_share: float | None,
    val_share: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Release the crops of DATASET: splits, shards, card, citation and checksums.

    Splits are by scene and balanced by crops; scenes that show the same place are found by their
    features and go to one split.  splits.csv freezes it: with --previous a dataset that has grown
    keeps its test set.  Images are not part of a release, nor is anything that names a folder of
    this machine.
    """
    from defocus_ds.dataset.release import release
    from defocus_ds.dataset.release_facts import About
    from defocus_ds_cli.progress import Progress

    about = About(name or dataset.resolve().name, licence, authors, version, date, url, licence_url)
    with Progress("release") as progress:
        report = release(
            dataset,
            out,
            about=about,
            levels=levels or None,
            review=review,
            previous=previous,
            test_share=test_share,
            val_share=val_share,
            seed=seed,
            progress=progress,
        )
    for author in authors:
        if " " in author and "," not in author:
            click.echo(
                f"note: {author!r} is cited as a group; a person is written Family, Given.",
                err=True,
            )
    if as_json:
        echo_json({**dataclasses.asdict(report), "folder": str(report.folder)})
    else:
        _print_report(report)


def _print_report(report: ReleaseReport) -> None:
    scenes = ", ".join(f"{split} {count}" for split, count in report.scenes.items())
    click.echo(f"{report.folder}: {counted(sum(report.scenes.values()), 'scene')} ({scenes})")
    for level, counts in report.crops.items():
        parts = ", ".join(f"{split} {count}" for split, count in counts.items())
        click.echo(f"  {level:<8}{counted(sum(counts.values()), 'crop')} ({parts})")
    for pair in report.duplicates:
        click.echo(
            f"near-duplicates, in one split: {pair.one} and {pair.other} "
            f"({pair.matched} points, {pair.share:.0%})"
        )
    if report.left_out:
        click.echo(f"{len(report.left_out)} left out:")
        for name, reason in report.left_out.items():
            click.echo(f"  {name}: {reason}")
    for note in report.notes:
        click.echo(f"note: {note}")
