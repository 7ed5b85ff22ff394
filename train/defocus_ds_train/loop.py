"""The training loop, top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from defocus_ds.dataset.folders import BusyError, only_writer
from defocus_ds.errors import InputError
from defocus_ds_train.begin import begin, first_model, running_precision
from defocus_ds_train.checkpoint import RunFolder, save_model
from defocus_ds_train.data.batches import Batches
from defocus_ds_train.data.source import TrainingData
from defocus_ds_train.device import autocast, choose_compile
from defocus_ds_train.evaluate import evaluate
from defocus_ds_train.failures import Diverged, explained_failures, interruptions
from defocus_ds_train.losses import l1_q_loss
from defocus_ds_train.processes import Group, process_group
from defocus_ds_train.recipe import Recipe
from defocus_ds_train.records import (
    EpochReport,
    FitResult,
    Reports,
    StepReport,
    Watch,
    psnr,
)
from defocus_ds_train.schedule import learning_rate
from defocus_ds_train.state import Clock, TrainingState
from defocus_ds_train.unet import UNet

__all__ = ["fit"]

# of the recipe, in the record of its weights: what a second stage must know of its first
_RECORDED = ("source", "level", "blur", "blur_px", "beta", "seed", "held_out")


def fit(
    recipe: Recipe,
    data: TrainingData,
    run: Path,
    *,
    start: Path | None = None,
    device: str = "auto",
    resident: bool | None = None,
    tensorboard: bool = False,
    watch: Watch | None = None,
) -> FitResult:
    """Train, or go on where the run in this folder stopped.

    Under torchrun every process calls this with the same arguments.  Ctrl-C ends it after the
    step in flight, with everything saved; calling it again goes on as if nothing had happened,
    to the bit on a CPU with the same threads and versions.

    Args:
        recipe: what to do.
        data: from `open_training_data` with the same recipe.
        run: folder of the run; made if it is absent.
        start: where the first weights come from, for a recipe that starts from "best".
        device: "auto", "cuda", "mps" or "cpu".
        resident: keep the crops in device memory; None decides by what is free.
        tensorboard: also write the reports to ``run/tensorboard``.
        watch: called with every report, in the first process only.

    Returns:
        How the run stands.

    Raises:
        InputError: recipe, data or weights are not those that the run was begun with, or the
            device cannot do what is asked.
        OutOfMemory: a batch does not fit.
        Diverged: loss or weights are not finite; the last good state is kept.
    """
    folder = RunFolder(run)
    with (
        process_group(device) as group,
        _owned(folder, group),
        explained_failures(recipe, group.device),
        interruptions() as stop,
    ):
        place = group.device
        precision = running_precision(recipe, folder, place)
        saved = folder.load_state() if folder.started else None
        # a run that goes on has weights of its own
        model = first_model(recipe, start) if saved is None else UNet(recipe.filters)
        if group.leads:
            begin(recipe, data, folder, model=model, precision=precision, device=place, start=start)

        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model.to(place)
        model.to(memory_format=layout)  # type: ignore[call-overload]
        trained = group.wrap(model)
        objective = _objective(trained, recipe, group)
        optimiser = torch.optim.Adam(
            model.parameters(), lr=recipe.first_rate, fused=place.type == "cuda"
        )
        scaler = torch.amp.GradScaler(place.type, enabled=precision == "fp16")
        batches = Batches(
            data.train,
            device=place,
            batch=recipe.batch,
            seed=recipe.seed,
            augment=recipe.augment,
            accumulate=recipe.accumulate,
            rank=group.rank,
            world=group.world,
            resident=resident,
        )
        per_epoch = batches.steps_per_epoch
        at = TrainingState(model, optimiser, scaler, steps_per_epoch=per_epoch, device=place)
        if saved is not None:
            at.restore(saved)
        elif group.leads:
            folder.save_state(at.as_dict())
        reports = Reports(
            folder.path,
            after_step=at.steps_done,
            after_epoch=at.epoch,
            writes=group.leads,
            tensorboard=tensorboard,
            watch=watch,
        )
        clock = Clock(at.steps_done, recipe.epochs * per_epoch)
        # CUDA graphs reuse the memory of the gradients that they return: parts must add to others
        keep_gradients = recipe.accumulate > 1
        if keep_gradients:
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)

        while at.epoch < recipe.epochs:
            trained.train()
            pairs = batches.epoch(at.epoch, first_step=at.step)
            while at.step < per_epoch:
                rate = learning_rate(recipe, at.steps_done, steps_per_epoch=per_epoch)
                for settings in optimiser.param_groups:
                    settings["lr"] = rate
                measured = torch.zeros(len(at.MEASURES), device=place)
                for part in range(recipe.accumulate):
                    pair = next(pairs)
                    final = part == recipe.accumulate - 1
                    with nullcontext() if final else group.without_sync(trained):
                        with autocast(place, precision):
                            measures = objective(pair.blurred, pair.sharp) / recipe.accumulate
                        torch.autograd.backward(scaler.scale(measures[0]))
                    measured += measures.detach()
                scaler.step(optimiser)
                scaler.update()
                optimiser.zero_grad(set_to_none=not keep_gradients)
                at.finish_step(measured)

                due = at.step == per_epoch or at.step % recipe.log_every == 0
                # several processes must agree on when to stop, so they ask only now and then
                together = group.world > 1
                stopping = due and group.any(stop.asked) if together else stop.asked
                if due or stopping or at.step % recipe.save_every == 0:
                    means = _finite_means(at, group, folder, rate)
                    saving = stopping or not due or at.step % recipe.save_every == 0
                    # the loss was finite before the step, which says nothing of what the step did
                    if saving and not at.finite:
                        raise Diverged(_diverged(folder, at.steps_done, rate, "a weight"))
                    if due:
                        reports.add(_step_report(at, means, rate, clock, recipe.batch))
                        at.clear_window()
                    if saving and group.leads:
                        folder.save_state(at.as_dict())
                    if stopping:
                        return at.result(folder.path, place, precision, finished=False)

            scores = evaluate(
                model,
                data.validation,
                beta=recipe.beta,
                batch=recipe.batch,
                precision=precision,
                group=group,
            )
            if not (math.isfinite(scores.loss) and at.finite):
                raise Diverged(_diverged(folder, at.steps_done, rate, "the validation loss"))
            best = at.finish_epoch(scores)
            report = EpochReport(at.epoch, recipe.epochs, at.steps_done, scores, best)
            if group.leads:
                record = _weights_record(recipe, data, report, folder, precision)
                if best:
                    save_model(folder.best, model, record)
                save_model(folder.last, model, record)
                reports.add(report)
                folder.save_state(at.as_dict())
            clock.restart_lap()
            if group.any(stop.asked) and at.epoch < recipe.epochs:
                return at.result(folder.path, place, precision, finished=False)
        return at.result(folder.path, place, precision, finished=True)


def _objective(
    model: nn.Module, recipe: Recipe, group: Group
) -> Callable[[Tensor, Tensor], Tensor]:
    """Blurred and sharp batch -> (loss, l1, q, mean squared error), compiled if asked."""

    def objective(blurred: Tensor, sharp: Tensor) -> Tensor:
        restored = model(blurred)
        terms = l1_q_loss(restored, sharp, beta=recipe.beta)
        error = functional.mse_loss(restored.detach().float(), sharp)
        return torch.stack([terms.total, terms.l1, terms.q, error])

    mode = choose_compile(recipe.compile, group.device, processes=group.world)
    if mode == "off":
        return objective
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(
        objective, mode=None if mode == "default" else mode
    )
    return compiled


def _finite_means(at: TrainingState, group: Group, folder: RunFolder, rate: float) -> list[float]:
    """Means of the window's measures over its steps and the processes.

    Raises:
        Diverged: a step's loss is not finite.
    """
    window = group.mean(at.window).cpu().double()  # MPS has no float64
    bad = (~window[:, 0].isfinite()).nonzero()
    if len(bad):
        step = at.steps_done - len(window) + int(bad[0]) + 1
        raise Diverged(_diverged(folder, step, rate, "the loss"))
    means: list[float] = window.mean(dim=0).tolist()
    return means


def _diverged(folder: RunFolder, step: int, rate: float, what: str) -> str:
    return (
        f"{folder.path}: {what} is not finite at step {step}, learning rate {rate:.3g}. The last "
        f"good state is kept in {folder.resume.name}. Start again in another folder with a lower "
        "--set first_rate=R, or with --set precision=fp32."
    )


def _step_report(
    at: TrainingState, means: list[float], rate: float, clock: Clock, batch: int
) -> StepReport:
    loss, l1, q, error = means
    steps_per_s, seconds_left = clock.lap(at.steps_done)
    return StepReport(
        epoch=at.epoch + 1,
        step=at.steps_done,
        steps=clock.total,
        learning_rate=rate,
        loss=loss,
        l1=l1,
        q=q,
        psnr=psnr(error),
        crops_per_s=steps_per_s * batch,
        seconds_left=seconds_left,
    )


def _weights_record(
    recipe: Recipe, data: TrainingData, report: EpochReport, folder: RunFolder, precision: str
) -> dict[str, object]:
    scores = report.scores
    return {
        "filters": list(recipe.filters),
        "recipe": recipe.name,
        "recipe_digest": recipe.digest(),
        "data_digest": data.digest,
        **{key: getattr(recipe, key) for key in _RECORDED},
        "validation_scenes": data.validation_scenes,
        "start_sha256": folder.info().get("start_sha256"),
        "precision": precision,
        "epoch": report.epoch,
        "val_loss": scores.loss,
        "val_psnr": scores.psnr,
        "val_input_psnr": scores.input_psnr,
    }


@contextmanager
def _owned(folder: RunFolder, group: Group) -> Iterator[None]:
    """Nobody else trains into the folder meanwhile."""
    if not group.leads:
        yield
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(only_writer(folder.path))
        except BusyError as error:
            raise InputError(
                f"{folder.path}: another `train fit` is at work in it. Wait for it, or give "
                "another folder with -o."
            ) from error
        yield
