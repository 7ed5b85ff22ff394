"""Where the work runs when it is not this machine: the workers of a Dask cluster.

Stages are placed here, not by Dask: one at a time on each worker, and the next stage of a begun
scene before the first of a new one.  Dask carries a stage to its worker, tells how it ended, and
tells which workers there are.
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from defocus_ds.errors import ClusterFailed, InputError, NotWritten, StageFailed
from defocus_ds.pipeline.cluster_worker import Refused, Terms, claimed, do_stage, software
from defocus_ds.pipeline.plan import ScenePlan
from defocus_ds.pipeline.pool import StageEvent, death_notice, failed_event, one_thread
from defocus_ds.pipeline.scene import run_stage
from defocus_ds.pipeline.task import StageTask

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["check_scheduler", "run_plans_on_cluster"]

_CONNECT_TIMEOUT_S = 15.0
_LOOK_S = 1.0  # how often workers are counted while no stage ends
_MAX_LOSSES = 3
_LOCAL = "local:"


def check_scheduler(scheduler: str) -> None:
    """Refuse what `run_plans_on_cluster` could not reach, before any work.

    Raises:
        InputError: as there.
    """
    if _local_workers(scheduler) is None:
        with _connected(scheduler):
            pass


def run_plans_on_cluster(
    plans: Iterable[ScenePlan],
    make_task: Callable[[str, str], StageTask],
    *,
    scheduler: str,
    on_event: Callable[[StageEvent], None],
    on_notice: Callable[[str], None] | None = None,
    work: Callable[[StageTask], object] = run_stage,
) -> None:
    """Run every stage to do as `run_plans` does, on workers that may join, leave and die.

    A worker is refused when its software differs from that of this process, when it would use
    several threads, or when it does not see the dataset or the captures under the same paths.  A
    stage whose worker is lost is tried again; the third loss fails its scene.

    Args:
        plans: in the order in which scenes should start.
        make_task: (scene, stage) -> the task.
        scheduler: ``tcp://host:8786``, the path of a scheduler file, or ``local:N``: N workers on
            this machine that last as long as the call.
        on_event: called in this process as each stage ends.  After a failed stage the
            scene's later stages are not run.
        on_notice: called with a line when a worker is refused or lost, or when none is there.
        work: what a worker does with a task; default: the stage itself.

    Raises:
        InputError: the extra ``cluster`` is not installed, or the scheduler cannot be reached.
        ClusterFailed: the scheduler is gone, or it has workers and all are refused.
    """
    waiting = [[(plan.scene, stage) for stage in plan.todo] for plan in plans if plan.todo]
    waiting.reverse()  # a stack: the scene on top is served first
    if not waiting:
        return
    dataset = make_task(*waiting[-1][0]).dataset
    losses: Counter[tuple[str, str]] = Counter()
    with _connected(scheduler) as client, claimed(dataset) as claim:
        crew = _Crew(client, Terms(claim, software()), work, on_notice or _ignore)
        try:
            while waiting or crew.jobs:
                for worker in crew.idle():
                    if waiting:
                        steps = waiting.pop()
                        task = replace(make_task(*steps[0]), again=losses[steps[0]] > 0)
                        crew.give(worker, task, steps)
                for job, error in crew.ended():
                    step = job.steps[0]
                    losses[step] += isinstance(error, _Lost)
                    if isinstance(error, Refused) or (
                        isinstance(error, _Lost) and losses[step] < _MAX_LOSSES
                    ):
                        waiting.append(job.steps)
                    elif isinstance(error, _Lost):
                        notice = death_notice(make_task(*step))
                        on_event(StageEvent(*step, 0.0, notice))
                    elif error is not None:
                        on_event(failed_event(step, error))
                    else:
                        on_event(StageEvent(*step, round(time.monotonic() - job.started, 3)))
                        if len(job.steps) > 1:
                            waiting.append(job.steps[1:])
        finally:
            crew.dismiss()


class _Lost(Exception):
    """The worker died or left before the stage ended."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One stage at work; ``steps`` are it and the later stages of its scene."""

    worker: str
    steps: list[tuple[str, str]]
    future: Future[None]
    started: float


class _Crew:
    """The workers of one build: who is there, who is refused, who does what."""

    def __init__(
        self,
        client: Client,
        terms: Terms,
        work: Callable[[StageTask], object],
        on_notice: Callable[[str], None],
    ) -> None:
        self.jobs: dict[str, _Job] = {}
        self._client, self._terms, self._work, self._notice = client, terms, work, on_notice
        self._there: set[str] = set()
        self._refused: dict[str, str] = {}
        self._keys: queue.SimpleQueue[str] = queue.SimpleQueue()  # of jobs that ended
        self._alone = False

    def idle(self) -> list[str]:
        """Workers that can be given a stage, of those that are there now."""
        self._there = self._count()
        fit = self._there - set(self._refused)
        if self._there and not fit and not self.jobs:
            worker, reason = next((w, r) for w, r in self._refused.items() if w in self._there)
            raise ClusterFailed(f"no worker can be used: {worker}: {reason}")
        if self._alone != (alone := not fit):
            self._alone = alone
            if alone:
                self._notice("No worker is there; waiting for one to join. Ctrl-C stops.")
        return sorted(fit - {job.worker for job in self.jobs.values()})

    def give(self, worker: str, task: StageTask, steps: list[tuple[str, str]]) -> None:
        """Start a stage on a worker."""
        key = f"{steps[0][0]}-{steps[0][1]}-{uuid.uuid4().hex}"
        future = self._client.submit(
            do_stage, self._work, task, self._terms, key=key, workers=[worker], pure=False
        )
        self.jobs[key] = _Job(worker, steps, future, time.monotonic())
        future.add_done_callback(lambda done: self._keys.put(done.key))

    def ended(self) -> list[tuple[_Job, BaseException | None]]:
        """Wait a little for stages to end; those that did, and how."""
        lost = [key for key, job in self.jobs.items() if job.worker not in self._there]
        keys = set(lost)
        with suppress(queue.Empty):
            keys.add(self._keys.get(timeout=0 if lost else _LOOK_S))
            while True:
                keys.add(self._keys.get_nowait())
        found = []
        for key in sorted(keys & set(self.jobs)):
            job = self.jobs.pop(key)
            error = _error_of(job.future)
            if isinstance(error, Refused):
                self._refused[job.worker] = str(error)
                self._notice(f"Worker {job.worker} is refused: {error}")
            elif isinstance(error, _Lost):
                self._notice(f"Worker {job.worker} was lost at {job.steps[0][0]}.")
                job.future.cancel()
            found.append((job, error))
        return found

    def dismiss(self) -> None:
        """Take back what has not begun; a stage that has is finished by its worker."""
        if self.jobs:
            with suppress(Exception):  # the scheduler may be what failed
                self._client.cancel([job.future for job in self.jobs.values()])

    def _count(self) -> set[str]:
        gone = "the scheduler is gone. Start it again; the same build goes on where it stopped."
        if self._client.status != "running":
            raise ClusterFailed(gone)
        try:
            return set(self._client.nthreads())
        except (OSError, TimeoutError) as error:
            raise ClusterFailed(gone) from error


def _error_of(future: Future[None]) -> BaseException | None:
    from distributed import KilledWorker

    if future.status == "finished":
        return None
    if future.status != "error":
        return _Lost()
    error: BaseException = future.exception()
    if isinstance(error, KilledWorker):
        return _Lost()
    if isinstance(error, StageFailed | NotWritten | Refused):
        return error
    # a stage raises nothing else: it could not be carried there, or not be begun
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return Refused(f"{text}. Scheduler and workers need the environment of the build.")


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        from distributed import Client, LocalCluster
        from distributed.versions import VersionMismatchWarning
    except ImportError as error:
        raise InputError(
            "Dask is not installed: in your copy of defocus-ds, "
            "pip install -c constraints.txt -e '.[cluster]'"
        ) from error
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        workers = _local_workers(scheduler)
        if workers is not None:
            stack.enter_context(one_thread())
            with _ctrl_c_ignored():
                local = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=None,  # a stage has its own
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            address = stack.enter_context(local)
        else:
            address = _address(scheduler)
        with warnings.catch_warnings():
            # versions are compared by every worker, worker by worker
            warnings.simplefilter("ignore", VersionMismatchWarning)
            try:
                client = Client(address, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(
                    f"--scheduler {scheduler}: not reached within {_CONNECT_TIMEOUT_S:g} s "
                    f"({error}). Is it running, and is its port open?"
                ) from error
        yield stack.enter_context(client)


@contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong with a scheduler is said once, by this program; Dask prints its stack."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes begun here go on ignoring it: their cluster ends them, without a trace of each."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _local_workers(scheduler: str) -> int | None:
    """N of ``local:N``; None for anything else."""
    if not scheduler.startswith(_LOCAL):
        return None
    number = scheduler.removeprefix(_LOCAL)
    if not number.isascii() or not number.isdigit() or not int(number):
        raise InputError(f"--cluster {scheduler}: write local:N, N being 1 or more.")
    return int(number)


def _address(scheduler: str) -> str:
    """The address itself, or the one in a scheduler file."""
    path = Path(scheduler)
    if "://" in scheduler or not (path.suffix == ".json" or path.exists()):
        return scheduler
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--scheduler {scheduler}: no scheduler file ({type(error).__name__}: {error}). "
            "Make one with: dask scheduler --scheduler-file FILE.json"
        ) from error


def _ignore(_line: str) -> None:
    """Nobody listens to notices."""
