"""One pair by hand: two files in, two arrays out, pictures back."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defocus_ds.config import BuildConfig
from defocus_ds.errors import CaptureUnreadable, DevelopFailed, InputError
from defocus_ds.frames import Bracket, Capture, Level, UInt8Image
from defocus_ds.optics import Transfer

__all__ = ["LoadedPair", "load_pair", "red_cyan"]


@dataclass(frozen=True, slots=True)
class LoadedPair:
    """Developed pixels of a pair, (H, W, 3) uint8 RGB, and the curve of their values."""

    sharp: UInt8Image
    blurred: UInt8Image
    transfer: Transfer


def load_pair(
    sharp: Path | str, blurred: Path | str, *, config: BuildConfig | None = None
) -> LoadedPair:
    """Develop two captures as a bracket of two, with the sharp one's recipe.

    Args:
        sharp, blurred: raw files, or images, of one camera and size.
        config: how raw files are developed, and the limits; None is the default.

    Raises:
        InputError: a file cannot be used, or the two are not of one kind and size.
        WorkerDied: a limit was hit.
    """
    try:
        return _load_pair(Path(sharp), Path(blurred), config or BuildConfig())
    except (CaptureUnreadable, DevelopFailed) as error:
        raise InputError(str(error)) from error


def red_cyan(sharp: UInt8Image, before: UInt8Image, after: UInt8Image) -> UInt8Image:
    """Two overlays side by side, before and after: sharp in red, blurred in green and blue.

    Edges that coincide are gray; a shift shows as red and cyan fringes.

    Args:
        sharp: (H, W, 3) uint8.
        before: the blurred capture as it was, same shape.
        after: the blurred capture in the sharp frame, same shape.

    Returns:
        (H, 2 W, 3) uint8.
    """
    halves = []
    for blurred in (before, after):
        overlay = np.repeat(blurred[..., 1:2], 3, axis=2)
        overlay[..., 0] = sharp[..., 1]
        halves.append(overlay)
    return np.concatenate(halves, axis=1)


def _load_pair(sharp: Path, blurred: Path, config: BuildConfig) -> LoadedPair:
    from defocus_ds.stages.develop import check_bit_depth, develop, plan_development
    from defocus_ds.stages.ingest.header import read_header

    captures = tuple(
        Capture(path, level, level.offset, read_header(path, limits=config.limits).info)
        for path, level in ((sharp, Level.SHARP), (blurred, Level.LOW))
    )
    kinds = [c.info.kind for c in captures]
    if kinds[0] != kinds[1]:
        raise InputError(f"{sharp} is a {kinds[0]}, {blurred} a {kinds[1]}: give two of one kind.")
    bracket = Bracket(f"{sharp.name} and {blurred.name}", captures)
    development = plan_development(bracket, config.develop, limits=config.limits)
    pixels, records = [], []
    with tempfile.TemporaryDirectory(prefix="defocus-ds-") as folder:
        for capture in captures:
            target = Path(folder) / f"{capture.level}.npy"
            records.append(
                develop(capture, development=development, limits=config.limits, target=target)
            )
            pixels.append(np.load(target, allow_pickle=False))
    check_bit_depth(records, config=config.develop)
    if pixels[0].shape != pixels[1].shape:
        (h, w), (bh, bw) = pixels[0].shape[:2], pixels[1].shape[:2]
        raise InputError(
            f"{sharp} is {w}x{h}, {blurred} {bw}x{bh}: a pair is one camera, one size."
        )
    return LoadedPair(pixels[0], pixels[1], development.transfer)
