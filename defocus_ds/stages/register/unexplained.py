"""Which part of a pair's content the blur disk cannot explain, window by window."""

from __future__ import annotations

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
    seen = _levels(_averaged(to_linear(blurred), factor))
    corner, half = np.asarray(xy, np.int64) // factor, max(size // factor // 2, 1)
    step = (size // factor - half) // 2
    parts = np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2) * step
    windows = (corner[:, None] + parts).reshape(-1, 2)
    mean = _means(seen, windows, half)
    variance = _means(seen**2, windows, half) - mean**2
    left = np.full(len(windows), np.inf)
    contrast = np.zeros(len(windows))
    for radius in _RADII:
        model = _levels(_blurred(linear, radius, factor))
        model_mean = _means(model, windows, half)
        model_variance = np.maximum(_means(model**2, windows, half) - model_mean**2, 0)
        product = _means(model * seen, windows, half) - model_mean * mean
        gain = np.clip(product / np.maximum(model_variance, 1e-6), *_GAINS)
        error = variance - 2 * gain * product + gain**2 * model_variance
        better = error < left
        left = np.where(better, error, left)
        contrast = np.where(better, np.maximum(variance, model_variance), contrast)
    whole = size // factor
    of_crop = _means(seen**2, corner, whole) - _means(seen, corner, whole) ** 2
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


def _levels(linear: FloatImage) -> Values:
    """Encoded values on the scale of 8 bits, mid-grey at 0 so that squares keep their digits."""
    return np.asarray(to_encoded(linear), np.float64) * 255 - 128


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


def _means(plane: Values, corner: Windows, side: int) -> Values:
    """(M,) means over square windows by their top-left pixels."""
    import cv2

    sums = cv2.integral(plane)
    x0 = np.minimum(corner[:, 0], plane.shape[1] - side)
    y0 = np.minimum(corner[:, 1], plane.shape[0] - side)
    x1, y1 = x0 + side, y0 + side
    total = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return np.asarray(total / side**2)


def _noise(blurred: UInt8Image, xy: npt.NDArray[np.int32], size: int, factor: int) -> Values:
    """(N,) most variance of a block, 8-bit levels squared, that noise accounts for in crops."""
    import cv2

    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(blurred, cv2.CV_32F, mask))
    mean = _means(response, np.asarray(xy, np.int64), size)
    deviation = np.sqrt(np.pi / 2) / 6 * mean
    variance = _NOISE_FACTOR * (deviation / factor) ** 2
    return np.asarray(np.minimum(variance, _MOST_NOISE_STD**2))
