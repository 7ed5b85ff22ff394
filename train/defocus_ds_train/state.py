"""Where a run stands: everything that the next step depends on, to save and to restore."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from defocus_ds.errors import InputError
from defocus_ds_train.records import FitResult, Scores

__all__ = ["Clock", "TrainingState"]


class TrainingState:
    """Place in the run, best scores so far, and the parts that learn.

    Order, augmentation and learning rate follow from seed, epoch and step, so these two numbers
    stand for all of them.

    Args:
        model, optimiser, scaler: what a step changes.
        steps_per_epoch: of this run.
        device: where the measures of the steps are kept until they are read.

    Attributes:
        epoch: epochs finished.
        step: steps done in the epoch that comes next or is under way.
        window: (steps since the last report, `MEASURES`) float32 on the device.
    """

    MEASURES: ClassVar = ("loss", "l1", "q", "mean squared error")

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        steps_per_epoch: int,
        device: torch.device,
    ) -> None:
        self.model = model
        self.optimiser = optimiser
        self.scaler = scaler
        self.steps_per_epoch = steps_per_epoch
        self.device = device
        self.epoch = 0
        self.step = 0
        self.best_epoch = 0
        self.best: Scores | None = None
        self._measured: list[Tensor] = []

    @property
    def steps_done(self) -> int:
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def window(self) -> Tensor:
        if not self._measured:
            return torch.zeros(0, len(self.MEASURES), device=self.device)
        return torch.stack(self._measured)

    @property
    def finite(self) -> bool:
        """Whether every weight and statistic is; the device is read once."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return bool(torch.stack([t.detach().isfinite().all() for t in tensors]).all())

    def finish_step(self, measured: Tensor) -> None:
        """Count a step whose measures are these; they stay on the device."""
        self.step += 1
        self._measured.append(measured)

    def clear_window(self) -> None:
        self._measured = []

    def finish_epoch(self, scores: Scores) -> bool:
        """Count an epoch; whether no earlier one has a lower validation loss."""
        self.epoch += 1
        self.step = 0
        best = self.best is None or scores.loss < self.best.loss
        if best:
            self.best, self.best_epoch = scores, self.epoch
        return best

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors only."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "steps_per_epoch": self.steps_per_epoch,
            "epoch": self.epoch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best": None if self.best is None else asdict(self.best),
            "window": self.window.cpu(),
            "rng": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `as_dict` gave.

        Raises:
            InputError: of another network, or of data with another number of steps.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(_placed(state["optimiser"], self.optimiser))
            self._match_layout()
            if state["scaler"]:  # empty when the run was not in fp16 until now
                self.scaler.load_state_dict(state["scaler"])
            if state["steps_per_epoch"] != self.steps_per_epoch:
                raise ValueError(f"epochs of {state['steps_per_epoch']} steps")
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            self.best_epoch = int(state["best_epoch"])
            self.best = None if state["best"] is None else Scores(**state["best"])
            self._measured = list(state["window"].to(self.device))
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda" and "cuda_rng" in state:
                torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"the saved state does not fit this run ({text}); start again."
            ) from error

    def _match_layout(self) -> None:
        """Moments in the layout of their parameters, as a fused optimiser demands: the run may
        have been begun with another ``channels_last``."""
        for parameter, moments in self.optimiser.state.items():
            for name, value in moments.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter).copy_(value)

    def result(
        self, run: Path, device: torch.device, precision: str, *, finished: bool
    ) -> FitResult:
        return FitResult(
            run=run,
            device=device.type,
            precision=precision,
            epochs=self.epoch,
            steps=self.steps_done,
            best_epoch=self.best_epoch,
            best=self.best,
            finished=finished,
        )


def _placed(saved: dict[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's saved state, to be computed as this one is: fused or not is a matter of the
    device, and decides where torch puts the step counts."""
    groups = [
        {**old, "fused": new["fused"]}
        for old, new in zip(saved["param_groups"], optimiser.param_groups, strict=True)
    ]
    return {**saved, "param_groups": groups}


class Clock:
    """Speed since the last report, and time left at the mean speed of this session.

    Args:
        done: steps done when the session starts.
        total: steps of the whole run.
    """

    def __init__(self, done: int, total: int) -> None:
        self.total = total
        self._first = self._last = done
        self._began = self._lap = time.monotonic()

    def lap(self, done: int) -> tuple[float, float]:
        """(steps a second since the last lap, seconds left)."""
        now = time.monotonic()
        speed = (done - self._last) / max(now - self._lap, 1e-9)
        mean = (now - self._began) / max(done - self._first, 1)
        self._last, self._lap = done, now
        return speed, mean * (self.total - done)

    def restart_lap(self) -> None:
        """What happened since the last lap was not training."""
        self._lap = time.monotonic()
