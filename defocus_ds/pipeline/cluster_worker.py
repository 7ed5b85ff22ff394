"""A worker of a Dask cluster: it looks whether it is fit for the build, then does a stage."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import defocus_ds
from defocus_ds.memory import keep_freed_memory
from defocus_ds.pipeline.plan import STAGES, current_versions
from defocus_ds.pipeline.task import StageTask

__all__ = ["Refused", "Terms", "claimed", "do_stage", "software"]

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Refused(Exception):
    """The worker is not fit for this build; its text says why."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker must see and have: a file that only this build made, and the same software."""

    claim: Path
    software: dict[str, str]


def do_stage(work: Callable[[StageTask], object], task: StageTask, terms: Terms) -> None:
    """One stage on a worker; its result is its receipt.

    Raises:
        Refused: this process does not meet the terms; nothing was done.
        StageFailed: as `run_stage`.
    """
    import cv2

    if reason := _unfit(task, terms):
        raise Refused(reason)
    cv2.setNumThreads(1)
    keep_freed_memory()
    work(replace(task, claim=terms.claim))


def _unfit(task: StageTask, terms: Terms) -> str:
    """Why this process must not do the task; empty if it may."""
    here = software()
    differing = [
        f"{name} is {here.get(name, 'missing')}, not {version}"
        for name, version in terms.software.items()
        if here.get(name) != version
    ]
    if differing:
        return f"{'; '.join(differing)}. Install what the build has, with constraints.txt."
    unset = [f"{name}=1" for name in _ONE_THREAD if os.environ.get(name) != "1"]
    if unset:
        return f"it would use several threads. Start it with {' '.join(unset)}."
    if not os.access(terms.claim, os.W_OK):
        return (
            f"it does not see {terms.claim.parent} as this build does, or cannot write there. "
            "Mount the folder under the same path on every machine."
        )
    if not task.shoot.is_dir():
        return f"it does not see {task.shoot}. Mount it under the same path on every machine."
    return ""


@cache
def software() -> dict[str, str]:
    """Versions that must be equal for equal bytes: Python, libraries, this package by its files."""
    package = Path(defocus_ds.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    libraries = {n: v for s in STAGES["accurate"] for n, v in current_versions(s).items()}
    python = ".".join(map(str, sys.version_info[:2]))
    return libraries | {"Python": python, "the code of defocus-ds": digest.hexdigest()[:12]}


@contextmanager
def claimed(dataset: Path) -> Iterator[Path]:
    """A file that no other folder of this name has; builds sweep away those of killed builds."""
    path = dataset / f".tmp-cluster-{uuid.uuid4().hex}"
    path.touch(exist_ok=False)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
