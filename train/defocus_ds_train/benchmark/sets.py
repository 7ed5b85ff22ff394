"""What a benchmark restores: crops of a released split, of a dataset, or of a pair of folders."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from defocus_ds.dataset.importers.pairing import order_problem, pairs_by_order
from defocus_ds.dataset.kinds import refuse_other_folder
from defocus_ds.dataset.loaders import load_crops
from defocus_ds.dataset.pixels import pixels_sha256
from defocus_ds.dataset.released import cut_released
from defocus_ds.dataset.released_manifest import LEVEL, read_released, released_names
from defocus_ds.dataset.shards import has_crops
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import Crop, UInt8Image
from defocus_ds.measure.luma import luma_of_file
from defocus_ds_train.baselines.blur import average_kernel
from defocus_ds_train.data.sharp_images import SUFFIXES
from defocus_ds_train.degrade import Blur

__all__ = ["TestCrop", "TestSet", "dataset_set", "folder_set", "parse_blur", "released_set"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TestCrop:
    """A sharp and a blurred image of one size, (H, W) uint8 luma, and what they are called."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    name: str
    sharp: UInt8Image
    blurred: UInt8Image


@dataclass(frozen=True, slots=True)
class TestSet:
    """Crops that every method restores.

    Attributes:
        name: shown, e.g. "kodak24 test".
        crops: at least one; their names differ.
        blur: the blur between the two, for methods that must know it; None is unknown.
        released: the released split that it is, e.g. "kodak24 test"; None is any other.
    """

    __test__ = False

    name: str
    crops: tuple[TestCrop, ...]
    blur: Blur | None = None
    released: str | None = None

    def __post_init__(self) -> None:
        if not self.crops:
            raise InputError(f"{self.name}: no crop to restore.")
        counts = Counter(crop.name for crop in self.crops)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise InputError(f"{self.name}: two crops are called {twice[0]!r}; rename one.")

    @property
    def digest(self) -> str:
        """Of all names and pixels, 16 hexadecimal digits."""
        lines = [
            f"{c.name} {pixels_sha256(c.sharp)} {pixels_sha256(c.blurred)}" for c in self.crops
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def kernel(self) -> npt.NDArray[np.float64] | None:
        """The known blur as (K, K) that sums to 1."""
        if self.blur is None:
            return None
        if self.blur.kind == "average":
            return average_kernel(int(self.blur.px))
        psf = self.blur.psf().astype(np.float64)
        return np.asarray(psf / psf.sum())

    def only(self, names: Iterable[str]) -> TestSet:
        """Some of the crops, which are then no longer a released split.

        Raises:
            InputError: a name that it does not have.
        """
        wanted = set(names)
        if unknown := sorted(wanted - {crop.name for crop in self.crops}):
            raise InputError(
                f"{self.name}: no crop {unknown[0]!r}; there: "
                f"{_first([crop.name for crop in self.crops])}."
            )
        chosen = tuple(crop for crop in self.crops if crop.name in wanted)
        if len(chosen) == len(self.crops):
            return self
        return replace(
            self, name=f"{self.name}, {len(chosen)} of them", crops=chosen, released=None
        )

    def first(self, count: int) -> TestSet:
        """The first crops in the order of their names, which are then no longer a released split;
        all where there are no more.

        Args:
            count: >= 1.
        """
        if count >= len(self.crops):
            return self
        chosen = tuple(sorted(self.crops, key=lambda crop: crop.name)[:count])
        return replace(self, name=f"{self.name}, first {count}", crops=chosen, released=None)


def released_set(name: str | Path, images: Path, *, split: str = "test") -> TestSet:
    """The crops of a released split, cut from the user's images; nothing is written.

    Args:
        name: as for `defocus_ds.dataset.released_manifest.read_released`.
        images: the user's copy.
        split: "train", "val" or "test".

    Raises:
        DatasetError: unknown split, or images that are missing or different; the first are named.
    """
    released = read_released(name)
    cut = cut_released(released, images, splits=[split])
    if cut.problems:
        raise DatasetError(
            f"{images}: {len(cut.problems)} of {len(cut.problems) + len(cut.crops)} images of "
            f"{released.name} cannot be used: {_first(cut.problems)}."
        )
    known = f"{released.name} {split}" if released.name in released_names() else None
    return TestSet(
        f"{released.name} {split}", _named(cut.crops), Blur("average", 5), released=known
    )


def dataset_set(
    root: Path, *, level: str | None = None, split: str = "test", blur: Blur | None = None
) -> TestSet:
    """The crops of a built dataset, a release, or a released split that was built.

    Args:
        root: holds ``crops/<level>``, or is ``crops``.
        level: None takes the only one.
        split: "train", "val" or "test".
        blur: where it is known; that of a released split always is.

    Raises:
        DatasetError: no crops, or those of several levels and none was chosen.
    """
    if level is None:
        folder = root / "crops" if (root / "crops").is_dir() else root
        there = sorted(p.name for p in folder.iterdir() if has_crops(p)) if folder.is_dir() else []
        if not there:
            refuse_other_folder(root)
        if len(there) != 1:
            raise DatasetError(
                f"{root}: crops of {' and '.join(there) or 'no level'}; "
                + ("choose with --level." if there else "make them with `defocus-ds crop`.")
            )
        level = there[0]
    crops = tuple(load_crops(root, level=level, split=split, check=True))
    if level != LEVEL:
        return TestSet(f"{root.resolve().name} {level} {split}", _named(crops), blur)
    known = next((name for name in released_names() if _same_crops(name, split, crops)), None)
    name = f"{known or root.resolve().name} {split}"
    return TestSet(name, _named(crops), Blur("average", 5), released=name if known else None)


def folder_set(
    sharp: Path, blurred: Path, *, by: str = "name", blur: Blur | None = None
) -> TestSet:
    """Two folders of images, paired by name without extension, or by their order.

    Args:
        sharp: 8-bit images, grey or RGB.
        blurred: as many, of the same sizes.
        by: "name", or "order" for names that do not agree but for their order, as those of DPDD.
        blur: where it is known.

    Raises:
        InputError: images without a partner, of two sizes, or unreadable.
    """
    sharps, blurs = _images(sharp), _images(blurred)
    if by == "order":
        if problem := order_problem(list(blurs), list(sharps)):
            raise InputError(f"{sharp} and {blurred}: their order does not pair them: {problem}.")
        partners = pairs_by_order(list(blurs), list(sharps))
    else:
        if lonely := sorted(set(sharps) ^ set(blurs)):
            hint = "" if order_problem(list(blurs), list(sharps)) else " --by order pairs them."
            raise InputError(
                f"{sharp} and {blurred}: {len(lonely)} images have no partner: {_first(lonely)}."
                f"{hint}"
            )
        partners = [(name, name) for name in sorted(sharps)]
    crops = []
    for name, partner in partners:
        one, two = luma_of_file(sharps[partner]), luma_of_file(blurs[name])
        if one.shape != two.shape:
            raise InputError(
                f"{blurs[name]}: {two.shape[1]}x{two.shape[0]} px, its sharp partner "
                f"{one.shape[1]}x{one.shape[0]}; crop them alike."
            )
        crops.append(TestCrop(name, one, two))
    return TestSet(f"{sharp.name} and {blurred.name}", tuple(crops), blur)


def parse_blur(text: str) -> Blur:
    """``average:5``, ``disk:3.5`` or ``gaussian:1.2``.

    Raises:
        InputError: anything else.
    """
    kind, _, px = text.partition(":")
    try:
        return Blur(kind, float(px))
    except ValueError as error:
        raise InputError(f"blur {text!r}: write average:5, disk:3.5 or gaussian:1.2.") from error


def _same_crops(name: str, split: str, crops: Sequence[Crop]) -> bool:
    rows = [row for row in read_released(name).rows if row["split"] == split]
    return sorted((row["sha256_sharp"], row["sha256_blurred"]) for row in rows) == sorted(
        (pixels_sha256(crop.sharp), pixels_sha256(crop.blurred)) for crop in crops
    )


def _named(crops: Sequence[Crop]) -> tuple[TestCrop, ...]:
    """By scene where that is enough, else by scene and place."""
    scenes = [str(crop.row["scene"]) for crop in crops]
    alone = len(set(scenes)) == len(scenes)
    return tuple(
        TestCrop(
            scene if alone else f"{scene}-{crop.row['x']}-{crop.row['y']}",
            crop.sharp,
            crop.blurred,
        )
        for scene, crop in zip(scenes, crops, strict=True)
    )


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file() and path.name[0] != ".":
            if path.stem in found:
                raise InputError(f"{folder}: {found[path.stem].name} and {path.name}; keep one.")
            found[path.stem] = path
    if not found:
        raise InputError(f"{folder}: no image in it. Known kinds: {' '.join(SUFFIXES)}.")
    return found


def _first(names: Sequence[str]) -> str:
    return "; ".join(names[:_SHOWN]) + ("; ..." if len(names) > _SHOWN else "")
