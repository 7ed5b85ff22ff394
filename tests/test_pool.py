"""A worker may fail or die; the scenes beside it are built."""

from pathlib import Path

from pool_work import misbehave

from defocus_ds.config import BuildConfig
from defocus_ds.frames import Bracket
from defocus_ds.pipeline.plan import ScenePlan
from defocus_ds.pipeline.pool import StageEvent, auto_jobs, run_plans
from defocus_ds.pipeline.scene import StageTask

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


def test_one_scene_is_finished_before_the_next_begins() -> None:
    events = run(["a", "b", "c"], jobs=1)
    assert [e.scene for e in events] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def test_auto_jobs_is_usable() -> None:
    assert auto_jobs() >= 1
