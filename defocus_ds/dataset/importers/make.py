"""Import: an image tree that others made in, a folder of crop shards out, whole or not at all."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import defocus_ds
from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.folders import replaced_folder
from defocus_ds.dataset.importers.authors import list_authors
from defocus_ds.dataset.importers.dpdd import list_dpdd
from defocus_ds.dataset.importers.listing import Importer, ImportOptions
from defocus_ds.dataset.importers.realdof import list_realdof
from defocus_ds.dataset.importers.sharp import list_sharp
from defocus_ds.dataset.importers.write import write_crops
from defocus_ds.dataset.steps import Progress, Steps
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.store import write_json

__all__ = ["IMPORTERS", "IMPORT_NAME", "ImportReport", "import_images"]

IMPORT_NAME = "import.json"
_FORMAT = 1
_SHOWN = 10
_UNMEASURED = ["blur_radius_px", "residual_px"]

IMPORTERS: dict[str, Importer] = {
    "authors": list_authors,
    "dpdd": list_dpdd,
    "realdof": list_realdof,
    "sharp": list_sharp,
}
# the options that decide the bytes of each kind; the others are not recorded
_DECIDE = {
    "authors": ("size", "stride", "seed", "test_share", "val_share"),
    "dpdd": ("size", "stride", "level"),
    "realdof": ("size", "stride", "level"),
    "sharp": ("size", "per_image", "images", "blur", "level", "seed", "test_share", "val_share"),
}


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What `import_images` wrote.

    Attributes:
        out: the folder.
        kind: of the tree.
        crops: level -> split -> crops.
        scenes: split -> scenes listed.
        refused: file, relative to the source -> why.
        notes: what a person should know.
    """

    out: Path
    kind: str
    crops: dict[str, dict[str, int]]
    scenes: dict[str, int]
    refused: dict[str, str]
    notes: tuple[str, ...]


def import_images(
    kind: str,
    source: Path | str,
    out: Path | str,
    *,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Cut crops from an image tree that others made, into shards like those of `crop`.

    Nothing is aligned or colour-matched, and nothing is claimed of it: what was not measured says
    so.  A file that cannot be used is refused with a reason, and the others are imported.  The
    same files and options give the same bytes.

    Args:
        kind: "authors", "dpdd", "realdof" or "sharp".
        source: the tree; it stays as it is.
        out: a new folder.
        options: sizes, blur, splits; None takes the defaults.
        progress: called with (done, total, label).

    Raises:
        InputError: no such kind, or an option that the kind does not know.
        DatasetError: ``out`` exists or lies in the tree, the tree does not have the layout, or no
            pair can be used.
    """
    if kind not in IMPORTERS:
        raise InputError(f"kind {kind!r}: one of {', '.join(IMPORTERS)}.")
    root, out = Path(source), Path(out)
    chosen = options or ImportOptions()
    _refuse_options(kind, chosen)
    if os.path.lexists(out):
        raise DatasetError(f"{out}: exists. Give a new folder.")
    listing = IMPORTERS[kind](root, chosen)
    if out.resolve().is_relative_to(root.resolve()):
        raise DatasetError(f"{out}: lies in the tree that is imported. Give a folder beside it.")
    if not listing.pairs:
        raise DatasetError(_nothing(root, kind, listing.refused))
    step = Steps(progress, 2 * len(listing.pairs))
    decided = {name: getattr(chosen, name) for name in _DECIDE[kind]}
    about: dict[str, Any] = {"kind": kind, "options": decided}
    if listing.paired:
        about["paired_by"] = listing.paired
    if kind != "sharp":
        about["not_measured"] = _UNMEASURED
    with replaced_folder(out) as fresh:
        crops, refused = write_crops(
            fresh, listing.root, listing, options=chosen, record={"import": about}, step=step
        )
        if not crops:
            raise DatasetError(_nothing(root, kind, refused))
        report = {
            "format": _FORMAT,
            **about,
            "crops": crops,
            "refused": refused,
            "versions": _versions(),
        }
        write_json(fresh / IMPORT_NAME, report)
        write_sums(fresh)
    scenes = Counter({pair.scene: pair.split for pair in listing.pairs}.values())
    return ImportReport(
        out, kind, crops, dict(scenes), refused, tuple(_notes(kind, crops, listing.paired))
    )


def _refuse_options(kind: str, options: ImportOptions) -> None:
    """Options that another kind knows would be silently lost."""
    default, given = asdict(ImportOptions()), asdict(options)
    for name, value in given.items():
        if name not in _DECIDE[kind] and value != default[name]:
            kinds = ", ".join(k for k, names in _DECIDE.items() if name in names)
            raise InputError(f"{name} = {value!r}: {kind} does not use it, only {kinds}.")


def _nothing(root: Path, kind: str, refused: dict[str, str]) -> str:
    shown = "; ".join(f"{name}: {why}" for name, why in list(refused.items())[:_SHOWN])
    more = f"; {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return f"{root}: no pair to import as {kind} ({shown or 'no image at all'}{more})."


def _versions() -> dict[str, str]:
    import cv2
    import numpy as np
    import PIL

    return {
        "defocus-ds": defocus_ds.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }


def _notes(kind: str, crops: dict[str, dict[str, int]], paired: dict[str, str]) -> list[str]:
    notes = []
    if by_order := [split for split, how in paired.items() if how == "order"]:
        notes.append(
            f"no names of blurred and sharp images agree in {', '.join(by_order)}: they are paired "
            "by their order, as DPDD is published."
        )
    if kind != "sharp":
        notes.append(
            "blur radius and residual shift were not measured: 1000000 px stand for unknown."
        )
    if kind == "authors":
        notes.append(
            "the images are taken as they are; to align them, `defocus-ds build` the folder."
        )
    for level, counts in crops.items():
        if "train" not in counts:
            notes.append(f"no {level} crop is in train.")
    return notes
