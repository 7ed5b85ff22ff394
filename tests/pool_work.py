"""What workers do in test_pool.py: importable by name in a spawned process."""

from __future__ import annotations

import os
import signal
from unittest.mock import patch

import numpy as np

from defocus_ds.errors import StageFailed
from defocus_ds.pipeline import scene
from defocus_ds.pipeline.task import StageTask


def misbehave(task: StageTask) -> float:
    """Fail, die or succeed, as the scene's name says."""
    if task.bracket.scene.startswith("dies") and task.stage == "develop":
        os.kill(os.getpid(), signal.SIGKILL)
    if task.bracket.scene.startswith("fails") and task.stage == "develop":
        raise StageFailed(f"{task.bracket.scene}: on purpose")
    return 1.0


def allocate(task: StageTask) -> float:
    """A stage like any other that asks for as many MB as the scene's name says, and no more."""
    wanted_mb = int(task.bracket.scene)

    def fill(_task: StageTask) -> scene._Done:
        blocks = [np.ones(2**20, np.uint8) for _ in range(wanted_mb)]
        return scene._Done({"mb": len(blocks)})

    with patch.dict(scene._STAGE_FUNCTIONS, {task.stage: fill}):
        return scene.run_stage(task).seconds
