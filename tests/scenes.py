"""Pairs with known truth, as arrays: the forward model in a few lines, for tests."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from defocus_ds.optics import Transfer, Warp, blur_disk, to_encoded


@dataclass(frozen=True)
class TruePair:
    """``warp`` maps sharp to blurred; ``uncast`` is the blurred image without the colour cast."""

    sharp: npt.NDArray[np.uint8]
    blurred: npt.NDArray[np.uint8]
    uncast: npt.NDArray[np.uint8]
    warp: Warp
    radius_px: float


def textured(size: tuple[int, int], seed: int = 0) -> npt.NDArray[np.float32]:
    """Occluding ellipses of power-law size with fine grain: (H, W, 3) linear light in [0, 1]."""
    rng = np.random.default_rng(seed)
    width, height = size[0] * 2, size[1] * 2  # drawn at twice the size, then area-averaged
    image = np.full((height, width, 3), 0.2, np.float32)
    for _ in range(int(width * height / 600)):
        radius = min(4 / (rng.random() + 4 / width), width / 6)
        centre = tuple(int(v) for v in rng.integers(0, (width, height)))
        axes = (max(2, int(radius)), max(2, int(radius * rng.uniform(0.4, 1))))
        colour = np.clip(rng.beta(1.2, 2.5) * rng.uniform(0.6, 1.4, 3), 0.01, 0.95)
        cv2.ellipse(image, centre, axes, rng.uniform(0, 180), 0, 360, colour.tolist(), -1)
    grain = rng.normal(0, 1, (height, width)).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 1.5)
    image *= 1 + 0.4 * grain[..., None]
    return np.clip(cv2.resize(image, size, interpolation=cv2.INTER_AREA), 0, 1)


def true_pair(
    size: tuple[int, int] = (640, 480),
    *,
    radius_px: float = 3.0,
    scale: float = 1.0,
    rotation_deg: float = 0.0,
    shift_px: tuple[float, float] = (0.0, 0.0),
    radial: float = 0.0,
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0),
    noise: float = 0.002,
    seed: int = 0,
    transfer: Transfer = Transfer.SRGB,
) -> TruePair:
    """Warp, disk blur in linear light, cast, noise, 8 bits; the sharp image has noise too."""
    rng = np.random.default_rng(seed + 1)
    margin = 96  # so that the blurred frame is filled beyond the sharp frame's edges
    big = (size[0] + 2 * margin, size[1] + 2 * margin)
    scene = textured(big, seed)
    warp = Warp.similarity(
        size, scale=scale, rotation_deg=rotation_deg, shift_px=shift_px, radial=radial
    )
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    source = warp.unmap_points(np.stack([x, y], -1).reshape(-1, 2).astype(float)) + margin
    # the scene is blurred before it is sampled, so interpolation errors are far below 0.01 px
    blurred = _sample(blur_disk(scene, radius_px / scale), source).reshape(size[1], size[0], 3)
    sharp = scene[margin:-margin, margin:-margin]

    def capture(linear: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        noisy = linear + rng.normal(0, noise, linear.shape) * np.sqrt(linear + 0.01) * 3
        encoded = to_encoded(np.clip(noisy, 0, 1), transfer)
        return np.asarray(np.round(encoded * 255).clip(0, 255), np.uint8)

    return TruePair(
        capture(sharp),
        capture(blurred * np.asarray(gains, np.float32)),
        capture(blurred),
        warp,
        radius_px,
    )


def _sample(image: npt.NDArray[np.float32], xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Cubic B-spline values at (N, 2) points."""
    from scipy.ndimage import map_coordinates

    return np.stack(
        [map_coordinates(image[..., c], xy[:, ::-1].T, order=3, mode="mirror") for c in range(3)],
        axis=-1,
    ).astype(np.float32)
