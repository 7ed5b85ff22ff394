"""What a fair capture of a scene looks like, for pairs of which one part is wrong."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt
from start_pairs import flat_scene
from truth_pairs import FULL_SIZE, capture

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import Warp, blur_disk

__all__ = ["Captures", "Mask", "Stage", "direction", "looked_up", "mixed"]

Captures = tuple[UInt8Image, UInt8Image]
Mask = npt.NDArray[np.float32]


class Stage:
    """The scenes of a round, what a fair capture of them looks like, and random regions."""

    def __init__(self, size: tuple[int, int], number: int, seed: int) -> None:
        self.size, self.number, self.seed = size, number, seed
        self.margin = 8 * int(np.ceil(0.3 * max(size) / 8))
        rng = np.random.default_rng([seed, number, 21])
        share = float(np.hypot(*size) / np.hypot(*FULL_SIZE))
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0, 15) * share
        self.warp = Warp.similarity(
            size,
            scale=1 + rng.uniform(-0.02, 0.02),
            rotation_deg=rng.uniform(-0.15, 0.15),
            shift_px=(length * np.cos(angle), length * np.sin(angle)),
        )
        self.radius_px = max(float(rng.uniform(3, 12)) * share, 0.8)

    @cached_property
    def light(self) -> FloatImage:
        return flat_scene(2 * self.number, self.size, margin=self.margin, seed=self.seed)

    @cached_property
    def other(self) -> FloatImage:
        return flat_scene(2 * self.number + 1, self.size, margin=self.margin, seed=self.seed)

    def sharp(self, light: FloatImage | None = None, gain: float = 1.0) -> UInt8Image:
        inner = slice(self.margin, -self.margin)
        return self.taken((self.light if light is None else light)[inner, inner] * gain, 1)

    def blurred(
        self,
        light: FloatImage | None = None,
        *,
        warp: Warp | None = None,
        radius_px: float | None = None,
        gain: float = 1.0,
    ) -> UInt8Image:
        return self.taken(gain * self.seen(light, warp=warp, radius_px=radius_px), 2)

    def seen(
        self,
        light: FloatImage | None = None,
        *,
        warp: Warp | None = None,
        radius_px: float | None = None,
    ) -> FloatImage:
        """The light of the blurred capture."""
        warp = warp or self.warp
        width, height = self.size
        x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height))
        source = warp.unmap_points(np.stack([x.ravel(), y.ravel()], -1)) + self.margin
        soft = blur_disk(
            self.light if light is None else light,
            self.radius_px if radius_px is None else radius_px,
        )
        return looked_up(soft, source.reshape(height, width, 2))

    def taken(self, light: FloatImage, draw: int) -> UInt8Image:
        clipped = np.clip(light, 0, None).astype(np.float32)
        return capture(clipped, None, [self.seed, self.number, draw, 22])

    def region(self, rng: np.random.Generator, share: float, *, canvas: bool = False) -> Mask:
        """A mask, 1 in one or two blobs of this share of the frame; of the frame or the canvas."""
        width, height = self.size
        field = cv2.resize(
            rng.standard_normal((3, 4)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        mask = np.asarray(field > np.quantile(field, 1 - share), np.float32)
        if not canvas:
            return mask
        return np.pad(mask, self.margin, mode="edge")


def looked_up(image: npt.NDArray[np.float32], xy: npt.NDArray[np.float64]) -> FloatImage:
    x, y = (np.ascontiguousarray(xy[..., i], np.float32) for i in (0, 1))
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))


def mixed(mask: Mask, there: npt.NDArray[np.float32], here: npt.NDArray[np.float32]) -> FloatImage:
    return np.asarray(mask[..., None] * there + (1 - mask[..., None]) * here, np.float32)


def direction(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    return length * np.cos(angle), length * np.sin(angle)
