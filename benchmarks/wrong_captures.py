"""Captures that are no defocused view of the sharp one: none may be accepted."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from wrong_stage import Captures, Stage, direction

from defocus_ds.frames import UInt8Image
from defocus_ds.optics import Warp

__all__ = ["CAPTURE_KINDS"]


def _black(stage: Stage, rng: np.random.Generator) -> Captures:
    return stage.sharp(), stage.taken(np.full_like(stage.seen(), 1e-4), 2)


def _noise(stage: Stage, rng: np.random.Generator) -> Captures:
    level = rng.uniform(0.02, 0.5)
    noise = rng.normal(level, level / 3, stage.seen().shape).astype(np.float32)
    return stage.sharp(), stage.taken(noise, 2)


def _flat(stage: Stage, rng: np.random.Generator) -> Captures:
    """A lit wall: noise and a slow change of light."""
    height, width = stage.size[1], stage.size[0]
    slow = cv2.resize(rng.uniform(0.2, 0.5, (2, 3)), (width, height))
    return stage.sharp(), stage.taken(np.repeat(slow[..., None], 3, axis=2), 2)


def _both_flat(stage: Stage, rng: np.random.Generator) -> Captures:
    """Two captures of a wall without any texture."""
    wall = np.full_like(stage.seen(), 0.3)
    wall *= np.linspace(0.8, 1.2, stage.size[0], dtype=np.float32)[None, :, None]
    return stage.taken(wall, 1), stage.taken(wall, 2)


def _mirrored(stage: Stage, rng: np.random.Generator) -> Captures:
    return stage.sharp(), np.ascontiguousarray(stage.blurred()[:, ::-1])


def _upside_down(stage: Stage, rng: np.random.Generator) -> Captures:
    return stage.sharp(), np.ascontiguousarray(stage.blurred()[::-1])


def _half_turn(stage: Stage, rng: np.random.Generator) -> Captures:
    return stage.sharp(), np.ascontiguousarray(stage.blurred()[::-1, ::-1])


def _quarter_turn(stage: Stage, rng: np.random.Generator) -> Captures:
    """The camera held upright: what then fits into the frame."""
    warp = Warp.similarity(stage.size, rotation_deg=90.0 * float(rng.choice([-1, 1])))
    return stage.sharp(), stage.blurred(warp=warp)


def _negative(stage: Stage, rng: np.random.Generator) -> Captures:
    return stage.sharp(), 255 - stage.blurred()


def _swapped(stage: Stage, rng: np.random.Generator) -> Captures:
    return stage.blurred(), stage.sharp()


def _swapped_strips(stage: Stage, rng: np.random.Generator) -> Captures:
    """Texture in two strips across the frame, each a tenth of its height; the rest is a wall."""
    wall = np.full_like(stage.light, stage.light.mean())
    height = stage.light.shape[0]
    for start in (rng.uniform(0.15, 0.25), rng.uniform(0.65, 0.75)):
        strip = slice(int(start * height), int((start + 0.1) * height))
        wall[strip] = stage.light[strip]
    return stage.blurred(wall), stage.sharp(wall)


def _grating(stage: Stage, rng: np.random.Generator) -> Captures:
    """A tiled wall, each tile like the next one; the camera moved by one to three tiles."""
    side = int(max(stage.size) / rng.uniform(14, 24))
    tile = cv2.resize(
        stage.light[: 4 * side, : 4 * side], (side, side), interpolation=cv2.INTER_AREA
    )
    tile = np.roll(tile, rng.integers(side, size=2), (0, 1))
    height, width = stage.light.shape[:2]
    wall = np.tile(tile, (height // side + 1, width // side + 1, 1))[:height, :width]
    wall = cv2.GaussianBlur(np.ascontiguousarray(wall), (0, 0), 0.7)
    moved = np.array([side * int(rng.integers(1, 4)), side * int(rng.integers(0, 3))])
    (a, b, c), (d, e, f) = stage.warp.matrix
    warp = replace(stage.warp, matrix=((a, b, c + moved[0]), (d, e, f + moved[1])))
    return stage.sharp(wall), stage.blurred(wall, warp=warp)


def _stripes(stage: Stage, rng: np.random.Generator) -> Captures:
    """Straight lines only: along them nothing tells where the camera went."""
    width = stage.light.shape[1]
    profile = cv2.resize(rng.uniform(0.05, 0.8, (1, width // 9, 3)), (width, 1))
    wall = np.repeat(profile, stage.light.shape[0], axis=0).astype(np.float32)
    (a, b, c), (d, e, f) = stage.warp.matrix
    along = rng.choice([-1, 1]) * rng.uniform(0.02, 0.06) * stage.size[1]
    warp = replace(stage.warp, matrix=((a, b, c), (d, e, f + float(along))))
    return stage.sharp(wall), stage.blurred(wall, warp=warp)


def _shaken(stage: Stage, rng: np.random.Generator) -> Captures:
    """The tripod swung during the exposure: a line 3 to 6 times as long as the disk is wide."""
    angle = rng.uniform(0, np.pi)
    length = rng.uniform(3, 6) * 2 * stage.radius_px
    half = int(np.ceil(length / 2)) + 1
    at = np.linspace(-length / 2, length / 2, 20 * half)
    line = np.zeros((2 * half + 1, 2 * half + 1))
    for dx, dy in zip(at * np.cos(angle) + half, at * np.sin(angle) + half, strict=True):
        x, y = int(dx), int(dy)
        fx, fy = dx - x, dy - y
        line[y : y + 2, x : x + 2] += np.outer([1 - fy, fy], [1 - fx, fx])
    light = cv2.filter2D(stage.seen(), -1, (line / line.sum()).astype(np.float32))
    return stage.sharp(), stage.taken(light, 2)


def _overexposed(stage: Stage, rng: np.random.Generator) -> Captures:
    """All but the darkest 15 to 30 % is white."""
    seen = stage.seen()
    gain = 1 / np.quantile(seen[..., 1], rng.uniform(0.15, 0.3))
    return stage.sharp(), stage.taken(seen * np.float32(gain), 2)


def _two_exposures(stage: Stage, rng: np.random.Generator) -> Captures:
    """The tripod jumped in the middle of the exposure."""
    dx, dy = direction(rng, 0.02 * stage.size[0], 0.05 * stage.size[0])
    (a, b, c), (d, e, f) = stage.warp.matrix
    moved = replace(stage.warp, matrix=((a, b, c + dx), (d, e, f + dy)))
    return stage.sharp(), stage.taken((stage.seen() + stage.seen(warp=moved)) / 2, 2)


def _broken_jpeg(stage: Stage, rng: np.random.Generator) -> Captures:
    """From 35 to 60 % of the height on, blocks are displaced and their light has drifted."""
    image = stage.blurred()
    first = int(rng.uniform(0.35, 0.6) * image.shape[0]) // 16 * 16
    drift = np.zeros(3)
    for y in range(first, image.shape[0], 16):
        drift += rng.normal(0, 12, 3)
        row = np.roll(image[y : y + 16], 16 * int(rng.integers(1, 20)), axis=1)
        image[y : y + 16] = np.clip(row + drift, 0, 255).astype(np.uint8)
    return stage.sharp(), image


def _grey_jpeg(stage: Stage, rng: np.random.Generator) -> Captures:
    """The file ends at 40 to 60 % of the height: grey from there on."""
    image = stage.blurred()
    image[int(rng.uniform(0.4, 0.6) * image.shape[0]) :] = 128
    return stage.sharp(), image


def _half_of_another_scene(stage: Stage, rng: np.random.Generator) -> Captures:
    return stage.sharp(), _joined(stage.blurred(), stage.blurred(stage.other), rng)


def _half_of_another_capture(stage: Stage, rng: np.random.Generator) -> Captures:
    """Both halves show the scene, one of them 0.8 to 2.5 % of the width beside its place."""
    dx, dy = direction(rng, 0.008 * stage.size[0], 0.025 * stage.size[0])
    (a, b, c), (d, e, f) = stage.warp.matrix
    moved = replace(stage.warp, matrix=((a, b, c + dx), (d, e, f + dy)))
    return stage.sharp(), _joined(stage.blurred(), stage.blurred(warp=moved), rng)


def _third_of_another_capture(stage: Stage, rng: np.random.Generator) -> Captures:
    """As `_half_of_another_capture`, with a majority that the map explains well."""
    dx, dy = direction(rng, 0.008 * stage.size[0], 0.025 * stage.size[0])
    (a, b, c), (d, e, f) = stage.warp.matrix
    moved = replace(stage.warp, matrix=((a, b, c + dx), (d, e, f + dy)))
    joined = _joined(stage.blurred(), stage.blurred(warp=moved), rng, (0.33, 0.4))
    return stage.sharp(), joined


def _joined(
    one: UInt8Image,
    two: UInt8Image,
    rng: np.random.Generator,
    share: tuple[float, float] = (0.45, 0.55),
) -> UInt8Image:
    """The second image from one side on, over this share of the frame."""
    axis, part = int(rng.integers(2)), rng.uniform(*share)
    length = one.shape[axis]
    first = int(part * length) if rng.random() < 0.5 else int((1 - part) * length)
    before = first == int(part * length)
    out = one.copy()
    where = slice(0, first) if before else slice(first, length)
    index = (where, slice(None)) if axis == 0 else (slice(None), where)
    out[index] = two[index]
    return out


def _reflected(stage: Stage, rng: np.random.Generator) -> Captures:
    """Another scene in a window pane, as bright as what lies behind it."""
    both = 0.5 * stage.seen() + 0.5 * stage.seen(stage.other)
    return stage.sharp(), stage.taken(both, 2)


CAPTURE_KINDS = {
    "black": _black,
    "noise only": _noise,
    "a wall": _flat,
    "two walls": _both_flat,
    "mirrored": _mirrored,
    "upside down": _upside_down,
    "turned by 180 degrees": _half_turn,
    "turned by 90 degrees": _quarter_turn,
    "a negative": _negative,
    "roles swapped": _swapped,
    "roles swapped, strips of texture": _swapped_strips,
    "tiles, off by some": _grating,
    "stripes": _stripes,
    "shaken": _shaken,
    "overexposed": _overexposed,
    "two exposures": _two_exposures,
    "broken JPEG": _broken_jpeg,
    "JPEG cut off": _grey_jpeg,
    "half from another scene": _half_of_another_scene,
    "half from another capture": _half_of_another_capture,
    "a third from another capture": _third_of_another_capture,
    "a reflection": _reflected,
}
