"""The layout of DPDD: ``{train,val,test}_c/{source,target}/NAME.png``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from defocus_ds.dataset.importers.listing import (
    ImportOptions,
    Listing,
    PairFiles,
    apart,
    image_files,
    listed,
)
from defocus_ds.dataset.split import SPLITS
from defocus_ds.errors import DatasetError

__all__ = ["LEVEL", "list_dpdd", "pairs_by_name"]

# one aperture against another: no mark of a focus ring stands for it
LEVEL = "defocus"


def list_dpdd(root: Path, options: ImportOptions) -> Listing:
    """The pairs of each split, ``source`` (blurred) and ``target`` (sharp) by equal names.

    A sharp file that is in two splits, under whatever names, stays in test before val, and in val
    before train; elsewhere it is refused.
    The folders of the two views of a dual-pixel sensor, ``train_l`` and so on, are not read.

    Args:
        root: holds at least one of ``train_c``, ``val_c`` and ``test_c``.
        options: the level's name.

    Raises:
        DatasetError: none of these folders, or one without ``source`` and ``target``.
    """
    folders = {split: root / f"{split}_c" for split in SPLITS}
    there = {split: folder for split, folder in folders.items() if folder.is_dir()}
    if not there:
        raise DatasetError(
            f"{root}: none of train_c, val_c and test_c here; give the folder that holds them."
        )
    refused: dict[str, str] = {}
    pairs: list[PairFiles] = []
    for split, folder in there.items():
        pairs += pairs_by_name(
            root, folder, split=split, level=options.level or LEVEL, refused=refused
        )
    return apart(root, listed(root, pairs, refused))


def pairs_by_name(
    root: Path, folder: Path, *, split: str, level: str, refused: dict[str, str]
) -> Iterator[PairFiles]:
    """The pairs of a folder with ``source`` and ``target``; an extension may differ.

    Args:
        root: what the names of refused files are relative to.
        folder: holds the two.
        split, level: of the pairs.
        refused: gains the files without a partner.

    Raises:
        DatasetError: one of the two folders is missing.
    """
    sides: dict[str, dict[str, Path]] = {}
    for side in ("source", "target"):
        if not (folder / side).is_dir():
            raise DatasetError(f"{folder}: no folder {side!r}; blurred is source, sharp target.")
        sides[side] = {}
        for name, path in image_files(folder / side):
            stem = name.rpartition(".")[0]
            if stem in sides[side]:
                file = path.relative_to(root).as_posix()
                refused[file] = f"a second image {stem!r} beside {sides[side][stem].name}"
            else:
                sides[side][stem] = path
    for side, other in (("source", "target"), ("target", "source")):
        for stem in sides[side].keys() - sides[other].keys():
            file = sides[side][stem].relative_to(root).as_posix()
            refused[file] = f"no image of this name in {other}"
    for stem in sorted(sides["source"].keys() & sides["target"].keys()):
        yield PairFiles(stem, split, level, sides["target"][stem], sides["source"][stem])
