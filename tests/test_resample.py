"""Resampling against analytic images and an independent interpolator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from defocus_ds.errors import OpticsError
from defocus_ds.lut import apply_lut
from defocus_ds.optics import Warp
from defocus_ds.resample import covered, resample

SIZE = (601, 97)  # wider than a block of the inner loop


def identity_lut(size: int) -> npt.NDArray[np.float32]:
    axis = np.linspace(0, 1, size, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def noise(channels: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (SIZE[1], SIZE[0], channels), dtype=np.uint8)


def keys_reference(image: npt.NDArray[np.float64], warp: Warp) -> npt.NDArray[np.float64]:
    """Catmull-Rom by definition: the kernel of Keys 1981 (a = -1/2) at every distance."""

    def kernel(d: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        d = np.abs(d)
        near = 1.5 * d**3 - 2.5 * d**2 + 1
        far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    height, width = image.shape
    y, x = np.mgrid[0 : warp.size[1], 0 : warp.size[0]]
    points = warp.map_points(np.stack([x, y], -1).reshape(-1, 2))
    out = np.zeros(len(points))
    base = np.floor(points).astype(int)
    for j in range(-1, 3):
        for i in range(-1, 3):
            at = base + (i, j)
            weight = kernel(points[:, 0] - at[:, 0]) * kernel(points[:, 1] - at[:, 1])
            out += weight * image[at[:, 1].clip(0, height - 1), at[:, 0].clip(0, width - 1)]
    outside = ((points < -0.5) | (points > np.array([width, height]) - 0.5)).any(axis=1)
    out[outside] = 0
    return out.reshape(warp.size[1], warp.size[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("lut", [None, 2, 17, 65])
def test_identity_returns_the_same_bytes(channels: int, lut: int | None) -> None:
    if lut is not None and channels != 3:
        pytest.skip("a colour LUT needs three channels")
    image = noise(channels)
    table = None if lut is None else identity_lut(lut)
    assert np.array_equal(resample(image, Warp.identity(SIZE), lut=table), image)
    as_float = image.astype(np.float32) / 255
    assert np.allclose(resample(as_float, Warp.identity(SIZE), lut=table), as_float, atol=1e-6)


@pytest.mark.parametrize(
    "warp",
    [
        Warp.similarity(SIZE, scale=1.013, rotation_deg=0.8, shift_px=(4.3, -2.6), radial=0.01),
        Warp.similarity(SIZE, scale=0.8, rotation_deg=3, shift_px=(-7.25, 5.5)),
        Warp.similarity((90, 80), scale=1.9, rotation_deg=70, shift_px=(200, 10)),
        Warp.similarity(SIZE, shift_px=(0.5, 0.5)),
    ],
)
def test_agrees_with_the_definition_of_the_kernel(warp: Warp) -> None:
    image = noise(3)
    exact = np.stack([keys_reference(image[..., c] / 255, warp) for c in range(3)], axis=-1)
    got = resample(image.astype(np.float32) / 255, warp)
    assert np.abs(got - exact).max() < 3e-5
    levels = resample(image, warp).astype(float)
    assert np.abs(levels - (exact * 255).clip(0, 255)).max() < 0.51
    assert np.array_equal(levels[..., 1], resample(image[..., 1].copy(), warp))


def test_agrees_with_a_spline_interpolator_on_a_smooth_image() -> None:
    from scipy.ndimage import map_coordinates

    y, x = np.mgrid[0:120, 0:160].astype(float)
    image = (0.5 + 0.2 * np.sin(x / 7) * np.cos(y / 9) + 0.1 * np.sin((x + y) / 5)).astype("f4")
    warp = Warp.similarity((160, 120), scale=1.02, rotation_deg=1.5, shift_px=(1.3, 2.7))
    grid = np.stack(np.meshgrid(np.arange(160), np.arange(120)), -1).reshape(-1, 2)
    points = warp.map_points(grid)
    spline = map_coordinates(image, points[:, ::-1].T, order=5, mode="nearest").reshape(120, 160)
    got = resample(image, warp)
    assert np.abs(got - spline)[8:-8, 8:-8].max() < 6e-4  # the error of a cubic on these waves


def test_quadratic_images_are_reproduced_exactly() -> None:
    """Keys' kernel with a = -1/2 interpolates polynomials of the second degree without error."""

    def value(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 0.3 + 0.002 * x - 0.003 * y + 1e-5 * x * x + 2e-5 * x * y - 1.5e-5 * y * y

    y, x = np.mgrid[0:90, 0:110].astype(float)
    warp = Warp.similarity((110, 90), scale=0.97, rotation_deg=-2, shift_px=(3.37, -1.18))
    points = warp.map_points(np.stack([x, y], -1).reshape(-1, 2)).reshape(90, 110, 2)
    got = resample(value(x, y).astype(np.float32), warp)
    inside = ((points > 2) & (points < (107, 87))).all(axis=-1)
    assert inside.mean() > 0.8
    assert np.abs(got - value(points[..., 0], points[..., 1]))[inside].max() < 1e-5


@pytest.mark.parametrize("lut", [None, "bright"])
def test_points_outside_are_black_not_smeared(lut: str | None) -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    table = None if lut is None else identity_lut(9) * 0.6 + 0.4  # maps black to grey
    got = resample(image, Warp.similarity((80, 60), shift_px=(30.25, -20.0)), lut=table)
    x, y = np.arange(80) + 30.25, np.arange(60) - 20.0
    inside = (y >= -0.5)[:, None] & (x <= 79.5)[None, :]
    assert (got[~inside] == 0).all()
    assert (got[inside] == (200 if lut is None else 222)).all()


@pytest.mark.parametrize("shift", [(0, 0), (30.25, -20.0), (-0.5, 0.5), (1e7, 0), (0, -1e300)])
@pytest.mark.parametrize("scale", [0.9, 1.0, 1.2])
def test_covered_is_where_white_is_not_black(shift: tuple[float, float], scale: float) -> None:
    warp = Warp.similarity((700, 60), scale=scale, rotation_deg=1.5, shift_px=shift)
    white = np.ones((50, 640), np.float32)
    assert np.array_equal(covered(warp, (640, 50)), resample(white, warp) > 0.5)


def test_far_away_is_all_black() -> None:
    image = noise(3)
    assert not resample(image, Warp.similarity(SIZE, shift_px=(1e7, 0))).any()
    assert not resample(image, Warp.similarity(SIZE, shift_px=(0, -1e300))).any()


def test_warp_and_lut_in_one_pass_equal_two_passes() -> None:
    image = noise(3, seed=4).astype(np.float32) / 255
    lut = identity_lut(17) ** np.float32(1.3) * np.float32(0.9) + np.float32(0.03)
    warp = Warp.similarity(SIZE, scale=1.01, rotation_deg=0.4, shift_px=(2.2, 1.7))
    seen = resample(np.ones_like(image), warp) > 0.5
    two = apply_lut(resample(image, warp), lut)
    assert np.abs(resample(image, warp, lut=lut) - two)[seen].max() < 1e-6
    levels = resample((image * 255).astype(np.uint8), warp, lut=lut)
    assert np.abs(levels - two * 255)[seen].max() < 1.6  # 8-bit input and output are rounded


def test_wrong_images_are_refused() -> None:
    warp = Warp.identity((4, 4))
    for image in (np.zeros((4, 4), np.float64), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(OpticsError, match="uint8 or float32"):
            resample(image, warp)
    with pytest.raises(OpticsError, match="LUT needs"):
        resample(np.zeros((4, 4), np.uint8), warp, lut=identity_lut(3))
    with pytest.raises(OpticsError, match="N, N, N, 3"):
        resample(np.zeros((4, 4, 3), np.uint8), warp, lut=np.zeros((3, 3, 2, 3), np.float32))
