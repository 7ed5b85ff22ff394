"""Raws through LibRaw: what it says of them and their pixels; runs in the decoding process."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from defocus_ds.errors import CaptureUnreadable, DevelopFailed
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.decode_image import to_uint8_rgb
from defocus_ds.wording import printable

__all__ = ["develop_raw", "half_size", "inspect", "masked_levels", "opened_raw"]

_BLACK_TOLERANCE = 32
_MASKED_EDGE = 2  # columns left out on either side of the masked ones: they see stray light


@contextmanager
def opened_raw(
    path: Path, data: bytes, *, raw_size: Sequence[int] | None, max_megapixels: float
) -> Iterator[Any]:
    """LibRaw with the file open and not yet unpacked, its sizes checked.

    Whatever LibRaw finds wrong in the block is laid to the file: rawpy unpacks where it needs to,
    also to tell the white balance.

    Args:
        path: names the file in messages; it is not opened.
        data: its bytes.
        raw_size: (width, height) in raw pixels that the header declares; None: unknown.
        max_megapixels: the largest picture, in raw pixels / 1e6.

    Raises:
        CaptureUnreadable: LibRaw refuses it, or its size contradicts the header or the limit.
    """
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            _check_size(path, raw, raw_size, max_megapixels)
            yield raw
    except rawpy.LibRawUnsufficientMemoryError as error:
        raise MemoryError from error
    except rawpy.LibRawError as error:
        text = error.args[0] if error.args else type(error).__name__
        text = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
        raise CaptureUnreadable(
            f"{path.name}: LibRaw cannot decode it ({text}). Copy it again, or leave it out."
        ) from error


def inspect(raw: Any) -> dict[str, Any]:
    """Fields of `CaptureInfo` by name as LibRaw tells them; None where it does not."""
    # rawpy has these two from 0.27 on
    other, lens = getattr(raw, "other", None), getattr(raw, "lens", None)
    iso = getattr(other, "iso_speed", None)
    taken = getattr(other, "timestamp", None)
    wb = raw.camera_whitebalance
    green = wb[1] or 1.0
    width, height = _developed_size(raw.sizes)
    return {
        "width": width,
        "height": height,
        "iso": round(iso) or None if iso else None,
        "exposure_s": getattr(other, "shutter_speed", None) or None,
        "f_number": getattr(other, "aperture", None) or None,
        "focal_length_mm": getattr(other, "focal_length", None) or None,
        "taken": taken.isoformat() if taken else None,
        "lens": printable(getattr(lens, "model", None) or "") or None,
        "white": raw.white_level,
        "bits": max(1, int(raw.white_level).bit_length()),
        "white_balance": [wb[0] / green, 1.0, wb[2] / green] if min(wb[:3]) > 0 else None,
    }


def _developed_size(sizes: Any) -> tuple[int, int]:
    """(width, height) after LibRaw has made the pixels of a few old cameras square."""
    aspect = getattr(sizes, "pixel_aspect", 1.0)
    if aspect < 1:
        return sizes.width, int(sizes.height / aspect + 0.5)
    return int(sizes.width * aspect + 0.5), sizes.height


def half_size(raw: Any) -> UInt8Image:
    """(H/2, W/2, 3) RGB in [0, 255], without interpolation, by the camera's white balance."""
    import rawpy

    pixels = raw.postprocess(
        half_size=True,
        demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR,
        use_camera_wb=True,
        no_auto_bright=True,
        user_flip=0,
    )
    return to_uint8_rgb(pixels)


def develop_raw(
    path: Path, raw: Any, *, plan: dict[str, Any], expected_black: int | None
) -> tuple[UInt8Image, dict[str, Any]]:
    """(H, W, 3) RGB in [0, 255] by a plan, and what LibRaw read on the way.

    Args:
        path: names the file in messages.
        raw: from `opened_raw`.
        plan: the record of a `Development`.
        expected_black: raw level that LibRaw's and the masked pixels' must agree with; None:
            of a camera whose levels are not known.

    Raises:
        DevelopFailed: white balance or black level cannot be right.
    """
    import rawpy

    wb = [float(v) for v in raw.camera_whitebalance]
    balanced = min(wb[:3]) > 0
    if not balanced and (plan["recipe"] == "fixed" or expected_black is not None):
        raise DevelopFailed(
            f"{path.name}: LibRaw reads the white balance as {wb} (all of R, G, B must be "
            "above 0). Its header is damaged; copy the file again or leave the scene out."
        )
    blacks = [int(v) for v in raw.black_level_per_channel]
    if expected_black is not None:
        _check_black(path, blacks, expected_black, "LibRaw reads")
        blacks = masked_levels(path, raw)
        _check_black(path, blacks, expected_black, "the masked pixels give")
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
        # of a camera that stores none, LibRaw takes daylight
        options["use_camera_wb"] = balanced
    white = int(raw.white_level)
    pixels = to_uint8_rgb(raw.postprocess(**options))
    return pixels, {
        "black_measured": blacks,
        "white_balance_read": wb,
        "white_level": white,
        "libraw": ".".join(map(str, rawpy.libraw_version)),
    }


def masked_levels(path: Path, raw: Any) -> list[int]:
    """Mean of the masked pixels left of the picture, of R, G, B and G2 of an RGGB sensor.

    Measured here because LibRaw, depending on the file, believes the makernote instead.

    Raises:
        DevelopFailed: there are no masked pixels of each colour.
    """
    top, left = raw.sizes.top_margin, raw.sizes.left_margin
    samples = raw.raw_image
    masked = samples[top:, _MASKED_EDGE : max(_MASKED_EDGE, left - _MASKED_EDGE)]
    if min(masked.shape) < 2:
        raise DevelopFailed(
            f"{path.name}: the picture starts at column {left}, row {top} of "
            f"{samples.shape[1]}x{samples.shape[0]} raw pixels, which leaves no masked ones to "
            f"measure black in (need a margin of {2 * _MASKED_EDGE + 2} columns). Its SensorInfo "
            "is damaged; copy the file again."
        )
    phases = ((0, 0), (0, 1), (1, 1), (1, 0))
    return [round(float(masked[y::2, x::2].mean(dtype=np.float64))) for y, x in phases]


def _check_black(path: Path, levels: list[int], expected: int, source: str) -> None:
    if max(abs(level - expected) for level in levels) > _BLACK_TOLERANCE:
        raise DevelopFailed(
            f"{path.name}: {source} black levels {levels} (need {expected} +- "
            f"{_BLACK_TOLERANCE}). The file is damaged; copy it again."
        )


def _check_size(
    path: Path, raw: Any, raw_size: Sequence[int] | None, max_megapixels: float
) -> None:
    width, height = raw.sizes.raw_width, raw.sizes.raw_height
    if raw_size and (width, height) != tuple(raw_size):
        raise CaptureUnreadable(
            f"{path.name}: LibRaw sees {width}x{height} raw pixels, the header "
            f"{raw_size[0]}x{raw_size[1]}. The file is damaged; copy it again."
        )
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise CaptureUnreadable(
            f"{path.name}: {width}x{height} raw pixels are {megapixels:.1f} megapixels "
            f"(limit {max_megapixels:g}). If that is right: --set limits.max_megapixels=N."
        )
