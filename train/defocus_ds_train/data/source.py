"""What a recipe trains and validates on: which crops of which cache, and what names them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from defocus_ds.dataset.kinds import folder_kind
from defocus_ds.dataset.split import hash_fraction
from defocus_ds.errors import DatasetError
from defocus_ds_train.data.cache import CropCache, Progress, default_cache
from defocus_ds_train.data.pairs import has_split, open_pairs
from defocus_ds_train.data.sharp_images import find_images, open_images
from defocus_ds_train.degrade import Blur
from defocus_ds_train.recipe import Recipe

__all__ = ["CropSet", "TrainingData", "open_training_data"]


@dataclass(frozen=True, slots=True)
class CropSet:
    """Some crops of a cache.

    Attributes:
        cache: where their pixels are.
        index: (N,) int64, rising.
        blur: what makes the blurred crop of a sharp one; None where the cache has both.
    """

    cache: CropCache
    index: npt.NDArray[np.int64]
    blur: Blur | None

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training and validation crops, from different scenes or images.

    Attributes:
        digest: names every crop of both, 64 hexadecimal digits.
        notes: what a person should know: where validation comes from, what was left out.
    """

    train: CropSet
    validation: CropSet
    digest: str
    notes: tuple[str, ...]

    @property
    def validation_scenes(self) -> str:
        """Names the scenes or images that are validated on, 16 hexadecimal digits."""
        crops = self.validation
        names = {crops.cache.scenes[i] for i in crops.cache.scene[crops.index]}
        return _digest(*sorted(names))[:16]


def open_training_data(
    recipe: Recipe, path: Path, *, cache: Path | None = None, progress: Progress | None = None
) -> TrainingData:
    """The crops that a recipe trains and validates on.

    Pairs are validated on the val split, or where there is none on ``held_out`` of the training
    scenes, which are then not trained on; images on ``held_out`` of them.  Neither the test
    split nor an image of a released test split is trained on.

    Args:
        recipe: its data keys decide.
        path: a built dataset, a release or a ``crops`` folder; or a folder of sharp images.
        cache: folder of all caches; None takes `default_cache`.
        progress: called with (done, total, label) while crops are decoded for the first time.

    Raises:
        DatasetError: no such level, split, size or images; too few scenes to hold one out; or
            fewer training crops than one batch.
    """
    folder = cache or default_cache()
    if recipe.source == "images":
        data = _images(recipe, path, folder, progress)
    else:
        data = _pairs(recipe, path, folder, progress)
    if len(data.train) < recipe.batch:
        raise DatasetError(
            f"{path}: {len(data.train)} training crops beside {len(data.validation)} for "
            f"validation, fewer than one batch of {recipe.batch}. Give more data, or a smaller "
            "--set batch=N."
        )
    return data


def _pairs(recipe: Recipe, path: Path, folder: Path, progress: Progress | None) -> TrainingData:
    def opened(split: str) -> CropCache:
        return open_pairs(
            path,
            level=recipe.level,
            split=split,
            size=recipe.size,
            cache=folder,
            progress=progress,
        )

    train = opened("train")
    everything = np.arange(len(train), dtype=np.int64)
    if has_split(path, recipe.level, "val"):
        validation = opened("val")
        chosen = np.arange(len(validation), dtype=np.int64)
        notes = [f"validation: {len(validation)} crops of the val split."]
    else:
        validation = train
        held = _held_out(train.scenes, recipe, path)
        mask = np.isin(train.scene, [train.scenes.index(scene) for scene in held])
        everything, chosen = everything[~mask], everything[mask]
        notes = [
            f"validation: no val split, so {len(held)} of {len(train.scenes)} training scenes "
            f"({len(chosen)} crops) are held out."
        ]
    if folder_kind(path.parent if path.name == "crops" else path) == "built dataset":
        notes.append(
            "splits: those that crop gave by the scenes' names; a release decides its own, with "
            "near-duplicates together, so do not test on one what is trained here."
        )
    wanted = recipe.crops or len(everything)
    if len(everything) < wanted:
        notes.append(f"training: {len(everything)} crops, the recipe names {wanted}.")
    return TrainingData(
        CropSet(train, _spread(everything, recipe.crops), None),
        CropSet(validation, _spread(chosen, recipe.validation_crops), None),
        _digest(train.digest, validation.digest),
        tuple(notes),
    )


def _images(recipe: Recipe, path: Path, folder: Path, progress: Progress | None) -> TrainingData:
    found = find_images(path, size=recipe.size, seed=recipe.seed)
    if len(found.names) < 2:
        raise DatasetError(f"{path}: one image; one to train on and one to validate on are needed.")
    wanted = min(recipe.images or len(found.names), len(found.names))
    held = min(max(1, round(recipe.held_out * wanted)), len(found.names) - 1)
    names = found.names[: held + wanted]
    crops = open_images(
        path,
        names,
        size=recipe.size,
        per_image=recipe.crops_per_image,
        seed=recipe.seed,
        cache=folder,
        progress=progress,
    )
    first = held * recipe.crops_per_image
    index = np.arange(len(crops), dtype=np.int64)
    notes = [f"validation: {held} of {len(names)} images are held out."]
    if recipe.images > len(names) - held:
        notes.append(f"training: {len(names) - held} images, the recipe names {recipe.images}.")
    if found.tests:
        splits = " and ".join(sorted(set(found.tests.values())))
        notes.append(f"{len(found.tests)} images left out, which are those of {splits}.")
    if found.rejected:
        name, reason = next(iter(found.rejected.items()))
        notes.append(f"{len(found.rejected)} images left out, the first: {name}: {reason}.")
    blur = Blur(recipe.blur, recipe.blur_px)
    return TrainingData(
        CropSet(crops, _spread(index[first:], recipe.crops), blur),
        CropSet(crops, _spread(index[:first], recipe.validation_crops), blur),
        _digest(crops.digest),
        tuple(notes),
    )


def _held_out(scenes: tuple[str, ...], recipe: Recipe, path: Path) -> list[str]:
    """Scenes to validate on, by a hash of their names; at least one, and one is left."""
    if len(scenes) < 2:
        raise DatasetError(
            f"{path}: one training scene and no val split: nothing is left to validate on. "
            "Add scenes, or make a val split with `defocus-ds crop --set tile.val_share=0.1`."
        )
    ranked = sorted(scenes, key=lambda name: (hash_fraction(recipe.seed, "held out", name), name))
    return ranked[: min(max(1, round(recipe.held_out * len(scenes))), len(scenes) - 1)]


def _spread(index: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """At most ``limit`` entries at even steps; 0 takes all."""
    if limit == 0 or len(index) <= limit:
        return index
    return np.asarray(index[np.arange(limit) * len(index) // limit])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
