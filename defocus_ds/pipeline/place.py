"""Where a build works: processes of this machine, or a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from defocus_ds.config import LimitsConfig
from defocus_ds.frames import Bracket
from defocus_ds.pipeline.cluster import check_scheduler, run_plans_on_cluster
from defocus_ds.pipeline.machine import free_cores, free_memory_mb
from defocus_ds.pipeline.pool import auto_jobs, run_plans

__all__ = ["choose_place", "lack_of_room"]

_PNG_BYTES = 1.3  # a pixel of a photograph; in full-size scenes of a 5D Mark III 1.24


def choose_place(
    limits: LimitsConfig,
    *,
    jobs: int | None,
    scheduler: str | None,
    on_notice: Callable[[str], None] | None,
) -> Callable[..., None]:
    """What runs plans: called with plans, ``make_task`` and ``on_event``, as `run_plans`.

    Args:
        limits: of a stage; they decide how many workers fit when ``jobs`` is None.
        jobs: worker processes of this machine.
        scheduler: a cluster instead, as for `run_plans_on_cluster`.
        on_notice: called with a line when a cluster's worker is refused or lost, or when memory
            allows fewer workers than there are cores.

    Raises:
        InputError: the scheduler cannot be reached.
    """
    if scheduler is None:
        if jobs is None and (jobs := auto_jobs(limits)) < (cores := free_cores()) and on_notice:
            on_notice(
                f"{jobs} of {cores} cores used: {free_memory_mb()} MB are free, and a worker may "
                f"need {limits.stage_memory_mb} (limits.stage_memory_mb). --jobs N decides "
                "otherwise."
            )
        return partial(run_plans, jobs=jobs or 1)
    check_scheduler(scheduler)
    return partial(run_plans_on_cluster, scheduler=scheduler, on_notice=on_notice)


def lack_of_room(dataset: Path, brackets: Iterable[Bracket]) -> str:
    """What to say where the images of these scenes will not fit on the dataset's disk; or nothing.

    Scenes at work take their developed captures beside that, three bytes a pixel, until rendered.
    """
    infos = [capture.info for bracket in brackets for capture in bracket]
    needed = sum(info.width * info.height for info in infos) * _PNG_BYTES
    free = shutil.disk_usage(dataset).free
    if needed <= free:
        return ""
    return (
        f"the images to build take about {_size(needed)}, and {_size(free)} are free in {dataset}: "
        "the build may stop on the way. The same command goes on when there is room."
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
