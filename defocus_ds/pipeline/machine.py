"""What this machine has free; in a container, what the container has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["free_cores", "free_memory_mb"]

_ROOT = Path("/")


def free_cores(*, root: Path = _ROOT) -> int:
    """Cores that this process may use, >= 1: its affinity and the quotas of its control groups.

    Args:
        root: where ``/proc`` and ``/sys/fs/cgroup`` are found.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for group in _groups(root, "cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if (group / "cpu.max").exists():
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota = (group / "cpu.cfs_quota_us").read_text()
                period = (group / "cpu.cfs_period_us").read_text()
            if quota != "max" and int(quota) > 0:  # version 1 writes -1 for no quota
                cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def free_memory_mb(*, root: Path = _ROOT) -> int | None:
    """Memory that new processes can have now, in MB >= 0; None where the system does not tell.

    Args:
        root: where ``/proc`` and ``/sys/fs/cgroup`` are found.
    """
    free = [_free_in(group) for group in _groups(root, "memory")]
    with suppress(OSError, IndexError, ValueError):
        meminfo = (root / "proc/meminfo").read_text()
        free.append(int(meminfo.split("MemAvailable:")[1].split()[0]) // 1024)
    return min((mb for mb in free if mb is not None), default=None)


def _free_in(group: Path) -> int | None:
    """What is left of a control group's limit in MB; cached files give way and count as free."""
    for limit_name, usage_name, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            limit = int((group / limit_name).read_text())
            usage = int((group / usage_name).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            cached = sum(
                int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive")
            )
            return max(0, limit - usage + cached) // 2**20
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that bound this process, of versions 2 and 1, innermost first.

    A group is bounded by those around it.  In a container its path may be the host's, which is
    not mounted: then the mount's own root is the container's group.
    """
    mounts = root / "sys/fs/cgroup"
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            inner = Path(path.lstrip("/"))
            inside = [part for part in (inner, *inner.parents) if ".." not in part.parts]
            for base in dict.fromkeys([mounts / controller, mounts / names] if names else [mounts]):
                yield from (base / part for part in inside)
