"""Decoding in a process of its own, with limits on memory and time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, Self

import defocus_ds
from defocus_ds.config import LimitsConfig
from defocus_ds.errors import CaptureUnreadable, DevelopFailed, StageFailed, WorkerDied
from defocus_ds.memory import peak_memory_mb

__all__ = ["Decoder", "run_decoder"]

_COMMAND = (sys.executable, "-P", "-m", "defocus_ds.stages.decode_worker")
_ERRORS: dict[str, type[StageFailed]] = {
    "CaptureUnreadable": CaptureUnreadable,
    "DevelopFailed": DevelopFailed,
}
# the rest of the environment is left out: it must not be able to change pixels
_KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def run_decoder(action: str, path: Path, *, limits: LimitsConfig, **job: Any) -> dict[str, Any]:
    """One job in a process that ends with it; arguments and errors as in `Decoder.run`."""
    with Decoder(limits) as decoder:
        return decoder.run(action, path, **job)


class Decoder:
    """The process of `defocus_ds.stages.decode_worker`, for one job after the other.

    It is started by the first job, and again by the job after one that ended it.

    Args:
        limits: memory of the process, time of each job, and the largest picture.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, action: str, path: Path, **job: Any) -> dict[str, Any]:
        """Do one job.

        Args:
            action: "develop", "inspect" or "sharpness".
            path: the capture, or the first of several.
            job: JSON values that the action needs.

        Returns:
            The action's result.

        Raises:
            CaptureUnreadable: the file is damaged.
            DevelopFailed: it decodes to something that cannot be right.
            WorkerDied: a limit was hit, the process was killed, or the decoder has a fault.
            OSError: the result could not be written.
        """
        job |= {
            "action": action,
            "path": str(path.absolute()),
            "max_megapixels": self._limits.max_megapixels,
        }
        process = self._process or self._start()
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limits.decode_timeout_s, stop)
        timer.start()
        try:
            name, answer = _converse(process, job, path.name)
        finally:
            timer.cancel()
            timer.join()  # else it could still kill the next job
        if answer is None:
            text = self._epitaph(process, late=late.is_set())
            self.close()
            raise WorkerDied(f"{name}: {text}")
        fault = answer.get("error")
        if late.is_set() or (fault is not None and fault not in _ERRORS):
            self.close()  # its state is not to be trusted with another file
        if fault == "NotSaved":
            raise OSError(answer["message"])
        if fault is not None:
            raise self._error(name, fault, answer["message"])
        result: dict[str, Any] = answer["result"]
        return result

    def peak_memory_mb(self) -> float:
        """Largest resident size of the process so far; 0 where the system does not tell."""
        found = None if self._process is None else peak_memory_mb(self._process.pid)
        return round(found or 0.0, 1)

    def close(self) -> None:
        """End the process, if there is one; it has nothing left to write."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _start(self) -> subprocess.Popen[bytes]:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [*_COMMAND, str(self._limits.decode_memory_mb), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
        )
        return self._process

    def _epitaph(self, process: subprocess.Popen[bytes], *, late: bool) -> str:
        """Why there is no answer."""
        if late:
            return (
                f"decoding took longer than {self._limits.decode_timeout_s:g} s and was "
                "stopped. If the machine is slow: --set limits.decode_timeout_s=N."
            )
        status = process.wait()
        if status < 0:
            return self._out_of_memory(f"died (signal {signal.Signals(-status).name})")
        last = ""
        if self._log is not None:
            self._log.seek(0)
            last = "".join(
                f", {line[:200]}"
                for line in self._log.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            )
        return f"the decoder stopped (exit status {status}{last}). Is the installation complete?"

    def _error(self, name: str, kind: str, message: str) -> StageFailed:
        if kind == "MemoryError":
            return WorkerDied(f"{name}: {self._out_of_memory('ran out of memory')}")
        if kind in _ERRORS:
            return _ERRORS[kind](message)
        told = " ".join(f"{kind}: {message}".split())[:300]
        return WorkerDied(
            f"{name}: the decoder failed with {told}. That is a fault of the software, not of a "
            "limit: leave the file out, or check the versions of rawpy and OpenCV."
        )

    def _out_of_memory(self, how: str) -> str:
        return (
            f"the decoder {how}, its limit being {self._limits.decode_memory_mb} MB. "
            "If the file is sound: --set limits.decode_memory_mb=N."
        )


def _converse(
    process: subprocess.Popen[bytes], job: dict[str, Any], name: str
) -> tuple[str, dict[str, Any] | None]:
    """Send a job; the file it was last at, and its answer, None if the process ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    except OSError:  # it ended before it could listen
        return name, None
    for line in process.stdout:
        if not line.endswith(b"\n"):
            break
        message: dict[str, Any] = json.loads(line)
        if "at" not in message:
            return name, message
        name = message["at"]
    return name, None


def _environment() -> dict[str, str]:
    package_root = str(Path(defocus_ds.__file__).resolve().parent.parent)
    search = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    threads = dict.fromkeys(_ONE_THREAD, "1")
    return kept | threads | {"PYTHONPATH": os.pathsep.join(search), "PYTHONIOENCODING": "utf-8"}
