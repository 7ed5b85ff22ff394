"""What workers do in test_pool.py: importable by name in a spawned process."""

from __future__ import annotations

import os
import signal

from defocus_ds.errors import StageFailed
from defocus_ds.pipeline.scene import StageTask


def misbehave(task: StageTask) -> float:
    """Fail, die or succeed, as the scene's name says."""
    if task.bracket.scene.startswith("dies") and task.stage == "develop":
        os.kill(os.getpid(), signal.SIGKILL)
    if task.bracket.scene.startswith("fails") and task.stage == "develop":
        raise StageFailed(f"{task.bracket.scene}: on purpose")
    return 1.0
