"""Scenes: statistics like photographs, planes that cover what they claim."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from defocus_ds.errors import InputError
from defocus_ds.optics import Transfer, to_encoded
from defocus_ds.simulate.scene import (
    HEADROOM,
    SceneLayers,
    dead_leaves_scene,
    label_planes,
    photograph_scene,
)

SIZE = (640, 448)


def composite(scene: SceneLayers) -> np.ndarray:
    light = np.zeros((*scene.planes[0].shape[:2], 3))
    for plane in scene.planes:
        layer = plane / 65535.0
        light = light * (1 - layer[..., 3:]) + layer[..., :3] * HEADROOM
    m = scene.margin
    return light[m:-m, m:-m]


@pytest.fixture(scope="module")
def scene() -> SceneLayers:
    return dead_leaves_scene(np.random.default_rng(0), SIZE, margin=16)


def test_power_falls_with_the_square_of_frequency(scene: SceneLayers) -> None:
    """Photographs: 1/f^2, give or take (Field 1987); here between 1.6 and 2.8."""
    green = composite(scene)[:448, :448, 1]
    window = np.hanning(448)[:, None] * np.hanning(448)
    power = np.abs(np.fft.fft2((green - green.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(448), np.fft.fftfreq(448)))
    edges = np.geomspace(0.01, 0.2, 9)
    mean = [
        power[(frequency >= a) & (frequency < b)].mean()
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0]
    assert -2.8 < slope < -1.6


def test_there_are_busy_and_quiet_places(scene: SceneLayers) -> None:
    luma = to_encoded(composite(scene).mean(axis=2), Transfer.SRGB) * 255
    blocks = luma.reshape(28, 16, 40, 16).std(axis=(1, 3))
    assert np.percentile(blocks, 3) < 8
    assert np.percentile(blocks, 90) > 25


def test_light_is_that_of_a_normal_exposure(scene: SceneLayers) -> None:
    light = composite(scene)
    assert 0.08 < light.mean() < 0.30
    assert 0.4 < np.percentile(light, 99.5) <= HEADROOM


def test_planes_are_premultiplied_and_the_farthest_is_whole(scene: SceneLayers) -> None:
    assert (scene.planes[0][..., 3] == 65535).all()
    for plane in scene.planes:
        assert (plane[..., :3].max(axis=2) <= plane[..., 3].astype(int) + 1).all()


def test_every_plane_is_seen(scene: SceneLayers) -> None:
    labels = label_planes(scene)
    assert labels.shape == SIZE[::-1]
    share = np.bincount(labels.ravel(), minlength=3) / labels.size
    assert share[0] > 0.5
    assert (share[1:] > 0.03).all()
    inner = scene.planes[2][16:-16, 16:-16, 3]
    assert (labels[inner > 40000] == 2).all()


def test_a_photograph_is_the_sharp_capture() -> None:
    rng = np.random.default_rng(4)
    photo = cv2.GaussianBlur(rng.integers(0, 256, (480, 672, 3)).astype(np.uint8), (0, 0), 3)
    scene = photograph_scene(rng, np.asarray(photo, np.uint8), SIZE, margin=16)
    seen = to_encoded(composite(scene) / 0.9, Transfer.SRGB) * 255
    assert np.abs(seen - photo[16:-16, 16:-16]).mean() < 1.0
    assert set(np.unique(label_planes(scene))) == {0, 1, 2}


def test_a_small_photograph_is_continued_not_enlarged() -> None:
    rng = np.random.default_rng(5)
    photo = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    scene = photograph_scene(rng, photo, SIZE, margin=16)
    fine = np.abs(np.diff(composite(scene)[..., 1], axis=1))
    left, right = fine[:, : SIZE[0] // 2].mean(), fine[:, SIZE[0] // 2 :].mean()
    assert left == pytest.approx(right, rel=0.1)
    assert scene.planes[0].shape[:2] == (SIZE[1] + 32, SIZE[0] + 32)


@pytest.mark.parametrize("shape", [(63, 200, 3), (200, 200), (200, 200, 4)])
def test_what_is_no_photograph_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="photograph"):
        photograph_scene(np.random.default_rng(0), np.zeros(shape, np.uint8), SIZE, margin=16)
