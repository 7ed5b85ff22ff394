"""Near-duplicate scenes are found however they were shot again, and others are left alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import textured

from defocus_ds.dataset import duplicates
from defocus_ds.dataset.duplicates import (
    Duplicate,
    Features,
    _compare,
    _Words,
    equal_images,
    find_duplicates,
    scene_features,
    scene_groups,
)
from defocus_ds.frames import UInt8Image

SIZE = (480, 360)


def scene(seed: int) -> UInt8Image:
    return np.asarray(np.round(textured(SIZE, seed=seed)[..., 1] * 255), np.uint8)


def shot_again(
    image: UInt8Image, *, turn_deg: float = 0, scale: float = 1, shift: float = 0, gain: float = 1
) -> UInt8Image:
    """The same place from nearly the same view, in other light and with other noise."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn_deg, scale)
    matrix[:, 2] += shift * width
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    noise = np.random.default_rng(1).normal(0, 4, image.shape)
    return np.asarray(np.clip(moved * gain + noise, 0, 255), np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"shift": 0.1},
        {"turn_deg": 4.0},
        {"scale": 1.15},
        {"gain": 0.6},
        {"turn_deg": -2.0, "scale": 0.93, "shift": -0.05, "gain": 1.2},
    ],
)
def test_a_planted_duplicate_is_found(change: dict[str, float]) -> None:
    images = {f"scene{seed}": scene(seed) for seed in range(6)}
    images["again"] = shot_again(images["scene3"], **change)
    found = find_duplicates({name: scene_features(image) for name, image in images.items()})
    assert [(pair.one, pair.other) for pair in found] == [("again", "scene3")]
    assert found[0].matched >= 24


def test_flat_images_are_no_duplicates() -> None:
    flat = scene_features(np.full((300, 400), 128, np.uint8))
    assert len(flat.xy) == 0
    assert find_duplicates({"a": flat, "b": flat, "c": scene_features(scene(0))}) == []


@pytest.mark.parametrize("count", [0, 1])
def test_one_scene_has_no_duplicate(count: int) -> None:
    assert find_duplicates({"a": scene_features(scene(0))} if count else {}) == []


def test_progress_names_every_scene() -> None:
    seen: list[tuple[int, int, str]] = []
    features = {name: scene_features(scene(i)) for i, name in enumerate("ab")}
    find_duplicates(features, progress=lambda *step: seen.append(step))
    assert seen == [(1, 2, "a"), (2, 2, "b")]


def test_equal_images_are_one_scene_however_little_they_show() -> None:
    found = equal_images({"a": "x", "b": "y", "c": "x", "d": "x"})
    assert [(pair.one, pair.other) for pair in found] == [("a", "c"), ("a", "d")]


def test_groups_join_what_hangs_together() -> None:
    pairs = [Duplicate("b", "d", 30, 0.5), Duplicate("a", "d", 30, 0.5)]
    assert scene_groups("abcde", pairs) == {"a": "a", "b": "a", "c": "c", "d": "a", "e": "e"}


def test_photographs_of_different_places_are_told_apart(real_data: Path) -> None:
    files = sorted((real_data / "bsds500").rglob("*.jpg"))[:120]
    assert len(files) == 120
    features = {
        file.name: scene_features(np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8))
        for file in files
    }
    first = np.asarray(cv2.imread(str(files[7]), cv2.IMREAD_GRAYSCALE), np.uint8)
    features["again"] = scene_features(shot_again(first, shift=0.04, gain=0.8))
    found = find_duplicates(features)
    assert [(pair.one, pair.other) for pair in found] == [(files[7].name, "again")]


def every_pair(features: dict[str, Features]) -> list[Duplicate]:
    """What comparing all pairs point by point finds."""
    names = sorted(features)
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    matches = {pair: _compare(*(features[name] for name in pair)) for pair in pairs}
    return [Duplicate(*pair, *match) for pair, match in matches.items() if match]


@cache
def crowd() -> dict[str, Features]:
    images = {f"scene{seed:02}": scene(seed) for seed in range(9)}
    for index in (1, 4, 8):
        images[f"again{index:02}"] = shot_again(images[f"scene{index:02}"], shift=0.01 * index)
    return {name: scene_features(image) for name, image in images.items()}


def test_blocks_find_what_comparing_every_pair_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    features = crowd()
    wanted = every_pair(features)
    assert len(wanted) == 3
    monkeypatch.setattr(duplicates, "_BLOCK", 5)
    assert find_duplicates(features) == wanted


def test_neighbours_are_the_same_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    words = _Words.of(list(crowd().values()))
    alone = np.arange(len(words.counts))
    wanted = list(words.most_alike(alone, alone))
    assert {len(found) for found in wanted} == {8}
    for size in (1, 3, 16):
        monkeypatch.setattr(duplicates, "_BLOCK", size)
        for found, same in zip(words.most_alike(alone, alone), wanted, strict=True):
            assert np.array_equal(found, same)


def test_a_place_that_was_shot_often_is_one_group() -> None:
    """Two clusters of which each has more scenes than are compared with each scene."""
    rng = np.random.default_rng(0)
    near = scene(1)
    aside = shot_again(near, shift=0.05)
    features = {f"other{seed}": scene_features(scene(seed)) for seed in range(2, 6)}
    for name, image in (("a", near), ("b", aside)):
        for number in range(10):
            noisy = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
            features[f"{name}{number}"] = scene_features(noisy)
    groups = scene_groups(features, find_duplicates(features))
    assert {group for name, group in groups.items() if name[:-1] in "ab"} == {"a0"}
    assert len(set(groups.values())) == 1 + 4


def test_few_pairs_are_compared_point_by_point(monkeypatch: pytest.MonkeyPatch) -> None:
    features = crowd()
    compared: list[object] = []
    monkeypatch.setattr(duplicates, "_compare", lambda *pair: compared.append(pair))
    monkeypatch.setattr(duplicates, "_NEIGHBOURS", 2)
    find_duplicates(features)
    assert len(compared) <= 2 * len(features)
