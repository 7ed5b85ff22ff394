"""What processes take at most is told, and what they free is used again."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from defocus_ds.memory import peak_memory_mb

# page faults of 100 MB taken for the second time
_FAULTS = """
import ctypes, resource, sys
from defocus_ds.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.free.argtypes = [ctypes.c_void_p]
for _ in range(2):
    before, block = faults(), c.malloc(100 << 20)
    ctypes.memset(block, 1, 100 << 20)
    c.free(block)
    found = faults() - before
print(found)
"""


def faults(what: str) -> int:
    command = [sys.executable, "-c", _FAULTS, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others are left alone")
def test_freed_memory_is_kept() -> None:
    assert faults("keep") < 10 < faults("give back")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
def test_peak_of_a_child_is_its_own() -> None:
    held = np.ones(300 << 20, np.uint8)
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = peak_memory_mb(child.pid)
        child.communicate(b"\n")
    own = peak_memory_mb()
    assert found is not None
    assert own is not None
    assert 1 < found < 150
    assert own > held.nbytes / 2**20
    assert peak_memory_mb(2**22 + 1) is None  # above the largest number of a process


# room for a stage after a large one: its holes below a block that stays are of no use to it
_NEIGHBOUR = """
import ctypes, sys
from defocus_ds.memory import keep_freed_memory
from defocus_ds.pipeline.usage import limited_memory
keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.free.argtypes = [ctypes.c_void_p]
blocks = [c.malloc(100 << 20) for _ in range(10)]
pinned = c.malloc(100)
for block in blocks:
    c.free(block)
with limited_memory(1300):
    print(bool(c.malloc(100 << 20)), bool(c.malloc(950 << 20)), bool(c.malloc(1000 << 20)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory so")
def test_whether_a_stage_has_room_does_not_depend_on_the_one_before() -> None:
    command = [sys.executable, "-c", _NEIGHBOUR]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told == ["True", "True", "False"]
