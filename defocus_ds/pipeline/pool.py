"""Where the work runs: worker processes, depth first, one stage of one scene at a time."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from defocus_ds.config import LimitsConfig
from defocus_ds.errors import NotWritten, StageFailed, WorkerDied
from defocus_ds.memory import keep_freed_memory
from defocus_ds.pipeline.machine import free_cores, free_memory_mb
from defocus_ds.pipeline.plan import ScenePlan
from defocus_ds.pipeline.scene import run_stage
from defocus_ds.pipeline.task import StageTask

__all__ = [
    "StageEvent",
    "auto_jobs",
    "death_notice",
    "failed_event",
    "one_thread",
    "run_plans",
]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class StageEvent:
    """One stage of one scene ended.

    Attributes:
        scene, stage: which.
        seconds: that it took.
        error: why it failed; empty when it succeeded.
        lasting: whether the same files would fail again.
    """

    scene: str
    stage: str
    seconds: float
    error: str = ""
    lasting: bool = True


def auto_jobs(limits: LimitsConfig | None = None, *, root: Path = Path("/")) -> int:
    """Workers that fit this machine or container: one a core, each with its memory free now.

    Args:
        limits: whose ``stage_memory_mb`` a worker may need; default `LimitsConfig()`.
        root: where ``/proc`` and ``/sys/fs/cgroup`` are found.
    """
    cores, free_mb = free_cores(root=root), free_memory_mb(root=root)
    needed_mb = (limits or LimitsConfig()).stage_memory_mb
    return cores if free_mb is None else max(1, min(cores, free_mb // needed_mb))


def run_plans(
    plans: Iterable[ScenePlan],
    make_task: Callable[[str, str], StageTask],
    *,
    jobs: int,
    on_event: Callable[[StageEvent], None],
    work: Callable[[StageTask], float] | None = None,
) -> None:
    """Run every stage to do; a scene's next stage goes before a new scene's first.

    Args:
        plans: in the order in which scenes should start.
        make_task: (scene, stage) -> the task.
        jobs: worker processes, >= 1.
        on_event: called in this process as each stage ends.  After a failed stage the
            scene's later stages are not run.
        work: what a worker does with a task, returning seconds; default: the stage itself.
    """
    work = work or _seconds

    def make_again(scene: str, stage: str) -> StageTask:
        return replace(make_task(scene, stage), again=True)

    waiting = [[(plan.scene, stage) for stage in plan.todo] for plan in plans if plan.todo]
    waiting.reverse()  # a stack: the scene on top is served first
    alone: list[list[tuple[str, str]]] = []  # were running when a worker died
    while waiting or alone:
        if alone:
            steps = alone.pop()
            ended: list[StageEvent] = []
            if _drain([steps[:1]], make_again, 1, ended.append, work):  # it is the culprit
                ended = [StageEvent(*steps[0], 0.0, death_notice(make_task(*steps[0])))]
            on_event(ended[0])
            if not ended[0].error and len(steps) > 1:
                waiting.append(steps[1:])
        else:
            alone = _drain(waiting, make_task, jobs, on_event, work)


def failed_event(step: tuple[str, str], error: BaseException) -> StageEvent:
    """The event of a (scene, stage) that raised the error."""
    told = isinstance(error, StageFailed | NotWritten)
    text = str(error) if told else f"{step[0]}: {step[1]}: {error!r}"
    return StageEvent(*step, 0.0, text, lasting=not isinstance(error, NotWritten))


def death_notice(task: StageTask) -> str:
    """Why a scene failed whose worker process died; one line fit for a person."""
    error = WorkerDied(
        f"{task.bracket.scene}: {task.stage}: the worker process died without a word, most likely "
        f"killed for memory (its limit is {task.config.limits.stage_memory_mb} MB). Free memory, "
        "use fewer --jobs or --set limits.stage_memory_mb=N, then build again with --retry-failed."
    )
    return str(error)


def _drain(
    waiting: list[list[tuple[str, str]]],
    make_task: Callable[[str, str], StageTask],
    jobs: int,
    on_event: Callable[[StageEvent], None],
    work: Callable[[StageTask], float],
) -> list[list[tuple[str, str]]]:
    """Run until nothing waits or a worker dies; returns the scenes that were then running."""
    context = multiprocessing.get_context("spawn")
    with one_thread(), ProcessPoolExecutor(jobs, context, _start_worker) as pool:
        running: dict[Future[float], list[tuple[str, str]]] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                steps = waiting.pop()
                try:
                    future = pool.submit(work, make_task(*steps[0]))
                except BrokenProcessPool:  # a worker died while no stage of its ended
                    waiting.append(steps)
                    return list(running.values())
                running[future] = steps
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            # what ended beside a death has ended, and is not to be done again
            for future in sorted(finished, key=_is_death):
                steps = running[future]
                try:
                    seconds = future.result()
                except BrokenProcessPool:
                    return list(running.values())
                except Exception as error:  # whatever it is, it is this scene's alone
                    del running[future]
                    on_event(failed_event(steps[0], error))
                    continue
                del running[future]
                on_event(StageEvent(*steps[0], seconds))
                if len(steps) > 1:
                    waiting.append(steps[1:])
    return []


def _is_death(future: Future[float]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _seconds(task: StageTask) -> float:
    return run_stage(task).seconds


@contextmanager
def one_thread() -> Iterator[None]:
    """Workers inherit one thread a library: speed comes from processes, bytes from order."""
    saved = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    import cv2

    cv2.setNumThreads(1)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends workers without a traceback
    if sys.platform == "linux":  # a killed build must not leave workers writing behind it
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # the build died before it could be heard of
        os._exit(1)
