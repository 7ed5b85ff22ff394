"""What goes wrong is said in one line; the first Ctrl-C asks, the second insists."""

from __future__ import annotations

import signal
import threading

import pytest
import torch
from toy_crops import toy_recipe

from defocus_ds.errors import InputError
from defocus_ds_train.failures import OutOfMemory, StopRequest, explained_failures, interruptions

CPU = torch.device("cpu")


def test_a_real_failed_allocation_names_batch_and_ways_out() -> None:
    with (
        pytest.raises(OutOfMemory, match=r"cpu: .*batch = 4 .*--set accumulate=2 or --set batch=2"),
        explained_failures(toy_recipe(), CPU),
    ):
        torch.empty(1 << 50)


def test_the_way_out_divides_the_batch() -> None:
    recipe = toy_recipe(batch=9, accumulate=3)
    with pytest.raises(OutOfMemory, match=r"accumulate=9 or"), explained_failures(recipe, CPU):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    with (
        pytest.raises(OutOfMemory, match=r"Give a device with more memory"),
        explained_failures(toy_recipe(batch=1), CPU),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuFFT error: CUFFT_ALLOC_FAILED",
    ],
)
def test_memory_that_the_driver_lacks_is_no_other_error(text: str) -> None:
    with pytest.raises(OutOfMemory, match="batch = 4"), explained_failures(toy_recipe(), CPU):
        raise RuntimeError(text)


def test_a_machine_that_cannot_compile_is_told_how_to_go_on() -> None:
    from torch._dynamo.exc import TorchRuntimeError

    with (
        pytest.raises(InputError, match=r"compile = default \(no C\+\+ compiler\).*compile=off"),
        explained_failures(toy_recipe(compile="default"), CPU),
    ):
        raise TorchRuntimeError("\nno C++ compiler\nand a long trace")


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), explained_failures(toy_recipe(), CPU):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interruptions() as stop:
        assert not stop.asked
        signal.raise_signal(number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_threads_are_never_asked() -> None:
    found: list[StopRequest] = []

    def work() -> None:
        with interruptions() as stop:
            found.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert found == [StopRequest(asked=False)]
