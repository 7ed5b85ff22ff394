"""BasicSR, and Restormer after it: paired folders ``gt`` and ``lq``, and a list of names."""

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
    """``<level>/<split>/gt`` and ``lq``, ``meta_info_<level>_<split>.txt``, and the rows.

    Raises:
        DatasetError: a crop that is there twice, or a row that JSON cannot hold.
    """
    with (
        target.opened(f"meta_info_{level}_{split}.txt") as names,
        opened_rows(target, level, split) as add_row,
    ):
        for crop in crops:
            name = f"{crop_name(crop.row)}.png"
            target.add(f"{level}/{split}/gt/{name}", crop.sharp)
            target.add(f"{level}/{split}/lq/{name}", crop.blurred)
            size = crop.row["size"]
            names.write(f"{name} ({size},{size},1)\n".encode())
            add_row(name, crop)
    return ()
