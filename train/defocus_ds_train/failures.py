"""What can go wrong while training, said in one line with the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from defocus_ds.errors import DefocusError, InputError
from defocus_ds_train.device import is_out_of_memory
from defocus_ds_train.recipe import Recipe

__all__ = ["Diverged", "OutOfMemory", "StopRequest", "explained_failures", "interruptions"]


class Diverged(DefocusError):
    """Loss or weights are not finite; the last good state is kept."""


class OutOfMemory(InputError):
    """A batch does not fit into the memory of the device."""


@dataclass(slots=True)
class StopRequest:
    """``asked`` becomes true at the first Ctrl-C or SIGTERM."""

    asked: bool = False


@contextmanager
def interruptions() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to stop; the second acts as before.

    Only the main thread can catch signals; in another the request is never made.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(_number: int, _frame: FrameType | None) -> None:
        request.asked = True
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()


@contextmanager
def explained_failures(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Say in one line what torch could not do, and the way out.

    Raises:
        OutOfMemory: an allocation failed; the batch is named.
        InputError: torch.compile does not work on this machine.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise OutOfMemory(_out_of_memory(recipe, device)) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise InputError(_not_compiled(recipe, error)) from error
        raise


def _not_compiled(recipe: Recipe, error: RuntimeError) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
    return (
        f"torch.compile does not work here with compile = {recipe.compile} ({reason[:200]}). Give "
        "--set compile=off."
    )


def _out_of_memory(recipe: Recipe, device: torch.device) -> str:
    parts = next((n for n in range(2, recipe.batch + 1) if recipe.batch % n == 0), 0)
    # accumulation keeps the batch of the recipe, so it comes first
    ways = [f"--set accumulate={parts * recipe.accumulate}"] if parts else []
    if recipe.batch > 1:
        ways.append(f"--set batch={recipe.batch // 2}")
    return (
        f"{device}: out of memory with batch = {recipe.batch} of {recipe.size} px in "
        f"{recipe.accumulate} part(s). Give {' or '.join([*ways, 'a device with more memory'])}."
    )
