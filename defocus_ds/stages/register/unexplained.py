"""Which part of a pair's content the blur disk cannot explain, window by window."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import blur_disk, to_encoded, to_linear

__all__ = ["unexplained_share"]

_FACTOR = 4  # blocks of this side are averaged: noise falls, and so does the cost
_FEWEST_BLOCKS = 16  # a crop is no fewer blocks wide
_RADII = (0.0, *(2.0 * 2 ** (n / 4) for n in range(19)))  # px, up to 45; neighbours differ by 19 %
_GAINS = (0.7, 1.4)  # contrast that the colour match may have left wrong
_LEAST_STD = 3.0  # 8-bit levels: contrast below it counts as this much
_MOST_NOISE_STD = 4.0  # 8-bit levels of a block: more is not taken for noise
_NOISE_FACTOR = 4.0  # demosaicing hides this much of the variance from the estimate, at worst

Windows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def unexplained_share(
    sharp: UInt8Image,
    blurred: UInt8Image,
    xy: npt.NDArray[np.int32],
    *,
    size: int,
) -> Values:
    """How much of the contrast of each crop no blur of the sharp image explains, at its worst.

    A crop is looked at through nine windows of half its side, which overlap by half, so that
    foreign content in a part of it is not averaged away.  In each the sharp image under the disk
    that fits best, with an offset and a bounded gain, is taken from the blurred one; what is left
    beyond the noise is held against the window's contrast, or half that of the crop if larger.

    Args:
        sharp, blurred: (H, W) uint8 luma in one frame; decoded as sRGB, which changes the share by
            less than 0.01 where the values are BT.709.
        xy: (N, 2) top-left pixels (x, y) of the crops, all inside the frame.
        size: side of a crop in pixels; below 32 there is often too little contrast to tell.

    Returns:
        (N,) float64 share of the variance, >= 0: 0 is explained, about 1 and more is foreign.
        Without contrast in either image there is nothing to tell, and the share is near 0.

    Source:
        The noise estimate is Immerkaer 1996.
    """
    factor = int(np.clip(size // _FEWEST_BLOCKS, 1, _FACTOR))
    linear = _averaged(to_linear(sharp), factor)
    seen = to_encoded(_averaged(to_linear(blurred), factor))
    corner, half = np.asarray(xy, np.int64) // factor, max(size // factor // 2, 1)
    step = (size // factor - half) // 2
    parts = np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2) * step
    windows = (corner[:, None] + parts).reshape(-1, 2)
    left = np.full(len(windows), np.inf)
    contrast = np.zeros(len(windows))
    for radius in _RADII:
        model = to_encoded(_blurred(linear, radius, factor))
        model_variance, variance, product = _moments(model, seen, windows, half)
        gain = np.clip(product / np.maximum(model_variance, 1e-6), *_GAINS)
        error = variance - 2 * gain * product + gain**2 * model_variance
        better = error < left
        left = np.where(better, error, left)
        contrast = np.where(better, np.maximum(variance, model_variance), contrast)
    _, of_crop, _ = _moments(seen, seen, corner, size // factor)
    against = np.maximum(contrast.reshape(-1, 9), of_crop[:, None] / 2)
    beyond = left.reshape(-1, 9) - _noise(blurred, xy, size, factor)[:, None]
    share = np.maximum(beyond, 0) / np.maximum(against, _LEAST_STD**2)
    return np.asarray(share.max(axis=1, initial=0.0))


def _averaged(plane: FloatImage, factor: int) -> FloatImage:
    """Means over blocks of ``factor`` x ``factor``; what does not fill a block is left out."""
    import cv2

    height, width = (n // factor for n in plane.shape)
    whole = plane[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))


def _blurred(linear: FloatImage, radius_px: float, factor: int) -> FloatImage:
    """Averaged linear light as a disk of ``radius_px`` full-resolution pixels leaves it."""
    import cv2

    variance = (radius_px / factor) ** 2 / 4
    if variance <= 0.25:  # a sampled disk would be too wide; three taps have the exact variance
        taps = np.array([variance / 2, 1 - variance, variance / 2], np.float32)
        border = cv2.BORDER_REFLECT_101
        return np.asarray(cv2.sepFilter2D(linear, -1, taps, taps, borderType=border))
    # the kernel's second moment has a pixel in it, here one of ``factor`` times the side
    return blur_disk(linear, float(np.sqrt(radius_px**2 - (factor**2 - 1) / 3)) / factor)


def _moments(
    model: FloatImage, seen: FloatImage, corner: Windows, side: int
) -> tuple[Values, Values, Values]:
    """(M,) variances of both and covariance, 8-bit levels squared, in windows by their corners."""
    most = [n - side for n in model.shape[::-1]]
    sums = np.zeros((len(corner), 5))
    _add_up(model, seen, np.minimum(corner, most), side, sums)
    x, y, xx, yy, xy = sums.T / side**2
    return np.maximum(xx - x**2, 0), yy - y**2, xy - x * y


@numba.njit(cache=True, nogil=True)
def _add_up(model: Any, seen: Any, corner: Any, side: Any, sums: Any) -> None:
    """Sums of model, seen, their squares and product, mid-grey at 0 so that digits are kept.

    Columns are added up side by side, which a single sum would not allow.
    """
    columns = np.zeros((5, side), np.float64)
    for window in range(len(corner)):
        left, top = corner[window]
        columns[:] = 0
        for row in range(side):
            one = model[top + row, left : left + side]
            two = seen[top + row, left : left + side]
            for column in range(side):
                x = np.float64(one[column]) * 255 - 128
                y = np.float64(two[column]) * 255 - 128
                columns[0, column] += x
                columns[1, column] += y
                columns[2, column] += x * x
                columns[3, column] += y * y
                columns[4, column] += x * y
        for kind in range(5):
            sums[window, kind] = columns[kind].sum()


def _noise(blurred: UInt8Image, xy: npt.NDArray[np.int32], size: int, factor: int) -> Values:
    """(N,) most variance of a block, 8-bit levels squared, that noise accounts for in crops."""
    import cv2

    around = np.asarray(cv2.copyMakeBorder(blurred, 1, 1, 1, 1, cv2.BORDER_REFLECT_101))
    response = np.zeros(len(xy), np.int64)
    _add_responses(around, np.asarray(xy, np.int64), size, response)
    deviation = np.sqrt(np.pi / 2) / 6 * (response / size**2)
    variance = _NOISE_FACTOR * (deviation / factor) ** 2
    return np.asarray(np.minimum(variance, _MOST_NOISE_STD**2))


@numba.njit(cache=True, nogil=True)
def _add_responses(around: Any, corner: Any, side: Any, sums: Any) -> None:
    """Sums of the size of Immerkaer's mask [1 -2 1; -2 4 -2; 1 -2 1] over windows.

    Args:
        around: the image with one more pixel on every side, uint8.
        corner: (N, 2) int64 (x, y) in the image without that margin.
        side: of a window in pixels.
        sums: (N,) int64, written.
    """
    across = np.zeros((3, side), np.int32)  # second differences along three lines
    for window in range(len(corner)):
        left, top = corner[window]
        total = 0
        for row in range(side + 2):
            line = around[top + row, left : left + side + 2]
            second = across[row % 3]
            for x in range(side):
                ends = np.int32(line[x]) + np.int32(line[x + 2])
                second[x] = np.int32(ends) - np.int32(2) * np.int32(line[x + 1])
            if row < 2:
                continue
            above, middle = across[(row - 2) % 3], across[(row - 1) % 3]
            for x in range(side):
                total += abs(above[x] - np.int32(2) * middle[x] + second[x])
        sums[window] = total
