"""A container counts as the machine: its cores, its memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from defocus_ds.config import LimitsConfig
from defocus_ds.pipeline import auto_jobs
from defocus_ds.pipeline.machine import free_cores, free_memory_mb
from defocus_ds.pipeline.place import choose_place

GB = 2**30
HOST_GB = 256


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)


def machine(root: Path, cgroup: str, files: dict[str, object]) -> Path:
    """A host of 256 GB whose files say this of the control groups."""
    texts = {
        "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {HOST_GB * 2**20} kB\n",
        "proc/self/cgroup": cgroup,
    } | {f"sys/fs/cgroup/{name}": str(text) for name, text in files.items()}
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def version_2(group: str, limit: object, used: int, cached: int = 0) -> dict[str, object]:
    return {
        f"{group}memory.max": limit,
        f"{group}memory.current": used,
        f"{group}memory.stat": f"anon 5\nactive_file {cached // 2}\ninactive_file {cached // 2}",
    }


def test_a_container_of_4_gb_on_a_large_host_gets_one_worker(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/", version_2("", 4 * GB, GB // 2))
    assert free_memory_mb(root=root) == 3584
    assert auto_jobs(root=root) == 1
    assert auto_jobs(LimitsConfig(stage_memory_mb=1000), root=root) == 3


def test_cached_files_count_as_free(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/", version_2("", 8 * GB, 7 * GB, cached=6 * GB))
    assert free_memory_mb(root=root) == 7 * 1024


def test_a_group_is_bounded_by_those_around_it(tmp_path: Path) -> None:
    files = version_2("jobs.slice/", 16 * GB, GB) | version_2("jobs.slice/a/", "max", GB)
    files |= {"jobs.slice/cpu.max": "600000 100000", "jobs.slice/a/cpu.max": "max 100000"}
    root = machine(tmp_path, "0::/jobs.slice/a", files)
    assert free_memory_mb(root=root) == 15 * 1024
    assert free_cores(root=root) == 6
    assert auto_jobs(root=root) == 5


@pytest.mark.parametrize("path", ["/docker/1234", "/"], ids=["the host's path", "its own root"])
def test_version_1_is_read_too(tmp_path: Path, path: str) -> None:
    files = {
        "memory/memory.limit_in_bytes": 6 * GB,
        "memory/memory.usage_in_bytes": 2 * GB,
        "memory/memory.stat": f"active_file 7\ntotal_active_file 0\ntotal_inactive_file {GB}",
        "cpu,cpuacct/cpu.cfs_quota_us": 250000,
        "cpu,cpuacct/cpu.cfs_period_us": 100000,
    }
    root = machine(tmp_path, f"3:memory:{path}\n2:cpu,cpuacct:{path}", files)
    assert free_memory_mb(root=root) == 5 * 1024
    assert free_cores(root=root) == 2


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("0::/", {}),
        ("0::/", version_2("", "max", GB) | {"cpu.max": "max 100000"}),
        ("0::/../../elsewhere", {"../outside/memory.max": 1}),
        (
            "4:memory:/\n1:cpu:/",
            {
                "memory/memory.limit_in_bytes": 2**63 - 4096,
                "memory/memory.usage_in_bytes": GB,
                "memory/memory.stat": "total_active_file 0",
                "cpu/cpu.cfs_quota_us": -1,
                "cpu/cpu.cfs_period_us": 100000,
            },
        ),
        ("nonsense", {}),
    ],
    ids=["no groups", "no limits", "outside", "version 1 without limits", "damaged"],
)
def test_without_limits_the_host_counts(
    tmp_path: Path, cgroup: str, files: dict[str, object]
) -> None:
    root = machine(tmp_path, cgroup, files)
    assert free_memory_mb(root=root) == HOST_GB * 1024
    assert free_cores(root=root) == 32
    assert auto_jobs(root=root) == 32


def test_half_a_core_is_one_worker(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/", {"cpu.max": "50000 100000"})
    assert free_cores(root=root) == 1


def test_a_system_that_tells_nothing_counts_its_cores(tmp_path: Path) -> None:
    assert free_memory_mb(root=tmp_path) is None
    assert auto_jobs(root=tmp_path) == 32


def test_fewer_workers_than_cores_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for name in ("pipeline.pool", "pipeline.place"):
        monkeypatch.setattr(f"defocus_ds.{name}.free_memory_mb", lambda **_: 7000)
    choose_place(LimitsConfig(), jobs=None, scheduler=None, on_notice=said.append)
    assert said == [
        "2 of 32 cores used: 7000 MB are free, and a worker may need 3000 "
        "(limits.stage_memory_mb). --jobs N decides otherwise."
    ]
    choose_place(LimitsConfig(), jobs=1, scheduler=None, on_notice=said.append)
    assert len(said) == 1
