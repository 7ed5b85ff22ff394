"""A first guess of the disk radius, and the agreement of the blur-matched images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp
from defocus_ds.resample import covered, resample
from defocus_ds.stages.register.model import model_plane, observed_plane
from defocus_ds.stages.register.planes import Pyramid
from defocus_ds.stages.register.start import band_pass

__all__ = [
    "Matched",
    "clipped_there",
    "fit_radius",
    "matched",
    "max_radius_px",
    "role_ratio",
]

_RADII_PX = (0.0, 0.7, 1.0, 1.5, 2.1, 3.0, 4.2, 6.0, 8.5, 12.0, 17.0, 24.0, 34.0, 48.0)
_LOSS_PIXELS = 60_000
_TEXTURE = 0.1  # share of the pixels that tell which capture is the sharper one
_AROUND_PX = 15
_DARK = 0.02  # contrast of darker places is that of noise
_LEAST_GAIN = 1.25  # less is what averaging noise brings: it says nothing of the roles


def max_radius_px(size: tuple[int, int]) -> float:
    """Largest radius that is looked for: a seventh of the shorter side, at most 48 px."""
    return float(min(max(_RADII_PX), min(size) / 7))


def fit_radius(
    sharp: Pyramid, blurred: Pyramid, warp: Warp, factor: int, *, most_px: float = float("inf")
) -> float:
    """Disk radius under which the blurred sharp image explains the capture best.

    Args:
        sharp, blurred: pyramids of the same size.
        warp: current map, full resolution.
        factor: level to look at.
        most_px: larger radii are not tried.

    Returns:
        Pixels: one of a list of radii, refined by a parabola over its logarithm.
    """
    reach = min(max_radius_px(sharp.size), most_px)
    radii = [r for r in _RADII_PX if r <= reach]
    losses = _losses(sharp, blurred, warp, factor, radii)
    if not losses:
        return 3.0
    best = int(np.argmin(losses))
    if not 1 < best < len(radii) - 1:
        return radii[best]
    before, at, after = losses[best - 1 : best + 2]
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(radii[best] * np.sqrt(2) ** np.clip(shift, -0.5, 0.5))


def role_ratio(sharp: Pyramid, blurred: Pyramid, warp: Warp, factor: int) -> float:
    """How much worse the sharp image, blurred, explains the capture than the other way round.

    Of the whole frame and of its most textured parts, whichever tells more: between bare walls,
    which explain themselves, a strip of texture is few pixels.

    Args:
        sharp, blurred: pyramids of the same size.
        warp: the fitted map.
        factor: level to look at.

    Returns:
        Ratio of the unexplained shares, well above 1 if the two captures have changed places;
        0 where the capture is plainly the smoother of the two.
    """
    if _steepness(blurred[factor].linear) < _steepness(sharp[factor].linear):
        return 0.0  # plainly the smoother one: the costly comparison is not needed
    reach = max_radius_px(sharp.size)
    radii = [r for r in _RADII_PX if r <= reach and (r == 0 or r > factor / 2)]
    ratio = 0.0
    for texture in (1.0, _TEXTURE):
        forward = _losses(sharp, blurred, warp, factor, radii, texture=texture)
        backward = _losses(blurred, sharp, _inverse(warp), factor, radii, texture=texture)
        if not forward or not backward:
            continue
        best = max(min(backward), 1e-6)
        found = min(forward) / best
        gained = backward[0] / best  # by blurring the capture again
        ratio = max(ratio, found if gained > _LEAST_GAIN else min(found, 1.0))
    return ratio


@dataclass(frozen=True, slots=True)
class Matched:
    """The two captures of a pair at one level, laid over each other.

    ``model`` is the blur-matched sharp image, ``seen`` the capture in the sharp frame, both (h, w)
    encoded; ``inside`` is where the capture is known, a border as wide as the disk left out.
    """

    model: FloatImage
    seen: FloatImage
    inside: npt.NDArray[np.bool_]

    def agreement(self) -> float:
        """Correlation of the two, in [-1, 1].

        Slow changes are taken away first, so that two scenes lit alike do not agree.
        """
        expected = band_pass(self.model)
        found = band_pass(np.where(self.inside, self.seen, self.model))
        a, b = (plane[self.inside].astype(np.float64) for plane in (expected, found))
        if len(a) < 100:
            return 0.0
        a, b = a - a.mean(), b - b.mean()
        norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
        return float((a * b).sum() / norm) if norm > 0 else 0.0

    def under(self, blurred: Pyramid, warp: Warp, radius_px: float, factor: int) -> Matched:
        """The same model, and the capture under another map."""
        return Matched(
            self.model, *_resampled(observed_plane(blurred, factor), warp, factor, radius_px)
        )


def matched(sharp: Pyramid, blurred: Pyramid, warp: Warp, radius_px: float, factor: int) -> Matched:
    """A pair under a map and a disk radius (full-resolution px), at a level."""
    sampled, inside = _resampled(observed_plane(blurred, factor), warp, factor, radius_px)
    return Matched(model_plane(sharp, factor, radius_px), sampled, inside)


def clipped_there(blurred: Pyramid, warp: Warp, factor: int) -> FloatImage:
    """(h, w) clipped share of the capture, in the sharp frame; 0 off the capture."""
    plane = np.ascontiguousarray(blurred[factor].clipped)
    if not plane.any():
        return plane
    return resample(plane, warp.at_scale(1 / factor, blurred[factor].size))


def _steepness(plane: FloatImage) -> float:
    """Mean squared gradient over the variance: contrast does not matter."""
    variance = float(plane.var(dtype=np.float64))
    gy, gx = np.gradient(plane)
    steep = float((gx**2 + gy**2).mean(dtype=np.float64))
    return steep / variance if variance > 0 else 0.0


def _losses(
    sharp: Pyramid,
    blurred: Pyramid,
    warp: Warp,
    factor: int,
    radii: list[float],
    *,
    texture: float = 1.0,
) -> list[float]:
    """Unexplained share of the capture's contrast for each radius; empty if it cannot be told.

    ``texture`` is the share of the pixels that are compared: those with the most around them.
    """
    border = max_radius_px(sharp.size) / 2
    sampled, inside = _resampled(observed_plane(blurred, factor), warp, factor, border)
    inside &= (sharp[factor].clipped < 0.02) & (clipped_there(blurred, warp, factor) < 0.5)
    step = _step(inside.size)
    if texture < 1 and inside.any():
        contrast_there = _local_contrast(sampled)
        inside &= contrast_there >= np.quantile(contrast_there[inside][::step], 1 - texture)
    inside = inside.ravel()[::step]
    index = np.flatnonzero(inside) * step
    target = sampled.ravel()[index].astype(np.float64)
    if len(target) < 500:
        return []
    contrast = max(float(target.std()), 1e-6)
    height, width = sampled.shape
    u = np.stack([index % width / width - 0.5, index // width / height - 0.5], axis=-1)
    # tone, and light that has changed to one side: a disk must not be chosen to mimic it
    basis = np.empty((len(target), 7))
    basis[:, 0], basis[:, 3:5] = 1, u
    losses = []
    for radius in radii:
        value = _blurred_once(sharp, factor, radius)[inside].astype(np.float64)
        basis[:, 1], basis[:, 2] = value, value**2
        np.multiply(u, value[:, None], out=basis[:, 5:])
        gram = basis.T @ basis + 1e-6 * len(value) * np.eye(basis.shape[1])
        error = np.abs(target - basis @ np.linalg.solve(gram, basis.T @ target))
        losses.append(float(np.minimum(error, 4 * np.median(error)).mean()) / contrast)
    return losses


def _local_contrast(plane: FloatImage) -> FloatImage:
    """(h, w) variance around each pixel over the squared mean, after noise is averaged away."""
    import cv2

    smooth = cv2.blur(plane, (5, 5))
    mean = cv2.blur(smooth, (_AROUND_PX, _AROUND_PX))
    variance = cv2.blur(smooth * smooth, (_AROUND_PX, _AROUND_PX)) - mean * mean
    return np.asarray(variance / np.maximum(mean, _DARK) ** 2, np.float32)


def _blurred_once(sharp: Pyramid, factor: int, radius_px: float) -> FloatImage:
    """(N,) `model_plane` at the pixels that are compared."""
    key = factor, radius_px
    if key not in sharp.blurs:
        values = model_plane(sharp, factor, radius_px).ravel()
        sharp.blurs[key] = values[:: _step(values.size)].copy()
    return sharp.blurs[key]


def _step(pixels: int) -> int:
    """Every how manieth pixel of a level is compared."""
    return -(-pixels // _LOSS_PIXELS)


def _inverse(warp: Warp) -> Warp:
    """The map from the blurred frame to the sharp one, to first order in the radial term."""
    m = np.asarray(warp.matrix)
    a = np.linalg.inv(m[:, :2])
    t = -a @ m[:, 2]
    scale = float(np.sqrt(abs(np.linalg.det(a))))
    return Warp(
        (
            (float(a[0, 0]), float(a[0, 1]), float(t[0])),
            (float(a[1, 0]), float(a[1, 1]), float(t[1])),
        ),
        -warp.radial * scale**4,
        warp.size,
    )


def _resampled(
    plane: FloatImage, warp: Warp, factor: int, border_px: float
) -> tuple[FloatImage, npt.NDArray[np.bool_]]:
    """The capture in the sharp frame at a level, and where it is known, borders left out."""
    height, width = plane.shape
    level = warp.at_scale(1 / factor, (width, height))
    sampled = resample(np.ascontiguousarray(plane), level)
    inside = covered(level, (width, height))
    margin = min(int(border_px / factor) + 3, height // 5, width // 5)
    inside[:margin] = inside[height - margin :] = False
    inside[:, :margin] = inside[:, width - margin :] = False
    return sampled, inside
