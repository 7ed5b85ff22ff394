"""The forward model against its closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus_ds.errors import OpticsError
from defocus_ds.optics import Transfer, Warp, blur_disk, disk_psf, to_encoded, to_linear


@pytest.mark.parametrize("transfer", list(Transfer))
def test_encoding_inverts_decoding(transfer: Transfer) -> None:
    stored = np.linspace(0, 1, 5001)
    assert np.abs(to_encoded(to_linear(stored, transfer), transfer) - stored).max() < 2e-6
    levels = np.arange(256, dtype=np.uint8)
    again = np.round(to_encoded(to_linear(levels, transfer), transfer) * 255)
    assert np.array_equal(again, levels)


@pytest.mark.parametrize("transfer", list(Transfer))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_decode_as_their_share_of_the_range(transfer: Transfer, dtype: type) -> None:
    top = np.iinfo(dtype).max
    values = np.array([0, 1, top // 3, top - 1, top], dtype)
    assert np.allclose(to_linear(values, transfer), to_linear(values / top, transfer), atol=1e-7)


@pytest.mark.parametrize(
    ("transfer", "stored", "light"),
    # IEC 61966-2-1 and ITU-R BT.709-6, evaluated in double precision
    [
        (Transfer.SRGB, 0.5, 0.21404114),
        (Transfer.BT709, 0.5, 0.25971944),
        (Transfer.SRGB, 0.04, 0.00309598),
    ],
)
def test_decoding_agrees_with_the_standard(transfer: Transfer, stored: float, light: float) -> None:
    assert to_linear(np.array([stored]), transfer)[0] == pytest.approx(light, abs=2e-5)


@pytest.mark.parametrize("transfer", list(Transfer))
def test_curves_are_continuous_and_rise(transfer: Transfer) -> None:
    light = to_linear(np.linspace(-0.1, 1.1, 100_001), transfer)
    steps = np.diff(light.astype(np.float64))
    assert steps.min() >= 0
    assert steps.max() < 1.2e-5 * 4


@pytest.mark.parametrize("radius", [0.3, 0.8, 1.0, 2.5, 6.0, 12.3])
def test_disk_weights_are_the_areas_of_the_pixels(radius: float) -> None:
    kernel = disk_psf(radius)
    half = kernel.shape[0] // 2
    fine = 60  # samples across a pixel
    at = (np.arange(kernel.shape[0] * fine) + 0.5) / fine - half - 0.5
    covered = (at[:, None] ** 2 + at[None, :] ** 2 <= radius**2).astype(np.float64)
    area = covered.reshape(kernel.shape[0], fine, kernel.shape[0], fine).mean(axis=(1, 3))
    assert area.sum() == pytest.approx(np.pi * radius**2, rel=5e-3)
    assert np.abs(kernel * np.pi * radius**2 - area).max() < 8e-3


@given(radius=st.floats(0.6, 40))
@settings(max_examples=60, deadline=None)
def test_disk_second_moment_is_the_closed_form(radius: float) -> None:
    kernel = disk_psf(radius).astype(np.float64)
    at = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel.T, atol=1e-8)
    assert np.allclose(kernel, kernel[::-1], atol=1e-8)
    # a disk of radius r has variance r^2 / 4 along an axis; weighing by area adds that of a pixel
    moment = (kernel * at[:, None] ** 2).sum()
    # up to the share that sampling at pixel centres folds back, which falls with the radius
    assert moment == pytest.approx(radius**2 / 4 + 1 / 12, abs=0.1 / radius**0.5)


def test_radius_zero_is_the_identity_and_nonsense_is_refused() -> None:
    image = np.random.default_rng(0).random((9, 7, 3), dtype=np.float32)
    assert np.array_equal(blur_disk(image, 0.0), image)
    for radius in (-1.0, np.nan, np.inf):
        with pytest.raises(OpticsError, match="blur radius"):
            disk_psf(radius)


def test_blur_is_the_sum_over_the_kernel_and_keeps_the_mean_light() -> None:
    rng = np.random.default_rng(1)
    image = rng.random((41, 37), dtype=np.float32)
    kernel = disk_psf(4.3)
    half = kernel.shape[0] // 2
    expected = (image[20 - half : 21 + half, 18 - half : 19 + half] * kernel).sum()
    assert blur_disk(image, 4.3)[20, 18] == pytest.approx(expected, abs=1e-6)
    assert np.allclose(blur_disk(np.full((30, 30, 3), 0.37, np.float32), 9.0), 0.37, atol=1e-6)


WARP = Warp.similarity(
    (640, 480), scale=1.013, rotation_deg=0.7, shift_px=(6.2, -3.4), radial=0.004
)


@given(
    st.lists(st.tuples(st.floats(-50, 700), st.floats(-50, 530)), min_size=1, max_size=20),
    st.floats(0.9, 1.1),
    st.floats(-3, 3),
    st.floats(-0.02, 0.02),
)
@settings(max_examples=60, deadline=None)
def test_unmap_inverts_map(
    points: list[tuple[float, float]], scale: float, rotation: float, radial: float
) -> None:
    warp = Warp.similarity(
        (640, 480), scale=scale, rotation_deg=rotation, shift_px=(5, -9), radial=radial
    )
    assert np.abs(warp.map_points(warp.unmap_points(points)) - points).max() < 1e-7


def test_similarity_turns_about_the_centre_and_the_radial_term_moves_a_corner() -> None:
    size = (641, 481)
    turned = Warp.similarity(size, scale=1.5, rotation_deg=90)
    assert np.allclose(turned.map_points([[320, 240]]), [[320, 240]])
    assert np.allclose(turned.map_points([[330, 240]]), [[320, 255]])
    bent = Warp.similarity(size, radial=0.01)
    assert np.allclose(bent.map_points([[320, 240]]), [[320, 240]])
    corner = np.array([640.0, 480.0])
    outward = (corner - bent.centre) / np.linalg.norm(corner - bent.centre)
    reach = np.linalg.norm(corner - bent.centre)
    moved = bent.map_points(corner[None])[0] - corner
    assert np.allclose(moved, 0.01 * reach**3 / bent.half_diagonal_px**2 * outward)


def test_identity_maps_every_point_to_itself() -> None:
    points = np.array([[0.0, 0.0], [12.5, 99.25], [639.0, 479.0]])
    assert np.array_equal(Warp.identity((640, 480)).map_points(points), points)


@pytest.mark.parametrize("factor", [0.125, 0.25, 0.5, 2.0])
def test_at_scale_is_the_same_map_between_resized_frames(factor: float) -> None:
    size = (int(640 * factor), int(480 * factor))
    small = WARP.at_scale(factor, size)
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 1, (50, 2)) * (np.array(size) - 1)
    full = (points + 0.5) / factor - 0.5
    expected = (WARP.map_points(full) + 0.5) * factor - 0.5
    assert np.abs(small.map_points(points) - expected).max() < 1e-9


def test_mean_difference_of_a_shift_is_its_length() -> None:
    a = Warp.identity((300, 200))
    b = Warp.similarity((300, 200), shift_px=(3, -4))
    assert a.mean_difference_px(b) == pytest.approx(5)
    assert a.differences_px(b, 7).shape == (49,)
