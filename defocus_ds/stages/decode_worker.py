"""The process that decodes: ``python -m defocus_ds.stages.decode_worker MEGABYTES PARENT``.

Limits its own memory, ends with the process PARENT, reads jobs as lines of JSON on stdin and
answers each with a line of JSON on stdout: ``{"result": ...}`` or ``{"error": name, "message":
text}``.  A job of several files tells which it is at in lines ``{"at": name}`` before.  A crash
here harms nobody else.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import CaptureUnreadable, DevelopFailed, is_for_memory
from defocus_ds.frames import UInt8Image
from defocus_ds.memory import keep_freed_memory, kept_memory

__all__ = ["main"]


class NotSaved(Exception):
    """The pixels could not be written; the text says why."""


def main() -> int:
    """Do the jobs on stdin, until its end."""
    limit_mb, parent = map(int, sys.argv[1:])
    _end_with(parent)
    keep_freed_memory()
    # what a library prints must not be taken for an answer
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    for line in sys.stdin:
        _limit_memory(limit_mb)
        tell(_answer(json.loads(line), lambda name: tell({"at": name})))
    return 0


def _answer(job: dict[str, Any], at: Callable[[str], None]) -> dict[str, Any]:
    try:
        if job["action"] == "sharpness":
            return {"result": _sharpness(job, at)}
        return {"result": {"develop": _develop, "inspect": _inspect}[job["action"]](job)}
    except (CaptureUnreadable, DevelopFailed) as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        name = "MemoryError" if is_for_memory(error) else type(error).__name__
        return {"error": name, "message": str(error)}


def _end_with(parent: int) -> None:
    """A decoder that nobody waits for must not go on, nor write where another build is at work."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


def _limit_memory(megabytes: int) -> None:
    """Of the address space, without what earlier jobs left to be used again."""
    try:
        import resource
    except ImportError:  # not on Windows; the time limit still holds
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = megabytes * 2**20 + kept_memory()
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)  # the soft one is that of the stage
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _develop(job: dict[str, Any]) -> dict[str, Any]:
    path = Path(job["path"])
    data = _read(path)
    pixels, record = _pixels(path, data, job)
    height, width = pixels.shape[:2]
    if job["size"][0] and [width, height] != job["size"]:
        raise CaptureUnreadable(
            f"{path.name}: decodes to {width}x{height}, but its header says "
            f"{job['size'][0]}x{job['size'][1]}. The file is damaged; copy it again."
        )
    try:
        with Path(job["target"]).open("wb") as file:
            np.save(file, pixels, allow_pickle=False)
    except OSError as error:
        raise NotSaved(error.strerror or str(error)) from error
    return record | {
        "width": width,
        "height": height,
        "source_sha256": hashlib.sha256(data).hexdigest(),
        "pixels_sha256": hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest(),
    }


def _pixels(path: Path, data: bytes, job: dict[str, Any]) -> tuple[UInt8Image, dict[str, Any]]:
    if job["kind"] != "raw":
        from defocus_ds.stages.decode_image import decode_stored

        stored = decode_stored(path, data)
        pixels = stored.as_uint8_rgb(white=job["development"]["white"] or 0)
        return pixels, {"highest": stored.highest}
    from defocus_ds.stages.decode_raw import develop_raw

    with _opened(path, data, job) as raw:
        return develop_raw(path, raw, plan=job["development"], expected_black=job["expected_black"])


def _inspect(job: dict[str, Any]) -> dict[str, Any]:
    """What LibRaw says of a raw; levels too, which need its samples, if ``levels`` is set."""
    from defocus_ds.stages.decode_raw import inspect

    path = Path(job["path"])
    with _opened(path, _read(path), job) as raw:
        found = inspect(raw)
        if job.get("levels"):
            found["black_levels"] = [int(v) for v in raw.black_level_per_channel]
        return found


def _sharpness(job: dict[str, Any], at: Callable[[str], None]) -> dict[str, Any]:
    """Relative sharpness of the captures of one scene."""
    import cv2

    from defocus_ds.stages.ingest.roles import relative_sharpness

    cv2.setNumThreads(1)
    images, highest = [], []
    for capture in job["captures"]:
        at(Path(capture["path"]).name)
        image, most = _luma(capture, job)
        images.append(image)
        highest.append(most)
    return {"values": relative_sharpness(images), "highest": highest}


def _luma(capture: dict[str, Any], job: dict[str, Any]) -> tuple[npt.NDArray[Any], int | None]:
    """(H, W) uint8, as cheaply as the file allows: a reduced JPEG, else half size, else all.

    With it the largest sample of an image of 16 bits.
    """
    import cv2

    from defocus_ds.stages.decode_image import decode_stored
    from defocus_ds.stages.decode_raw import half_size
    from defocus_ds.stages.ingest.roles import has_texture, reduced_jpeg

    path = Path(capture["path"])
    quick = reduced_jpeg(
        path,
        window=capture["preview"],
        size=capture["size"],
        max_megapixels=job["max_megapixels"],
    )
    if quick is not None and has_texture(quick):
        return quick, None
    data = _read(path)
    highest = None
    if capture["kind"] == "raw":
        with _opened(path, data, job) as raw:
            rgb = half_size(raw)
    else:
        stored = decode_stored(path, data)
        rgb, highest = stored.as_uint8_rgb(white=job["white"]), stored.highest
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), highest


def _opened(path: Path, data: bytes, job: dict[str, Any]) -> Any:
    from defocus_ds.stages.decode_raw import opened_raw

    return opened_raw(
        path, data, raw_size=job.get("raw_size"), max_megapixels=job["max_megapixels"]
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaptureUnreadable(
            f"{path.name}: cannot be read ({error.strerror or error}). Is it still there?"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
