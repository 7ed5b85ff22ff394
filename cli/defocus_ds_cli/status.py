"""``defocus-ds status``: how far a dataset is."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]


@click.command("status", epilog="Example: defocus-ds status dataset")
@click.argument("dataset", type=existing_path)
@json_option
def command(dataset: Path, as_json: bool) -> None:
    """Show how far a dataset is; works while a build is running.

    Exits with 1 when a scene has failed.
    """
    from defocus_ds.pipeline import status

    state = status(dataset)
    if as_json:
        echo_json({**asdict(state), "dataset": str(state.dataset)})
    else:
        total = len(state.scenes)
        click.echo(f"{dataset}: {'complete' if state.complete else 'in progress'}")
        click.echo(f"  shoot   {state.shoot} ({total} scenes, preset {state.preset})")
        for stage, count in state.done.items():
            click.echo(f"  {stage:<9}{count}/{total}")
        if state.pairs:
            counts = ", ".join(f"{n} {verdict}" for verdict, n in state.pairs.items())
            click.echo(f"  pairs    {counts}")
        for level, shards in state.crops.items():
            click.echo(f"  crops    {level}: {shards} shard{'s' if shards != 1 else ''}")
        for scene, error in state.failed:
            click.echo(f"  failed   {scene}: {error}")
    if state.failed:
        sys.exit(1)
