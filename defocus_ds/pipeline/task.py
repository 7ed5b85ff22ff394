"""A stage of a scene as a task: what it needs, what it depends on, whether it is signed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from defocus_ds.config import BuildConfig
from defocus_ds.errors import StageFailed
from defocus_ds.frames import Bracket
from defocus_ds.pipeline.plan import (
    STAGES,
    chain_digest,
    current_versions,
    file_stamps,
    outputs_hold,
    stage_config_digest,
)
from defocus_ds.store import Receipt, read_receipt

__all__ = ["StageTask", "clear", "inputs_of", "receipt_of", "signed"]


@dataclass(frozen=True, slots=True)
class StageTask:
    """Everything a worker needs to do one stage of one scene.

    ``claim`` is there as long as the build that gave the task; None does not ask.  ``again`` says
    that a worker died at it, perhaps after it had signed.
    """

    dataset: Path
    shoot: Path
    bracket: Bracket
    config: BuildConfig
    stage: str
    claim: Path | None = None
    again: bool = False

    @property
    def scene(self) -> str:
        """Its name."""
        return self.bracket.scene


def inputs_of(task: StageTask) -> dict[str, str]:
    """What the stage's receipt will name as its inputs: the captures, or the stage before."""
    stages = STAGES[task.config.preset]
    index = stages.index(task.stage)
    if index == 0:
        return file_stamps(task.bracket, task.shoot)
    return {"previous": chain_digest(receipt_of(task, stages[index - 1]))}


def receipt_of(task: StageTask, stage: str) -> Receipt:
    """The receipt of an earlier stage of the scene.

    Raises:
        StageFailed: it is missing or damaged.
    """
    receipt = read_receipt(task.dataset, task.scene, stage)
    if receipt is None:
        raise StageFailed(
            f"{task.scene}: {task.stage} needs the receipt of {stage}, which is missing or "
            "damaged. Run the same build again."
        )
    return receipt


def signed(task: StageTask) -> Receipt | None:
    """The receipt of the stage, if it is of this task and its files are there."""
    receipt = read_receipt(task.dataset, task.scene, task.stage)
    if (
        receipt is None
        or receipt.config_digest != stage_config_digest(task.config, task.stage)
        or receipt.versions != current_versions(task.stage)
        or receipt.inputs != inputs_of(task)
        or not outputs_hold(receipt, task.dataset)
    ):
        return None
    clear(task)
    return receipt


def clear(task: StageTask) -> None:
    """What stages left for each other goes with the last of them."""
    if task.stage == STAGES[task.config.preset][-1]:
        shutil.rmtree(task.dataset / "work" / task.scene, ignore_errors=True)
