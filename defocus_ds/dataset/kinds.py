"""What a folder is, for the error that a command gives when it needs another one."""

from __future__ import annotations

from pathlib import Path

from defocus_ds.errors import DatasetError

__all__ = ["folder_kind", "refuse_other_folder", "what_it_is"]

_CROPS_TAKEN = "`verify`, `diff`, `export` and `train` take it"
# kind, the files that tell it (two: a shoot may have one of such a name), what takes it
_MADE = (
    ("built dataset", ("dataset.json", "scenes.parquet"), "`report`, `crop` and `release` take it"),
    ("unfinished build", ("receipts/shoot.json",), "`status` says what is left to do"),
    ("release", ("release.json", "splits.csv"), _CROPS_TAKEN),
    ("import", ("import.json", "crops"), _CROPS_TAKEN),
    ("export", ("export.json", "SHA256SUMS"), "`verify` and other training code take it"),
    (
        "run of training",
        ("run.json", "recipe.toml"),
        "`train bench`, `train fit --from` and `restore --weights` take it",
    ),
)
# what lies in a dataset, also one being built, in a release, or in what was imported
_MARKS = ("dataset.json", "receipts", "release.json", "import.json", "crops")
_CROPS = "folder of crops"
_ONE_LEVEL = "crops of one level"


def folder_kind(root: Path) -> str | None:
    """What a folder is: "release", "export", "folder of crops" and so on; None for any other."""
    for kind, marks, _ in _MADE:
        if all((root / mark).exists() for mark in marks):
            return kind
    if _is_level(root):
        return _ONE_LEVEL
    below = (folder for name in ("crops/*", "*") for folder in root.glob(name))
    return _CROPS if any(map(_is_level, below)) else None


def what_it_is(root: Path, *, unknown: str = "") -> str:
    """``this is a release (release.json): `verify`, ... take it``; ``unknown`` for any other."""
    kind = folder_kind(root)
    if kind is None:
        return unknown
    if kind == _ONE_LEVEL:
        return f"these are the {_one_level(root)}"
    if kind == _CROPS:
        return f"this is a {_CROPS}: {_CROPS_TAKEN}"
    mark, taken = next((marks[0], taken) for name, marks, taken in _MADE if name == kind)
    article = "an" if kind[0] in "aeiou" else "a"
    return f"this is {article} {kind} ({mark}): {taken}"


def refuse_other_folder(root: Path) -> None:
    """Say so where a folder without crops is not one that could have some.

    Raises:
        DatasetError: it does not exist, or is neither dataset nor release nor ``crops``, or of one
            level.
    """
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
    elif root.name == "crops" or any((root / name).exists() for name in _MARKS):
        return
    elif _is_level(root):
        raise DatasetError(f"{root}: the {_one_level(root)}.")
    else:
        found = what_it_is(root)
        state = f"is neither a dataset nor a release nor a folder of crops{found and f'; {found}'}"
    raise DatasetError(
        f"{root}: {state}. Name what `defocus-ds build`, `release` or `import` wrote."
    )


def _is_level(folder: Path) -> bool:
    """Shards with our manifest: datasets of others have Parquet files of the same names."""
    return (folder / "manifest.parquet").is_file() and any(folder.glob("*-of-*.parquet"))


def _one_level(folder: Path) -> str:
    folder = folder if folder.name else folder.absolute()
    above = folder.parent.parent if folder.parent.name == "crops" else folder.parent
    return f"{_ONE_LEVEL}. Name {above}, and the level beside it"
