"""One writer at a time, and whole folders replaced: a reader sees the old one or the new one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defocus_ds.errors import DatasetError

__all__ = ["being_written", "only_writer", "replaced_folder"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def only_writer(dataset: Path) -> Iterator[None]:
    """Hold the lock that `build` holds too; the system releases it however this process ends.

    Raises:
        DatasetError: another process is writing to the dataset.
    """
    with (dataset / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise DatasetError(
                f"{dataset}: another build or crop is at work on it (process {holder}). "
                "Wait for it, or stop it first."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


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
    was; the half-made folder, whose name starts with ``.tmp-``, is removed by the next run.
    Where the system cannot exchange two folders in one step, the old one is renamed away first,
    and an interruption between the two renames leaves it as ``.old-<name>``, which the next run
    puts back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".old-{target.name}")
    if old.exists() and not target.exists():
        old.rename(target)
    for leftover in target.parent.glob(f".tmp-{target.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".tmp-{target.name}-", dir=target.parent))
    fresh.chmod(0o755)
    try:
        yield fresh
        for path in [*fresh.rglob("*"), fresh]:
            _flush(path)
        if not target.exists():
            fresh.rename(target)
        elif not _exchange(fresh, target):
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            fresh.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


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
