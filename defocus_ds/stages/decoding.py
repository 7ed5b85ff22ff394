"""Decoding in a process of its own, with limits on memory and time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import defocus_ds
from defocus_ds.config import LimitsConfig
from defocus_ds.errors import CaptureUnreadable, DevelopFailed, StageFailed, WorkerDied

__all__ = ["run_decoder"]

_ERRORS: dict[str, type[StageFailed]] = {
    "CaptureUnreadable": CaptureUnreadable,
    "DevelopFailed": DevelopFailed,
}
# the rest of the environment is left out: it must not be able to change pixels
_KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def run_decoder(action: str, path: Path, *, limits: LimitsConfig, **job: Any) -> dict[str, Any]:
    """Run one job of `defocus_ds.stages.decode_worker`.

    Args:
        action: "develop", "inspect" or "preview".
        path: the capture.
        limits: memory and time of the process, and the largest picture.
        job: JSON values that the action needs.

    Returns:
        The action's result.

    Raises:
        CaptureUnreadable: the file is damaged.
        DevelopFailed: it decodes to something that cannot be right.
        WorkerDied: a limit was hit, or the process was killed.
    """
    job |= {
        "action": action,
        "path": str(path.absolute()),
        "memory_mb": limits.decode_memory_mb,
        "max_megapixels": limits.max_megapixels,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "defocus_ds.stages.decode_worker"],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=limits.decode_timeout_s,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerDied(
            f"{path.name}: decoding took longer than {limits.decode_timeout_s:g} s and was "
            "stopped. If the machine is slow: --set limits.decode_timeout_s=N."
        ) from error
    answer = _answer(done.stdout)
    if answer is None or answer.get("error") == "MemoryError":
        how = "ran out of memory" if answer else f"died ({_how_it_died(done)})"
        raise WorkerDied(
            f"{path.name}: the decoder {how}, its limit being {limits.decode_memory_mb} MB. "
            "If the file is sound: --set limits.decode_memory_mb=N."
        )
    if "error" in answer:
        raise _ERRORS[answer["error"]](answer["message"])
    result: dict[str, Any] = answer["result"]
    return result


def _environment() -> dict[str, str]:
    package_root = str(Path(defocus_ds.__file__).resolve().parent.parent)
    search = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    threads = dict.fromkeys(_ONE_THREAD, "1")
    return kept | threads | {"PYTHONPATH": os.pathsep.join(search), "PYTHONIOENCODING": "utf-8"}


def _answer(stdout: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(stdout)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _how_it_died(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"signal {signal.Signals(-done.returncode).name}"
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"exit status {done.returncode}" + (f", {last[0][:200]}" if last else "")
