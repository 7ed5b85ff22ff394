"""Restore photos with a trained network: luma sharpened tile by tile, colour kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defocus_ds.config import BuildConfig
from defocus_ds.errors import DefocusError, InputError, StageFailed
from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.stages.ingest.header import IMAGE_SUFFIXES, RAW_SUFFIXES, UNREAD_SUFFIXES
from defocus_ds.store import write_bytes
from defocus_ds_train.device import is_out_of_memory
from defocus_ds_train.restore_memory import budget_pixels
from defocus_ds_train.restore_network import ResidualNet
from defocus_ds_train.restore_photo import encode_png, read_photo
from defocus_ds_train.restore_tiles import Tiling, change_by_tiles, plan_tiling

__all__ = [
    "NotRestored",
    "RestoreJob",
    "Restored",
    "Tiles",
    "plan_restore",
    "restore",
    "restore_luma",
]

Progress = Callable[[int, int], None]

_OTHER_SUFFIXES = (RAW_SUFFIXES | IMAGE_SUFFIXES | UNREAD_SUFFIXES) - {".png"}


@dataclass(frozen=True, slots=True)
class Tiles:
    """What was asked for; None is chosen from memory and network, see `plan_tiling`."""

    tile: int | None = None
    overlap: int | None = None
    memory_limit_mb: float | None = None


@dataclass(frozen=True, slots=True)
class RestoreJob:
    """A photo, and the PNG it becomes."""

    source: Path
    output: Path


@dataclass(frozen=True, slots=True)
class Restored:
    """A photo that was restored.

    Attributes:
        change_levels: mean absolute change of the luma, in 8-bit levels.
        computed: pixels computed, as a multiple of the photo's.
        exact: whether the tiles equal the whole frame computed at once.
    """

    source: Path
    output: Path
    width: int
    height: int
    channels: int
    bits: int
    tiles: int
    tile: tuple[int, int]
    overlap: int
    batch: int
    exact: bool
    computed: float
    change_levels: float
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotRestored:
    """A photo that was not, and why; nothing was written for it."""

    source: Path
    reason: str


def plan_restore(
    sources: Sequence[Path], output: Path, *, overwrite: bool = False
) -> list[RestoreJob | NotRestored]:
    """Decide which photo becomes which file; nothing is read or written but names.

    Args:
        sources: photos, or folders in which `scan` would find captures.
        output: a name ending in .png for one photo; otherwise a folder, in which a photo of a
            folder keeps its place and a photo ``a.CR2`` becomes ``a.png``.
        overwrite: replace files that exist.

    Returns:
        A job for each photo, or why there is none.

    Raises:
        InputError: a folder without photos, one file for several photos, or another format.
    """
    if output.suffix.lower() in _OTHER_SUFFIXES and not output.is_dir():
        raise InputError(f"{output}: results are PNG; give a name ending in .png, or a folder.")
    found = [pair for source in sources for pair in _photos(source, output)]
    if output.suffix.lower() == ".png" and not output.is_dir():
        if len(found) != 1 or sources[0].is_dir():
            raise InputError(
                f"{output}: one file for {len(found)} photos; give -o a folder instead."
            )
        targets = [output]
    else:
        targets = [output / relative.with_suffix(".png") for _, relative in found]
    taken: dict[Path, Path] = {}
    plan: list[RestoreJob | NotRestored] = []
    for (source, _), target in zip(found, targets, strict=True):
        reason = _refusal(source, target, taken, overwrite=overwrite)
        taken.setdefault(target, source)
        plan.append(NotRestored(source, reason) if reason else RestoreJob(source, target))
    return plan


def restore(
    plan: Iterable[RestoreJob | NotRestored],
    network: ResidualNet,
    *,
    tiles: Tiles | None = None,
    config: BuildConfig | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Restored | NotRestored]:
    """Do the jobs one after the other; a photo that fails does not stop the others.

    Args:
        plan: of `plan_restore`.
        network: from the weights of a run, on its device.
        tiles: default `Tiles()`.
        config: how raws are developed, and the limits of decoding; default `BuildConfig()`.
        progress: called with the name of the photo, tiles done and all its tiles.

    Yields:
        What became of each, as soon as it is known.

    Raises:
        OSError: a result cannot be written.
    """
    for job in plan:
        if isinstance(job, NotRestored):
            yield job
            continue
        try:
            yield _restore_one(job, network, tiles or Tiles(), config or BuildConfig(), progress)
        except DefocusError as error:
            reason = str(error)
            if isinstance(error, StageFailed):  # begins with the name, which `source` has
                reason = reason.removeprefix(f"{job.source.name}: ")
            yield NotRestored(job.source, reason)


def restore_luma(
    luma: UInt8Image | FloatImage,
    network: ResidualNet,
    *,
    tiles: Tiles | None = None,
    progress: Progress | None = None,
) -> tuple[FloatImage, Tiling]:
    """What the network adds to a frame's luma so that the sum stays in [0, 1].

    Args:
        luma: (H, W) uint8, or float32 in [0, 1].
        network: on its device.
        tiles: default `Tiles()`.
        progress: called with tiles done and all tiles.

    Returns:
        (H, W) float32, in units of [0, 1], and the tiles it was computed in.  When the device
        runs out of memory the tiles are halved, four times at most.

    Raises:
        InputError: no tiles fit the memory, or the device has too little.
        NotFinite: the network's output is not a number.
    """
    tiles = tiles or Tiles()
    frame = (luma.shape[0], luma.shape[1])
    budget = budget_pixels(network, frame, limit_mb=tiles.memory_limit_mb)
    for _ in range(5):
        tiling = plan_tiling(
            frame,
            stride=network.stride,
            radius=network.radius,
            budget_pixels=budget,
            tile=tiles.tile,
            overlap=tiles.overlap,
            batches=network.device.type != "cpu",
        )
        try:
            change = change_by_tiles(luma, network, tiling, progress=progress)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return _in_range(luma, change), tiling
        # only here: as long as the error is handled, its traceback holds the failed tiles
        network.free_cache()
        budget = tiling.rows.tile * tiling.columns.tile * tiling.batch / 2
    raise InputError(
        f"{network.device}: out of memory with tiles of {tiling.columns.tile}x"
        f"{tiling.rows.tile} px. Give a smaller --tile or --overlap, or --device cpu."
    )


def _restore_one(
    job: RestoreJob,
    network: ResidualNet,
    tiles: Tiles,
    config: BuildConfig,
    progress: Callable[[str, int, int], None] | None,
) -> Restored:
    start = time.perf_counter()
    photo = read_photo(job.source, config=config)

    def told(done: int, total: int) -> None:
        if progress is not None:
            progress(job.source.name, done, total)

    change, tiling = restore_luma(photo.luma, network, tiles=tiles, progress=told)
    write_bytes(job.output, encode_png(photo, photo.with_luma(change)))
    height, width = change.shape
    return Restored(
        job.source,
        job.output,
        width=width,
        height=height,
        channels=1 if photo.pixels.ndim == 2 else 3,
        bits=photo.bits,
        tiles=len(tiling),
        tile=(tiling.columns.tile, tiling.rows.tile),
        overlap=tiling.overlap,
        batch=tiling.batch,
        exact=tiling.exact,
        computed=round(tiling.computed, 3),
        change_levels=round(255 * float(np.abs(change).mean(dtype=np.float64)), 4),
        seconds=round(time.perf_counter() - start, 3),
        notes=photo.notes,
    )


def _in_range(luma: UInt8Image | FloatImage, change: FloatImage) -> FloatImage:
    scale = np.float32(255 if luma.dtype == np.uint8 else 1)
    for row, added in zip(luma, change, strict=True):
        before = row / scale
        np.subtract(np.clip(before + added, 0, 1), before, out=added)
    return change


def _photos(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """Photos of an argument, each with its place under the output folder.

    Results of an earlier run, in an output folder inside this one, are not among them.
    """
    from defocus_ds.stages.ingest.captures import find_captures, without_twins

    if not source.is_dir():
        return [(source, Path(source.name))]
    names, _ = without_twins(find_captures(source)[0], set())
    results = output.resolve()
    if source.resolve() in results.parents:
        names = [n for n in names if not (source / n).resolve().is_relative_to(results)]
    if not names:
        raise InputError(f"{source}: no photos in it (CR2 and other raws, JPEG, PNG or TIFF).")
    return [(source / name, Path(name)) for name in names]


def _refusal(source: Path, target: Path, taken: dict[Path, Path], *, overwrite: bool) -> str:
    if target in taken:
        return f"{target} is already the result of {taken[target]}; give another -o."
    if target.exists() and source.exists() and target.samefile(source):
        return f"{target} is the photo itself; give another -o."
    if target.is_dir():
        return f"{target} is a folder; give another -o."
    if target.exists() and not overwrite:
        return f"{target} exists; give --overwrite to replace it."
    return ""
