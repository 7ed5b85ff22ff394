"""The rough start: a scan over scale and rotation, each shift by phase correlation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp, to_encoded
from defocus_ds.stages.register.planes import Pyramid

__all__ = ["band_pass", "rough_candidates"]

_SCALES = np.arange(0.90, 1.1001, 0.02)
_ROTATIONS_DEG = np.arange(-3.0, 3.01, 1.0)


def band_pass(plane: FloatImage, fine_px: float = 1.0, broad_px: float | None = None) -> FloatImage:
    """A Gaussian less a broad average: drops noise and slow changes of light.

    Args:
        plane: (H, W) float32.
        fine_px: deviation of the noise filter.
        broad_px: side of the three boxes averaged over; a tenth of the shorter side if None.

    Returns:
        (H, W) float32, about zero mean.
    """
    import cv2

    side = 2 * round((broad_px or min(plane.shape) / 10) / 2) + 1
    broad = plane
    for _ in range(3):  # nearly a Gaussian, at a cost that does not grow with its width
        broad = np.asarray(
            cv2.blur(broad, (side, side), borderType=cv2.BORDER_REFLECT_101), np.float32
        )
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), fine_px) - broad, np.float32)


def rough_candidates(sharp: Pyramid, blurred: Pyramid, *, keep: int = 3) -> list[Warp]:
    """Similarities, best first, from a scan of scale 0.90-1.10 and rotation +-3 degrees.

    Args:
        sharp, blurred: pyramids of the same size.
        keep: how many distinct candidates to return.

    Returns:
        Full-resolution warps, sharp frame -> blurred frame; never empty.
    """
    factor = next(
        v.factor for v in sharp.levels if max(v.size) <= 288 or v.factor == sharp.coarsest
    )
    fixed = band_pass(to_encoded(sharp[factor].linear, sharp.transfer))
    moving = band_pass(to_encoded(blurred[factor].linear, blurred.transfer))
    found = sorted(_scan(fixed, moving), key=lambda item: -item[0])
    warps: list[Warp] = []
    for _, warp in found:
        full = warp.at_scale(float(factor), sharp.size)
        if all(full.mean_difference_px(other) > 4 * factor for other in warps):
            warps.append(full)
        if len(warps) == keep:
            break
    return warps


def _scan(fixed: FloatImage, moving: FloatImage) -> Iterator[tuple[float, Warp]]:
    """(score, warp) of every scale and rotation; the score is the band-passed correlation."""
    import cv2

    height, width = fixed.shape
    padded = (cv2.getOptimalDFTSize(height), cv2.getOptimalDFTSize(width))
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectrum = np.fft.rfft2(moving * window, padded)
    fy = np.fft.fftfreq(padded[0])[:, None]
    fx = np.fft.rfftfreq(padded[1])[None, :]
    low_pass = np.exp(-((fx**2 + fy**2) / (2 * 0.08**2)))
    for scale in _SCALES:
        for rotation in _ROTATIONS_DEG:
            centred = Warp.similarity((width, height), scale=scale, rotation_deg=rotation)
            turned = cv2.warpAffine(fixed, np.asarray(centred.matrix), (width, height))
            cross = spectrum * np.conj(np.fft.rfft2(turned * window, padded))
            cross *= low_pass / (np.abs(cross) + 1e-12)
            surface = np.fft.irfft2(cross, padded)
            shift = _peak(surface)
            warp = Warp.similarity(
                (width, height), scale=scale, rotation_deg=rotation, shift_px=shift
            )
            yield _correlation(fixed, moving, warp), warp


def _peak(surface: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Signed shift (x, y) of the maximum, with a parabola in each direction."""
    height, width = surface.shape
    y, x = np.unravel_index(int(surface.argmax()), surface.shape)

    def refined(before: float, at: float, after: float) -> float:
        curvature = before - 2 * at + after
        return 0.0 if curvature == 0 else float(np.clip(0.5 * (before - after) / curvature, -1, 1))

    sx = x + refined(surface[y, x - 1], surface[y, x], surface[y, (x + 1) % width])
    sy = y + refined(surface[y - 1, x], surface[y, x], surface[(y + 1) % height, x])
    return float(sx - width * (x > width // 2)), float(sy - height * (y > height // 2))


def _correlation(fixed: FloatImage, moving: FloatImage, warp: Warp) -> float:
    """Correlation over the overlap, discounted when the overlap is small."""
    import cv2

    size = (fixed.shape[1], fixed.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = np.asarray(warp.matrix)
    sample = cv2.warpAffine(moving, matrix, size, flags=flags)
    inside = cv2.warpAffine(np.ones_like(moving), matrix, size, flags=flags) > 0.99
    share = float(inside.mean())
    if share < 0.3:
        return -1.0
    a, b = fixed[inside], sample[inside]
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum(dtype=np.float64) * (b * b).sum(dtype=np.float64)))
    return float((a * b).sum(dtype=np.float64)) / norm * min(1.0, share / 0.6) if norm else -1.0
