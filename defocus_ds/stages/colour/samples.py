"""Colours to compare: the blurred capture's and what they should be, at corresponding places.

The target of a blur-matched comparison is the sharp image blurred by the matching disk in
linear light.  It is computed only where it is sampled, on area-averaged images: averaging both
captures alike removes noise and leaves the correspondence of their colours as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.errors import ColourFailed
from defocus_ds.frames import FloatImage
from defocus_ds.optics import Transfer, Warp, disk_psf, to_linear

__all__ = ["Draw", "Samples", "as_integers", "blur_matched_samples", "plain_samples"]

_MIN_SMALL_RADIUS = 1.4  # px of the averaged image; below it the disk's shape is lost
_MAX_CLIPPED = 0.002  # share of the support of a sample that may be clipped


@dataclass(frozen=True, slots=True)
class Draw:
    """Where colours are drawn from, and how many.

    Attributes:
        area: (x0, y0, x1, y1), half-open, of the sharp frame.
        count: places to draw.
        transfer: curve of the stored values.
        seed: of the draw.
    """

    area: tuple[int, int, int, int]
    count: int
    transfer: Transfer
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Colours of the blurred capture and of its target.

    Attributes:
        blurred: (N, 3) float32, linear light.
        target: (N, 3) float32, linear light, row by row the same coordinates.
        averaged: side in px of the square that each colour is the mean of.
        clipped_share: share of the drawn places left out because light was clipped there, of
            those that lie in both images.
    """

    blurred: FloatImage
    target: FloatImage
    averaged: int
    clipped_share: float


def as_integers(image: npt.NDArray[Any], name: str = "image") -> npt.NDArray[Any]:
    """The image as contiguous uint8 or uint16; floats in [0, 1] become uint16.

    Raises:
        TypeError: no array.
        ColourFailed: not (H, W, 3), or of another type.
    """
    takes = "(H, W, 3), uint8, uint16 or float in [0, 1]"
    require_array(image, f"match_colour: {name}", takes=takes)
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ColourFailed(
            f"{name} has shape {image.shape}; need (H, W, 3), not empty. Give it three channels."
        )
    if image.dtype in (np.uint8, np.uint16):
        return np.asarray(image, order="C")
    if image.dtype.kind != "f":
        raise ColourFailed(
            f"{name} is {image.dtype}; need uint8, uint16 or float in [0, 1]. Convert it first."
        )
    return np.asarray(np.round(np.clip(image, 0, 1) * 65535), np.uint16)


def blur_matched_samples(
    blurred: npt.NDArray[Any],
    sharp: npt.NDArray[Any],
    *,
    warp: Warp,
    radius_px: float,
    draw: Draw,
    averaged: int | None = None,
) -> Samples:
    """Blurred colours, and those of the sharp image blurred by the disk, at the same places.

    Args:
        blurred: (H, W, 3) uint8 or uint16.
        sharp: (h, w, 3) uint8 or uint16.
        warp: sharp frame -> blurred frame.
        radius_px: disk radius in px, >= 0.
        draw: where and how many.
        averaged: side in px of the squares that are averaged; by default as large as the
            radius allows.

    Returns:
        At most ``draw.count`` pairs: places with clipped light under the disk are left out, as
        are places that lie outside the blurred image.

    Raises:
        ColourFailed: the area leaves the sharp image or is too small for the disk, or nothing
            unclipped is left.
    """
    _check_area(draw.area, sharp)
    x0, y0, x1, y1 = draw.area
    factor = averaged or _averaging(radius_px, (x1 - x0) * (y1 - y0), draw.count)
    small_radius = np.sqrt(max((radius_px**2 + 1 / 3) / factor**2 - 1 / 3, 0.0))
    kernel = disk_psf(float(small_radius))
    half = kernel.shape[0] // 2
    left, top = -(-x0 // factor) + half, -(-y0 // factor) + half
    width, height = x1 // factor - half - left, y1 // factor - half - top
    if width < 4 or height < 4:
        raise ColourFailed(
            f"the common area {x1 - x0} x {y1 - y0} px is too small for a blur of radius "
            f"{radius_px:.1f} px; {(2 * half + 6) * factor} px a side are enough. "
            "Are the two images of one scene?"
        )
    rng = np.random.default_rng(draw.seed)
    cell = np.sort(rng.integers(0, width * height, draw.count))
    cell = cell[np.diff(cell, prepend=-1) > 0]  # no place twice; np.unique is 50 times slower
    places = np.stack([cell % width + left, cell // width + top], axis=-1)
    small_sharp = _area_linear(sharp, _light_table(sharp, draw.transfer), factor)
    target = _weighted_sums(small_sharp, places, kernel)
    small_blurred = _area_linear(blurred, _light_table(blurred, draw.transfer), factor)
    small_size = (sharp.shape[1] // factor, sharp.shape[0] // factor)
    source = _interpolate(small_blurred, warp.at_scale(1 / factor, small_size).map_points(places))
    inside = np.isfinite(source[:, 3])
    good = inside & (target[:, 3] <= _MAX_CLIPPED) & (source[:, 3] <= _MAX_CLIPPED)
    if good.sum() < 16:
        raise ColourFailed(
            f"of {len(places)} colour samples {int(inside.sum())} lie in both images and "
            f"{int(good.sum())} of these are free of clipped light (need 16). "
            "Are exposure and alignment right?"
        )
    clipped = 1 - good.sum() / inside.sum()
    return Samples(source[good, :3], target[good, :3], factor, float(clipped))


def plain_samples(
    blurred: npt.NDArray[Any],
    sharp: npt.NDArray[Any],
    *,
    draw: Draw,
) -> Samples:
    """Single pixels of both captures, dithered by the same noise, as published: not blur-matched.

    Arguments and errors as `blur_matched_samples`; the blurred frame is sampled at the same
    coordinates, so an image compared with itself gives two equal clouds.
    """
    _check_area(draw.area, sharp)
    x0, y0, x1, y1 = draw.area
    if x1 - x0 < 4 or y1 - y0 < 4:
        raise ColourFailed(
            f"the common area {x1 - x0} x {y1 - y0} px is too small; need 4 x 4 px. "
            "Are the two images of one scene?"
        )
    rng = np.random.default_rng(draw.seed)
    pixel = rng.integers(0, (x1 - x0) * (y1 - y0), draw.count)
    x, y = pixel % (x1 - x0) + x0, pixel // (x1 - x0) + y0
    dither = rng.uniform(-0.5, 0.5, (draw.count, 3))

    def pick(image: npt.NDArray[Any]) -> FloatImage:
        rows, columns = np.minimum(y, image.shape[0] - 1), np.minimum(x, image.shape[1] - 1)
        values = (image[rows, columns] + dither) / np.iinfo(image.dtype).max
        return to_linear(np.clip(values, 0, 1), draw.transfer)

    return Samples(pick(blurred), pick(sharp), 1, 0.0)


def _check_area(area: tuple[int, int, int, int], sharp: npt.NDArray[Any]) -> None:
    """Compiled loops read where the area says, unchecked."""
    x0, y0, x1, y1 = area
    height, width = sharp.shape[:2]
    if not (0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height):
        raise ColourFailed(
            f"the area x {x0} to {x1}, y {y0} to {y1} px leaves the sharp image of {width} x "
            f"{height} px. Register this pair, at this size, again."
        )


def _averaging(radius_px: float, pixels: int, count: int) -> int:
    """Side of the averaging square: as large as the disk's shape and the count allow."""
    by_radius = np.sqrt((radius_px**2 + 1 / 3) / (_MIN_SMALL_RADIUS**2 + 1 / 3))
    return max(1, int(min(by_radius, np.sqrt(pixels / count), 16)))


def _light_table(image: npt.NDArray[Any], transfer: Transfer) -> FloatImage:
    return to_linear(np.arange(np.iinfo(image.dtype).max + 1, dtype=image.dtype), transfer)


@numba.njit(cache=True, nogil=True)
def _area_linear(image: Any, table: Any, factor: Any) -> Any:
    """Mean linear light of squares of side ``factor``, and the share of clipped pixels in them."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    out = np.zeros((height, width, 4), np.float32)
    top = table.size - 1
    share = np.float32(1 / (factor * factor))
    for y in range(height):
        for x in range(width):
            s0 = s1 = s2 = np.float32(0)
            clipped = 0
            for j in range(y * factor, (y + 1) * factor):
                for i in range(x * factor, (x + 1) * factor):
                    r, g, b = image[j, i, 0], image[j, i, 1], image[j, i, 2]
                    s0 += table[r]
                    s1 += table[g]
                    s2 += table[b]
                    clipped += r == top or g == top or b == top
            out[y, x, 0] = s0 * share
            out[y, x, 1] = s1 * share
            out[y, x, 2] = s2 * share
            out[y, x, 3] = np.float32(clipped) * share
    return out


@numba.njit(cache=True, nogil=True)
def _weighted_sums(image: Any, places: Any, kernel: Any) -> Any:
    """Kernel-weighted sums around integer places that lie inside by half the kernel."""
    half = kernel.shape[0] // 2
    out = np.zeros((places.shape[0], 4), np.float32)
    for n in range(places.shape[0]):
        x, y = places[n, 0] - half, places[n, 1] - half
        s0 = s1 = s2 = s3 = np.float32(0)
        for j in range(kernel.shape[0]):
            for i in range(kernel.shape[1]):
                w = kernel[j, i]
                s0 += w * image[y + j, x + i, 0]
                s1 += w * image[y + j, x + i, 1]
                s2 += w * image[y + j, x + i, 2]
                s3 += w * image[y + j, x + i, 3]
        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = s0, s1, s2, s3
    return out


@numba.njit(cache=True, nogil=True)
def _interpolate(image: Any, points: Any) -> Any:
    """Catmull-Rom values at points; clipped share infinite where the support leaves the image."""
    out = np.zeros((points.shape[0], 4), np.float32)
    weights = np.zeros((2, 4))
    for n in range(points.shape[0]):
        x, y = int(np.floor(points[n, 0])), int(np.floor(points[n, 1]))
        if x < 1 or y < 1 or x + 2 >= image.shape[1] or y + 2 >= image.shape[0]:
            out[n, 3] = np.inf
            continue
        for axis, t in enumerate((points[n, 0] - x, points[n, 1] - y)):
            weights[axis, 0] = 0.5 * (-t * t * t + 2 * t * t - t)
            weights[axis, 1] = 0.5 * (3 * t * t * t - 5 * t * t + 2)
            weights[axis, 2] = 0.5 * (-3 * t * t * t + 4 * t * t + t)
            weights[axis, 3] = 0.5 * (t * t * t - t * t)
        for j in range(4):
            for i in range(4):
                w = np.float32(weights[1, j] * weights[0, i])
                for c in range(3):
                    out[n, c] += w * image[y - 1 + j, x - 1 + i, c]
                out[n, 3] = max(out[n, 3], image[y - 1 + j, x - 1 + i, 3])
    return out
