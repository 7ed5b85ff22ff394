"""A folder of sharp images, for synthetic pairs: the paper's way from DIV2K and Flickr2K."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from defocus_ds.dataset.importers.images import image_size
from defocus_ds.dataset.importers.listing import (
    ImportOptions,
    Listing,
    PairFiles,
    image_files,
    listed,
    splits_of,
)
from defocus_ds.dataset.manifest import enclosing_dataset
from defocus_ds.dataset.released_images import Unusable, released_test_split
from defocus_ds.dataset.released_manifest import released_test_images
from defocus_ds.dataset.split import hash_fraction
from defocus_ds.errors import DatasetError

__all__ = ["list_sharp"]

_TestImages = dict[tuple[int, int], dict[str, str]]


def list_sharp(root: Path, options: ImportOptions) -> Listing:
    """Every image below a folder as a scene, with the degradation of the options.

    A scene is called by the image's path without extension, ``-`` for ``/``.  With
    ``options.images`` that many are taken, those with the lowest hash of seed and path.  An image
    of a released test split is refused: what is trained on it cannot be tested on that split.
    Files with the same bytes are in one split.

    Args:
        root: searched with its subfolders.
        options: blur, level, number of images, seed and shares of the splits.

    Raises:
        DatasetError: no such folder, a built dataset, or fewer images than asked for.
    """
    if built := enclosing_dataset(root):
        raise DatasetError(
            f"{built}: a built dataset, with blurred images too. Crop it with `defocus-ds crop`, "
            "or give a folder of sharp images."
        )
    refused: dict[str, str] = {}
    found: list[tuple[str, Path]] = []
    released = released_test_images()
    for name, path in image_files(root):
        if problem := _problem(path, released, options.size):
            refused[name] = problem
        else:
            found.append((name, path))
    if len(found) < options.images:
        raise DatasetError(
            f"{root}: {options.images} images asked for, {len(found)} are there "
            f"({len(refused)} more are refused)."
        )
    if options.images:
        found.sort(key=lambda item: (hash_fraction(options.seed, item[0]), item[0]))
        found = found[: options.images]
    scenes = {path: name.rpartition(".")[0].replace("/", "-") for name, path in found}
    same: dict[str, list[Path]] = defaultdict(list)
    for path, scene in scenes.items():
        same[scene].append(path)
    splits = splits_of(same, options)
    blur = options.degradation
    level = options.level or blur.level
    pairs = [PairFiles(scene, splits[scene], level, path, blur) for path, scene in scenes.items()]
    return listed(root, pairs, refused)


def _problem(path: Path, released: _TestImages, size: int) -> str | None:
    """Why an image cannot be used, by its header; files of a test image's size by their pixels."""
    try:
        declared = image_size(path)
    except Unusable as problem:
        return str(problem)
    if min(declared) < size:
        return f"{declared[0]}x{declared[1]} px is smaller than a crop of {size}"
    if split := released_test_split(path, declared, released):
        return f"an image of the released {split} split; see `defocus-ds split`"
    return None
