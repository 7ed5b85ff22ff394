"""Where a build works: processes of this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from defocus_ds.config import LimitsConfig
from defocus_ds.pipeline.cluster import check_scheduler, run_plans_on_cluster
from defocus_ds.pipeline.pool import auto_jobs, run_plans

__all__ = ["choose_place"]


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
        on_notice: called with a line when a cluster's worker is refused or lost.

    Raises:
        InputError: the scheduler cannot be reached.
    """
    if scheduler is None:
        return partial(run_plans, jobs=jobs or auto_jobs(limits))
    check_scheduler(scheduler)
    return partial(run_plans_on_cluster, scheduler=scheduler, on_notice=on_notice)
