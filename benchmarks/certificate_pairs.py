"""Pairs with known truth for the certificate, of the kinds that users meet.

Every pair has a map for each depth plane and, in the bent kind, a smooth displacement that no
affine map with a radial term can follow.  The error of a map is its mean distance from the truth
over the visible content of the valid area, each point by the plane that is seen there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from io import BytesIO

import numpy as np
import numpy.typing as npt
from casts import make_cast
from truth_pairs import READ, SHOT, aperture_psf, blur_across, fall_off, over

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import Transfer, Warp, to_encoded
from defocus_ds.simulate.cr2 import CaptureTags, cr2_bytes
from defocus_ds.simulate.draw import draw_captures
from defocus_ds.simulate.lens import PlaneView, margin_px, view
from defocus_ds.simulate.scene import (
    SceneLayers,
    dead_leaves_scene,
    label_planes,
    photograph_scene,
)
from defocus_ds.simulate.sensor import Sensor, expose, read_out

__all__ = ["KINDS", "TruePair", "draw_pair", "smooth_shift"]

KINDS = (
    "plain", "noisy", "texture", "radial", "parallax", "hard", "bent", "aperture", "raw",
)  # fmt: skip
SIZES = ((1449, 967), (2048, 1366), (2898, 1935))
_RAW_SIZE = (1452, 968)  # the sensor's width is a multiple of 4
_TAKEN = datetime(2024, 5, 1, 10, 0, 0)


@dataclass(frozen=True, slots=True)
class TruePair:
    """``planes`` (H, W) is the index into ``maps`` of what the sharp frame shows; ``bend`` are
    the coefficients of `smooth_shift`, zero for none."""

    kind: str
    sharp: UInt8Image
    blurred: UInt8Image
    transfer: Transfer
    planes: UInt8Image
    maps: tuple[Warp, ...]
    bend: npt.NDArray[np.float64]
    radius_px: float

    def there(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, 2) sharp-frame points to where their content truly lies in the blurred frame."""
        column, row = np.rint(xy).astype(np.intp).T
        seen = self.planes[row, column]
        mapped = np.stack([each.map_points(xy) for each in self.maps])[seen, np.arange(len(xy))]
        return np.asarray(mapped + smooth_shift(self.bend, mapped, self.maps[0].size))

    def error_px(self, warp: Warp, area: tuple[int, int, int, int]) -> float:
        """Mean distance of a map from the truth over the visible content of an area."""
        x0, y0, x1, y1 = area
        x, y = np.meshgrid(np.linspace(x0, x1 - 1, 121), np.linspace(y0, y1 - 1, 81))
        grid = np.stack([x.ravel(), y.ravel()], axis=-1)
        return float(np.linalg.norm(warp.map_points(grid) - self.there(grid), axis=1).mean())


def draw_pair(kind: str, number: int, *, seed: int) -> TruePair:
    """A pair of one of the `KINDS`; its size, blur, light, noise and texture are drawn.

    Args:
        kind: one of `KINDS`.
        number: of the pair among its kind.
        seed: of the population; other seeds give other pairs.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    return _raw(rng, number) if kind == "raw" else _drawn(kind, rng, number)


def smooth_shift(
    bend: npt.NDArray[np.float64], xy: npt.NDArray[np.float64], size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """(N, 2) displacement in px: quadratic, as perspective and a tilted scene make it."""
    frame = Warp.identity(size)
    u, v = ((xy - frame.centre) / frame.half_diagonal_px).T
    return np.asarray(np.stack([u * u, u * v, v * v], axis=-1) @ bend)


def _drawn(kind: str, rng: np.random.Generator, number: int) -> TruePair:
    size = SIZES[0] if rng.random() < 0.6 else SIZES[int(rng.integers(1, 3))]
    share = float(np.hypot(*size) / np.hypot(5796, 3870))
    level = rng.uniform(0, 1)
    radius = float(1.2 * 10**level) * (1.0 if share < 0.3 else 1.3)
    side = float(rng.choice([-1.0, 1.0]))
    angle = rng.uniform(0, 2 * np.pi)
    length = 15 * share * rng.uniform(0.2, 1)
    main = Warp.similarity(
        size,
        scale=1 + side * float(rng.uniform(0.002, 0.022)),
        rotation_deg=float(rng.uniform(-0.15, 0.15)),
        shift_px=(float(length * np.cos(angle)), float(length * np.sin(angle))),
    )
    if kind in ("radial", "hard"):
        corner = side * float(rng.uniform(2, 3)) * share
        main = replace(main, radial=corner / main.half_diagonal_px)
    planes = 3 if kind in ("parallax", "hard") else 1
    views = _views(kind, main, radius, planes, rng)
    margin = margin_px([PlaneView(v.warp, 1.4 * v.blur_radius_px) for v in views]) + 8
    scene = _scene(kind, rng, number, size, margin)
    if planes == 1:
        scene = SceneLayers((reduce(over, scene.planes),), margin)
    sharp = view(scene, [PlaneView(Warp.identity(size), 0.0)] * planes)
    light = _blurred(kind, scene, views, radius)
    bend = np.zeros((3, 2))
    if kind == "bent":
        bend = rng.normal(0, 1, (3, 2)) * 10 ** rng.uniform(-1.7, 0.3)
        light = _bent(light, bend, size)
    if kind in ("radial", "hard"):
        light = light * fall_off(size, float(rng.uniform(0.05, 0.15)))[..., None]
    gain = float(rng.choice([4.0, 16.0])) if kind == "noisy" else 1.0
    cast = make_cast(str(rng.choice(["gains", "gain+gamma+3x3", "tone curve"])), rng)
    return TruePair(
        kind,
        _capture(sharp, rng, gain, None),
        _capture(light, rng, gain, cast.change_light, cast.change_stored),
        Transfer.SRGB,
        label_planes(scene),
        tuple(v.warp for v in views),
        bend,
        radius,
    )


def _views(
    kind: str, main: Warp, radius: float, planes: int, rng: np.random.Generator
) -> list[PlaneView]:
    """One view a plane, farthest first: nearer ones shift and scale a little more."""
    if planes == 1:
        return [PlaneView(main, radius)]
    apart = 10 ** rng.uniform(-1, 0.6)  # px between the farthest and the nearest
    angle = rng.uniform(0, 2 * np.pi)
    shift = apart * np.array([np.cos(angle), np.sin(angle)])
    grow = float(rng.uniform(-1, 1)) * apart / main.half_diagonal_px
    deeper = float(rng.uniform(-0.3, 0.3))
    views = []
    for n in range(planes):
        part = n / (planes - 1)
        linear = np.asarray(main.matrix)[:, :2] + part * grow * np.eye(2)
        centre = np.asarray(main.centre)
        moved = main.map_points(centre[None])[0] + part * shift
        (a, b), (c, d) = ((float(v) for v in row) for row in linear)
        tx, ty = (float(v) for v in moved - linear @ centre)
        warp = replace(main, matrix=((a, b, tx), (c, d, ty)))
        views.append(PlaneView(warp, radius * (1 + part * deeper)))
    return views


def _scene(
    kind: str, rng: np.random.Generator, number: int, size: tuple[int, int], margin: int
) -> SceneLayers:
    """Dead leaves; in the texture kind photographs, and leaves that are soft, faint or few."""
    if kind != "texture":
        return dead_leaves_scene(rng, size, margin=margin)
    how = number % 5
    if how < 3:
        from skimage import data

        photograph: Callable[[], UInt8Image] = (data.astronaut, data.coffee, data.chelsea)[how]
        return photograph_scene(rng, photograph(), size, margin=margin)
    scene = dead_leaves_scene(rng, size, margin=margin)
    return SceneLayers(tuple(_weaker(p, faint=how == 3) for p in scene.planes), margin)


def _weaker(plane: npt.NDArray[np.uint16], *, faint: bool) -> npt.NDArray[np.uint16]:
    """A tenth of the contrast, or nothing finer than a few pixels."""
    import cv2

    if not faint:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), 4.0), np.uint16)
    out = plane.copy()
    cover = plane[..., 3:].astype(np.float32) / 65535
    out[..., :3] = np.round(0.15 * plane[..., :3] + 0.85 * cover * 0.2 * 65535)
    return out


def _blurred(kind: str, scene: SceneLayers, views: list[PlaneView], radius: float) -> FloatImage:
    still = [PlaneView(v.warp, 0.0) for v in views]
    scale = float(np.sqrt(np.linalg.det(np.asarray(views[0].warp.matrix)[:, :2])))
    if kind == "aperture":
        import cv2

        psf = aperture_psf(radius / scale)[::-1, ::-1].copy()  # OpenCV correlates
        soft = cv2.filter2D(scene.planes[0].astype(np.float32), -1, psf)
        return view(SceneLayers((_stored(soft),), scene.margin), still)
    if kind != "hard":
        return view(scene, views)
    planes = tuple(
        blur_across(p, v.blur_radius_px / scale, scene.margin)
        for p, v in zip(scene.planes, views, strict=True)
    )
    return view(SceneLayers(planes, scene.margin), still)


def _bent(light: FloatImage, bend: npt.NDArray[np.float64], size: tuple[int, int]) -> FloatImage:
    """Move the content at y to y + smooth_shift(y)."""
    from scipy.ndimage import map_coordinates

    x, y = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    target = np.stack([x.ravel(), y.ravel()], axis=-1)
    source = target - smooth_shift(bend, target, size)
    source = target - smooth_shift(bend, source, size)
    source = target - smooth_shift(bend, source, size)
    at = source.T[::-1].reshape(2, size[1], size[0])
    channels = [map_coordinates(light[..., c], at, order=5, mode="mirror") for c in range(3)]
    return np.asarray(np.stack(channels, axis=-1), np.float32)


def _capture(
    light: FloatImage,
    rng: np.random.Generator,
    gain: float,
    change_light: Callable[[FloatImage], FloatImage] | None,
    change_stored: Callable[[FloatImage], FloatImage] | None = None,
) -> UInt8Image:
    """Cast, noise of ``gain`` times the light's variance at base ISO, sRGB, 8 bits."""
    if change_light is not None:
        light = change_light(light)
    variance = gain * (SHOT * np.maximum(light, 0) + READ**2)
    noisy = light + rng.standard_normal(light.shape, np.float32) * np.sqrt(variance)
    stored = to_encoded(np.clip(noisy, 0, 1))
    if change_stored is not None:
        stored = change_stored(stored)
    return np.asarray(np.round(np.clip(stored, 0, 1) * 255), np.uint8)


def _stored(plane: FloatImage) -> npt.NDArray[np.uint16]:
    return np.asarray(np.round(plane).clip(0, 65535), np.uint16)


def _raw(rng: np.random.Generator, number: int) -> TruePair:
    """Three planes through the simulated sensor and LibRaw's AHD demosaicing."""
    import rawpy

    seed = int(rng.integers(2**31))
    truths = draw_captures(seed, "certificate", _RAW_SIZE, taken=_TAKEN)
    chosen = truths[1 + number % 3]
    margin = margin_px([each for truth in truths for each in truth.planes])
    scene = dead_leaves_scene(rng, _RAW_SIZE, margin=margin)
    sensor = Sensor()
    images = []
    for truth in (truths[0], chosen):
        light = view(scene, truth.planes)
        raw = read_out(expose(light, light=truth.light, sensor=sensor), rng, sensor=sensor)
        red, green, blue = truths[0].white_balance
        tags = CaptureTags(taken=truth.taken, white_balance=(red, green, green, blue))
        with rawpy.imread(BytesIO(cr2_bytes(raw, info=tags))) as file:
            images.append(
                file.postprocess(
                    user_wb=[red / green, 1.0, blue / green, 1.0],
                    no_auto_bright=True,
                    adjust_maximum_thr=0,
                    user_black=sensor.black,
                    user_cblack=[0] * 4,
                    user_sat=sensor.white - sensor.black,
                    user_flip=0,
                    gamma=(2.222, 4.5),
                    demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
                )
            )
    return TruePair(
        "raw",
        images[0],
        images[1],
        Transfer.BT709,
        label_planes(scene),
        tuple(v.warp for v in chosen.planes),
        np.zeros((3, 2)),
        chosen.planes[0].blur_radius_px,
    )
