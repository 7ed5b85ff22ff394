"""Batches on the device: shuffled, augmented, blurred; a function of seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from defocus_ds.errors import DatasetError
from defocus_ds_train.data.source import CropSet
from defocus_ds_train.degrade import DeviceBlur

__all__ = ["Batches", "Pair", "dihedral", "epoch_order", "evaluation_batches"]

_Index = npt.NDArray[np.int64]
_RESIDENT_SHARE = 0.5  # of the free device memory; the network and its activations need the rest
_CHUNK = 2048  # crops read at once for the device: 67 MB of pairs of 128 px
_AHEAD = 2  # batches: one is computed while the next is read


@dataclass(frozen=True, slots=True)
class Pair:
    """``blurred`` and ``sharp``: (N, 1, size, size) float32 in [0, 1], on the device."""

    blurred: Tensor
    sharp: Tensor


class Batches:
    """The training crops of one process, part by part.

    A step takes the next ``batch`` crops of the epoch's order; process ``rank`` of ``world``
    takes its share of them in ``accumulate`` parts.  Nothing depends on what came before, so an
    epoch can be entered at any step.

    Args:
        crops: what to train on.
        device: where batches are made.
        batch: crops of a step over all processes.
        seed: of order and augmentation.
        augment: whether to flip and turn.
        accumulate: parts of a process's share.
        rank, world: this process, and how many there are.
        resident: keep the pixels on the device; None decides by its free memory.

    Raises:
        DatasetError: the batch does not divide into equal parts.
    """

    def __init__(
        self,
        crops: CropSet,
        *,
        device: torch.device,
        batch: int,
        seed: int,
        augment: bool,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        resident: bool | None = None,
    ) -> None:
        if batch % (world * accumulate):
            raise DatasetError(
                f"batch = {batch} does not divide into {world} processes x {accumulate} parts; "
                "change --set batch=N or --set accumulate=N."
            )
        self.batch = batch
        self.steps_per_epoch = len(crops) // batch
        self._count = len(crops)
        self._seed = seed
        self._augment = augment
        self._accumulate = accumulate
        self._rank = rank
        self._part = batch // (world * accumulate)
        self._pixels = _Pixels(crops, device, resident)
        self._blur = None if crops.blur is None else DeviceBlur(crops.blur, device)

    @property
    def resident(self) -> bool:
        """Whether the pixels are on the device."""
        return self._pixels.resident

    def epoch(self, epoch: int, *, first_step: int = 0) -> Iterator[Pair]:
        """The parts of an epoch from ``first_step`` on, ``accumulate`` to a step."""
        order, turns = epoch_order(self._count, seed=self._seed, epoch=epoch)
        share = self._part * self._accumulate
        starts = [
            step * self.batch + self._rank * share + part * self._part
            for step in range(first_step, self.steps_per_epoch)
            for part in range(self._accumulate)
        ]
        device = self._pixels.device
        turns_there = torch.from_numpy(turns).to(device)
        slices = [slice(start, start + self._part) for start in starts]
        pixels = self._pixels.gathered(order, slices)
        for piece, stacked in zip(slices, pixels, strict=True):
            turned = dihedral(stacked, turns_there[piece]) if self._augment else stacked
            yield _pair(turned, self._blur)


def evaluation_batches(
    crops: CropSet, *, device: torch.device, batch: int, rank: int = 0, world: int = 1
) -> Iterator[Pair]:
    """The crops in order, as they are, the last batch smaller; process ``rank`` of ``world``
    takes every ``world``-th crop."""
    blur = None if crops.blur is None else DeviceBlur(crops.blur, device)
    pixels = _Pixels(crops, device, resident=False)
    mine = np.arange(rank, len(crops), world)
    slices = [slice(start, start + batch) for start in range(0, len(mine), batch)]
    for stacked in pixels.gathered(mine, slices):
        yield _pair(stacked, blur)


def epoch_order(count: int, *, seed: int, epoch: int) -> tuple[_Index, npt.NDArray[np.uint8]]:
    """Order of the crops in an epoch, and how each place of it is turned.

    Drawn on the CPU, so that every device trains on the same crops.

    Returns:
        (count,) int64, a permutation; (count,) uint8 in [0, 8), for `dihedral`.
    """
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(count), rng.integers(0, 8, count, dtype=np.uint8)


def dihedral(crops: Tensor, turns: Tensor) -> Tensor:
    """The eight symmetries of a square, one for each entry of a batch.

    Args:
        crops: (N, C, S, S); the channels of an entry move together.
        turns: (N,) integers in [0, 8): bit 0 mirrors left and right, bit 1 up and down, bit 2
            then transposes.

    Returns:
        The same shape and type.
    """
    bits = turns.to(torch.int64)[:, None, None, None]
    crops = torch.where(bits % 2 == 1, crops.flip(-1), crops)
    crops = torch.where(bits // 2 % 2 == 1, crops.flip(-2), crops)
    return torch.where(bits // 4 == 1, crops.transpose(-1, -2), crops)


class _Pixels:
    """Rows of the cache as (n, 1 or 2, size, size) uint8 on the device; sharp first."""

    def __init__(self, crops: CropSet, device: torch.device, resident: bool | None) -> None:
        self.device = device
        cache = crops.cache
        self._files = [cache.sharp] if cache.blurred is None else [cache.sharp, cache.blurred]
        self._index = crops.index
        needed = len(crops) * cache.size**2 * len(self._files)
        self.resident = _fits(needed, device) if resident is None else resident
        self._there: Tensor | None = None
        if self.resident:
            shape = (len(crops), len(self._files), cache.size, cache.size)
            self._there = torch.empty(shape, dtype=torch.uint8, device=device)
            for start in range(0, len(crops), _CHUNK):
                rows = np.arange(start, min(start + _CHUNK, len(crops)))
                self._there[start : start + _CHUNK] = self._read(rows).to(device)

    def gathered(self, order: _Index, slices: list[slice]) -> Iterator[Tensor]:
        """The crops at ``order[slice]`` for each slice in turn."""
        if self._there is not None:
            order_there = torch.from_numpy(order).to(self.device)
            for piece in slices:
                yield self._there[order_there[piece]]
            return
        with ThreadPoolExecutor(1) as reader:  # the next batches are read while one is computed
            waiting: list[Future[Tensor]] = []
            for number in range(len(slices) + _AHEAD):
                if number < len(slices):
                    waiting.append(reader.submit(self._pinned, order[slices[number]]))
                if number >= _AHEAD:
                    yield waiting.pop(0).result().to(self.device, non_blocking=True)

    def _read(self, rows: _Index) -> Tensor:
        places = self._index[rows]
        return torch.from_numpy(np.stack([file[places] for file in self._files], axis=1))

    def _pinned(self, rows: _Index) -> Tensor:
        pixels = self._read(rows)
        if self.device.type != "cuda":
            return pixels
        # the reader is a thread of its own, whose current GPU would be the first
        with torch.cuda.device(self.device):
            return pixels.pin_memory()


def _pair(stacked: Tensor, blur: DeviceBlur | None) -> Pair:
    sharp = stacked[:, 0]
    blurred = blur(sharp) if blur is not None else stacked[:, 1]
    return Pair(blurred[:, None].float() / 255, sharp[:, None].float() / 255)


def _fits(needed: int, device: torch.device) -> bool:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    else:
        return False  # the cache is mapped into the CPU's memory as it is
    return needed <= _RESIDENT_SHARE * free
