"""``defocus-ds train fit``: train a network from a recipe, or go on with a run."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defocus_ds_cli.options import echo_json, existing_path, json_option

if TYPE_CHECKING:
    from defocus_ds_train.data.source import TrainingData
    from defocus_ds_train.recipe import Recipe
    from defocus_ds_train.records import EpochReport, FitResult, StepReport

__all__ = ["command"]


@click.command(
    "fit",
    short_help="Train a network from a recipe, or go on with a run.",
    epilog="Example: defocus-ds train fit real-l1 --data dataset && "
    "defocus-ds train fit real-q --data dataset --from runs/real-l1",
)
@click.argument("recipe")
@click.option(
    "--data",
    type=existing_path,
    required=True,
    metavar="DIR",
    help="Dataset, release or import with crops; for the synthetic recipes a folder of sharp "
    "images.",
)
@click.option(
    "-o",
    "--output",
    "run",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="Folder of the run: a new one, or one to go on with [default: runs/RECIPE].",
)
@click.option(
    "--from",
    "start",
    type=existing_path,
    metavar="RUN",
    help="Start from the best weights of this run, or from a weights file.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one value of the recipe, e.g. --set epochs=10. Repeatable.",
)
@click.option("--seed", type=int, metavar="N", help="The same as --set seed=N.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "mps", "cpu"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU if there is one.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where decoded crops are kept [default: crops in $DEFOCUS_DS_CACHE, else in "
    "~/.cache/defocus-ds].",
)
@click.option("--tensorboard", is_flag=True, help="Also write RUN/tensorboard.")
@json_option
def command(
    recipe: str,
    data: Path,
    run: Path | None,
    start: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    device: str,
    cache: Path | None,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train from RECIPE: a published one, smoke, or a .toml file.

    One for each row of the paper: synthetic-l1, synthetic-q-0.001, synthetic-q-0.01,
    synthetic-q-0.05, synthetic-q-0.1, real-l1, real-q.  For minutes on a CPU: smoke, toy-l1, toy-q.
    The q recipes start from the best weights of an l1 run (--from).  Stopped with Ctrl-C or killed,
    the same command goes on where it was.  On several GPUs: torchrun --nproc-per-node 4 -m
    defocus_ds_cli train fit ...

    Exits with 1 when the loss is no longer finite, 130 when it was stopped.
    """
    from defocus_ds.errors import InputError
    from defocus_ds.wording import INSTALL_TRAIN
    from defocus_ds_train.recipe import load_recipe

    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        raise InputError(f"train fit needs torch: {INSTALL_TRAIN}")
    if seed is not None:
        settings = (*settings, f"seed={seed}")
    chosen = load_recipe(recipe, settings)
    result = _fit(
        chosen, data, run or Path("runs") / chosen.name, start, device, cache, tensorboard
    )
    if result is None:
        return
    if as_json:
        echo_json({**asdict(result), "run": str(result.run)})
    elif result.best is not None:
        click.echo(_summary(result))
    if not result.finished:
        click.get_current_context().exit(130)


def _fit(
    recipe: Recipe,
    data: Path,
    run: Path,
    start: Path | None,
    device: str,
    cache: Path | None,
    tensorboard: bool,
) -> FitResult | None:
    """Train with progress on stderr; None in all processes but torchrun's first."""
    from defocus_ds_cli.fit_display import FitDisplay
    from defocus_ds_cli.progress import Progress
    from defocus_ds_train.begin import check_start, resume_notes, start_notes
    from defocus_ds_train.checkpoint import RunFolder
    from defocus_ds_train.data.source import open_training_data
    from defocus_ds_train.device import choose_device
    from defocus_ds_train.loop import fit
    from defocus_ds_train.processes import torchrun_rank

    # what can be refused at once comes before crops are decoded
    choose_device(device)
    if not RunFolder(run).resume.is_file():
        check_start(recipe, start)
    leads = torchrun_rank() == 0
    with Progress("decode") as progress:
        opened = open_training_data(
            recipe, data, cache=cache, progress=_thinned(progress) if leads else None
        )
    with FitDisplay(recipe.epochs, shown=leads) as display:
        display.say(_heading(recipe, opened, run))
        begun = RunFolder(run).started
        more = resume_notes(RunFolder(run)) if begun else start_notes(recipe, opened, start)
        for note in (*opened.notes, *more):
            display.say(note)
        reports = 0

        def watch(report: StepReport | EpochReport) -> None:
            nonlocal reports
            reports += 1
            display.show(report)

        result = fit(
            recipe,
            opened,
            run,
            start=start,
            device=device,
            tensorboard=tensorboard,
            watch=watch,
        )
        if leads and result.finished and reports == 0:
            display.say(
                "This run was finished already, and nothing is left to do. For another one give "
                "another folder with -o."
            )
        if not result.finished:
            display.say(
                f"Stopped and saved after step {result.steps}. The same command goes on: {run}"
            )
    return result if leads else None


def _heading(recipe: Recipe, data: TrainingData, run: Path) -> str:
    steps = len(data.train) // recipe.batch
    return (
        f"{recipe.name} {recipe.digest()} in {run}: {len(data.train)} crops, {recipe.epochs} "
        f"epochs of {steps} steps, batch {recipe.batch}; data {data.digest[:16]}"
    )


def _thinned(progress: Any) -> Any:
    """Every 32nd call: a crop takes less time than showing it."""

    def call(done: int, total: int, label: str) -> None:
        if done % 32 == 0 or done == total:
            progress(done, total, label)

    return call


def _summary(result: FitResult) -> str:
    best = result.best
    assert best is not None
    gain = best.psnr - best.input_psnr
    return (
        f"{result.run}: best of {result.epochs} epochs is {result.best_epoch}: validation PSNR "
        f"{best.psnr:.3f} dB, blurred input {best.input_psnr:.3f} dB ({gain:+.3f}), training Q "
        f"{best.q:.4g}, loss {best.loss:.5g}; {result.device}, {result.precision}"
    )
