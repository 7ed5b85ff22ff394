"""A build on a Dask cluster: the bytes of a build here, whatever becomes of the workers."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from dask_processes import Processes
from pool_work import misbehave
from scenes import textured

import defocus_ds
from defocus_ds.config import BuildConfig, load_config
from defocus_ds.errors import ClusterFailed, InputError, StageFailed
from defocus_ds.frames import Bracket
from defocus_ds.optics import blur_disk, to_encoded
from defocus_ds.pipeline import STAGES, cluster
from defocus_ds.pipeline.cluster import check_scheduler, run_plans_on_cluster
from defocus_ds.pipeline.cluster_worker import Refused, Terms, do_stage, software
from defocus_ds.pipeline.plan import ScenePlan
from defocus_ds.pipeline.pool import StageEvent
from defocus_ds.pipeline.scene import run_stage
from defocus_ds.pipeline.task import StageTask
from defocus_ds.stages.ingest import survey
from defocus_ds.store import read_receipt, sha256_file
from defocus_ds_cli.main import cli

STEPS = ("ingest", "develop", "render")
QUICK = load_config(settings=["register.iterations=10"])


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    folder = tmp_path / "dask"
    folder.mkdir()
    started = Processes(folder)
    try:
        started.scheduler()
        yield started
    finally:
        started.stop()


@pytest.fixture
def shoot(tmp_path: Path) -> Path:
    """Two scenes of a sharp and a blurred picture, 320x256."""
    folder = tmp_path / "shoot"
    folder.mkdir()
    lines = ["file,scene,level,offset"]
    for number in range(2):
        scene = textured((320, 256), seed=number)
        for level, radius in (("sharp", 0), ("low", 2)):
            name = f"{number}_{level}.png"
            pixels = np.round(to_encoded(blur_disk(scene, radius)) * 255).astype(np.uint8)
            cv2.imwrite(str(folder / name), pixels[..., ::-1])
            lines.append(f"{name},scene{number},{level},{radius}")
    (folder / "shoot.csv").write_text("\n".join(lines) + "\n")
    return folder


def bytes_of(dataset: Path) -> dict[str, str]:
    """SHA-256 of every file but the receipts, which hold times."""
    return {
        path.relative_to(dataset).as_posix(): sha256_file(path)
        for path in sorted(dataset.rglob("*"))
        if path.is_file() and path.relative_to(dataset).parts[0] not in ("receipts", ".lock")
    }


def run(
    scenes: list[str],
    dataset: Path,
    scheduler: object,
    *,
    on_event: Callable[[StageEvent], None] | None = None,
) -> tuple[list[StageEvent], list[str]]:
    """Scenes that behave as their names say; the events and the notices."""
    events: list[StageEvent] = []
    notices: list[str] = []
    dataset.mkdir(exist_ok=True)

    def note(event: StageEvent) -> None:
        events.append(event)
        if on_event:
            on_event(event)

    run_plans_on_cluster(
        [ScenePlan(scene, STEPS) for scene in scenes],
        lambda scene, stage: StageTask(dataset, dataset, Bracket(scene, ()), BuildConfig(), stage),
        scheduler=str(scheduler),
        on_event=note,
        on_notice=notices.append,
        work=misbehave,
    )
    return events, notices


def test_a_build_with_a_killed_worker_has_the_bytes_of_one_here(
    shoot: Path, tmp_path: Path, processes: Processes
) -> None:
    here = defocus_ds.build(shoot, tmp_path / "here", config=QUICK, jobs=1)
    workers = [processes.worker(), processes.worker()]
    notices: list[str] = []

    def kill(event: StageEvent) -> None:
        """Both, so that one is killed at its stage; others join."""
        if event.stage != "ingest" and not any("was lost at scene" in line for line in notices):
            for worker in workers:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
            workers[:] = [processes.worker(), processes.worker()]

    there = defocus_ds.build(
        shoot,
        tmp_path / "there",
        config=QUICK,
        scheduler=str(processes.file),
        on_event=kill,
        on_notice=notices.append,
    )
    assert any("was lost at scene" in line for line in notices), notices
    assert here.clean, here
    assert there.clean, (there, processes.log())
    assert there.stages_run == here.stages_run == 2 * len(STAGES["accurate"])
    assert {"SHA256SUMS", "dataset.json", "scenes.parquet"} < set(bytes_of(tmp_path / "there"))
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")


def test_a_scene_that_kills_three_workers_fails_and_no_other(
    tmp_path: Path, processes: Processes
) -> None:
    processes.worker(nanny=True)
    events, notices = run(["a", "dies1", "fails", "b"], tmp_path / "d", processes.address())
    errors = {e.scene: e.error for e in events if e.error}
    assert set(errors) == {"dies1", "fails"}, processes.log()
    assert "killed for memory" in errors["dies1"]
    assert errors["fails"] == "fails: on purpose"
    assert sum("was lost at dies1" in line for line in notices) == 3
    done = [(e.scene, e.stage) for e in events if not e.error]
    assert done == [
        *(("a", step) for step in STEPS),
        ("dies1", "ingest"),
        ("fails", "ingest"),
        *(("b", step) for step in STEPS),
    ], "a scene is finished before the next begins"
    assert list((tmp_path / "d").iterdir()) == []


def test_workers_of_other_code_are_refused_and_others_go_on(
    tmp_path: Path, processes: Processes
) -> None:
    other = processes.worker(package=processes.other_code())
    with pytest.raises(ClusterFailed, match="no worker can be used: .* the code of defocus-ds is"):
        run(["a"], tmp_path / "d", processes.file)
    assert other.poll() is None
    processes.worker()

    def stop_scheduler(event: StageEvent) -> None:
        if event.scene == "last":
            processes.started[0].kill()
            processes.started[0].wait()

    wait_for_workers(processes, 2)
    with pytest.raises(ClusterFailed, match="the scheduler is gone"):
        run(["a", "b", "last"], tmp_path / "d", processes.file, on_event=stop_scheduler)
    assert list((tmp_path / "d").iterdir()) == []


def wait_for_workers(processes: Processes, count: int) -> None:
    from distributed import Client

    with Client(processes.address(), set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


def test_a_cluster_of_this_machine_and_ctrl_c(tmp_path: Path) -> None:
    seen: list[str] = []

    def interrupt(event: StageEvent) -> None:
        seen.append(event.stage)
        if event.stage == "develop":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(["a"], tmp_path / "d", "local:1", on_event=interrupt)
    assert seen == ["ingest", "develop"]
    assert list((tmp_path / "d").iterdir()) == []


def terms(tmp_path: Path) -> Terms:
    claim = tmp_path / "claim"
    claim.touch()
    return Terms(claim, software())


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


@pytest.mark.usefixtures("one_thread")
def test_a_worker_looks_before_it_works(
    shoot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bracket = survey(shoot).shoot.brackets[0]
    task = StageTask(tmp_path, shoot, bracket, BuildConfig(), "ingest")
    done: list[StageTask] = []
    fit = terms(tmp_path)
    do_stage(done.append, task, fit)
    given = replace(task, claim=fit.claim)
    assert done == [given]
    with pytest.raises(Refused, match="numpy is .*, not 1.0. Install what the build has"):
        do_stage(done.append, task, Terms(fit.claim, fit.software | {"numpy": "1.0"}))
    with pytest.raises(Refused, match=f"does not see {tmp_path / 'mnt'} as this build does"):
        do_stage(done.append, task, Terms(tmp_path / "mnt/claim", fit.software))
    shoot.rename(tmp_path / "elsewhere")
    with pytest.raises(Refused, match=f"does not see {shoot}. Mount it"):
        do_stage(done.append, task, fit)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    with pytest.raises(Refused, match="several threads. Start it with OPENBLAS_NUM_THREADS=1"):
        do_stage(done.append, task, fit)
    assert done == [given]


def test_a_worker_of_a_build_that_is_over_signs_nothing(shoot: Path, tmp_path: Path) -> None:
    bracket = survey(shoot).shoot.brackets[0]
    claim = terms(tmp_path).claim
    task = StageTask(tmp_path, shoot, bracket, BuildConfig(), "ingest", claim)
    claim.unlink()  # as the next build does
    with pytest.raises(StageFailed, match="its build is over; not signed"):
        run_stage(task)
    assert read_receipt(tmp_path, bracket.scene, "ingest") is None
    claim.touch()
    run_stage(task)
    assert read_receipt(tmp_path, bracket.scene, "ingest") is not None


def test_a_scheduler_that_is_not_there_is_one_line(
    shoot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_TIMEOUT_S", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    words = ["build", str(shoot), "-o", str(tmp_path / "d"), "--scheduler", address]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert f"--scheduler {address}: not reached within 1 s" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "d").exists()


def test_without_dask_the_error_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"-e '\.\[cluster\]'"):
        check_scheduler("tcp://127.0.0.1:1")


@pytest.mark.parametrize("text", ["local:", "local:0", "local:two", "local:-1"])
def test_a_local_cluster_needs_a_number(text: str) -> None:
    with pytest.raises(InputError, match="write local:N"):
        check_scheduler(text)


@pytest.mark.parametrize("content", [None, "{}", "[1]", "nothing"])
def test_a_scheduler_file_is_checked(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="no scheduler file .* --scheduler-file FILE.json"):
        check_scheduler(str(path))


@pytest.mark.parametrize(
    "words",
    [
        ["--scheduler", "tcp://a:1", "--cluster", "local:2"],
        ["--jobs", "2", "--scheduler", "tcp://a:1"],
        ["--cluster", "tcp://a:1"],
    ],
    ids=" ".join,
)
def test_one_place_to_work(shoot: Path, tmp_path: Path, words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["build", str(shoot), "-o", str(tmp_path / "d"), *words])
    assert result.exit_code == 2
    assert "Give one of" in result.stderr or "write local:N" in result.stderr
