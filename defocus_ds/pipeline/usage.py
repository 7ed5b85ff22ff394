"""What a stage may cost and did cost: memory, seconds, CPU seconds."""

from __future__ import annotations

import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from defocus_ds.errors import DefocusError, is_for_memory
from defocus_ds.memory import kept_memory, peak_memory_mb

__all__ = ["Meter", "limited_memory", "why_failed"]


@contextmanager
def limited_memory(megabytes: int) -> Iterator[None]:
    """A block in which this process cannot allocate more: `MemoryError`, not a dead machine.

    Counted are the heap, private mappings and stacks of all its threads (``VmData``), not shared
    libraries, nor what it freed and kept before: whether the block has room must not depend on
    what its process did.  Processes started in it inherit the limit.  Only Linux counts so;
    elsewhere nothing is limited.
    """
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    wanted = megabytes * 2**20 + kept_memory()
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def why_failed(error: Exception, limit_mb: int) -> str:
    """What to say of a stage that raised the error, in one line; ``limit_mb`` is its memory."""
    if is_for_memory(error):
        return _out_of_memory(limit_mb)
    if isinstance(error, DefocusError | OSError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unexpected {type(error).__name__}: {error} "
        f"({Path(where.filename).name}:{where.lineno}). Please report this."
    )


class Meter:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._started, self._cpu_started = time.perf_counter(), _cpu_seconds()
        with suppress(OSError):  # Linux only; elsewhere the peak is that of the whole process
            Path("/proc/self/clear_refs").write_text("5")

    def seconds(self) -> float:
        """Wall-clock seconds so far."""
        return round(time.perf_counter() - self._started, 3)

    def cpu_seconds(self) -> float:
        """CPU seconds so far, of this process and of the decoders it waited for."""
        return round(_cpu_seconds() - self._cpu_started, 3)

    def peak_memory_mb(self) -> float:
        """Largest resident size of this process."""
        own = peak_memory_mb()
        if own is None:
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return round(own, 1)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _out_of_memory(limit_mb: int) -> str:
    """What to say of a stage that found no memory under the limit."""
    return (
        f"needs more memory than its limit of {limit_mb} MB, or than is free. "
        "Raise it with --set limits.stage_memory_mb=N, or free memory and add --retry-failed."
    )
