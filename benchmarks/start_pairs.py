"""Pairs at the edges of what the robust start must find, drawn evenly over all factors at once.

A Latin hypercube (McKay, Beckman & Conover 1979) over shift, scale, rotation, blur radius,
contrast, bare surfaces, clipping and light; the truth of each pair is known by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from truth_pairs import FULL_SIZE, capture

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import Warp
from defocus_ds.simulate.lens import PlaneView, margin_px, view
from defocus_ds.simulate.scene import HEADROOM, SceneLayers, dead_leaves_scene

__all__ = [
    "FACTORS",
    "StartPair",
    "draw_starts",
    "flat_scene",
    "make_start",
    "side_light",
    "start_margin_px",
]

# factor -> (least, most); shift and radius in px of the full size
FACTORS: dict[str, tuple[float, float]] = {
    "shift, px": (0.0, 80.0),
    "scale, %": (-8.0, 8.0),
    "rotation, deg": (-2.0, 2.0),
    "radius, px": (0.5, 25.0),
    "contrast": (0.05, 1.0),
    "bare share": (0.0, 0.7),
    "clipped share": (0.0, 0.2),
    "one-sided light, stops": (0.0, 3.0),
    "change of light, stops": (0.0, 1.0),
}
_LOGARITHMIC = ("contrast",)
_SCENES = 8  # different scenes in a population: drawing one costs more than seeing it
_TOP = 65535


@dataclass(frozen=True, slots=True)
class StartPair:
    """One draw: ``drawn`` has a value for each of `FACTORS`; ``warp`` is the true map.

    ``radius_px`` is the disk's radius in pixels of the blurred capture.  Shift and radius are in
    proportion to the frame, unless the pair is ``unscaled``.
    """

    number: int
    scene: int
    drawn: dict[str, float]
    warp: Warp
    radius_px: float
    unscaled: bool = False


def draw_starts(
    count: int, *, size: tuple[int, int], seed: int = 0, full_scale: bool = False
) -> list[StartPair]:
    """A Latin hypercube of pairs.

    Args:
        count: how many pairs; each factor's range is cut into as many equal parts.
        size: (width, height) of the frames in px.
        seed: of the draw.
        full_scale: take shift and radius as they are; otherwise they shrink with the frame.

    Returns:
        The pairs, in the order of their numbers.
    """
    rng = np.random.default_rng([seed, count, 11])
    share = 1.0 if full_scale else float(np.hypot(*size) / np.hypot(*FULL_SIZE))
    columns = {}
    for name, (low, high) in FACTORS.items():
        unit = (rng.permutation(count) + rng.random(count)) / count
        if name in _LOGARITHMIC:
            columns[name] = low * (high / low) ** unit
        else:
            columns[name] = low + (high - low) * unit
    angles = rng.uniform(0, 2 * np.pi, count)
    pairs = []
    for number in range(count):
        drawn = {name: float(values[number]) for name, values in columns.items()}
        length = drawn["shift, px"] * share
        warp = Warp.similarity(
            size,
            scale=1 + drawn["scale, %"] / 100,
            rotation_deg=drawn["rotation, deg"],
            shift_px=(length * np.cos(angles[number]), length * np.sin(angles[number])),
        )
        radius = drawn["radius, px"] * share
        scene = number % min(_SCENES, count)
        pairs.append(StartPair(number, scene, drawn, warp, radius, full_scale))
    return pairs


def flat_scene(scene: int, size: tuple[int, int], *, margin: int, seed: int = 0) -> FloatImage:
    """One dead-leaves plane, ``(H + 2 margin, W + 2 margin, 3)`` linear light."""
    layers = dead_leaves_scene(np.random.default_rng([seed, scene, 12]), size, margin=margin)
    light = np.zeros((*layers.planes[0].shape[:2], 3), np.float32)
    for plane in layers.planes:  # over one another (Porter & Duff 1984)
        light *= 1 - plane[..., 3:].astype(np.float32) / _TOP
        light += plane[..., :3].astype(np.float32) * np.float32(HEADROOM / _TOP)
    return light


def make_start(
    pair: StartPair, light: FloatImage, *, margin: int, seed: int = 0
) -> tuple[UInt8Image, UInt8Image]:
    """The two captures of a pair.

    Args:
        pair: what to make.
        light: of the pair's scene, from `flat_scene`.
        margin: of that scene.
        seed: of bare surfaces, directions of light and noise.

    Returns:
        Sharp and blurred capture, ``(H, W, 3)`` uint8.
    """
    rng = np.random.default_rng([seed, pair.number, 13])
    bare = _bare(light, pair.drawn["bare share"], rng)
    mean = bare.mean(axis=(0, 1))
    dull = mean + np.float32(pair.drawn["contrast"]) * (bare - mean)
    lit = dull * side_light(dull.shape[:2], pair.drawn["one-sided light, stops"], rng)[..., None]
    stored = np.ones((*lit.shape[:2], 4), np.float32)
    stored[..., :3] = np.clip(lit / HEADROOM, 0, 1)
    plane = SceneLayers((np.round(stored * _TOP).astype(np.uint16),), margin)
    size = pair.warp.size
    sharp = view(plane, [PlaneView(Warp.identity(size), 0.0)])
    blurred = view(plane, [PlaneView(pair.warp, pair.radius_px)])
    change = side_light(blurred.shape[:2], pair.drawn["change of light, stops"], rng)
    blurred *= (change / change.mean())[..., None]
    share = pair.drawn["clipped share"]
    gain = np.float32(1 / max(float(np.quantile(sharp[..., 1], 1 - share)), 1e-3))
    return (
        capture(sharp * gain, None, [seed, pair.number, 14]),
        capture(blurred * gain, None, [seed, pair.number, 15]),
    )


def side_light(shape: tuple[int, int], stops: float, rng: np.random.Generator) -> FloatImage:
    """``(H, W)`` light that falls by ``stops`` from one side of the frame to the other."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape), indexing="ij")
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / (along.max() - along.min())
    return np.asarray(2.0 ** (-stops * along), np.float32)


def start_margin_px(pairs: Sequence[StartPair]) -> int:
    """Margin that a scene needs for all of these pairs."""
    return max(margin_px([PlaneView(p.warp, p.radius_px)]) for p in pairs)


def _bare(light: FloatImage, share: float, rng: np.random.Generator) -> FloatImage:
    """Walls: where a smooth random field is low there is only slow change of light."""
    import cv2

    height, width = light.shape[:2]
    field = np.asarray(
        cv2.resize(rng.standard_normal((4, 6)), (width, height), interpolation=cv2.INTER_CUBIC)
    )
    low = np.quantile(field, share)
    covered = np.clip((field - low) / (0.02 * np.ptp(field)) + 0.5, 0, 1).astype(np.float32)
    if share <= 0:
        return light
    small = cv2.resize(light, (12, 8), interpolation=cv2.INTER_AREA)
    wall = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0.02, None)
    mixed: npt.NDArray[np.float32] = wall + covered[..., None] * (light - wall)
    return mixed
