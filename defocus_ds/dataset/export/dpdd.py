"""DPDD, the dual-pixel defocus dataset: ``train_c/source`` and ``target``, and so on."""

from __future__ import annotations

from collections.abc import Iterable

from defocus_ds.dataset.export.names import crop_name
from defocus_ds.dataset.export.record import ExportedTar
from defocus_ds.dataset.export.rows import opened_rows
from defocus_ds.dataset.export.source import StoredCrop
from defocus_ds.dataset.export.target import Target

__all__ = ["write"]


def write(
    target: Target, level: str, split: str, crops: Iterable[StoredCrop]
) -> tuple[ExportedTar, ...]:
    """``<level>/<split>_c/source`` (blurred) and ``target`` (sharp), and the rows.

    "c" is DPDD's word for the combined image of both halves of the pixels: what a camera shows.

    Raises:
        DatasetError: a crop that is there twice, or a row that JSON cannot hold.
    """
    with opened_rows(target, level, split) as add_row:
        for crop in crops:
            name = f"{crop_name(crop.row)}.png"
            target.add(f"{level}/{split}_c/source/{name}", crop.blurred)
            target.add(f"{level}/{split}_c/target/{name}", crop.sharp)
            add_row(name, crop)
    return ()
