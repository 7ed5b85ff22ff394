"""What an importer gives: pairs of files by scene, split and level, and what it refuses."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from defocus_ds.config import TileConfig
from defocus_ds.dataset.importers.degradation import Degradation, parse_degradation
from defocus_ds.dataset.importers.twins import grouped, twin_digests
from defocus_ds.dataset.split import SPLITS, assign_splits
from defocus_ds.errors import ConfigError, DatasetError

__all__ = [
    "SUFFIXES",
    "ImportOptions",
    "Importer",
    "Listing",
    "PairFiles",
    "apart",
    "image_files",
    "listed",
    "splits_of",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_LEVEL = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_MAX_NAME_BYTES = 255
_SIZES = (8, 4096)
_TILE = TileConfig()


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a person may choose of an import; an importer uses what concerns it.

    Attributes:
        size: side of a crop in px.
        stride: step of the grid of crops of a real pair in px; 0 is the size.
        per_image: random crops of an image of a synthetic set.
        images: how many images of a synthetic set; 0 is all.
        blur: of a synthetic set, see `parse_degradation`.
        level: name of the level; empty takes the importer's.
        seed: of splits, of the choice of images and of the places of random crops.
        test_share, val_share: of the scenes, where a tree has no splits of its own.

    Raises:
        ConfigError: a value out of range; the text names it.
    """

    size: int = _TILE.size
    stride: int = 0
    per_image: int = 64
    images: int = 0
    blur: str = "average5"
    level: str = ""
    seed: int = 0
    test_share: float = _TILE.test_share
    val_share: float = _TILE.val_share

    def __post_init__(self) -> None:
        least, most = _SIZES
        for name, value, low, high in (
            ("size", self.size, least, most),
            ("stride", self.stride, 0, 1 << 20),
            ("per_image", self.per_image, 1, 100_000),
            ("images", self.images, 0, 10_000_000),
            ("seed", self.seed, 0, (1 << 31) - 1),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} = {value}: it must be in [{low}, {high}].")
        shares = self.test_share, self.val_share
        if not all(math.isfinite(s) and s >= 0 for s in shares) or not sum(shares) <= 1:
            raise ConfigError(
                f"test_share = {shares[0]:g}, val_share = {shares[1]:g}: shares of the scenes, "
                "at least 0 and together at most 1."
            )
        if self.level and not _LEVEL.fullmatch(self.level):
            raise ConfigError(
                f"level {self.level!r}: small letters, digits, dashes and dots, at most 64."
            )
        reach = self.degradation.reach_px
        if reach >= self.size:
            raise ConfigError(
                f"blur {self.blur}: it reads {reach} px beyond a pixel, a crop has {self.size}. "
                "Use larger crops or a smaller blur."
            )

    @property
    def degradation(self) -> Degradation:
        return parse_degradation(self.blur)


@dataclass(frozen=True, slots=True)
class PairFiles:
    """One pair to import: two files, or a sharp one and what blurs its crops."""

    scene: str
    split: str
    level: str
    sharp: Path
    blurred: Path | Degradation


@dataclass(frozen=True, slots=True)
class Listing:
    """What an importer found.

    Attributes:
        pairs: sorted by scene and level.
        refused: file, relative to the root -> why.
        root: of the tree.
        paired: split -> how its files were paired: "name", "order" or "beginning".
    """

    pairs: tuple[PairFiles, ...]
    refused: dict[str, str]
    root: Path
    paired: dict[str, str] = field(default_factory=dict)


Importer = Callable[[Path, ImportOptions], Listing]


def image_files(root: Path) -> Iterator[tuple[str, Path]]:
    """(path relative to the root with ``/``, file) of the images below it, sorted.

    Names that start with a dot are left out.

    Raises:
        DatasetError: no such folder.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: not a folder of images.")
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in parts):
            yield "/".join(parts), path


def listed(
    root: Path,
    pairs: Iterable[PairFiles],
    refused: dict[str, str],
    *,
    paired: dict[str, str] | None = None,
) -> Listing:
    """A listing in order; names that cannot be a scene's and second pairs of one are refused.

    Args:
        root: what the names of refused files are relative to.
        pairs: in any order.
        refused: file -> why, from the importer.
        paired: split -> how its files were paired, "name" or "order".
    """
    order = {"low": 0, "medium": 1, "high": 2}
    kept: list[PairFiles] = []
    refused = dict(refused)
    first: dict[str, PairFiles] = {}
    seen: dict[tuple[str, str], PairFiles] = {}
    for pair in sorted(pairs, key=lambda p: (p.scene, order.get(p.level, 9), p.level, p.sharp)):
        file = pair.blurred if isinstance(pair.blurred, Path) else pair.sharp
        name = _shown(file.relative_to(root).as_posix())
        twin = seen.get((pair.scene, pair.level))
        other = first.setdefault(pair.scene, pair)
        if problem := _scene_problem(pair.scene):
            refused[name] = problem
        elif twin is not None:
            sharp = twin.sharp.relative_to(root).as_posix()
            refused[name] = f"scene {pair.scene!r} is that of {sharp} already; rename one"
        elif other.split != pair.split:
            refused[name] = f"scene {pair.scene!r} is in {other.split} already; rename one"
        else:
            seen[pair.scene, pair.level] = pair
            kept.append(pair)
    shown = {_shown(key): why for key, why in sorted(refused.items())}
    return Listing(tuple(kept), shown, root, paired or {})


def apart(root: Path, listing: Listing) -> Listing:
    """The listing without sharp images that are in another split too, under whatever name.

    Of splits that a tree gives, test keeps its images before val, and val before train.
    """
    digests = twin_digests(pair.sharp for pair in listing.pairs)
    owner: dict[str, PairFiles] = {}
    for pair in sorted(listing.pairs, key=lambda p: -SPLITS.index(p.split)):
        if pair.sharp in digests:
            owner.setdefault(digests[pair.sharp], pair)
    kept: list[PairFiles] = []
    refused = dict(listing.refused)
    for pair in listing.pairs:
        twin = owner.get(digests.get(pair.sharp, ""), pair)
        if twin.split == pair.split:
            kept.append(pair)
            continue
        other = _shown(twin.sharp.relative_to(root).as_posix())
        refused[_shown(pair.sharp.relative_to(root).as_posix())] = (
            f"the same file as {other}, which is in {twin.split}; leave one of them out"
        )
    return Listing(tuple(kept), dict(sorted(refused.items())), root, listing.paired)


def splits_of(images: Mapping[str, Iterable[Path]], options: ImportOptions) -> dict[str, str]:
    """Name -> split by a hash of the name, as `crop` splits a built dataset.

    Names with equal files are in one split, that of the first of them.

    Args:
        images: name, of a scene or of what several scenes show -> its sharp files.
        options: seed and shares.
    """
    first = grouped(images)
    splits = assign_splits(
        first.values(),
        seed=options.seed,
        test_share=options.test_share,
        val_share=options.val_share,
    ).by_scene
    return {name: splits[lead] for name, lead in first.items()}


def _scene_problem(scene: str) -> str | None:
    if not scene or scene in (".", "..") or any(c in scene for c in "/\\\0\n\r"):
        return f"{_shown(scene)!r} cannot be the name of a scene; rename it"
    try:
        length = len(scene.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    if length > _MAX_NAME_BYTES:
        return f"its name has {length} bytes, limit {_MAX_NAME_BYTES}; rename it"
    return None


def _shown(name: str) -> str:
    """The name as text that every file and terminal can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
