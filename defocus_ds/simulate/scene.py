"""What stands before the lens: depth planes, each a picture with holes, in linear light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import InputError
from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import Transfer, to_linear
from defocus_ds.simulate.leaves import Leaves, draw_leaves, paint, textures

__all__ = ["HEADROOM", "SceneLayers", "dead_leaves_scene", "label_planes", "photograph_scene"]

PLANES = 3
HEADROOM = 1.25  # linear light that the top of uint16 stands for
_SOFTNESS_PX = 0.6  # deviation of a focused lens and the sensor's anti-alias filter together


@dataclass(frozen=True, slots=True)
class SceneLayers:
    """Depth planes from the farthest to the nearest, drawn on the sharp frame and a margin.

    ``planes`` are ``(H, W, 4)`` uint16: linear light premultiplied by coverage, and coverage.
    65535 is `HEADROOM` in light and 1 in coverage; the first plane covers everything.
    ``margin`` is the number of pixels beyond the sharp frame on every side.
    """

    planes: tuple[npt.NDArray[np.uint16], ...]
    margin: int


def dead_leaves_scene(
    rng: np.random.Generator, size: tuple[int, int], *, margin: int
) -> SceneLayers:
    """A dead-leaves scene on three planes.

    Args:
        rng: source of randomness.
        size: (width, height) of the sharp frame in pixels.
        margin: pixels beyond the frame on every side.

    Returns:
        Three planes; the nearer two cover about a fifth and a tenth of the frame.
    """
    canvas = (size[0] + 2 * margin, size[1] + 2 * margin)
    diagonal = float(np.hypot(*size))
    atlas = textures(rng)
    colour = np.full((canvas[1], canvas[0], 3), 0.1, np.float32)
    ground = draw_leaves(
        rng, canvas, smallest_px=0.05 * diagonal, largest_px=0.18 * diagonal, coverage=5
    )
    paint(colour, None, ground, atlas)
    leaves = draw_leaves(rng, canvas, smallest_px=1.6, largest_px=0.18 * diagonal, coverage=2.5)
    paint(colour, None, leaves, atlas)
    planes = [_store(colour, None, _light(rng, canvas))]
    for coverage in (0.26, 0.13):
        colour[:] = 0.1
        alpha = np.zeros(colour.shape[:2], np.float32)
        big = draw_leaves(
            rng,
            canvas,
            smallest_px=0.02 * diagonal,
            largest_px=0.11 * diagonal,
            coverage=coverage,
        )
        paint(colour, alpha, big, atlas)
        fine = draw_leaves(rng, canvas, smallest_px=1.5, largest_px=0.03 * diagonal, coverage=0.8)
        paint(colour, None, fine[_over(fine, alpha)], atlas)
        planes.append(_store(colour, alpha, _light(rng, canvas)))
    return SceneLayers(tuple(planes), margin)


def photograph_scene(
    rng: np.random.Generator, image: UInt8Image, size: tuple[int, int], *, margin: int
) -> SceneLayers:
    """A photograph cut into three planes along leaf-like outlines.

    All planes show the same photograph, so the sharp capture is the photograph itself, and
    the planes come apart only where focus makes them.

    Args:
        rng: source of randomness.
        image: ``(h, w, 3)`` uint8 sRGB; scaled to fill the frame and its margin, and continued
            by mirroring where that would enlarge it by more than a quarter.
        size: (width, height) of the sharp frame in pixels.
        margin: pixels beyond the frame on every side.

    Returns:
        Three planes.

    Raises:
        InputError: the image is not ``(h, w, 3)`` uint8 or smaller than 64 pixels on a side.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"photograph: got {image.dtype} {image.shape}; need (h, w, 3) uint8.")
    if min(image.shape[:2]) < 64:
        raise InputError(f"photograph: {image.shape[1]}x{image.shape[0]}; need 64x64 at least.")
    canvas = (size[0] + 2 * margin, size[1] + 2 * margin)
    diagonal = float(np.hypot(*size))
    colour = to_linear(_fill(image, canvas), Transfer.SRGB) * np.float32(0.9)
    planes = [_store(colour, None, None)]
    nothing = np.zeros((8, 1, 1), np.float32)
    scratch = np.empty_like(colour)
    for coverage in (0.26, 0.13):
        alpha = np.zeros(colour.shape[:2], np.float32)
        outlines = draw_leaves(
            rng,
            canvas,
            smallest_px=0.02 * diagonal,
            largest_px=0.11 * diagonal,
            coverage=coverage,
        )
        paint(scratch, alpha, outlines, nothing)
        planes.append(_store(colour, alpha, None))
    return SceneLayers(tuple(planes), margin)


def label_planes(scene: SceneLayers) -> UInt8Image:
    """Index of the nearest plane that covers at least half of each pixel of the sharp frame.

    Args:
        scene: its layers.

    Returns:
        ``(height, width)`` uint8, 0 for the farthest plane.
    """
    inner = slice(scene.margin, -scene.margin or None)
    labels = np.zeros(scene.planes[0][inner, inner, 3].shape, np.uint8)
    for index, plane in enumerate(scene.planes):
        labels[plane[inner, inner, 3] >= 32768] = index
    return labels


def _over(leaves: Leaves, alpha: FloatImage) -> npt.NDArray[np.bool_]:
    """Which leaves have their centre on the covered part."""
    x, y = np.floor(leaves.shape[:, :2]).astype(np.int64).T
    height, width = alpha.shape
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return np.asarray(inside & (alpha[y.clip(0, height - 1), x.clip(0, width - 1)] > 0.5))


def _light(rng: np.random.Generator, canvas: tuple[int, int]) -> FloatImage:
    """Slowly varying illumination, ``(H, W)`` float32 about 1."""
    import cv2

    coarse = np.exp(rng.normal(0, 0.25, (5, 7))).astype(np.float32)
    return np.asarray(cv2.resize(coarse, canvas, interpolation=cv2.INTER_CUBIC)).clip(0.5, 1.6)


def _store(
    colour: FloatImage, alpha: FloatImage | None, light: FloatImage | None
) -> npt.NDArray[np.uint16]:
    """Premultiply, soften as a focused lens does, quantise; in strips to save memory."""
    import cv2

    height, width = colour.shape[:2]
    out = np.empty((height, width, 4), np.uint16)
    step, pad = 256, 4
    for top in range(0, height, step):
        first, last = max(0, top - pad), min(height, top + step + pad)
        layer = np.ones((last - first, width, 4), np.float32)
        layer[..., :3] = colour[first:last]
        if light is not None:
            layer[..., :3] *= light[first:last, :, None]
        layer[..., :3] = np.clip(layer[..., :3] / HEADROOM, 0, 1)
        if alpha is not None:
            layer[..., 3] = alpha[first:last]
            layer[..., :3] *= layer[..., 3:]
        soft = cv2.GaussianBlur(layer, (2 * pad - 1, 2 * pad - 1), _SOFTNESS_PX)
        rows = slice(top - first, top - first + min(step, height - top))
        out[top : top + step] = np.round(np.clip(soft[rows], 0, 1) * 65535)
    return out


def _fill(image: UInt8Image, canvas: tuple[int, int]) -> npt.NDArray[Any]:
    """The middle of a photograph, scaled or mirrored to fill the canvas."""
    import cv2

    height, width = image.shape[:2]
    scale = min(max(canvas[0] / width, canvas[1] / height), 1.25)
    if abs(scale - 1) > 1e-9:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, target, interpolation=method), np.uint8)
        height, width = image.shape[:2]
    missing = [(max(0, n - m) + 1) // 2 for n, m in ((canvas[1], height), (canvas[0], width))]
    image = np.pad(image, ((missing[0],) * 2, (missing[1],) * 2, (0, 0)), mode="reflect")
    top, left = (image.shape[0] - canvas[1]) // 2, (image.shape[1] - canvas[0]) // 2
    return image[top : top + canvas[1], left : left + canvas[0]]
