"""One writer at a time, and whole folders replaced: a reader sees the old one or the new one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from defocus_ds.errors import DatasetError
from defocus_ds.store import writing

__all__ = [
    "BusyError",
    "being_written",
    "only_writer",
    "remove_strays",
    "replaced_folder",
    "scratch_folder",
    "sweep_dataset",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_LOCK_ATTEMPTS = 4
_DATASET_FOLDERS = ("crops", "images", "receipts", "rejected", "work")
# the characters of mkstemp and mkdtemp: without a dash, so no folder of a longer name is meant
_RANDOM = "[a-z0-9_]{8}"
_FILE = re.compile(rf"\.tmp-(cluster-[0-9a-f]{{32}}|{_RANDOM}(\.\w+)?)")
_FOLDER = re.compile(rf"\.tmp-.+-{_RANDOM}")


class BusyError(DatasetError):
    """Another process is writing to the folder."""


@contextmanager
def only_writer(dataset: Path, *, sweep: bool = False) -> Iterator[None]:
    """Hold the lock that `build` holds too; the system releases it however this process ends.

    Args:
        dataset: or another folder that one process at a time may write to.
        sweep: remove first what an earlier holder left half-written among a dataset's own files.

    Raises:
        BusyError: another process is writing to the dataset.
        DatasetError: its disk has no locks.
        NotWritten: no permission to write there, not even the lock.
    """
    with writing(dataset / ".lock"):
        opened = (dataset / ".lock").open("a+")
    with opened as file:
        _lock(dataset, file)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        holder = f"process {os.getpid()} on {platform.node() or 'unknown'} since {since}"
        with suppress(OSError):  # the lock holds on a full disk, too
            file.truncate(0)
            os.write(file.fileno(), holder.encode())
        if sweep:
            sweep_dataset(dataset)
        yield


def remove_strays(folder: Path) -> None:
    """Remove the half-written files below the folder, and the half-made folders of dead runs.

    Links are not followed, and only names that this tool gives are taken.  The caller knows that
    nobody writes files there.  Beside a folder that `replaced_folder` had renamed away all stay:
    it needs them to know it for its own.
    """
    for here, folders, files in os.walk(folder):
        if not any(name.startswith(".old-") for name in folders):
            for name in files:
                if _FILE.fullmatch(name):
                    Path(here, name).unlink(missing_ok=True)
            for name in folders:
                if _FOLDER.fullmatch(name):
                    with _of_dead_run(Path(here, name)) as dead:
                        if dead:
                            shutil.rmtree(Path(here, name), ignore_errors=True)
        folders[:] = [name for name in folders if not _FOLDER.fullmatch(name)]


def sweep_dataset(dataset: Path) -> None:
    """`remove_strays` among a dataset's own files; ``report/`` is written without the lock."""
    for path in dataset.iterdir():
        if _FILE.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
    for name in _DATASET_FOLDERS:
        if not (dataset / name).is_symlink():
            remove_strays(dataset / name)


def being_written(dataset: Path) -> bool:
    """Whether some process holds the lock of `only_writer` now."""
    try:
        with (dataset / ".lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new, empty folder beside ``target`` that takes its place if the block succeeds.

    Every file is flushed to disk first.  Interrupted before the exchange, ``target`` is as it
    was; the half-made folder, whose name starts with ``.tmp-``, is removed by the next run.  The
    half-made folder of a run that is still at work is locked, and left alone; where the file
    system cannot lock folders, all are.

    Where the system cannot exchange two folders in one step, the old one is renamed away first,
    and an interruption between the two renames leaves it as ``.old-<name>-...`` beside the
    half-made folder ``.tmp-<name>-...``, which the next run puts back.

    Raises:
        OSError: it cannot be written; the text names the target, the reason and the free space.
    """
    with scratch_folder(target) as fresh:
        fresh.chmod(0o755)
        yield fresh
        for path in [*fresh.rglob("*"), fresh]:
            _flush(path)
        _take_place(fresh, target)
        _flush(target.parent)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A new, empty folder beside ``target``, for what is to take its place; removed at the end.

    It is locked meanwhile.  What a killed run left is removed by the next one for this target, and
    by `remove_strays`.

    Raises:
        OSError: it cannot be written; the text names the target, the reason and the free space.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean_up(target)
        fresh, lock = _locked_folder(target)
        try:
            yield fresh
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            os.close(lock)


def _lock(dataset: Path, file: IO[str]) -> None:
    """Take the lock, or name who has it."""
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if attempt + 1 < _LOCK_ATTEMPTS:  # `being_written` holds it for a moment
                time.sleep(0.05)
                continue
            file.seek(0)
            holder = " ".join(file.read(300).split()) or "unknown"
            raise BusyError(
                f"{dataset}: another build or crop is at work on it ({holder}). "
                "Wait for it, or stop it first."
            ) from error
        except OSError as error:
            raise DatasetError(
                f"{dataset}: its disk cannot be locked ({error.strerror}), so two builds could "
                "write to it at once. Choose a folder on another disk."
            ) from error


def _clean_up(target: Path) -> None:
    """Remove what dead runs for this target left, and put back what one of them renamed away."""
    ours = re.compile(rf"\.tmp-{re.escape(target.name)}-{_RANDOM}")
    for leftover in list(target.parent.iterdir()):
        if not ours.fullmatch(leftover.name):
            continue
        with _of_dead_run(leftover) as dead:
            if not dead:
                continue
            old = _set_aside(leftover)
            if old.is_dir() and not target.exists():
                old.rename(target)
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _of_dead_run(leftover: Path) -> Iterator[bool]:
    """Whether this is a half-made folder that no run holds any more; held here meanwhile."""
    try:
        descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield _is_at(leftover, descriptor)
    finally:
        os.close(descriptor)


def _locked_folder(target: Path) -> tuple[Path, int]:
    """A new folder for the target, and the descriptor that holds its lock."""
    while True:
        fresh = Path(tempfile.mkdtemp(prefix=f".tmp-{target.name}-", dir=target.parent))
        descriptor = os.open(fresh, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # another run took it for a leftover before it was locked
            os.close(descriptor)
            continue
        except OSError:
            # no locks for folders here, so nobody can take it for a leftover either
            return fresh, descriptor
        if _is_at(fresh, descriptor):
            return fresh, descriptor
        os.close(descriptor)


def _take_place(fresh: Path, target: Path) -> None:
    """Rename the new folder to the target; the old one is then at ``fresh``, or nowhere."""
    if not target.exists():
        fresh.rename(target)
        return
    if _exchange(fresh, target):
        return
    old = _set_aside(fresh)
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        if not target.exists():
            old.rename(target)
        raise
    # a death while it is removed then leaves a name that the next run cleans up
    old.rename(fresh)


def _set_aside(fresh: Path) -> Path:
    """Where the old folder waits while the half-made one takes its place."""
    return fresh.with_name(fresh.name.replace(".tmp-", ".old-", 1))


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open folder is still the one of this name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    result = rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    return int(result) == 0


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
