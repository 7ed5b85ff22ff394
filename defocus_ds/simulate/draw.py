"""What differs between the captures of a bracket: breathing, blur, light, drawn per scene."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from defocus_ds.frames import Level
from defocus_ds.optics import Warp
from defocus_ds.simulate.lens import PlaneView
from defocus_ds.simulate.scene import PLANES
from defocus_ds.simulate.sensor import DAYLIGHT, Light

__all__ = ["FULL_SIZE", "CaptureTruth", "draw_captures", "stream"]

FULL_SIZE = (5796, 3870)
LEVELS = tuple(Level)

# at full size, for the low, the medium and the high level
_RADIUS_PX = (3.0, 6.0, 12.0)
_SMALL_EXPONENT = (0.446, 0.534, 0.643)  # 744x496 gets radii of about 1.2, 2.0 and 3.2 px
_BREATHING = (0.004, 0.010, 0.020)  # change of scale
_SHIFT_PX = (5.0, 9.0, 15.0)
_RADIAL_PX = (0.5, 1.0, 2.0)  # at the corner
_PARALLAX_PX = (0.1, 0.2, 0.4)  # between farthest and nearest plane, at the corner
_ROTATION_DEG = 0.15


@dataclass(frozen=True, slots=True)
class CaptureTruth:
    """Every parameter of one simulated capture.

    ``planes`` has one view a depth plane, farthest first; ``white_balance`` is what the camera
    notes, (R, G, B) with green at 1024.
    """

    level: Level
    planes: tuple[PlaneView, ...]
    light: Light
    white_balance: tuple[int, int, int]
    taken: datetime
    focus_distance_m: tuple[float, float]


def stream(seed: int, scene: str, purpose: str) -> np.random.Generator:
    """The scene's own random numbers, independent of other scenes and purposes."""
    digest = hashlib.sha256(f"{seed}/{scene}/{purpose}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32).tolist())


def draw_captures(
    seed: int, scene: str, size: tuple[int, int], *, taken: datetime, depth: float = 1.0
) -> tuple[CaptureTruth, ...]:
    """Draw the four captures of a scene: sharp, low, medium, high.

    Args:
        seed: of the shoot.
        scene: its name.
        size: (width, height) of the developed frame in pixels.
        taken: time of the sharp capture; the others follow at a few seconds' distance.
        depth: how far the planes lie apart, >= 0: multiplies the difference of their radii from
            the farthest plane's, which is 6 to 30 % at 1, and their parallax.

    Returns:
        Truth of each capture in order of focus offset.
    """
    rng = stream(seed, scene, "captures")
    share = float(np.hypot(*size) / np.hypot(*FULL_SIZE))
    reduced = max(share, 0.25)  # a small frame keeps shifts that can be seen
    half_diagonal = float(np.hypot(*size) / 2)
    nearer = rng.choice([-1.0, 1.0])  # the side of the ring the shoot turns to
    radius_factor = rng.uniform(0.92, 1.08)
    nearness = np.array([0.0, rng.uniform(0.06, 0.15), rng.uniform(0.16, 0.30)])
    nearness *= rng.choice([-1.0, 1.0]) * depth
    distance = rng.uniform(1.5, 4.0)
    vignetting = rng.uniform(0.12, 0.22)
    captures = []
    for index, level in enumerate(LEVELS):
        planes = tuple(PlaneView(Warp.identity(size), 0.0) for _ in range(PLANES))
        light = Light(vignetting=round(vignetting, 4))
        balance = DAYLIGHT
        if level is not Level.SHARP:
            i = index - 1
            radius = _RADIUS_PX[i] * share ** _SMALL_EXPONENT[i] * radius_factor
            breathing = nearer * _BREATHING[i] * rng.uniform(0.85, 1.15)
            angle = rng.uniform(0, 2 * np.pi)
            shift = _SHIFT_PX[i] * reduced * rng.uniform(0.4, 1.0)
            rotation = rng.uniform(-_ROTATION_DEG, _ROTATION_DEG)
            corner = nearer * _RADIAL_PX[i] * share * rng.uniform(0.5, 1.0)
            parallax = _PARALLAX_PX[i] * reduced * rng.uniform(0.5, 1.0) * depth
            planes = tuple(
                PlaneView(
                    Warp.similarity(
                        size,
                        scale=1 + breathing + nearer * parallax * p / (PLANES - 1) / half_diagonal,
                        rotation_deg=rotation,
                        shift_px=(shift * np.cos(angle), shift * np.sin(angle)),
                        radial=corner / half_diagonal,
                    ),
                    float(radius * max(1 + nearness[p], 0.0)),
                )
                for p in range(PLANES)
            )
            gains = np.exp(rng.normal(0, 0.04) + rng.normal(0, 0.02, 3)).clip(0.85, 1.15)
            light = Light(
                gains=(float(gains[0]), float(gains[1]), float(gains[2])),
                vignetting=round(vignetting * rng.uniform(0.9, 1.1), 4),
            )
            red, blue = np.exp(rng.normal(0, 0.02, 2))
            balance = (round(DAYLIGHT[0] * red), DAYLIGHT[1], round(DAYLIGHT[2] * blue))
        focus = distance * (1 + nearer * 0.02 * level.offset)
        captures.append(
            CaptureTruth(
                level=level,
                planes=planes,
                light=light,
                white_balance=balance,
                taken=taken + timedelta(seconds=5 * index),
                focus_distance_m=(round(focus * 1.03, 2), round(focus * 0.97, 2)),
            )
        )
    return tuple(captures)
