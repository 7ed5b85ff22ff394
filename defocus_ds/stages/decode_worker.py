"""The process that decodes one capture: ``python -m defocus_ds.stages.decode_worker``.

Reads a job as JSON on stdin, limits its own memory, and writes ``{"result": ...}`` or
``{"error": name, "message": text}`` as JSON on stdout.  A crash here harms nobody else.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import CaptureUnreadable, DevelopFailed
from defocus_ds.frames import UInt8Image

__all__ = ["main"]

_BLACK_TOLERANCE = 32


def main() -> int:
    """Do the job on stdin; the exit status is 0 whenever there is an answer on stdout."""
    job = json.load(sys.stdin)
    _limit_memory(job["memory_mb"])
    answer: dict[str, Any]
    try:
        answer = {"result": _ACTIONS[job["action"]](job)}
    except (CaptureUnreadable, DevelopFailed) as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        answer = {"error": "MemoryError", "message": ""}
    json.dump(answer, sys.stdout)
    return 0


def to_uint8_rgb(pixels: npt.NDArray[Any]) -> UInt8Image:
    """(H, W[, 1 | 3 | 4]) uint8 or uint16 in RGB order as (H, W, 3) uint8; alpha is dropped.

    16 bits become 8 by rounding ``value * 255 / 65535``.
    """
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] < 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3], np.uint8)


def _limit_memory(megabytes: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows; the time limit still holds
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = megabytes * 2**20
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _develop(job: dict[str, Any]) -> dict[str, Any]:
    path = Path(job["path"])
    data = _read(path)
    if job["kind"] == "raw":
        pixels, record = _develop_raw(path, data, job)
    else:
        pixels, record = _decode_image(path, data), {}
    height, width = pixels.shape[:2]
    if job["size"][0] and [width, height] != job["size"]:
        raise CaptureUnreadable(
            f"{path.name}: decodes to {width}x{height}, but its header says "
            f"{job['size'][0]}x{job['size'][1]}. The file is damaged; copy it again."
        )
    with Path(job["target"]).open("wb") as file:
        np.save(file, pixels, allow_pickle=False)
    return record | {
        "width": width,
        "height": height,
        "source_sha256": hashlib.sha256(data).hexdigest(),
        "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
    }


def _inspect(job: dict[str, Any]) -> dict[str, Any]:
    """What LibRaw says of a raw; levels too, which need its samples, if ``levels`` is set."""
    path = Path(job["path"])
    with _open_raw(path, _read(path), job) as raw:
        other, wb = raw.other, raw.camera_whitebalance
        green = wb[1] or 1.0
        found: dict[str, Any] = {
            "width": raw.sizes.width,
            "height": raw.sizes.height,
            "iso": round(other.iso_speed) or None,
            "exposure_s": other.shutter_speed or None,
            "f_number": other.aperture or None,
            "focal_length_mm": other.focal_length or None,
            "taken": other.timestamp.isoformat() if other.timestamp else None,
            "lens": raw.lens.model or None,
            "white": raw.white_level,
            "bits": max(1, int(raw.white_level).bit_length()),
            "white_balance": [wb[0] / green, 1.0, wb[2] / green] if min(wb[:3]) > 0 else None,
        }
        if job.get("levels"):
            found["black_levels"] = [int(v) for v in raw.black_level_per_channel]
        return found


def _preview(job: dict[str, Any]) -> dict[str, Any]:
    """A half-size development of each raw, the decoded pixels of each image, as ``targets``."""
    for name, kind, target in zip(job["paths"], job["kinds"], job["targets"], strict=True):
        path = Path(name)
        data = _read(path)
        pixels = _half_size(path, data, job) if kind == "raw" else _decode_image(path, data)
        with Path(target).open("wb") as file:
            np.save(file, to_uint8_rgb(pixels), allow_pickle=False)
    return {}


def _half_size(path: Path, data: bytes, job: dict[str, Any]) -> npt.NDArray[Any]:
    import rawpy

    with _open_raw(path, data, job) as raw:
        return np.asarray(
            _guard(
                path,
                lambda: raw.postprocess(
                    half_size=True,
                    demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR,
                    use_camera_wb=True,
                    no_auto_bright=True,
                    user_flip=0,
                ),
            )
        )


def _develop_raw(path: Path, data: bytes, job: dict[str, Any]) -> tuple[UInt8Image, dict[str, Any]]:
    import rawpy

    plan = job["development"]
    with _open_raw(path, data, job) as raw:
        wb = [float(v) for v in raw.camera_whitebalance]
        if not min(wb[:3]) > 0:
            raise DevelopFailed(
                f"{path.name}: LibRaw reads the white balance as {wb} (all of R, G, B must be "
                "above 0). Its header is damaged; copy the file again or leave the scene out."
            )
        blacks = [int(v) for v in _guard(path, lambda: raw.black_level_per_channel)]
        if (expected := job["expected_black"]) is not None:
            _check_black(path, blacks, expected, "LibRaw reads")
            blacks = _masked_levels(raw)
            _check_black(path, blacks, expected, "the masked pixels give")
        options: dict[str, Any] = {
            "demosaic_algorithm": rawpy.DemosaicAlgorithm[plan["demosaic"]],
            "output_color": rawpy.ColorSpace.sRGB,
            "output_bps": 8,
            "user_flip": 0,
            "gamma": (2.222, 4.5),
        }
        if plan["recipe"] == "fixed":
            red, green, blue = plan["white_balance"]
            black = min(plan["black_levels"])
            options |= {
                "user_wb": [red, green, blue, green],
                "no_auto_bright": True,
                "bright": 1.0,
                "adjust_maximum_thr": 0.0,
                "user_black": black,
                "user_cblack": [b - black for b in plan["black_levels"]],
                "user_sat": plan["white"] - black,  # LibRaw compares it after subtraction
            }
        else:
            options["use_camera_wb"] = True
        white = int(raw.white_level)
        pixels = to_uint8_rgb(_guard(path, lambda: raw.postprocess(**options)))
    return pixels, {
        "black_measured": blacks,
        "white_balance_read": wb,
        "white_level": white,
        "libraw": ".".join(map(str, rawpy.libraw_version)),
    }


def _masked_levels(raw: Any) -> list[int]:
    """Mean of the masked pixels left of the picture, of R, G, B and G2 of an RGGB sensor.

    Measured here because LibRaw, depending on the file, believes the makernote instead.
    """
    top, left = raw.sizes.top_margin, raw.sizes.left_margin
    masked = raw.raw_image[top:, 2 : left - 2]
    phases = ((0, 0), (0, 1), (1, 1), (1, 0))
    return [round(float(masked[y::2, x::2].mean(dtype=np.float64))) for y, x in phases]


def _check_black(path: Path, levels: list[int], expected: int, source: str) -> None:
    if max(abs(level - expected) for level in levels) > _BLACK_TOLERANCE:
        raise DevelopFailed(
            f"{path.name}: {source} black levels {levels} (need {expected} +- "
            f"{_BLACK_TOLERANCE}). The file is damaged; copy it again."
        )


def _open_raw(path: Path, data: bytes, job: dict[str, Any]) -> Any:
    """LibRaw with the file open and not yet unpacked, its sizes checked."""
    import rawpy

    raw = _guard(path, lambda: rawpy.imread(io.BytesIO(data)))
    sizes = raw.sizes
    declared = [sizes.raw_width, sizes.raw_height]
    if job.get("raw_size") and declared != job["raw_size"]:
        raise CaptureUnreadable(
            f"{path.name}: LibRaw sees {declared[0]}x{declared[1]} raw pixels, the header "
            f"{job['raw_size'][0]}x{job['raw_size'][1]}. The file is damaged; copy it again."
        )
    megapixels = declared[0] * declared[1] / 1e6
    if megapixels > job["max_megapixels"]:
        raise CaptureUnreadable(
            f"{path.name}: {declared[0]}x{declared[1]} raw pixels are {megapixels:.1f} megapixels "
            f"(limit {job['max_megapixels']:g}). "
            "If that is right: --set limits.max_megapixels=N."
        )
    return raw


def _guard(path: Path, work: Any) -> Any:
    """Run a LibRaw call; its errors become ours."""
    import rawpy

    try:
        return work()
    except rawpy.LibRawUnsufficientMemoryError as error:
        raise MemoryError from error
    except rawpy.LibRawError as error:
        text = error.args[0] if error.args else type(error).__name__
        text = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
        raise CaptureUnreadable(
            f"{path.name}: LibRaw cannot decode it ({text}). Copy it again, or leave it out."
        ) from error


def _decode_image(path: Path, data: bytes) -> UInt8Image:
    failed = f"{path.name}: its pixels cannot be decoded; the file is damaged. Copy it again."
    if data.startswith(b"\xff\xd8"):
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # the header's size was checked against our own limit
        try:
            with Image.open(io.BytesIO(data)) as image:
                return to_uint8_rgb(np.asarray(image.convert("RGB")))
        except (OSError, ValueError, SyntaxError) as error:
            raise CaptureUnreadable(f"{failed} ({error})") from error
    import cv2

    if data.startswith(b"\x89PNG"):
        _check_png(path, data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        raise CaptureUnreadable(failed)
    if decoded.ndim == 3 and decoded.shape[2] >= 3:
        decoded = decoded[..., 2::-1]  # OpenCV keeps blue first
    return to_uint8_rgb(decoded)


def _check_png(path: Path, data: bytes) -> None:
    """The checksum of every chunk: decoders only warn of a wrong one."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        stored = int.from_bytes(data[end : end + 4], "big")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != stored:
            name = data[at + 4 : at + 8].decode("ascii", "replace")
            raise CaptureUnreadable(
                f"{path.name}: the PNG chunk {name} at byte {at} does not match its checksum. "
                "The file is damaged; copy it again."
            )
        at = end + 4


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaptureUnreadable(
            f"{path.name}: cannot be read ({error.strerror or error}). Is it still there?"
        ) from error


_ACTIONS = {"develop": _develop, "inspect": _inspect, "preview": _preview}

if __name__ == "__main__":
    sys.exit(main())
