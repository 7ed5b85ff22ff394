"""A worker may fail or die; the scenes beside it are built."""

import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK
from pool_work import allocate, misbehave

from defocus_ds.config import BuildConfig, load_config
from defocus_ds.errors import is_for_memory
from defocus_ds.frames import Bracket
from defocus_ds.pipeline import pool
from defocus_ds.pipeline.plan import ScenePlan
from defocus_ds.pipeline.pool import StageEvent, auto_jobs, run_plans
from defocus_ds.pipeline.task import StageTask
from defocus_ds.pipeline.usage import limited_memory

STAGES = ("ingest", "develop", "render")


def run(scenes: list[str], jobs: int) -> list[StageEvent]:
    events: list[StageEvent] = []
    run_plans(
        [ScenePlan(scene, STAGES) for scene in scenes],
        lambda scene, stage: StageTask(Path(), Path(), Bracket(scene, ()), BuildConfig(), stage),
        jobs=jobs,
        on_event=events.append,
        work=misbehave,
    )
    return events


def cv2_matrix() -> object:
    return cv2.resize(np.zeros((10, 10, 3), np.float32), (30000, 30000))


def itk_image() -> object:
    return SimpleITK.Image(30000, 30000, SimpleITK.sitkFloat64)


def test_killed_worker_fails_its_scene_only() -> None:
    events = run(["a", "dies1", "b", "fails", "c"], jobs=2)
    errors = {e.scene: e.error for e in events if e.error}
    assert set(errors) == {"dies1", "fails"}
    assert "killed for memory" in errors["dies1"]
    assert errors["fails"] == "fails: on purpose"
    done = [(e.scene, e.stage) for e in events if not e.error]
    assert len(done) == len(set(done)), "a stage was done twice"
    for scene in "abc":
        assert [stage for s, stage in done if s == scene] == list(STAGES)


def test_after_a_death_only_the_stages_it_met_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drained: list[tuple[int, list[int]]] = []
    drain = pool._drain

    def note(waiting: Any, make_task: Any, jobs: int, on_event: Any, work: Any) -> Any:
        drained.append((jobs, [len(steps) for steps in waiting]))
        return drain(waiting, make_task, jobs, on_event, work)

    monkeypatch.setattr(pool, "_drain", note)
    events = run(["a", "dies1", "b", "c"], jobs=2)
    assert {e.scene for e in events if e.error} == {"dies1"}
    alone = [lengths for jobs, lengths in drained if jobs == 1]
    assert alone
    assert all(lengths == [1] for lengths in alone), "the rest of a scene is not alone any more"


def test_one_scene_is_finished_before_the_next_begins() -> None:
    events = run(["a", "b", "c"], jobs=1)
    assert [e.scene for e in events] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory so")
def test_a_stage_beyond_its_memory_fails_its_scene_only(tmp_path: Path) -> None:
    tight, usual = load_config(settings=["limits.stage_memory_mb=500"]), load_config()
    events: list[StageEvent] = []
    run_plans(
        [ScenePlan(scene, ("ingest",)) for scene in ("1", "800", "100", "0800")],
        lambda scene, stage: StageTask(
            tmp_path, tmp_path, Bracket(scene, ()), usual if scene == "0800" else tight, stage
        ),
        jobs=1,
        on_event=events.append,
        work=allocate,
    )
    assert [e.scene for e in events] == ["1", "800", "100", "0800"]
    assert [e.error for e in events if e.error] == [
        "800: ingest: needs more memory than its limit of 500 MB, or than is free. Raise it with "
        "--set limits.stage_memory_mb=N, or free memory and add --retry-failed."
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory so")
@pytest.mark.parametrize("ask", [cv2_matrix, itk_image], ids=["OpenCV", "ITK"])
def test_libraries_that_find_no_memory_are_understood(ask: Callable[[], object]) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(Exception) as caught, limited_memory(1000):
        ask()
    assert is_for_memory(caught.value), caught.value
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_auto_jobs_is_usable() -> None:
    assert auto_jobs() >= 1


def test_a_worker_that_dies_between_two_stages_stops_nothing(tmp_path: Path) -> None:
    """Killed while the build looks at an event, before it hands out the next stage."""
    events: list[StageEvent] = []
    usual = load_config()

    def kill_a_worker(event: StageEvent) -> None:
        events.append(event)
        if len(events) == 2:
            children = multiprocessing.active_children()
            assert children
            for child in children:
                child.kill()
                child.join()
            time.sleep(0.5)  # until the executor has noticed

    run_plans(
        [ScenePlan(scene, ("ingest", "develop")) for scene in ("1", "2", "3", "4")],
        lambda scene, stage: StageTask(tmp_path, tmp_path, Bracket(scene, ()), usual, stage),
        jobs=1,
        on_event=kill_a_worker,
        work=allocate,
    )
    assert [(e.scene, e.stage) for e in events if not e.error] == [
        (scene, stage) for scene in ("1", "2", "3", "4") for stage in ("ingest", "develop")
    ]


_ORPHAN = """
import multiprocessing, os, signal
from defocus_ds.pipeline import pool

def start():
    multiprocessing.parent_process().join()
    pool._start_worker()
    print("goes on", flush=True)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=start).start()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_worker_whose_build_died_before_it_started_ends(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(_ORPHAN)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "", "its output is open until it has ended"
