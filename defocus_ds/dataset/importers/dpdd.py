"""Published trees of pairs with splits: DPDD, its copy for Restormer, LFDOF and RTF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from defocus_ds.dataset.importers.listing import (
    ImportOptions,
    Listing,
    PairFiles,
    apart,
    image_files,
    listed,
)
from defocus_ds.dataset.importers.pairing import order_problem, pairs_by_order
from defocus_ds.errors import DatasetError

__all__ = ["LEVEL", "PairedFolders", "list_dpdd", "pairs_of"]

# one aperture against another: no mark of a focus ring stands for it
LEVEL = "defocus"


@dataclass(frozen=True, slots=True)
class PairedFolders:
    """Two folders of a tree, relative to its root, and the split of their pairs."""

    split: str
    blurred: str
    sharp: str


# every layout by its name, as published
_LAYOUTS = {
    "DPDD": tuple(
        PairedFolders(split, f"{split}_c/source", f"{split}_c/target")
        for split in ("train", "val", "test")
    ),
    "DPDD as Restormer has it": (
        PairedFolders("train", "train/inputC", "train/target"),
        PairedFolders("val", "val/inputC", "val/target"),
        PairedFolders("test", "test/DPDD/inputC", "test/DPDD/target"),
    ),
    "LFDOF": (
        PairedFolders("train", "train_data/input", "train_data/ground_truth"),
        PairedFolders("test", "test_data/input", "test_data/ground_truth"),
    ),
    "RTF": (PairedFolders("test", "image/0", "GT"),),
}


def list_dpdd(root: Path, options: ImportOptions) -> Listing:
    """The pairs of each split of a published tree.

    Names that are equal on both sides pair the files; else their order does, see `pairs_of`.
    A sharp file that is in two splits, under whatever names, stays in test before val, and in val
    before train; elsewhere it is refused.
    The folders of the two views of a dual-pixel sensor, ``train_l`` and so on, are not read.

    Args:
        root: the tree, the folder that holds it alone, or the folder of one split.
        options: the level's name.

    Raises:
        DatasetError: no known layout, or a split that neither names nor order pair.
    """
    base, folders = _find(root)
    refused: dict[str, str] = {}
    pairs: list[PairFiles] = []
    paired: dict[str, str] = {}
    for found in folders:
        made, paired[found.split] = pairs_of(
            base, found, level=options.level or LEVEL, refused=refused
        )
        pairs += made
    return apart(base, listed(base, pairs, refused, paired=paired))


def pairs_of(
    root: Path, folders: PairedFolders, *, level: str, refused: dict[str, str]
) -> tuple[list[PairFiles], str]:
    """The pairs of two folders; an extension may differ.

    They are paired by name, unless the names of no pair agree and their order pairs them: as many
    on either side, and numbers that differ by 1 to 3.  So is DPDD published, whose blurred and
    sharp images are two releases of the shutter.  A scene has the name of its blurred image.

    Args:
        root: what the names of refused files are relative to.
        folders: the two.
        level: of the pairs.
        refused: gains the files without a partner.

    Returns:
        The pairs, and "name", "order" or, where one sharp image has several blurred ones whose
        names begin with its own, "beginning".

    Raises:
        DatasetError: a folder is missing, or neither names nor order pair any file.
    """
    blurred = _by_stem(root, root / folders.blurred, refused)
    sharp = _by_stem(root, root / folders.sharp, refused)
    partners = {stem: stem for stem in blurred.keys() & sharp.keys()}
    how = "name"
    if not partners and blurred and sharp:
        problem = order_problem(list(blurred), list(sharp))
        begun = {stem: found for stem in blurred if (found := _beginning(stem, sharp)) is not None}
        if problem is None:
            partners, how = dict(pairs_by_order(list(blurred), list(sharp))), "order"
        elif begun:
            partners, how = begun, "beginning"
        else:
            raise DatasetError(
                f"{root}: no name in {folders.blurred} is in {folders.sharp}, and their order does "
                f"not pair them: {problem}."
            )
    for files, used, other in (
        (blurred, partners.keys(), folders.sharp),
        (sharp, set(partners.values()), folders.blurred),
    ):
        for stem in files.keys() - used:
            name = files[stem].relative_to(root).as_posix()
            refused[name] = f"no image of this name in {PurePosixPath(other).name}"
    made = [
        PairFiles(stem, folders.split, level, sharp[partners[stem]], blurred[stem])
        for stem in sorted(partners)
    ]
    return made, how


def _find(root: Path) -> tuple[Path, list[PairedFolders]]:
    """The root of a known layout, and those of its folders that are there and were meant."""
    for base, inside in _bases(root):
        for folders in _LAYOUTS.values():
            there = [
                f
                for f in folders
                if (base / f.blurred).is_dir()
                and (base / f.sharp).is_dir()
                and PurePosixPath(f.blurred).parts[: len(inside)] == inside
            ]
            if there:
                return base, there
    half = [f"{root / f.blurred}" for fs in _LAYOUTS.values() for f in fs
            if (root / f.blurred).is_dir()]  # fmt: skip
    if half:
        raise DatasetError(f"{half[0]}: there is no folder of sharp images to it (target).")
    shown = "; ".join(f"{name}: {fs[-1].blurred}, {fs[-1].sharp}" for name, fs in _LAYOUTS.items())
    raise DatasetError(
        f"{root}: none of train_c, val_c and test_c here, nor another known layout ({shown}); "
        "give the folder that holds them."
    )


def _bases(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Where a tree may begin, and the folders of it that lead to the root that was given."""
    yield root, ()
    if root.is_dir():
        below = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name[0] != "."]
        if len(below) == 1:
            yield below[0], ()
    whole = root.resolve()
    for up in (1, 2):
        if len(whole.parts) > up:
            yield whole.parents[up - 1], whole.parts[-up:]


def _by_stem(root: Path, folder: Path, refused: dict[str, str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder.parent}: no folder {folder.name!r} of images.")
    found: dict[str, Path] = {}
    for name, path in image_files(folder):
        stem = name.rpartition(".")[0]
        if stem in found:
            file = path.relative_to(root).as_posix()
            refused[file] = f"a second image {stem!r} beside {found[stem].name}"
        else:
            found[stem] = path
    return found


def _beginning(stem: str, sharp: dict[str, Path]) -> str | None:
    """The sharp image whose name a blurred one's begins with, up to a ``_`` or ``-``."""
    at = len(stem)
    while (at := max(stem.rfind("_", 0, at), stem.rfind("-", 0, at))) > 0:
        if stem[:at] in sharp:
            return stem[:at]
    return None
