"""Run one method on one pair in a process of its own, with one thread, and measure its cost.

Finished runs may be kept in a `work_folder`, from where an interrupted benchmark goes on.

    python benchmarks/isolated.py MODULE METHOD TASK.json RESULT.json

MODULE.run(METHOD, TASK) does the work and says, with the `Stopwatch` it is given, which part of
it counts.  CPU seconds are those of the process and its children; the memory is the largest that
the process or one of its children ever held, interpreter, libraries and images included.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Stopwatch", "remember", "remembered", "run_isolated", "work_folder"]

_KEY = "key.json"

_ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    )
}


class Stopwatch:
    """Sums CPU seconds over named parts: ``with watch("fit"): ...``; parts may be entered twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[tuple[str, float]] = []

    def __call__(self, part: str) -> Stopwatch:
        self._running.append((part, _cpu_seconds()))
        return self

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        part, start = self._running.pop()
        self.seconds[part] = self.seconds.get(part, 0.0) + _cpu_seconds() - start


def run_isolated(
    module: str, method: str, task: dict[str, Any], *, folder: Path, timeout_s: float = 3600
) -> dict[str, Any]:
    """Run ``module.run(method, task, watch)`` in a new process; a failure is a value.

    Args:
        module: name of a module in this folder.
        method: handed on.
        task: JSON-ready; handed on.
        folder: for the files that carry task and result.
        timeout_s: wall-clock limit.

    Returns:
        What ``run`` returned plus ``cpu_s`` (by part) and ``peak_mb``, or ``{"failed": reason}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given, found = folder / "task.json", folder / "result.json"
    given.write_text(json.dumps(task))
    found.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), module, method]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, str(given.resolve()), str(found.resolve())],
            env=os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no result within {timeout_s:g} s"}
    if done.returncode or not found.is_file():
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": lines[-1][:200]}
    result: dict[str, Any] = json.loads(found.read_text())
    return result | {"wall_s": time.perf_counter() - start}


@contextlib.contextmanager
def work_folder(kept: Path | None, **key: object) -> Iterator[Path]:
    """The folder to keep finished runs in, or a temporary one.

    Args:
        kept: the folder, made if it is missing; None is a temporary one.
        key: what the runs in it depend on beside their names (seed, sizes), JSON-ready.  It is
            written to the folder; a folder that has none yet, new or not, takes it over.

    Raises:
        SystemExit: the folder holds the runs of another key.
    """
    if kept is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
        return
    kept.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps(key))  # as it reads back: tuples are lists
    path = kept / _KEY
    if wanted and not path.is_file():
        path.write_text(json.dumps(wanted, sort_keys=True))
    found = json.loads(path.read_text()) if wanted else wanted
    if found != wanted:
        raise SystemExit(
            f"{kept}: holds runs of {_listed(found)}; asked for are {_listed(wanted)}. "
            f"Delete the folder {kept}, or name another one with --work."
        )
    yield kept


def remembered(work: Path, method: str, pair: str) -> dict[str, Any] | None:
    """The finished run of a method on a pair; None if there is none or it failed."""
    path = _record_path(work, method, pair)
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return None if "failed" in found else found


def remember(work: Path, method: str, pair: str, found: dict[str, Any]) -> None:
    """Keep a finished run; a failed one is not kept, so that it is tried again."""
    if "failed" in found:
        return
    path = _record_path(work, method, pair)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found))


def _record_path(work: Path, method: str, pair: str) -> Path:
    plain = "".join(c if c.isalnum() else "-" for c in method)
    return work / "runs" / f"{pair}-{plain}.json"


def _listed(key: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(key.items()))


def peak_mb() -> float:
    """Largest resident memory of this process, or of a child if that held more."""
    status = Path("/proc/self/status")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if status.is_file():  # ru_maxrss of a fresh process starts at its parent's size
        lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        own = int(lines[0].split()[1]) if lines else own
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _cpu_seconds() -> float:
    usages = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _main(module: str, method: str, given: str, found: str) -> None:
    import cv2

    cv2.setNumThreads(1)
    watch = Stopwatch()
    result = importlib.import_module(module).run(method, json.loads(Path(given).read_text()), watch)
    result |= {"cpu_s": watch.seconds, "peak_mb": peak_mb()}
    Path(found).write_text(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
