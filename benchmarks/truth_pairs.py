"""Pairs of captures with known truth, made from seeds by the forward model.

A dead-leaves scene is warped, blurred by a disk in linear light, cast, and sampled with noise;
the sharp capture is the scene itself with noise.  The hard case adds what real lenses and rooms
do: a radial term, a blur that grows across the field, another vignetting, and a foreground that
moves on its own.  The aperture case has a lens that the method does not model: seven blades and a
bright rim instead of a disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from casts import Cast, make_cast

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import Warp, blur_disk, to_encoded
from defocus_ds.simulate.lens import PlaneView, margin_px, view
from defocus_ds.simulate.scene import SceneLayers, dead_leaves_scene

__all__ = [
    "FIELD",
    "FULL_SIZE",
    "LEVELS",
    "MORE",
    "READ",
    "SHOT",
    "PairTruth",
    "aperture_psf",
    "blur_across",
    "capture",
    "draw_pairs",
    "fall_off",
    "over",
    "scene_for",
    "see_blurred",
    "see_sharp",
]

FULL_SIZE = (5796, 3870)  # of a developed Canon EOS 5D Mark III raw
LEVELS = ("low", "medium", "high")
MORE = (("medium", "hard"), ("high", "hard"), ("medium", "aperture"))  # beside the plain pairs

_RADIUS_PX = {"low": 3.0, "medium": 6.0, "high": 12.0}
_SCALE = {"low": 0.004, "medium": 0.010, "high": 0.020}
_SHIFT_PX = 15.0
_ROTATION_DEG = 0.15
_PARALLAX_PX = 3.0
FIELD = (0.65, 1.35)  # of the radius, from the left edge to the right one
SHOT, READ = 3.6e-5, 6e-4  # variance a unit of linear light; deviation in the dark
_LIGHT_TOP = 65535
_STEP = 0.04  # of the radius between two disks that are blended
_TILE = 512


@dataclass(frozen=True, slots=True)
class PairTruth:
    """Everything that made one blurred capture.

    ``kind`` is plain, hard or aperture.  ``warp`` maps sharp-frame points to blurred-frame
    points (of the background where there is a foreground); ``radius_px`` is the disk's radius in
    pixels of the blurred capture, its mean over the field in the hard case; ``vignetting`` is the
    loss of light in the corner.
    """

    scene: int
    level: str
    kind: str
    warp: Warp
    radius_px: float
    foreground_shift_px: tuple[float, float]
    vignetting: float
    cast: Cast

    @property
    def name(self) -> str:
        return f"scene{self.scene}-{self.level}" + f"-{self.kind}" * (self.kind != "plain")


def draw_pairs(
    scene: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = FULL_SIZE,
    more: Sequence[tuple[str, str]] = MORE,
    cast: str = "gains",
) -> list[PairTruth]:
    """The pairs of one scene: low, medium and high, and more of other kinds.

    Args:
        scene: number of the scene; it has random numbers of its own.
        seed: of the benchmark.
        size: (width, height) in px; shifts, radii and the radial term shrink with it.
        more: (level, kind) of the pairs that are made beside the three plain ones.
        cast: name of the change of colours, see `casts.make_cast`.
    """
    rng = np.random.default_rng([seed, scene, 1])
    share = float(np.hypot(*size) / np.hypot(*FULL_SIZE))
    side = float(rng.choice([-1.0, 1.0]))  # of the focus ring
    half_diagonal = float(np.hypot(*size) / 2)
    pairs = []
    for level in LEVELS:
        angle, length = rng.uniform(0, 2 * np.pi), _SHIFT_PX * share * rng.uniform(0.3, 1)
        plain = PairTruth(
            scene=scene,
            level=level,
            kind="plain",
            warp=Warp.similarity(
                size,
                scale=1 + side * _SCALE[level],
                rotation_deg=rng.uniform(-_ROTATION_DEG, _ROTATION_DEG),
                shift_px=(length * np.cos(angle), length * np.sin(angle)),
            ),
            radius_px=_RADIUS_PX[level] * share,
            foreground_shift_px=(0.0, 0.0),
            vignetting=0.0,
            cast=make_cast(cast, rng),
        )
        pairs.append(plain)
        corner, apart = side * rng.uniform(2, 3) * share, rng.uniform(0, 2 * np.pi)
        darker = rng.uniform(0.05, 0.10)
        if (level, "hard") in more:
            parallax = _PARALLAX_PX * share
            pairs.append(
                replace(
                    plain,
                    kind="hard",
                    warp=replace(plain.warp, radial=corner / half_diagonal),
                    foreground_shift_px=(parallax * np.cos(apart), parallax * np.sin(apart)),
                    vignetting=darker,
                )
            )
    plain = {p.level: p for p in pairs if p.kind == "plain"}
    return pairs + [replace(plain[at], kind=kind) for at, kind in more if kind == "aperture"]


def scene_for(pairs: Sequence[PairTruth], *, seed: int = 0) -> SceneLayers:
    """The scene that these pairs (of one scene number) see: a background and a foreground.

    The foreground covers about a tenth of the frame.  The margin is wide enough for every pair.
    """
    views = [
        PlaneView(_moved(p.warp, p.foreground_shift_px), FIELD[1] * p.radius_px) for p in pairs
    ]
    margin = margin_px(views) + 8
    rng = np.random.default_rng([seed, pairs[0].scene, 2])
    layers = dead_leaves_scene(rng, pairs[0].warp.size, margin=margin)
    far, middle, near = layers.planes
    return SceneLayers((over(far, middle), near), margin)


def see_sharp(scene: SceneLayers, size: tuple[int, int]) -> FloatImage:
    """The light of the sharp capture, (H, W, 3) linear."""
    flat = SceneLayers((over(*scene.planes),), scene.margin)
    return view(flat, [PlaneView(Warp.identity(size), 0.0)])


def see_blurred(scene: SceneLayers, truth: PairTruth) -> FloatImage:
    """The light of the blurred capture before any change of colour, (H, W, 3) linear."""
    if truth.kind != "hard":
        flat = over(*scene.planes)
        if truth.kind == "plain":
            views = [PlaneView(truth.warp, truth.radius_px)]
            return view(SceneLayers((flat,), scene.margin), views)
        scale = float(np.sqrt(np.linalg.det(np.asarray(truth.warp.matrix)[:, :2])))
        flat = _filtered(flat, aperture_psf(truth.radius_px / scale))
        return view(SceneLayers((flat,), scene.margin), [PlaneView(truth.warp, 0.0)])
    planes = tuple(blur_across(plane, truth.radius_px, scene.margin) for plane in scene.planes)
    moved = _moved(truth.warp, truth.foreground_shift_px)
    light = view(
        SceneLayers(planes, scene.margin), [PlaneView(w, 0.0) for w in (truth.warp, moved)]
    )
    return light * fall_off(truth.warp.size, truth.vignetting)[..., None]


def capture(light: FloatImage, cast: Cast | None, noise_seed: Sequence[int]) -> UInt8Image:
    """Cast, shot and read noise, sRGB, 8 bits.

    The same ``noise_seed`` gives the same draws, so that a capture with and without its cast
    differ by the cast alone.
    """
    rng = np.random.default_rng(noise_seed)
    out = np.empty(light.shape, np.uint8)
    for top in range(0, len(light), 256):  # in strips, for memory
        rows = light[top : top + 256]
        if cast is not None:
            rows = cast.change_light(rows)
        draws = rng.standard_normal(rows.shape, np.float32)
        noisy = rows + draws * np.sqrt(SHOT * np.maximum(rows, 0) + READ**2).astype(np.float32)
        stored = to_encoded(np.clip(noisy, 0, 1))
        if cast is not None:
            stored = cast.change_stored(stored)
        out[top : top + 256] = np.round(np.clip(stored, 0, 1) * 255)
    return out


def aperture_psf(radius_px: float) -> FloatImage:
    """Blur of a lens with seven straight blades and a rim twice as bright as the middle.

    Args:
        radius_px: of the disk of equal area.

    Returns:
        ``(K, K)`` float32, K odd, sums to 1, centred on the polygon's centre.
    """
    blades, fine = 7, 45
    turn = 2 * np.pi / blades
    corner = radius_px * np.sqrt(2 * np.pi / (blades * np.sin(turn)))
    half = int(np.ceil(corner + 1))
    at = (np.arange((2 * half + 1) * fine) - (fine - 1) / 2) / fine - half
    x, y = np.meshgrid(at, at)
    pixel = np.arange(-half, half + 1)
    shift = np.zeros(2)
    for _ in range(6):  # sampling moves the centre by up to 0.004 px: moved back
        u, v = x - shift[0], y - shift[1]
        angle = (np.arctan2(v, u) - 0.3) % turn - turn / 2
        inside = np.hypot(u, v) * np.cos(angle) <= corner * np.cos(turn / 2)
        light = inside * (1 + (u**2 + v**2) / corner**2)
        psf = light.reshape(2 * half + 1, fine, 2 * half + 1, fine).mean(axis=(1, 3))
        psf /= psf.sum()
        shift -= (psf.sum(axis=0) @ pixel, psf.sum(axis=1) @ pixel)
    return np.asarray(psf, np.float32)


def _filtered(plane: npt.NDArray[np.uint16], psf: FloatImage) -> npt.NDArray[np.uint16]:
    import cv2

    flipped = np.ascontiguousarray(psf[::-1, ::-1])  # OpenCV correlates
    out = np.empty_like(plane)
    for c in range(plane.shape[2]):
        channel = cv2.filter2D(plane[..., c].astype(np.float32), -1, flipped)
        out[..., c] = np.round(channel).clip(0, _LIGHT_TOP)
    return out


def _moved(warp: Warp, shift_px: tuple[float, float]) -> Warp:
    (a, b, c), (d, e, f) = warp.matrix
    return replace(warp, matrix=((a, b, c + shift_px[0]), (d, e, f + shift_px[1])))


def over(far: npt.NDArray[np.uint16], near: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """One premultiplied plane over another (Porter & Duff 1984), in strips."""
    out = np.empty_like(far)
    for top in range(0, len(far), 256):
        rows = slice(top, top + 256)
        through = 1 - near[rows, :, 3:].astype(np.float32) / _LIGHT_TOP
        out[rows] = np.round(far[rows] * through + near[rows]).clip(0, _LIGHT_TOP)
    return out


def blur_across(
    plane: npt.NDArray[np.uint16], radius_px: float, margin: int
) -> npt.NDArray[np.uint16]:
    """Blur by a disk that grows from the left edge to the right, in pixels of the sharp frame.

    Disks at neighbouring steps of 4 % are blended; a blend is as wide as the disk between them.
    """
    width = plane.shape[1] - 2 * margin
    pad = int(np.ceil(radius_px * FIELD[1])) + 2
    share = (np.arange(plane.shape[1]) - margin) / (width - 1)
    wanted = (FIELD[0] + (FIELD[1] - FIELD[0]) * np.clip(share, 0, 1)) / _STEP
    out = np.empty_like(plane)
    for top in range(0, plane.shape[0], _TILE):
        for left in range(0, plane.shape[1], _TILE):
            y0, x0 = max(0, top - pad), max(0, left - pad)
            patch = plane[y0 : top + _TILE + pad, x0 : left + _TILE + pad].astype(np.float32)
            target = out[top : top + _TILE, left : left + _TILE]
            steps = wanted[left : left + target.shape[1]]
            total = np.zeros(target.shape, np.float32)
            for step in range(int(np.floor(steps.min())), int(np.ceil(steps.max())) + 1):
                weight = np.maximum(1 - np.abs(steps - step), 0).astype(np.float32)
                blurred = blur_disk(patch, radius_px * step * _STEP)
                inner = blurred[top - y0 :, left - x0 :][: target.shape[0], : target.shape[1]]
                total += inner * weight[None, :, None]
            target[:] = np.round(total).clip(0, _LIGHT_TOP)
    return out


def fall_off(size: tuple[int, int], corner_loss: float) -> FloatImage:
    """(H, W) what vignetting leaves of the light: 1 in the middle, less the loss in a corner."""
    x = (np.arange(size[0], dtype=np.float32) - (size[0] - 1) / 2) / np.hypot(*size) * 2
    y = (np.arange(size[1], dtype=np.float32) - (size[1] - 1) / 2) / np.hypot(*size) * 2
    return np.asarray(1 - corner_loss * (x[None] ** 2 + y[:, None] ** 2), np.float32)
