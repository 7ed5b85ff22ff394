"""One process or several under torchrun: the group, and what has to agree across it."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from defocus_ds.errors import InputError
from defocus_ds_train.device import choose_device

__all__ = ["Group", "SharedBatchNorm", "process_group", "torchrun_rank"]

_GONE = ("onnection closed by peer", "onnection reset by peer")
_LEAVING = timedelta(minutes=5)
_THREADS = Path("/proc/self/task")
_IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Group:
    """This process (``rank`` of ``world``), and the device that is its own."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as the group trains it: gradients averaged, batch statistics of the whole
        batch.  Its parameters and buffers stay those of ``model``, under the same names."""
        if self.world == 1:
            return model
        _share_statistics(model)
        # buffers are equal everywhere already: their statistics are those of the whole batch
        known = inspect.signature(DistributedDataParallel).parameters
        newer = "forward_sync_buffers"  # torch is giving the option another name
        options: dict[str, Any] = {newer if newer in known else "broadcast_buffers": False}
        return DistributedDataParallel(model, **options)

    def without_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Context for all parts of a batch but the last: gradients stay here for now."""
        if isinstance(model, DistributedDataParallel):
            held: AbstractContextManager[None] = model.no_sync()
            return held
        return nullcontext()

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes; the same bits in each."""
        return values if self.world == 1 else self.sum(values) / self.world

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes; the same bits in each."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.sum(torch.tensor([float(flag)], device=self.device)).item())


@contextmanager
def process_group(device: str = "auto") -> Iterator[Group]:
    """The group that torchrun started this process in, or a group of one.

    Args:
        device: as in `choose_device`; every process of a machine takes a GPU of its own.

    Raises:
        InputError: no such device, fewer GPUs than processes, or another process ended, which
            says why itself.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group(0, 1, choose_device(device))
        return
    rank = torchrun_rank()
    place = choose_device(device, index=int(os.environ.get("LOCAL_RANK", "0")))
    if place.type == "cuda":
        gpus = torch.cuda.device_count()
        if place.index is not None and place.index >= gpus:
            raise InputError(
                f"process {rank} of {world}: it would take GPU {place.index} of this machine, "
                f"which has {gpus}. Give torchrun --nproc-per-node {gpus}, or --device cpu."
            )
        torch.cuda.set_device(place)
    store, _, _ = next(rendezvous("env://", rank, world))
    backend = "nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    try:
        yield Group(rank, world, place)
        _leave_together(store, rank, world)
    except RuntimeError as error:
        # NCCL and the store have classes for it, gloo only words
        words = str(error)
        if not (isinstance(error, dist.DistError) or any(gone in words for gone in _GONE)):
            raise
        reason = " ".join(words.split())[:120]
        raise InputError(
            f"process {rank} of {world}: another process of this run ended or cannot be reached "
            f"({reason}), so this one ends too; the message of that one says why."
        ) from error
    finally:
        if backend == "gloo":
            _wait_for_idle_threads()
        dist.destroy_process_group()


def _wait_for_idle_threads() -> None:
    """Wait until gloo's threads have let go of what they were given to exchange.

    That takes them a little longer than the exchange does, and Python's lock, since Python owns
    some of it.  A thread that asks for the lock once the interpreter has begun to end makes the
    process abort; and whoever destroys the group with the lock in hand waits for that thread for
    ever.  A thread that is not asleep, although nobody keeps the lock from it, is not done.
    """
    if not _THREADS.is_dir():  # only Linux tells
        time.sleep(0.2)
        return
    end = time.monotonic() + _IDLE_S
    quiet = 0
    while quiet < 3 and time.monotonic() < end:
        time.sleep(0.002)  # without the lock
        quiet = quiet + 1 if all(map(_asleep, _THREADS.iterdir())) else 0


def _asleep(thread: Path) -> bool:
    """Whether a thread waits for work, or is none of gloo's."""
    try:
        _, _, rest = (thread / "stat").read_text().partition(" (")
    except OSError:  # it has ended
        return True
    name, _, state = rest.rpartition(") ")
    return not name.startswith("pt_gloo") or state.startswith("S")


def _leave_together(store: Any, rank: int, world: int) -> None:
    """Wait in a `torch.distributed.Store` until every process is past its last exchange.

    A connection that is closed before its other end has read all of it may lose the rest.  The
    first process, which may keep the store, leaves last.  Groups that follow each other may
    share a store.
    """
    for step in ("ended", "left"):
        count = store.add(f"defocus_ds/{step}", 1)
        everyone = f"defocus_ds/{step}/{(count - 1) // world}"
        if count % world == 0:
            store.set(everyone, "")
        if step == "ended" or rank == 0:
            store.wait([everyone], _LEAVING)


def torchrun_rank() -> int:
    """Rank of this process; 0 outside torchrun."""
    return int(os.environ.get("RANK", "0"))


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device.

    `torch.nn.SyncBatchNorm` does this on GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same; in training, statistics are those of the whole group."""
        if not self.training:
            normalised: Tensor = super().forward(x)
            return normalised
        values = x.float()
        count = torch.full((1,), float(values.numel() // values.shape[1]), device=x.device)
        moments = _summed(torch.cat([values.sum((0, 2, 3)), count]))
        total = moments[-1]
        mean = moments[:-1] / total
        centred = values - mean[:, None, None]
        squares = _summed(centred.square().sum((0, 2, 3)))
        variance = squares / total
        self._remember(mean.detach(), variance.detach(), total.detach())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * total / (total - 1), self.momentum)


class _Sum(torch.autograd.Function):
    """Sum over the processes; each one's values move the losses of all, so gradients sum too."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def _share_statistics(model: nn.Module) -> None:
    """Replace every batch normalisation in place, keeping its parameters and buffers."""
    on_gpu = next(model.parameters()).device.type == "cuda"
    kind = nn.SyncBatchNorm if on_gpu else SharedBatchNorm
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = kind(child.num_features, eps=child.eps, momentum=child.momentum)
                for key, value in (*child._parameters.items(), *child._buffers.items()):
                    setattr(shared, key, value)
                setattr(module, name, shared)
