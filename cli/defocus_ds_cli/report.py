"""``defocus-ds report``: the page on which a person accepts or rejects."""

from __future__ import annotations

from pathlib import Path

import click

from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]


@click.command("report", epilog="Example: defocus-ds report dataset --open")
@click.argument("dataset", type=existing_path)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@json_option
def command(dataset: Path, show: bool, as_json: bool) -> None:
    """Write DATASET/report/index.html: every pair, its figures, and where to look.

    On the page you accept or reject pairs and save review.csv, for `defocus-ds crop --review`.
    It needs no server and no network. Pictures of unchanged scenes are kept, so a second run is
    quick.
    """
    from defocus_ds.report import report
    from defocus_ds.store import read_json
    from defocus_ds_cli.progress import Progress

    with Progress("report") as progress:
        page = report(dataset, progress=progress)
    if as_json:
        pairs = read_json(dataset / "dataset.json").get("pairs", {})
        echo_json({"report": str(page), "pairs": pairs})
    else:
        click.echo(f"Report: {page}")
    if show:
        click.launch(str(page))
