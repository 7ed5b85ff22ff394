"""Pairs of two scenes, of a camera that moved, of things that moved: none may be accepted."""

from __future__ import annotations

import cv2
import numpy as np
from start_pairs import side_light
from wrong_stage import Captures, Mask, Stage, direction, looked_up, mixed

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import Warp, blur_disk

__all__ = ["SCENE_KINDS"]


# --- another scene -----------------------------------------------------------------------------


def _other_scene(stage: Stage, rng: np.random.Generator) -> Captures:
    return _pair(stage, stage.blurred(stage.other))


def _same_palette(stage: Stage, rng: np.random.Generator) -> Captures:
    """Another scene that has every value of the first one equally often."""
    light = np.empty_like(stage.other)
    for c in range(3):
        order = np.argsort(stage.other[..., c], axis=None, kind="stable")
        light[..., c].flat[order] = np.sort(stage.light[..., c], axis=None)
    return _pair(stage, stage.blurred(light))


def _same_spectrum(stage: Stage, rng: np.random.Generator) -> Captures:
    """The scene's own power spectrum with random phases."""
    phase = np.fft.rfft2(rng.standard_normal(stage.light.shape[:2]))
    phase /= np.maximum(np.abs(phase), 1e-12)
    light = np.stack(
        [
            np.fft.irfft2(np.abs(np.fft.rfft2(stage.light[..., c])) * phase, phase.shape and None)
            for c in range(3)
        ],
        axis=-1,
    )
    height, width = light.shape[:2]
    room = stage.light[:height, :width]
    light = room.mean() + (light - light.mean()) * room.std() / light.std()
    padded = np.pad(
        light, [(0, stage.light.shape[0] - height), (0, stage.light.shape[1] - width), (0, 0)],
        mode="reflect",
    )  # fmt: skip
    return _pair(stage, stage.blurred(np.clip(padded, 0, 1.2).astype(np.float32)))


def _same_tiles(stage: Stage, rng: np.random.Generator) -> Captures:
    """The scene's own tiles in another order."""
    return _pair(stage, stage.blurred(_shuffled(stage.light, max(stage.size) // 8, rng)))


def _shuffled(light: FloatImage, side: int, rng: np.random.Generator) -> FloatImage:
    rows, columns = light.shape[0] // side, light.shape[1] // side
    out = light.copy()
    order = rng.permutation(rows * columns)
    for here, there in enumerate(order):
        (y, x), (v, u) = divmod(here, columns), divmod(int(there), columns)
        tile = light[v * side : (v + 1) * side, u * side : (u + 1) * side]
        out[y * side : (y + 1) * side, x * side : (x + 1) * side] = tile
    return out


# --- the camera moved --------------------------------------------------------------------------


def _perspective(stage: Stage, rng: np.random.Generator) -> Captures:
    """A turned camera: one corner or another goes 2 to 6 % of the width its own way."""
    width, height = stage.size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    away = rng.uniform(-0.02, 0.02, (4, 2)) * width
    away[rng.integers(4)] += direction(rng, 0.04 * width, 0.06 * width)
    matrix = cv2.getPerspectiveTransform(corners, (corners + away).astype(np.float32))
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height))
    points = cv2.perspectiveTransform(np.stack([x, y], -1), matrix) + stage.margin
    soft = blur_disk(stage.light, stage.radius_px)
    return _pair(stage, stage.taken(looked_up(soft, points), 2))


def _sheared(stage: Stage, rng: np.random.Generator) -> Captures:
    """A camera that turned while the rows were read: 2.5 to 6 % of shear or stretch."""
    amount = rng.choice([-1, 1]) * rng.uniform(0.025, 0.06)
    centre = np.asarray(stage.warp.centre)
    matrix = np.eye(2)
    matrix[(0, 1) if rng.random() < 0.5 else (1, 1)] += amount
    offset = centre - matrix @ centre
    warp = Warp(
        (
            (float(matrix[0, 0]), float(matrix[0, 1]), float(offset[0])),
            (float(matrix[1, 0]), float(matrix[1, 1]), float(offset[1])),
        ),
        0.0,
        stage.size,
    )
    return _pair(stage, stage.blurred(warp=warp))


def _turned_far(stage: Stage, rng: np.random.Generator) -> Captures:
    angle = rng.choice([-1, 1]) * rng.uniform(7, 15)
    warp = Warp.similarity(stage.size, rotation_deg=float(angle))
    return _pair(stage, stage.blurred(warp=warp))


def _zoomed_far(stage: Stage, rng: np.random.Generator) -> Captures:
    scale = rng.uniform(1.15, 1.4)
    return _pair(stage, stage.blurred(warp=Warp.similarity(stage.size, scale=float(scale))))


def _moved_far(stage: Stage, rng: np.random.Generator) -> Captures:
    """Less than 60 % of the frame is still seen."""
    angle = rng.uniform(0, 2 * np.pi)
    shift = 0.45 * stage.size[0] * np.cos(angle), 0.5 * stage.size[1] * np.sin(angle)
    height, width = stage.light.shape[:2]
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    light = stage.light[  # beyond the canvas comes the other side: never seen in the sharp frame
        (y - int(shift[1])) % height, (x - int(shift[0])) % width
    ]
    return _pair(stage, stage.blurred(light))


def _two_depths(stage: Stage, rng: np.random.Generator) -> Captures:
    """The camera went sideways: near things, 35 to 60 % of the frame, move on their own."""
    return _parallax(stage, rng, stage.region(rng, rng.uniform(0.35, 0.6), canvas=True))


def _many_depths(stage: Stage, rng: np.random.Generator) -> Captures:
    """As `_two_depths`, with leaves all over the frame instead of two things."""
    height, width = stage.light.shape[:2]
    field = cv2.resize(rng.standard_normal((14, 21)), (width, height))
    mask = np.asarray(field > np.quantile(field, 0.55), np.float32)
    return _parallax(stage, rng, mask)


def _parallax(stage: Stage, rng: np.random.Generator, near: Mask) -> Captures:
    dx, dy = direction(rng, 0.012 * stage.size[0], 0.04 * stage.size[0])
    move = np.array([[1, 0, dx], [0, 1, dy]])
    canvas = stage.light.shape[1], stage.light.shape[0]
    there = cv2.warpAffine(near, move, canvas)
    things = cv2.warpAffine(stage.other, move, canvas, borderMode=cv2.BORDER_REFLECT_101)
    before = mixed(near, stage.other, stage.light)
    after = mixed(there, things, stage.light)
    return stage.sharp(before), stage.blurred(after)


# --- something came in or moved ----------------------------------------------------------------


def _hand(stage: Stage, rng: np.random.Generator) -> Captures:
    """Something smooth before the lens, 40 to 65 % of the frame."""
    mask = stage.region(rng, rng.uniform(0.4, 0.65))
    mask = cv2.GaussianBlur(mask, (0, 0), 0.01 * stage.size[0])
    skin = np.array([0.45, 0.25, 0.17], np.float32)
    light = skin * side_light(mask.shape, 1.5, rng)[..., None]
    return _pair(stage, stage.taken(mixed(mask, light, stage.seen()), 2))


def _person(stage: Stage, rng: np.random.Generator) -> Captures:
    """Something with texture of its own before the lens, 40 to 65 % of the frame."""
    mask = stage.region(rng, rng.uniform(0.4, 0.65))
    return _pair(stage, stage.taken(mixed(mask, stage.seen(stage.other), stage.seen()), 2))


def _rearranged(stage: Stage, rng: np.random.Generator) -> Captures:
    """The things on 40 to 60 % of the table changed places."""
    mask = stage.region(rng, rng.uniform(0.4, 0.6), canvas=True)
    light = mixed(mask, _shuffled(stage.light, max(stage.size) // 6, rng), stage.light)
    return _pair(stage, stage.blurred(light))


def _waving(stage: Stage, rng: np.random.Generator) -> Captures:
    """Cloth, water, leaves in the wind: smooth random displacement, 1 to 2 % of the width."""
    width, height = stage.size
    away = rng.standard_normal((5, 7, 2)).astype(np.float32)
    field = cv2.resize(away, (width, height), interpolation=cv2.INTER_CUBIC)
    field *= rng.uniform(0.01, 0.02) * width / np.abs(field).mean()
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    xy = np.stack([x, y], axis=-1) + field + stage.margin
    return _pair(stage, stage.taken(looked_up(blur_disk(stage.light, stage.radius_px), xy), 2))


def _pair(stage: Stage, blurred: UInt8Image) -> Captures:
    return stage.sharp(), np.ascontiguousarray(blurred)


SCENE_KINDS = {
    "another scene": _other_scene,
    "another scene, same palette": _same_palette,
    "another scene, same spectrum": _same_spectrum,
    "the same tiles in another order": _same_tiles,
    "perspective": _perspective,
    "sheared": _sheared,
    "turned by 7 to 15 degrees": _turned_far,
    "zoomed by 15 to 40 %": _zoomed_far,
    "moved by half the frame": _moved_far,
    "parallax of one near thing": _two_depths,
    "parallax of leaves": _many_depths,
    "half behind a hand": _hand,
    "half behind a person": _person,
    "things rearranged": _rearranged,
    "waving": _waving,
}
