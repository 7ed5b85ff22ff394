"""Crop shards in Hugging Face datasets: images are images, with the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from built_dataset import make_dataset

from defocus_ds import load_crops
from defocus_ds.dataset import shards
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """A dataset of two training shards, and what load_dataset makes of it without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    from datasets import load_dataset

    root = make_dataset(tmp_path / "dataset", scenes=3)
    monkeypatch.setattr(shards, "SHARD_ROWS", 100)
    crop(root, level="low", size=32, stride=24)
    files = {
        split: sorted(str(path) for path in (root / "crops/low").glob(f"{split}-*"))
        for split in ("train", "test")
    }
    assert len(files["train"]) >= 2
    found = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    return root, found


def test_load_dataset_shows_images(loaded: tuple[Path, Any]) -> None:
    root, found = loaded
    assert set(found) == {"train", "test"}
    for split in found:
        crops = load_crops(root, level="low", split=split, check=True)
        assert len(found[split]) == len(crops) > 0
        for item, expected in zip(found[split], crops, strict=True):
            for kind in ("sharp", "blurred"):
                image = item.pop(kind)
                assert image.mode == "L"
                assert np.array_equal(np.asarray(image), getattr(expected, kind))
            assert item == expected.row


def test_features_are_those_of_the_shards(loaded: tuple[Path, Any]) -> None:
    from datasets import Image

    features = loaded[1]["train"].features
    assert list(features) == shards.CROP_SCHEMA.names
    assert isinstance(features["sharp"], Image)
    assert isinstance(features["blurred"], Image)
    assert features["x"].dtype == "int32"
    assert features["q_sharp"].dtype == "float64"


def test_a_release_is_loaded_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    from datasets import load_dataset

    dataset = make_dataset(tmp_path / "dataset", scenes=3)
    crop(dataset)
    about = About("Toy", "CC0-1.0", ("Doe, Jane",))
    release(dataset, tmp_path / "release", about=about, test_share=0.3)
    found = load_dataset(str(tmp_path / "release"), "low", cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train", "test"}
    for split in found:
        crops = load_crops(tmp_path / "release", level="low", split=split)
        assert len(found[split]) == len(crops) > 0
        for item, expected in zip(found[split], crops, strict=True):
            assert np.array_equal(np.asarray(item["sharp"]), expected.sharp)
            assert np.array_equal(np.asarray(item["blurred"]), expected.blurred)
