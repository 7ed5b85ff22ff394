"""Whose folder is it: nothing of someone else's is touched, no finished work is lost by a slip."""

from __future__ import annotations

from pathlib import Path

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.kinds import what_it_is
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import Shoot
from defocus_ds.pipeline.journal import read_journal
from defocus_ds.pipeline.plan import file_stamps
from defocus_ds.store import read_receipt
from defocus_ds.wording import first_names

__all__ = ["changed_options", "check_place", "refuse_to_lose"]

_SHOWN_OPTIONS = 10  # a change of preset is 8


def check_place(shoot: Path, dataset: Path) -> None:
    """Check where a dataset is to be: never in a shoot, never among someone's files.

    Raises:
        InputError: one folder lies in the other.
        DatasetError: the folder holds something else.
    """
    if dataset.is_relative_to(shoot) or shoot.is_relative_to(dataset):
        raise InputError(
            f"{dataset}: shoot and dataset cannot lie one in the other; choose another -o."
        )
    foreign = (
        [p.name for p in dataset.iterdir() if not p.name.startswith(".")]
        if dataset.exists()
        else []
    )
    if foreign and not (dataset / "receipts").is_dir() and not (dataset / "dataset.json").is_file():
        found = what_it_is(dataset, unknown=f"it has {foreign[0]!r}")
        raise DatasetError(
            f"{dataset}: the folder is not empty and not a dataset; {found}. "
            "Choose an empty or new folder with -o."
        )


def refuse_to_lose(dataset: Path, found: Shoot) -> None:
    """Built scenes are hours of work: they are not dropped or redone by a slip of the path."""
    try:
        journal = read_journal(dataset)
    except DatasetError:
        return
    present = {bracket.scene: bracket for bracket in found.brackets}
    lost = [s for s in journal.scenes if s not in present and (dataset / "images" / s).is_dir()]
    if lost:
        why = f"; {str(found.errors[0]).rstrip('.')}" if found.errors else ""
        raise DatasetError(
            f"{dataset}: holds {len(lost)} scenes that {found.root} lacks or cannot use now "
            f"({first_names(lost, most=3)}{why}). Mend the shoot, choose another -o, or give "
            "--replace to let them go."
        )
    if journal.shoot == str(found.root):
        return
    for scene, bracket in present.items():
        receipt = read_receipt(dataset, scene, "ingest")
        stamps = file_stamps(bracket, found.root)
        if receipt and _without_times(receipt.inputs) != _without_times(stamps):
            raise DatasetError(
                f"{dataset}: {scene} was built from other files, of {journal.shoot}. Choose "
                "another -o, or give --replace to build it anew."
            )


def changed_options(recorded: BuildConfig, given: BuildConfig) -> str:
    """The first keys that differ, as ``key: recorded -> given``."""
    from defocus_ds.dataset.diff import flat

    before, after = flat(recorded.as_dict()), flat(given.as_dict())
    return first_names(
        [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]],
        most=_SHOWN_OPTIONS,
    )


def _without_times(stamps: dict[str, str]) -> dict[str, str]:
    return {name: stamp.rpartition(" ")[0] for name, stamp in stamps.items()}
