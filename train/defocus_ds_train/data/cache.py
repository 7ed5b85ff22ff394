"""Decoded crops on disk: plain uint8 files that are mapped into memory, verified when opened."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.dataset.folders import replaced_folder
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.measure.weights import cache_folder
from defocus_ds.store import read_json, sha256_file, write_json

__all__ = ["CachedCrop", "CropCache", "cached_crops", "default_cache"]

FORMAT = 1
_INFO = "cache.json"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class CachedCrop:
    """One crop on its way into the cache; ``blurred`` is None where it is made while training."""

    scene: str
    sharp: UInt8Image
    blurred: UInt8Image | None


@dataclass(frozen=True, slots=True)
class CropCache:
    """Crops of one source, mapped into memory.

    Attributes:
        digest: names the crops' rows and pixels, 64 hexadecimal digits.
        sharp: (N, size, size) uint8.
        blurred: the same, or None where it is made while training.
        scene: (N,) int32, index into ``scenes``.
        scenes: names of the scenes or images that the crops are from.
    """

    digest: str
    sharp: UInt8Image
    blurred: UInt8Image | None
    scene: npt.NDArray[np.int32]
    scenes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sharp)

    @property
    def size(self) -> int:
        return int(self.sharp.shape[1])


def default_cache() -> Path:
    """``crops`` in `defocus_ds.measure.weights.cache_folder`; safe to delete."""
    return cache_folder() / "crops"


def cached_crops(
    root: Path,
    digest: str,
    *,
    count: int,
    size: int,
    paired: bool,
    crops: Callable[[], Iterator[CachedCrop]],
    progress: Progress | None = None,
) -> CropCache:
    """The cache of this digest, made if it is absent or damaged.

    Args:
        root: folder of all caches.
        digest: of what the crops are made from; the same digest must mean the same crops.
        count: number of crops.
        size: side of each in px.
        paired: whether they come with their blurred partner.
        crops: yields them in order; called only when the cache must be made.
        progress: called with (done, total, label).

    Raises:
        DatasetError: a crop of another size.
        InputError: the disk has no room for it.
    """
    folder = root / digest[:32]
    found = _open(folder, digest, (count, size, paired))
    if found is not None:
        return found
    root.mkdir(parents=True, exist_ok=True)
    needed = count * size**2 * (2 if paired else 1)
    if (free := shutil.disk_usage(root).free) < needed:
        raise InputError(
            f"{root}: the decoded crops need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            "free. Give another folder with --cache, or fewer crops with --set crops=N."
        )
    with _alone(root, folder.name):
        # another run, or another process of this one, may have made it meanwhile
        made = _open(folder, digest, (count, size, paired))
        if made is None:
            with replaced_folder(folder) as fresh:
                _write(fresh, digest, (count, size, paired), crops(), progress)
            made = _open(folder, digest, (count, size, paired))
    assert made is not None, f"{folder}: what was just written does not verify"
    return made


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """Wait until no other process makes this cache; the system ends the lock with the process."""
    with (root / f".lock-{name}").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(
    folder: Path,
    digest: str,
    shape: tuple[int, int, bool],
    crops: Iterator[CachedCrop],
    progress: Progress | None,
) -> None:
    count, size, paired = shape
    scenes: dict[str, int] = {}
    scene_of = np.empty(count, np.int32)
    done = 0
    with (folder / "sharp.u8").open("wb") as sharp, (folder / "blurred.u8").open("wb") as blurred:
        for crop in crops:
            for pixels, file in ((crop.sharp, sharp), (crop.blurred, blurred)):
                if pixels is None:
                    continue
                if pixels.shape != (size, size):
                    raise DatasetError(
                        f"{crop.scene}: a crop of {pixels.shape[1]}x{pixels.shape[0]} px among "
                        f"crops of {size} px; all must have one size."
                    )
                file.write(np.ascontiguousarray(pixels).data)
            scene_of[done] = scenes.setdefault(crop.scene, len(scenes))
            done += 1
            if progress is not None:
                progress(done, count, crop.scene)
    assert done == count, f"{done} crops came, {count} were announced"
    names = ["sharp.u8", "blurred.u8"] if paired else ["sharp.u8"]
    if not paired:
        (folder / "blurred.u8").unlink()
    info = {
        "format": FORMAT,
        "digest": digest,
        "count": count,
        "size": size,
        "files": {name: sha256_file(folder / name) for name in names},
        "scenes": list(scenes),
        "scene_of": scene_of.tolist(),
    }
    write_json(folder / _INFO, info)


def _open(folder: Path, digest: str, shape: tuple[int, int, bool]) -> CropCache | None:
    """The cache if it is whole and says what is expected, else None: then it is made again."""
    count, size, paired = shape
    try:
        info: dict[str, Any] = read_json(folder / _INFO)
        files: dict[str, str] = info["files"]
        scene_of = np.asarray(info["scene_of"], np.int32)
        stated = (info["format"], info["digest"], info["count"], info["size"])
        expected = (FORMAT, digest, count, size)
        if stated != expected or set(files) != _names(paired) or scene_of.shape != (count,):
            return None
        if any(sha256_file(folder / name) != files[name] for name in files):
            return None
        mapped = {name: _map(folder / name, count, size) for name in files}
        scenes = tuple(info["scenes"])
    except (DatasetError, OSError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return CropCache(digest, mapped["sharp.u8"], mapped.get("blurred.u8"), scene_of, scenes)


def _names(paired: bool) -> set[str]:
    return {"sharp.u8", "blurred.u8"} if paired else {"sharp.u8"}


def _map(path: Path, count: int, size: int) -> UInt8Image:
    # private to this process: torch wants memory that it could write to
    return np.memmap(path, np.uint8, "c", shape=(count, size, size))
