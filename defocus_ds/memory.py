"""Memory of processes: what they took at most, and what the C library does with what is freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

__all__ = ["keep_freed_memory", "kept_memory", "peak_memory_mb"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names in glibc's <malloc.h>
_MOST_KEPT = 512 << 20  # bytes at the end of the heap
_MOST = 2**31 - 1  # that it takes as a size


class _MallInfo2(ctypes.Structure):
    """What glibc's ``mallinfo2`` gives, <malloc.h>."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def keep_freed_memory() -> None:
    """Let this process use large blocks again, which glibc gives back one by one otherwise.

    An image is a block of 20 to 300 MB.  Asking the kernel for it anew each time, zeroed page by
    page, costs a build a tenth of its time.  Nothing changes with other C libraries, nor with a
    glibc that holds the first of the two sizes for too large: the second alone would do harm.
    """
    with suppress(OSError, AttributeError):  # not Linux, or musl
        library = ctypes.CDLL(None)
        if library.mallinfo2 and library.mallopt(_MMAP_THRESHOLD, _MOST):
            library.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)


def kept_memory() -> int:
    """Bytes that were freed and are kept: they count as this process's, and can be used again."""
    with suppress(OSError, AttributeError):
        tell = ctypes.CDLL(None).mallinfo2
        tell.restype = _MallInfo2
        return int(tell().fordblks)
    return 0


def peak_memory_mb(process: int | str = "self") -> float | None:
    """Largest resident size of a process that runs, MB; None where the system does not tell.

    `resource.getrusage` does not serve: it gives a child at least what its parent had at its start.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return None
