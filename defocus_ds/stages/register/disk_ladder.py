"""The sharp capture under a ladder of disks at one level, and the capture laid over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Points, Warp, disk_psf
from defocus_ds.stages.register.planes import Pyramid
from defocus_ds.stages.register.spline import spline_value

__all__ = ["DiskLadder", "disk_ladder", "overlaid"]

_DARK = 0.002  # linear light: the root of what is below it would be noise
_NARROW, _WIDE = np.array([1, 2, 1]) / 4, np.array([1, 8, 28, 56, 70, 56, 28, 8, 1]) / 256


@dataclass(frozen=True, slots=True)
class DiskLadder:
    """What is needed to blur the sharp plane of a level by any disk.

    ``size`` is (width, height) of the level, ``padded`` (height, width) of what was transformed,
    ``spectrum`` its linear light, softened as the capture's is.
    """

    factor: int
    size: tuple[int, int]
    padded: tuple[int, int]
    spectrum: npt.NDArray[np.complex64]

    def plane(self, radius_px: float) -> FloatImage:
        """The sharp capture under a disk of ``radius_px`` full-resolution px, (h, w) float32.

        Values are roots of linear light, in which noise is about the same everywhere.
        """
        kernel = disk_psf(radius_px).astype(np.float64)
        half = kernel.shape[0] // 2
        quadrant = kernel[half:, half:].copy()  # even along both axes: cosines are enough
        quadrant[1:] *= 2
        quadrant[:, 1:] *= 2
        taps = np.arange(half + 1)
        fy, fx = np.fft.fftfreq(self.padded[0]), np.fft.rfftfreq(self.padded[1])
        down, across = (np.cos(2 * np.pi / self.factor * np.outer(f, taps)) for f in (fy, fx))
        response = (down @ quadrant).astype(np.float32) @ across.T.astype(np.float32)
        plane = np.fft.irfft2(self.spectrum * response, s=self.padded)
        return _root(plane[: self.size[1], : self.size[0]])


def disk_ladder(sharp: Pyramid, factor: int, *, scale: float) -> DiskLadder:
    """Transform the sharp plane once.

    Args:
        sharp: pyramid of the sharp image.
        factor: the level; it is made anew from the next finer one, for averaged blocks let
            aliases through, which look like the mark of a smaller disk.
        scale: of the map from the sharp to the blurred frame.  The capture was softened by its
            own pixels and by `overlaid` in its own frame: seen from here that is as much smaller.

    Returns:
        Models at the points of `overlaid`.
    """
    stride, fine, _ = _low_pass(factor)
    width, height = sharp[factor].size
    plane = _softened(sharp[fine].linear, factor)[::stride, ::stride][:height, :width]
    padded = (_smooth(height), _smooth(width))
    room = [(0, large - small) for large, small in zip(padded, plane.shape, strict=True)]
    spectrum = np.fft.rfft2(np.pad(plane, room, mode="reflect"))
    fy, fx = np.fft.fftfreq(padded[0]), np.fft.rfftfreq(padded[1])
    softer = np.multiply.outer(_softening(fy, factor, scale), _softening(fx, factor, scale))
    softened = np.asarray(spectrum * softer.astype(np.float32), np.complex64)
    return DiskLadder(factor, (width, height), padded, softened)


def overlaid(blurred: Pyramid, warp: Warp, factor: int) -> FloatImage:
    """The capture at the level's points of the sharp frame.

    Args:
        blurred: pyramid of the blurred capture.
        warp: sharp frame -> blurred frame, full resolution.
        factor: the level.

    Returns:
        (h, w) float32, roots of linear light as in `DiskLadder.plane`; NaN off the capture.
    """
    stride, fine, _ = _low_pass(factor)
    soft = _softened(blurred[fine].linear, factor)
    level = warp.at_scale(1 / fine, (soft.shape[1], soft.shape[0]))
    width, height = blurred[factor].size
    seen = np.full((height, width), np.nan, np.float32)
    radial = np.array([level.radial / level.half_diagonal_px**2, *level.centre])
    _sample(soft, np.asarray(level.matrix, np.float64), radial, stride, seen)
    return _root(seen)


def _low_pass(factor: int) -> tuple[int, int, npt.NDArray[np.float64]]:
    """(every how manieth point of which finer level, taps that keep aliases out of them)."""
    return (1, 1, _NARROW) if factor == 1 else (2, factor // 2, _WIDE)


def _softened(plane: FloatImage, factor: int) -> FloatImage:
    import cv2

    taps = _low_pass(factor)[2].astype(np.float32)
    return np.asarray(cv2.sepFilter2D(plane, -1, taps, taps, borderType=cv2.BORDER_REFLECT_101))


def _softening(frequency: npt.NDArray[Any], factor: int, scale: float) -> Points:
    """How much softer the capture is than the plane of the sharp one, along one axis.

    Both were averaged over blocks and passed the taps, each in its own frame.  The capture was
    also sampled by a B-spline without its prefilter.
    """
    stride, fine, taps = _low_pass(factor)

    def soft(f: npt.NDArray[Any]) -> Points:
        tapped = np.cos(np.pi * f / stride) ** (len(taps) - 1)
        return np.asarray(tapped * np.sinc(f * fine / factor))

    own = frequency / scale
    ratio = np.where(np.abs(frequency) < 0.499 * stride, soft(own) / soft(frequency), 0.0)
    return np.asarray(ratio * np.sinc(own / stride) ** 4)


def _root(linear: npt.NDArray[Any]) -> FloatImage:
    light = linear.astype(np.float32, copy=False)
    return np.asarray(np.sqrt(np.maximum(light, np.float32(0)) + np.float32(_DARK)))


def _smooth(length: int) -> int:
    """The next even product of 2, 3 and 5, which transforms fast."""
    size = length + length % 2
    while _rest(size) > 1:
        size += 2
    return size


def _rest(number: int) -> int:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number


@numba.njit(cache=True, nogil=True)
def _sample(plane: Any, m: Any, radial: Any, stride: Any, out: Any) -> None:
    """Cubic B-spline weights on the pixels themselves, at every ``stride``-th mapped point."""
    height, width = plane.shape
    k, cx, cy = radial[0], radial[1], radial[2]
    for row in range(out.shape[0]):
        y = row * stride
        dy = y - cy
        for column in range(out.shape[1]):
            x = column * stride
            dx = x - cx
            r = k * (dx * dx + dy * dy)
            sx = m[0, 0] * x + m[0, 1] * y + m[0, 2] + r * dx
            sy = m[1, 0] * x + m[1, 1] * y + m[1, 2] + r * dy
            if 1.0 <= sx < width - 2.0 and 1.0 <= sy < height - 2.0:
                out[row, column] = spline_value(plane, sx, sy)
