"""Restoration against the clock: warm-up, synchronised device, median over batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.store import read_json, write_json
from defocus_ds_train.benchmark.methods import Method
from defocus_ds_train.benchmark.results import Times
from defocus_ds_train.benchmark.sets import TestCrop, TestSet
from defocus_ds_train.device import is_out_of_memory

__all__ = ["TimesFile", "timed_restoration"]


class TimesFile:
    """Times by the digest of what was timed, in ``times.json``; without a folder, in memory.

    They vary from run to run, so they stay out of the files that do not.
    """

    def __init__(self, output: Path | None) -> None:
        self._path = output and output / "times.json"
        self._known: dict[str, Any] = {}
        if self._path is not None and self._path.is_file():
            with suppress(DatasetError):  # damaged: then nothing is known
                known = read_json(self._path)
                self._known = known if isinstance(known, dict) else {}

    def put(self, identity: str, times: Times) -> None:
        self._known[identity] = asdict(times)
        if self._path is not None:
            write_json(self._path, self._known)

    def get(self, identity: str) -> Times | None:
        try:
            return Times(**self._known[identity])
        except (KeyError, TypeError):
            return None


def timed_restoration(
    of: TestSet,
    method: Method,
    *,
    batch: int,
    device: torch.device,
    told: Callable[[int], None],
) -> tuple[tuple[UInt8Image, ...], Times | None]:
    """All crops of a set, batch by batch, and what one took.

    Args:
        of: the set.
        method: what restores it.
        batch: crops of one shape at a time.
        device: where the method computes; it is synchronised before a clock is read.
        told: called with the number of crops done.

    Returns:
        8-bit images in the order of the crops; the median over the full batches, or None for a
        method whose time means nothing.

    Raises:
        InputError: the device has too little memory for a batch.
    """
    parts = list(_batches(of.crops, batch))

    def restored(part: Sequence[TestCrop]) -> list[UInt8Image]:
        try:
            return method.restore(of, part)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"{of.name}, {method.name}: {device} is out of memory with --batch {batch}. Give "
                f"{f'--batch {batch // 2}' if batch > 1 else 'smaller crops'}, or --device cpu."
            ) from error

    if method.timed:
        # on a GPU the first batch chooses kernels for its size; on a CPU one crop loads all code
        restored(parts[0] if device.type != "cpu" else parts[0][:1])
    images: list[UInt8Image] = []
    spent: list[float] = []
    for part in parts:
        start = _synchronised(device)
        images += restored(part)
        spent.append((_synchronised(device) - start) / len(part))
        told(len(images))
    if not method.timed:
        return tuple(images), None
    largest = max(len(part) for part in parts)
    whole = [s for s, part in zip(spent, parts, strict=True) if len(part) == largest]
    return tuple(images), Times(statistics.median(whole), largest, _device_name(device))


def _batches(crops: Sequence[TestCrop], size: int) -> Iterator[list[TestCrop]]:
    """Neighbours of one shape, in order."""
    part: list[TestCrop] = []
    for crop in crops:
        if part and (len(part) == size or crop.sharp.shape != part[0].sharp.shape):
            yield part
            part = []
        part.append(crop)
    if part:
        yield part


def _synchronised(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'' if threads == 1 else 's'}"
