"""``defocus-ds crop``: luma crops, splits and shards of one level."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option, review_option

if TYPE_CHECKING:
    from defocus_ds.config import TileConfig
    from defocus_ds.dataset.crop import CropReport

__all__ = ["command"]


@click.command(
    "crop",
    epilog="Example: defocus-ds crop dataset --level low --train 77000 --test 188",
)
@click.argument("dataset", type=existing_path)
@click.option(
    "--level",
    type=click.Choice(["low", "medium", "high"]),
    default="low",
    show_default=True,
    help="Which blurred images to pair with the sharp ones.",
)
@click.option(
    "--size",
    type=int,
    metavar="PX",
    help="Side of a crop [default: the dataset's tile.size, 128].",
)
@click.option(
    "--stride",
    type=int,
    metavar="PX",
    help="Step between crops [default: --size, else the dataset's tile.stride, 128].",
)
@click.option(
    "--train",
    type=click.IntRange(min=1),
    metavar="N",
    help="Exactly N crops in the train split, over all its scenes [default: all that pass].",
)
@click.option(
    "--test", type=click.IntRange(min=1), metavar="N", help="The same for the test split."
)
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.parquet",
    help="Rebuild exactly the crops of this manifest; excludes the options that choose.",
)
@review_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="tile.KEY=VALUE",
    help="Override one limit or share, e.g. --set tile.min_std=2. Repeatable.",
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Seed of the splits and of the choice [default: 0].",
)
@json_option
def command(
    dataset: Path,
    level: str,
    size: int | None,
    stride: int | None,
    train: int | None,
    test: int | None,
    manifest: Path | None,
    review: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Cut aligned luma crops into sharded Parquet files, with splits by scene.

    Only kept pairs are cut, and only inside their valid area; every rejected crop is a row of
    rejected.parquet with its reason.  Running it again replaces the level.  Exits with 1 when
    fewer crops pass than --train or --test ask for; nothing is written then.
    """
    from defocus_ds.dataset.crop import crop
    from defocus_ds_cli.progress import Progress

    if manifest is not None and (
        settings or any(v is not None for v in (size, stride, train, test, seed, review))
    ):
        raise click.UsageError("--manifest decides every crop; leave the other options out.")
    config = _tile_config(dataset, settings) if settings else None
    with Progress("crop") as progress:
        report = crop(
            dataset,
            level=level,
            size=size,
            stride=stride,
            train=train,
            test=test,
            config=config,
            seed=seed or 0,
            manifest=manifest,
            review=review,
            progress=progress,
        )
    if as_json:
        echo_json(_as_dict(report))
    else:
        _print_report(report)


def _tile_config(dataset: Path, settings: tuple[str, ...]) -> TileConfig:
    """The dataset's own tiling with these settings on top."""
    from defocus_ds.config import config_from_dict, load_config
    from defocus_ds.dataset.manifest import read_info
    from defocus_ds.errors import ConfigError

    table = config_from_dict(read_info(dataset)["config"]).as_dict()
    tile = table["tile"]
    for setting in settings:
        section, _, name = setting.partition("=")[0].strip().partition(".")
        if section != "tile":
            raise ConfigError(f"--set {setting}: crop takes tile.* only; the rest is for build.")
        tile[name] = getattr(load_config(settings=[setting]).tile, name)
    return config_from_dict({**table, "tile": tile}).tile


def _as_dict(report: CropReport) -> dict[str, Any]:
    return {
        **dataclasses.asdict(report),
        "folder": str(report.folder),
        "left_out": [
            {
                "scene": item.pair.scene,
                "level": item.pair.level,
                "verdict": item.verdict,
                "reasons": list(item.reasons),
            }
            for item in report.left_out
        ],
    }


def _print_report(report: CropReport) -> None:
    total = sum(report.kept.values())
    click.echo(
        f"{report.folder}: {counted(total, 'crop')} of {report.size} px, stride {report.stride}, "
        f"from {counted(report.pairs, 'pair')}"
    )
    for split, count in report.kept.items():
        spare = report.passed.get(split, count) - count
        click.echo(f"  {split:<12}{count:>8}" + (f"  ({spare} more pass)" if spare else ""))
    for reason, count in report.rejected.items():
        click.echo(f"  {reason:<12}{count:>8}  rejected")
    if report.left_out:
        click.echo(f"{counted(len(report.left_out), 'pair')} left out:")
        for item in report.left_out:
            click.echo(f"  {item}")
    for note in report.notes:
        click.echo(f"note: {note}")
