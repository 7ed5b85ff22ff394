"""The rows beside plain folders of images: one line of JSON a crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from defocus_ds.dataset.export.record import json_line
from defocus_ds.dataset.export.source import StoredCrop
from defocus_ds.dataset.export.target import Target

__all__ = ["opened_rows"]


@contextmanager
def opened_rows(
    target: Target, level: str, split: str
) -> Iterator[Callable[[str, StoredCrop], None]]:
    """A function that adds (file name, crop) to ``rows_<level>_<split>.jsonl``.

    Raises:
        DatasetError: a row that JSON cannot hold.
    """
    with target.opened(f"rows_{level}_{split}.jsonl") as file:

        def add(name: str, crop: StoredCrop) -> None:
            row = {"name": name, **crop.row}
            file.write(json_line(row, where=f"crop {crop.index} of {split}") + b"\n")

        yield add
