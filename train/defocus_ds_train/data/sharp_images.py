"""Random sharp crops of a folder of photographs, cut once into the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defocus_ds.dataset.kinds import what_it_is
from defocus_ds.dataset.manifest import enclosing_dataset
from defocus_ds.dataset.released_images import released_test_split
from defocus_ds.dataset.released_manifest import released_test_images
from defocus_ds.dataset.split import hash_fraction
from defocus_ds.errors import CaptureUnreadable, DatasetError
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.pictures import picture_header, read_picture
from defocus_ds.stages.tile import luma
from defocus_ds.store import sha256_file
from defocus_ds.wording import first_names
from defocus_ds_train.data.cache import CachedCrop, CropCache, Progress, cached_crops

__all__ = ["SUFFIXES", "ImageList", "cut_crops", "find_images", "open_images"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_RULE = 1  # how positions are drawn; another rule is another cache


@dataclass(frozen=True, slots=True)
class ImageList:
    """Usable images of a folder, in the order of a hash of their names and the seed.

    Attributes:
        root: the folder.
        names: paths relative to it, with ``/``.
        rejected: name -> why it cannot be used.
        tests: name -> the released test split that it is an image of; not to be trained on.
    """

    root: Path
    names: tuple[str, ...]
    rejected: dict[str, str]
    tests: dict[str, str]


def find_images(root: Path, *, size: int, seed: int) -> ImageList:
    """The images under a folder that are large enough for a crop and in no released test split.

    Only headers are read, and files of the size of a test image, whose pixels are compared.

    Args:
        root: searched with its subfolders; names that start with a dot are left out.
        size: side of a crop in px.
        seed: of the order.

    Raises:
        DatasetError: no such folder, a dataset, release or export, or no usable image; the
            reasons are named.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: not a folder; the recipe needs a folder of sharp images.")
    if built := enclosing_dataset(root):
        raise DatasetError(
            f"{built}: a built dataset, with blurred images and scenes of every split. Train on "
            "its pairs with real-l1, or give a folder of sharp images."
        )
    if found := what_it_is(root):
        raise DatasetError(f"{root}: {found}. The recipe needs a folder of sharp images.")
    rejected: dict[str, str] = {}
    tests: dict[str, str] = {}
    names = []
    released = released_test_images()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.suffix.lower() not in SUFFIXES or any(p.startswith(".") for p in relative.parts):
            continue
        try:
            shape = _usable_size(path, size)
        except ValueError as error:
            rejected[relative.as_posix()] = str(error)
            continue
        if split := released_test_split(path, shape, released):
            tests[relative.as_posix()] = split
        else:
            names.append(relative.as_posix())
    if not names:
        why_not = {**rejected, **{name: f"an image of {split}" for name, split in tests.items()}}
        reasons = first_names([f"{name}: {why}" for name, why in why_not.items()], between="; ")
        raise DatasetError(
            f"{root}: no image of {size}x{size} px or more to train on "
            f"({reasons or 'no image at all'}). Known kinds: {' '.join(SUFFIXES)}."
        )
    names.sort(key=lambda name: (hash_fraction(seed, name), name))
    return ImageList(root, tuple(names), rejected, tests)


def open_images(
    root: Path,
    names: Sequence[str],
    *,
    size: int,
    per_image: int,
    seed: int,
    cache: Path,
    progress: Progress | None = None,
) -> CropCache:
    """``per_image`` random crops of each image, in order; ``blurred`` is None.

    Args:
        root: the folder.
        names: of the images, relative to it.
        size: side of a crop in px.
        per_image: crops an image; they may overlap.
        seed: of their positions; an image's crops depend on its name, not on the other images.
        cache: folder of all caches.
        progress: called with (done, total, label) while they are cut.

    Raises:
        DatasetError: an image that cannot be decoded.
    """
    content = {name: sha256_file(root / name) for name in names}
    table = {
        "rule": _RULE,
        "size": size,
        "per_image": per_image,
        "seed": seed,
        "images": list(content.items()),
    }
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False)
    return cached_crops(
        cache,
        hashlib.sha256(text.encode()).hexdigest(),
        count=per_image * len(names),
        size=size,
        paired=False,
        crops=lambda: _cut_all(root, names, size, per_image, seed),
        progress=progress,
    )


def cut_crops(image: UInt8Image, *, size: int, count: int, rng: np.random.Generator) -> UInt8Image:
    """Crops at uniformly random places.

    Args:
        image: (H, W) uint8, both at least ``size``.
        size: side in px.
        count: how many.
        rng: draws the places.

    Returns:
        (count, size, size) uint8.
    """
    height, width = image.shape
    ys = rng.integers(0, height - size + 1, count)
    xs = rng.integers(0, width - size + 1, count)
    return np.stack([image[y : y + size, x : x + size] for y, x in zip(ys, xs, strict=True)])


def _cut_all(
    root: Path, names: Sequence[str], size: int, per_image: int, seed: int
) -> Iterator[CachedCrop]:
    for name in names:
        path = root / name
        try:
            image = luma(read_picture(path).as_uint8_rgb())
        except CaptureUnreadable as error:
            raise DatasetError(f"{path}: {error} Or move it out of the folder.") from error
        name_seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        rng = np.random.default_rng([seed, name_seed])
        for crop in cut_crops(image, size=size, count=per_image, rng=rng):
            yield CachedCrop(name, crop, None)


def _usable_size(path: Path, size: int) -> tuple[int, int]:
    """(width, height) by the header; ValueError says why it rules the image out."""
    try:
        header = picture_header(path)
    except CaptureUnreadable as error:
        if _declares_size(path):  # an image that was cut short must not be missed in silence
            raise DatasetError(f"{path}: {error} Or move it out of the folder.") from error
        raise ValueError("not readable as an image") from error
    width, height = header.width, header.height
    if min(width, height) < size:
        raise ValueError(f"{width}x{height} px is smaller than a crop of {size}")
    return width, height


def _declares_size(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return min(image.size) > 0
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
