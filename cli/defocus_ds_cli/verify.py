"""``defocus-ds verify``: is this dataset what it says it is?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]


@click.command("verify", epilog="Example: defocus-ds verify dataset")
@click.argument("path", type=existing_path)
@json_option
def command(path: Path, as_json: bool) -> None:
    """Check checksums, schemas, counts, splits, and every crop against its images.

    PATH is a built dataset or a folder of crops.  Each finding says file, expected,
    found and repair.  Exits with 1 when there are findings.
    """
    from defocus_ds.dataset.verify import verify
    from defocus_ds_cli.progress import Progress

    with Progress("verify") as progress:
        report = verify(path, progress=progress)
    if as_json:
        echo_json({**dataclasses.asdict(report), "root": str(report.root), "clean": report.clean})
    else:
        for finding in report.findings:
            click.echo(str(finding.file))
            click.echo(f"  expected  {finding.expected}")
            click.echo(f"  found     {finding.found}")
            click.echo(f"  repair    {finding.repair}")
        counts = ", ".join(
            counted(count, name.removesuffix("s")) for name, count in report.checked.items()
        )
        result = "clean" if report.clean else counted(len(report.findings), "finding")
        click.echo(f"{path}: {result} ({counts} checked)")
    if not report.clean:
        raise click.exceptions.Exit(1)
