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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from defocus_ds.errors import DatasetError
from defocus_ds.store import writing

__all__ = ["being_written", "only_writer", "remove_strays", "replaced_folder"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_LOCK_ATTEMPTS = 4


@contextmanager
def only_writer(dataset: Path) -> Iterator[None]:
    """Hold the lock that `build` holds too; the system releases it however this process ends.

    What an earlier holder left half-written is removed first.  ``report/`` is written without the
    lock, and left alone.

    Raises:
        DatasetError: another process is writing to the dataset, or its disk has no locks.
    """
    with (dataset / ".lock").open("a+") as file:
        _lock(dataset, file)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        holder = f"process {os.getpid()} on {platform.node() or 'unknown'} since {since}"
        with suppress(OSError):  # the lock holds on a full disk, too
            file.truncate(0)
            os.write(file.fileno(), holder.encode())
        remove_strays(dataset, leave=("report",))
        yield


def remove_strays(folder: Path, *, leave: Sequence[str] = ()) -> None:
    """Remove every file, folder and link below the folder whose name starts with ``.tmp-``.

    Links are not followed.  The caller knows that nobody is writing there.  Beside a folder that
    `replaced_folder` had renamed away they stay: it needs them to know it for its own.

    Args:
        folder: to clean; it need not exist.
        leave: names in the folder itself that are not entered.
    """
    for here, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(here, name)
            if not name.startswith(".tmp-") or any(f.startswith(".old-") for f in folders):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        left = leave if Path(here) == folder else ()
        folders[:] = [name for name in folders if not name.startswith(".tmp-") and name not in left]


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
    and an interruption between the two renames leaves it as ``.old-<name>`` beside the half-made
    folder, which the next run puts back.  An ``.old-<name>`` of another origin is not touched.

    Raises:
        OSError: it cannot be written; the text names the target, the reason and the free space.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean_up(target)
        fresh, lock = _locked_folder(target)
        try:
            fresh.chmod(0o755)
            yield fresh
            for path in [*fresh.rglob("*"), fresh]:
                _flush(path)
            _take_place(fresh, target)
            _flush(target.parent)
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
            raise DatasetError(
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
    # the characters of mkdtemp: without a dash, so no folder of a longer name is meant
    ours = re.compile(rf"\.tmp-{re.escape(target.name)}-[a-z0-9_]{{1,8}}")
    old = _set_aside(target)
    for leftover in list(target.parent.iterdir()):
        if not ours.fullmatch(leftover.name):
            continue
        try:
            descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(leftover, descriptor):
                if old.is_dir() and not target.exists():
                    old.rename(target)
                shutil.rmtree(leftover, ignore_errors=True)
        except OSError:
            continue
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
    old = _set_aside(target)
    if os.path.lexists(old):
        old = Path(tempfile.mkdtemp(prefix=f"{old.name}-", dir=target.parent))
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        if not target.exists():
            old.rename(target)
        raise
    # a death while it is removed then leaves a name that the next run cleans up
    old.rename(fresh)


def _set_aside(target: Path) -> Path:
    return target.with_name(f".old-{target.name}")


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
