"""``defocus-ds build``: a shoot becomes a dataset."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import (
    config_options,
    echo_json,
    existing_path,
    jobs_option,
    json_option,
)

if TYPE_CHECKING:
    from defocus_ds.config import BuildConfig
    from defocus_ds.frames import Pair
    from defocus_ds.pipeline import BuildReport, StageEvent
    from defocus_ds.pipeline.plan import ScenePlan
    from defocus_ds_cli.progress import StageProgress

__all__ = ["command", "print_report"]


@click.command(
    "build",
    epilog="Example: defocus-ds build shoot -o dataset --jobs 4. Stop it at any time; the same "
    "command goes on where it stopped. On a cluster: defocus-ds build shoot -o dataset "
    "--scheduler tcp://node1:8786",
)
@click.argument("shoot", type=existing_path)
@click.option(
    "-o",
    "--output",
    "dataset",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DATASET",
    help="Folder of the dataset: a new one, or one to go on with.",
)
@config_options
@jobs_option
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Work on a Dask cluster instead: tcp://host:8786, or the path of its scheduler file.",
)
@click.option(
    "--cluster", metavar="local:N", help="Work on a Dask cluster of N workers on this machine."
)
@click.option(
    "--skip",
    multiple=True,
    metavar="SCENE[/LEVEL]",
    help="Leave a scene or a pair out; it stays in the manifest with this reason. Repeatable.",
)
@click.option("--retry-failed", is_flag=True, help="Try scenes again that failed before.")
@click.option(
    "--replace",
    "replace_scenes",
    is_flag=True,
    help="Let go of scenes that the shoot has no more, or that were built with other options.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a pair was rejected, too.")
@json_option
def command(
    shoot: Path,
    dataset: Path,
    preset: str | None,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    jobs: int | None,
    scheduler: str | None,
    cluster: str | None,
    skip: tuple[str, ...],
    retry_failed: bool,
    replace_scenes: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Develop, align and colour-match every scene of a shoot.

    SHOOT is a folder of captures: four a scene, one sharp and three defocused. It is only read.
    Stages: ingest, develop, register, colour, render. A scene that fails is reported and the
    rest goes on; a pair that cannot be trusted is rejected with its reasons.  A dataset goes on
    with the options it was begun with.  Exits with 1 when a scene failed or was left out.
    """
    from defocus_ds.config import load_config
    from defocus_ds.pipeline import build

    if sum(option is not None for option in (jobs, scheduler, cluster)) > 1:
        raise click.UsageError("Give one of --jobs N, --scheduler and --cluster.")
    if cluster and not cluster.startswith("local:"):
        raise click.UsageError(f"--cluster {cluster}: write local:N; for others, --scheduler.")
    chosen = preset or config or settings or seed is not None
    display = _Display()
    try:
        report = build(
            shoot,
            dataset,
            config=load_config(preset, config, settings, seed) if chosen else None,
            jobs=jobs,
            scheduler=scheduler or cluster,
            skip=skip,
            retry_failed=retry_failed,
            replace_scenes=replace_scenes,
            on_scan=display.scan,
            on_plan=display.plan,
            on_event=display.event,
            on_notice=display.notice,
        )
    except KeyboardInterrupt:
        click.echo("Stopped. Finished stages are kept: the same command goes on.", err=True)
        raise
    finally:
        display.close()
    if as_json:
        echo_json(_as_dict(report))
    else:
        print_report(report)
    if not report.clean or (strict and _split_skipped(report)[0]):
        sys.exit(1)


class _Display:
    """The bars of a build: first those of the scan, then a bar per stage with work to do."""

    def __init__(self) -> None:
        self._progress: StageProgress | None = None

    def scan(self, what: str, done: int, total: int) -> None:
        from defocus_ds_cli.progress import StageProgress

        if self._progress is None:
            self._progress = StageProgress({"headers": None, "sharpness": None}).__enter__()
        self._progress.update(what, done, total)

    def plan(self, config: BuildConfig, plans: Sequence[ScenePlan]) -> None:
        from defocus_ds.pipeline import STAGES
        from defocus_ds_cli.progress import StageProgress

        self.close()
        stages = STAGES[config.preset]
        totals = {s: sum(s in plan.todo for plan in plans) for s in stages}
        resumed = sum(not plan.todo for plan in plans)
        if resumed:
            click.echo(f"Done already: {counted(resumed, 'scene')}.", err=True)
        changed = sorted({plan.why for plan in plans if "changed" in plan.why})
        for why in changed:
            click.echo(f"Redoing scenes: {why}.", err=True)
        if any(totals.values()):
            self._progress = StageProgress({s: n for s, n in totals.items() if n}).__enter__()

    def event(self, event: StageEvent) -> None:
        assert self._progress is not None
        if event.error:
            self._progress.say(f"FAILED {event.scene} {event.stage}: {event.error}")
        else:
            self._progress.advance(event.stage, f"{event.scene} {event.seconds:.1f} s")

    def notice(self, line: str) -> None:
        assert self._progress is not None
        self._progress.say(line)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None


def print_report(report: BuildReport) -> None:
    """A line for each thing that a person should know, and what to do next."""
    from defocus_ds.wording import command_line

    rejected, skipped = _split_skipped(report)
    left_out = [c for c in report.complaints if c.severity == "error"]
    for complaint in report.complaints:
        if complaint.severity != "error":
            click.echo(f"{complaint.severity}: {complaint}")
    click.echo(
        f"{counted(len(report.scenes), 'scene')}, {counted(len(report.kept), 'pair')} kept, "
        f"{len(rejected)} rejected, {counted(len(report.failed), 'scene')} failed, "
        f"{len(left_out) + len(skipped)} left out ({counted(report.stages_run, 'stage')} run)"
    )
    for complaint in left_out:
        click.echo(f"  left out {complaint}")
    for name in skipped:
        click.echo(f"  left out by --skip: {name}")
    for pair, reasons in rejected:
        click.echo(f"  rejected {pair}: {'; '.join(reasons)}")
    for scene, error in report.failed:
        click.echo(f"  failed   {scene}: {error}")
    click.echo(f"Dataset: {report.dataset}")
    if report.kept:
        level = min(report.kept, key=lambda pair: pair.level.offset).level
        click.echo(f"Next: {command_line('report', report.dataset)}, to look at every pair")
        click.echo(f"Then: {command_line('crop', report.dataset, '--level', level)}")


def _split_skipped(
    report: BuildReport,
) -> tuple[list[tuple[Pair, tuple[str, ...]]], list[str]]:
    """What the build rejected, with its reasons, and what --skip left out, in words."""
    rejected = [item for item in report.rejected if not item[1][0].startswith("skipped:")]
    skipped: dict[str, list[Pair]] = {}
    for pair, reasons in report.rejected:
        if reasons[0].startswith("skipped:"):
            skipped.setdefault(pair.scene, []).append(pair)
    built = {pair.scene for pair in report.kept} | {pair.scene for pair, _ in rejected}
    built |= {scene for scene, _ in report.failed}
    names: list[str] = []
    for scene, pairs in skipped.items():
        if scene in built:
            names += [str(pair) for pair in pairs]
        else:  # the sharp capture too
            names.append(f"{scene} ({len(pairs) + 1} captures)")
    return rejected, names


def _as_dict(report: BuildReport) -> dict[str, Any]:
    return {
        "dataset": str(report.dataset),
        "scenes": list(report.scenes),
        "kept": [str(pair) for pair in report.kept],
        "rejected": {str(pair): list(reasons) for pair, reasons in report.rejected},
        "failed": dict(report.failed),
        "complaints": [
            {"severity": c.severity, "where": c.where, "message": c.message}
            for c in report.complaints
        ],
        "stages_run": report.stages_run,
    }
