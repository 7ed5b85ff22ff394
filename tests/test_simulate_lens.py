"""The lens against closed forms: where things land, how they blur, what shines through."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import j1

from defocus_ds.errors import OpticsError
from defocus_ds.optics import Warp
from defocus_ds.simulate.lens import PlaneView, margin_px, view
from defocus_ds.simulate.scene import HEADROOM, SceneLayers

SIZE = (360, 240)


def layer(light: np.ndarray, cover: np.ndarray | float = 1.0) -> np.ndarray:
    """A plane of uniform colour from (H, W) light and coverage."""
    cover = np.broadcast_to(cover, light.shape)
    values = np.stack([light * cover / HEADROOM] * 3 + [cover], axis=-1)
    return np.round(values * 65535).astype(np.uint16)


def waves(x: np.ndarray, y: np.ndarray, gain: tuple[float, ...] = (1, 1, 1)) -> np.ndarray:
    """Three plane waves of 0.03 to 0.11 cycles a pixel about mid grey."""
    out = np.full(np.broadcast(x, y).shape, 0.5)
    for amplitude, (fx, fy), g in zip((0.12, 0.1, 0.08), WAVES, gain, strict=True):
        out += g * amplitude * np.cos(2 * np.pi * (fx * x + fy * y) + 7 * fx)
    return out


WAVES = ((0.03, 0.011), (-0.02, 0.06), (0.08, 0.075))


def scene_of(*planes: np.ndarray, margin: int) -> SceneLayers:
    return SceneLayers(planes, margin)


@pytest.mark.parametrize(
    ("scale", "rotation", "shift", "radial", "radius"),
    [
        (1.0, 0.0, (0.37, -0.61), 0.0, 0.0),
        (1.004, 0.12, (2.3, 1.7), 0.0003, 1.2),
        (0.98, -0.15, (-3.4, 5.2), -0.0006, 3.0),
        (1.02, 0.1, (4.1, -2.2), 0.0006, 5.5),
    ],
)
def test_waves_land_where_the_warp_sends_them(
    scale: float, rotation: float, shift: tuple[float, float], radial: float, radius: float
) -> None:
    """The capture equals the warped waves times the disk's transfer 2 J1(a)/a times a pixel's."""
    warp = Warp.similarity(SIZE, scale=scale, rotation_deg=rotation, shift_px=shift, radial=radial)
    views = [PlaneView(warp, radius)]
    margin = margin_px(views)
    y, x = np.mgrid[-margin : SIZE[1] + margin, -margin : SIZE[0] + margin].astype(float)
    seen = view(scene_of(layer(waves(x, y)), margin=margin), views)[..., 1]
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(float)
    source = warp.unmap_points(np.stack([x, y], -1).reshape(-1, 2)).reshape(*x.shape, 2)
    gain = tuple(_disk_transfer(fx, fy, radius / scale) for fx, fy in WAVES)
    expected = waves(source[..., 0], source[..., 1], gain)
    assert np.abs(seen - expected).max() < 0.002
    # the error as a shift: least squares along the gradient
    gy, gx = np.gradient(expected)
    normal = np.stack([gx.ravel(), gy.ravel()], axis=1)
    moved = np.linalg.lstsq(normal, (seen - expected).ravel(), rcond=None)[0]
    assert np.abs(moved).max() < 0.002


def _disk_transfer(fx: float, fy: float, radius: float) -> float:
    if radius == 0:
        return 1.0
    a = 2 * np.pi * radius * np.hypot(fx, fy)
    return float(2 * j1(a) / a * np.sinc(fx) * np.sinc(fy))


def test_light_from_behind_shines_through_a_blurred_edge() -> None:
    """A half-plane at distance d from its edge covers the share of the disk beyond it."""
    margin, radius = 24, 6.0
    shape = (SIZE[1] + 2 * margin, SIZE[0] + 2 * margin)
    covered = np.zeros(shape)
    covered[:, margin + 180 :] = 1.0  # the edge lies at x = 179.5
    scene = scene_of(layer(np.full(shape, 0.8)), layer(np.full(shape, 0.1), covered), margin=margin)
    still = Warp.identity(SIZE)
    seen = view(scene, [PlaneView(still, 2.0), PlaneView(still, radius)])[120, :, 0]
    d = np.clip((np.arange(SIZE[0]) - 179.5) / radius, -1, 1)
    share = 0.5 + (d * np.sqrt(1 - d**2) + np.arcsin(d)) / np.pi
    assert np.abs(seen - (0.8 * (1 - share) + 0.1 * share)).max() < 0.005


def test_planes_move_on_their_own() -> None:
    margin = 32
    shape = (SIZE[1] + 2 * margin, SIZE[0] + 2 * margin)
    spot = np.zeros(shape)
    spot[margin + 100 : margin + 140, margin + 200 : margin + 240] = 1.0
    scene = scene_of(layer(np.full(shape, 0.2)), layer(np.full(shape, 1.0), spot), margin=margin)
    far = PlaneView(Warp.similarity(SIZE, shift_px=(5.0, 0.0)), 3.0)
    near = PlaneView(Warp.similarity(SIZE, shift_px=(-4.25, 2.5)), 3.0)
    light = view(scene, [far, near])[..., 0]
    light -= light[0, 0]
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    centre = ((light * x).sum() / light.sum(), (light * y).sum() / light.sum())
    assert centre == pytest.approx((219.5 - 4.25, 119.5 + 2.5), abs=0.01)


def test_the_sharp_view_is_the_scene_itself() -> None:
    rng = np.random.default_rng(0)
    margin = 16
    values = rng.uniform(0, 1, (SIZE[1] + 32, SIZE[0] + 32))
    seen = view(scene_of(layer(values), margin=margin), [PlaneView(Warp.identity(SIZE), 0.0)])[
        ..., 2
    ]
    assert np.abs(seen - values[16:-16, 16:-16]).max() < 2e-5


def test_the_margin_holds_what_the_views_need() -> None:
    outward = PlaneView(Warp.similarity(SIZE, scale=0.9, shift_px=(12.0, 0.0)), 7.0)
    corner = outward.warp.unmap_points([[0.0, 0.0], [SIZE[0] - 1, SIZE[1] - 1]])
    reach = max(-corner.min(), (corner[1] - (SIZE[0] - 1, SIZE[1] - 1)).max()) + 7.0
    assert reach < margin_px([outward]) < reach + 32


def test_a_scene_too_narrow_is_refused() -> None:
    scene = scene_of(layer(np.zeros((SIZE[1] + 16, SIZE[0] + 16))), margin=8)
    far = PlaneView(Warp.similarity(SIZE, shift_px=(40.0, 0.0)), 3.0)
    with pytest.raises(OpticsError, match="extends 8 px"):
        view(scene, [far])
    with pytest.raises(OpticsError, match="2 views of 1"):
        view(scene, [far, far])
