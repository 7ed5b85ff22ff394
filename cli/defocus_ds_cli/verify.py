"""``defocus-ds verify``: is this dataset what it says it is?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option

if TYPE_CHECKING:
    from defocus_ds.dataset.findings import VerifyReport
    from defocus_ds.dataset.repair import RepairReport

__all__ = ["command"]


@click.command(
    "verify",
    epilog="Example: defocus-ds verify dataset; defocus-ds verify release --repair "
    "--images dataset",
)
@click.argument("path", type=existing_path)
@click.option(
    "--repair",
    is_flag=True,
    help="Cut the shards that fail again, from the manifest and the images; then check again.",
)
@click.option(
    "--images",
    type=existing_path,
    metavar="DATASET",
    help="With --repair: the built dataset that has the images [default: PATH].",
)
@json_option
def command(path: Path, repair: bool, images: Path | None, as_json: bool) -> None:
    """Check checksums, schemas, counts, splits, and every crop against its images.

    PATH is a built dataset, a release, an import or a folder of crops; of an export the checksums
    are compared.  Each finding says file, expected, found and repair.  Exits with 1 when there
    are findings, with --repair when some are left.
    """
    from defocus_ds.dataset.repair import RepairReport, repair_shards
    from defocus_ds.dataset.verify import verify
    from defocus_ds.errors import DefocusError
    from defocus_ds_cli.progress import Progress

    if images is not None and not repair:
        raise click.UsageError("--images says where --repair finds the images; give both.")
    with Progress("verify") as progress:
        report = verify(path, progress=progress)
    done = RepairReport((), {}) if repair else None
    if repair and not report.clean:
        try:
            with Progress("repair") as progress:
                done = repair_shards(report, images=images, progress=progress)
        except (DefocusError, OSError):
            _show(path, report, done, as_json=as_json)
            raise
        for name in done.repaired:
            click.echo(f"{name}: cut again, the same bytes", err=as_json)
        for name, why in done.failed.items():
            click.echo(f"{name}: not repaired: {why}", err=as_json)
        with Progress("verify") as progress:
            report = verify(path, progress=progress)
    _show(path, report, done, as_json=as_json)
    if not report.clean:
        raise click.exceptions.Exit(1)


def _show(path: Path, report: VerifyReport, done: RepairReport | None, *, as_json: bool) -> None:
    """The findings on stdout; as JSON with what was repaired, if that was asked for."""
    if as_json:
        record = {**dataclasses.asdict(report), "root": str(report.root), "clean": report.clean}
        echo_json(record | ({} if done is None else dataclasses.asdict(done)))
        return
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
