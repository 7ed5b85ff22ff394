"""Crops in memory with known blur, as the training loop takes them."""

from __future__ import annotations

from functools import cache

import numpy as np
from scenes import textured

from defocus_ds_train.data.cache import CropCache
from defocus_ds_train.data.source import CropSet, TrainingData
from defocus_ds_train.degrade import Blur, blur_crop
from defocus_ds_train.recipe import Recipe

BLUR = Blur("average", 5)


@cache
def toy_cache(count: int, *, size: int = 32, seed: int = 0) -> CropCache:
    """``count`` textured crops of two scenes with their 5x5 average."""
    image = np.asarray(np.round(textured((512, 512), seed=seed)[..., 1] * 255), np.uint8)
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 512 - size, (count, 2))
    sharp = np.stack([image[y : y + size, x : x + size] for x, y in places])
    blurred = np.stack([blur_crop(crop, BLUR) for crop in sharp])
    scene = (np.arange(count) % 2).astype(np.int32)
    return CropCache(f"{seed:064}", sharp, blurred, scene, ("one", "two"))


def toy_data(
    count: int = 28, *, validation: int = 6, size: int = 32, seed: int = 0
) -> TrainingData:
    crops = toy_cache(count + validation, size=size, seed=seed)
    index = np.arange(count + validation)
    return TrainingData(
        CropSet(crops, index[:count], None), CropSet(crops, index[count:], None), f"{seed:064}", ()
    )


def toy_recipe(**changes: object) -> Recipe:
    """Seven steps an epoch on `toy_data`, a network of some hundred weights."""
    settings: dict[str, object] = {
        "name": "toy",
        "width": 2,
        "depth": 1,
        "size": 32,
        "batch": 4,
        "epochs": 2,
        "first_rate": 1e-2,
        "last_rate": 1e-4,
        "log_every": 3,
        "save_every": 100,
    }
    return Recipe(**(settings | changes))  # type: ignore[arg-type]
