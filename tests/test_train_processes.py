"""Several processes under gloo train as one: statistics, gradients, whole runs, and stopping."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_crops import toy_data, toy_recipe

from defocus_ds.errors import DatasetError, InputError
from defocus_ds_train import processes as processes_module
from defocus_ds_train.checkpoint import RunFolder, load_model
from defocus_ds_train.loop import fit
from defocus_ds_train.processes import process_group
from defocus_ds_train.records import EpochReport, StepReport
from defocus_ds_train.unet import UNet

WORLD = 2


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the results of all tasks, run in two processes as torchrun would start them."""
    folder = tmp_path_factory.mktemp("processes")
    run_processes(str(folder), groups=len(TASKS) + 1)
    return folder


def run_processes(argument: str, *, groups: int, **environment: str) -> None:
    """This file in two processes, as torchrun starts them: the stores are kept here.

    A store takes a port that the system has free, and keeps it: nothing can take it meanwhile.
    """
    stores = [
        torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        for _ in range(groups)
    ]
    shared = {
        "WORLD_SIZE": str(WORLD),
        "MASTER_ADDR": "127.0.0.1",
        "PORTS": " ".join(str(store.port) for store in stores),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error::FutureWarning", __file__, argument],
            env={
                **os.environ,
                **shared,
                **environment,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        with suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.wait(timeout=280)
    finally:
        for process in processes:
            process.kill()
        errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * WORLD, errors


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    crops = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    return nn.functional.avg_pool2d(crops, 5, stride=1, padding=2), crops


def network() -> UNet:
    torch.manual_seed(0)
    return UNet((2, 4))


def gradients(folder: Path) -> None:
    """One backward pass of this process's share; the first process saves what it got."""
    with process_group("cpu") as group:
        model = network()
        wrapped = group.wrap(model)
        blurred, sharp = (t[group.rank :: group.world] for t in batch())
        (wrapped(blurred) - sharp).abs().mean().backward()
        found = {name: p.grad for name, p in model.named_parameters()}
        found |= {name: b for name, b in model.named_buffers()}
        torch.save(found, folder / f"{group.rank}.pt")


def test_gradients_and_statistics_are_those_of_the_whole_batch(done: Path) -> None:
    model = network()
    blurred, sharp = batch()
    (model(blurred) - sharp).abs().mean().backward()
    expected = {name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers())
    scale = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    assert scale > 1e-2
    for rank in range(WORLD):
        found = torch.load(done / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert value is not None
            assert torch.allclose(found[name].float(), value.float(), rtol=1e-3, atol=1e-5), name


RECIPE = toy_recipe(epochs=1, log_every=2, batch=8, beta=0.01, first_rate=1e-3)


def whole_run(folder: Path) -> None:
    fit(RECIPE, toy_data(60), folder / "two", device="cpu")


def test_a_run_of_two_processes_is_that_of_one(done: Path, tmp_path: Path) -> None:
    """Seven steps; Adam amplifies rounding where a gradient is near 0, hence the tolerance."""
    one: list[StepReport | EpochReport] = []
    result = fit(RECIPE, toy_data(60), tmp_path / "one", device="cpu", watch=one.append)
    other = RunFolder(done / "two").load_state()
    assert other is not None
    assert result.best is not None
    assert other["best"]["loss"] == pytest.approx(result.best.loss, rel=1e-3)
    assert other["best"]["input_psnr"] == pytest.approx(result.best.input_psnr, rel=1e-6)
    mine, theirs = (load_model(run).state_dict() for run in (tmp_path / "one", done / "two"))
    start = network_before()
    moved = max(float((mine[n] - start[n]).abs().max()) for n in start if "weight" in n)
    assert moved > 3e-3
    for name, value in mine.items():
        assert torch.allclose(value.float(), theirs[name].float(), atol=0.1 * moved), name
    lines = (done / "two/metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + len(one)


def network_before() -> dict[str, torch.Tensor]:
    torch.manual_seed(RECIPE.seed)
    return UNet(RECIPE.filters).state_dict()


def stopped_run(folder: Path) -> None:
    """Only the second process is told to stop; both must stop at the same step, and save."""
    recipe = toy_recipe(epochs=3, log_every=2, batch=8)
    from defocus_ds_train import loop

    original = loop.Reports.add

    def add(self: loop.Reports, report: StepReport | EpochReport) -> None:
        original(self, report)
        if os.environ["RANK"] == "1" and report.step == 2:
            signal.raise_signal(signal.SIGTERM)

    loop.Reports.add = add  # type: ignore[method-assign]
    result = fit(recipe, toy_data(60), folder / "run", device="cpu")
    assert not result.finished
    assert result.steps == 4
    loop.Reports.add = original  # type: ignore[method-assign]
    if os.environ["RANK"] == "0":
        state = RunFolder(folder / "run").load_state()
        assert state is not None
        (folder / "stopped.txt").write_text(str(state["step"]))


def test_one_process_that_must_stop_stops_all_and_the_state_is_saved(done: Path) -> None:
    assert (done / "stopped.txt").read_text() == "4"


def resumed_run(folder: Path) -> None:
    """The stopped run goes on in both processes; beside it one that was never stopped."""
    port = os.environ["MASTER_PORT"]
    for name in ("run", "unstopped"):
        # a store of their own: that of the first may still answer when the second begins
        os.environ["MASTER_PORT"] = port if name == "run" else os.environ["PORTS"].split()[-1]
        recipe = toy_recipe(epochs=3, log_every=2, batch=8)
        result = fit(recipe, toy_data(60), folder / name, device="cpu")
        assert result.finished


def test_a_run_of_two_processes_goes_on_as_if_it_had_not_stopped(done: Path) -> None:
    assert (done / "stopped.txt").read_text() == "4"
    for name in ("best.safetensors", "last.safetensors"):
        assert (done / "run" / name).read_bytes() == (done / "unstopped" / name).read_bytes()


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    from defocus_ds_train.data.batches import Batches

    with pytest.raises(DatasetError, match="batch = 8 does not divide into 3 processes"):
        Batches(
            toy_data().train,
            device=torch.device("cpu"),
            batch=8,
            seed=0,
            augment=True,
            rank=0,
            world=3,
        )


def one_fails(folder: Path) -> None:
    """The first process gives up where the second waits for it."""
    try:
        with process_group("cpu") as group:
            if group.leads:
                raise InputError("the reason")
            group.any(False)
    except InputError as error:
        (folder / f"failed-{os.environ['RANK']}.txt").write_text(str(error))


def test_a_process_whose_partner_failed_ends_in_one_line(done: Path) -> None:
    assert (done / "failed-0.txt").read_text() == "the reason"
    assert "process 1 of 2: another process" in (done / "failed-1.txt").read_text()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "3")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    words = "process 3 of 4: it would take GPU 3 of this machine, which has 2.*--nproc-per-node 2"
    with pytest.raises(InputError, match=words), process_group("cuda"):
        pass


def test_the_error_of_nccl_for_an_absent_partner_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    rendezvous = iter([(torch.distributed.HashStore(), 1, 2)])
    monkeypatch.setattr(processes_module, "rendezvous", lambda *_url_rank_world: rendezvous)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    words = r"process 1 of 2: another process .* \(NCCL error: remote process exited\), so"
    with pytest.raises(InputError, match=words), process_group("cpu"):
        raise torch.distributed.DistBackendError("NCCL error:\nremote process exited")
    rendezvous = iter([(torch.distributed.HashStore(), 1, 2)])
    with pytest.raises(RuntimeError, match="shape"), process_group("cpu"):
        raise RuntimeError("shape mismatch")


# a thread of gloo that is slow to get Python's lock, as on a machine with other work
SLOW_THREADS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
void PyEval_AcquireThread(void *state) {
    void (*real)(void *) = (void (*)(void *))dlsym(RTLD_NEXT, "PyEval_AcquireThread");
    char name[17] = {0};
    struct timespec begin, now;
    prctl(PR_GET_NAME, name);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (!strncmp(name, "pt_gloo", 7) &&
             (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 2000);
    real(state);
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library as Linux does")
def test_a_thread_that_is_slow_to_let_go_aborts_no_process(tmp_path: Path) -> None:
    """The lock is asked for when the interpreter has begun to end, which ends a thread."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make the slow thread with")
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_THREADS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    run_processes("slow", groups=1, LD_PRELOAD=str(library))


def one_fails_in_training() -> None:
    with suppress(InputError), process_group("cpu") as group:
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3)
        wrapped = group.wrap(nn.Sequential(*layers))
        for _ in range(3):
            wrapped(batch()[0]).mean().backward()
        if group.leads:
            raise InputError("the reason")
        wrapped(batch()[0]).mean().backward()


TASKS = (gradients, whole_run, stopped_run, resumed_run, one_fails)

if __name__ == "__main__":
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(240)  # where it waits, if it does not end
    if sys.argv[1] == "slow":
        os.environ["MASTER_PORT"] = os.environ["PORTS"]
        one_fails_in_training()
        sys.exit()
    for task, port in zip(TASKS, os.environ["PORTS"].split()[:-1], strict=True):
        os.environ["MASTER_PORT"] = port
        task(Path(sys.argv[1]))
