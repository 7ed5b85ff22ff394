"""``defocus-ds status``: how far a dataset is."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]


@click.command("status", epilog="Example: defocus-ds status dataset")
@click.argument("dataset", type=existing_path)
@json_option
def command(dataset: Path, as_json: bool) -> None:
    """Show how far a dataset is; works while a build is running.

    Exits with 1 when a scene has failed or the scan had to leave something out.
    """
    from defocus_ds.pipeline import status
    from defocus_ds.wording import command_line

    state = status(dataset)
    if as_json:
        echo_json({**asdict(state), "dataset": str(state.dataset)})
    else:
        total = len(state.scenes)
        stopped = f"stopped; go on with: {command_line('build', state.shoot, '-o', dataset)}"
        word = "a build or crop is running" if state.running else stopped
        if state.complete and not state.running:
            word = "complete"
            if state.failed:
                word += f", but for {counted(len(state.failed), 'scene')} that failed"
        click.echo(f"{dataset}: {word}")
        click.echo(f"  shoot   {state.shoot} ({counted(total, 'scene')}, preset {state.preset})")
        for stage, count in state.done.items():
            click.echo(f"  {stage:<9}{count}/{total}")
        if state.skipped:
            click.echo(f"  skipped  {', '.join(state.skipped)}")
        if state.pairs:
            counts = ", ".join(f"{n} {verdict}" for verdict, n in state.pairs.items())
            click.echo(f"  pairs    {counts}")
        for level, shards in state.crops.items():
            old = " of an earlier build; crop again" if level in state.stale else ""
            click.echo(f"  crops    {level}: {counted(shards, 'shard')}{old}")
        for scene, error in state.failed:
            click.echo(f"  failed   {scene}: {error}")
        for where, why in state.left_out:
            click.echo(f"  left out {where}: {why}")
    if state.failed or state.left_out:
        sys.exit(1)
