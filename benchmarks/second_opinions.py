"""What two other ways of looking say of a registered pair whose truth nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from defocus_ds import register
from defocus_ds.errors import RegistrationFailed
from defocus_ds.optics import Warp, blur_disk, to_encoded, to_linear

__all__ = ["Opinions", "second_opinions"]

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

_FEWEST_MATCHES = 12
_LONGEST_SIDE_PX = 1600  # features of a defocused image are large


@dataclass(frozen=True, slots=True)
class Opinions:
    """Mean distances in px over a 21x21 grid of the valid area; None where there is no answer.

    ``forward_backward_px``: the way to the blurred frame and back by a registration of the other
    direction, for which the sharp image is made the blurrier one.  ``features_px``: between the
    map and the affine map of SIFT features and RANSAC.
    """

    forward_backward_px: float | None
    features_px: float | None


def second_opinions(
    sharp: Image,
    blurred: Image,
    warp: Warp,
    *,
    radius_px: float,
    valid_area: tuple[int, int, int, int],
) -> Opinions:
    """Measure both on one pair.

    Args:
        sharp, blurred: (H, W, 3) uint8, as captured.
        warp: sharp frame -> blurred frame, as registered.
        radius_px: disk radius of the pair.
        valid_area: (x0, y0, x1, y1), half-open, where the map is meant to hold.
    """
    x0, y0, x1, y1 = valid_area
    x, y = np.meshgrid(np.linspace(x0, x1 - 1, 21), np.linspace(y0, y1 - 1, 21))
    grid = np.stack([x.ravel(), y.ravel()], axis=-1)
    there = warp.map_points(grid)
    back = _backward(sharp, blurred, radius_px)
    features = _features(sharp, blurred)
    return Opinions(
        None if back is None else _distance(back.map_points(there), grid),
        None if features is None else _distance(features.map_points(grid), there),
    )


def _distance(a: Points, b: Points) -> float:
    return float(np.linalg.norm(a - b, axis=1).mean())


def _backward(sharp: Image, blurred: Image, radius_px: float) -> Warp | None:
    """The map from the blurred frame to the sharp one, found without the forward one.

    Disks of r and of about 1.7 r differ by a blur of about 1.4 r, which is fitted.
    """
    softer = to_encoded(blur_disk(to_linear(sharp), 1.7 * radius_px + 1.5))
    try:
        found = register(blurred, np.rint(softer * 255).clip(0, 255).astype(np.uint8))
    except RegistrationFailed:
        return None
    return found.warp if found.verdict else None


def _features(sharp: Image, blurred: Image) -> Warp | None:
    factor = min(1.0, _LONGEST_SIDE_PX / max(sharp.shape))
    detector = cv2.SIFT_create(nfeatures=8000)
    found = [detector.detectAndCompute(_gray(image, factor), None) for image in (sharp, blurred)]
    (here, first), (there, second) = found
    if first is None or second is None or min(len(first), len(second)) < _FEWEST_MATCHES:
        return None
    pairs: Any = cv2.BFMatcher().knnMatch(first, second, k=2)
    good = [a for a, b in pairs if a.distance < 0.75 * b.distance]
    if len(good) < _FEWEST_MATCHES:
        return None
    a = np.array([here[m.queryIdx].pt for m in good])
    b = np.array([there[m.trainIdx].pt for m in good])
    cv2.setRNGSeed(1)
    matrix, inliers = cv2.estimateAffine2D(a, b, ransacReprojThreshold=1.0, maxIters=5000)
    if matrix is None or int(inliers.sum()) < _FEWEST_MATCHES:
        return None
    size = (sharp.shape[1], sharp.shape[0])
    level = (round(size[0] * factor), round(size[1] * factor))
    (p, q, r), (s, t, u) = np.asarray(matrix, np.float64).tolist()
    return Warp(((p, q, r), (s, t, u)), 0.0, level).at_scale(1 / factor, size)


def _gray(image: Image, factor: float) -> Image:
    """Green at the working resolution."""
    green = np.ascontiguousarray(image[..., 1])
    if factor == 1:
        return green
    return np.asarray(
        cv2.resize(green, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8
    )
