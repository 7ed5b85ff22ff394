"""The part of `diff` that compares the crops of a level: by place, from columns without pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from defocus_ds.dataset.diff_columns import CropTable, Keys
from defocus_ds.dataset.shards import MANIFEST_SCHEMA
from defocus_ds.errors import DatasetError

__all__ = ["LevelDifference", "Places", "compare_level"]

_MEASURED = tuple(field.name for field in MANIFEST_SCHEMA if pa.types.is_floating(field.type))
_PIXELS = ("sha256_sharp", "sha256_blurred")

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Places:
    """Places of crops: 16 bytes each, whatever the length of the scenes' names."""

    keys: Keys
    scenes: Sequence[str]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[str, int, int, int]]:
        """(scene, x, y, size) in px, in the order of the rows."""
        mask = 0xFFFFFFFF
        for start in range(0, len(self.keys), 4096):
            for high, low in self.keys[start : start + 4096].tolist():
                yield self.scenes[high >> 32], _signed(low >> 32), _signed(low & mask), high & mask


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """How the crops of a level differ.

    Attributes:
        level: its name.
        crops: number of crops in A and in B.
        only_a, only_b: places that the other lacks.
        pixels: in both, with other pixels.
        measured: in both with the same pixels, and another measurement.
        columns: measured column -> crops of ``measured`` in which it differs.
    """

    level: str
    crops: tuple[int, int]
    only_a: Places
    only_b: Places
    pixels: Places
    measured: Places
    columns: dict[str, int]

    def __bool__(self) -> bool:
        return any((self.only_a, self.only_b, self.pixels, self.measured))


def compare_level(
    a: CropTable, b: CropTable, keys: tuple[Keys, Keys], scenes: Mapping[str, int], *, level: str
) -> LevelDifference:
    """Compare two levels crop by crop.

    Args:
        a, b: their columns.
        keys: of both, from `CropTable.keys` with the same codes.
        scenes: the codes.
        level: what to call it.

    Raises:
        DatasetError: a crop that is there twice, or a damaged file.
    """
    names = list(scenes)
    rows_a, rows_b = _matched(a, b, keys, names)
    alone = [np.ones(len(k), np.bool_) for k in keys]
    alone[0][rows_a] = alone[1][rows_b] = False
    pixels = np.zeros(len(rows_a), np.bool_)
    for name in _PIXELS:
        ours, theirs = a.digests(name), b.digests(name)
        for half in (0, 1):
            pixels |= ours[:, half][rows_a] != theirs[:, half][rows_b]
        del ours, theirs
    measured = np.zeros(len(rows_a), np.bool_)
    columns = {}
    for name in _MEASURED:
        one, other = a.values(name)[rows_a], b.values(name)[rows_b]
        changed = ~pixels & (one != other) & ~(np.isnan(one) & np.isnan(other))
        measured |= changed
        if count := int(changed.sum()):
            columns[name] = count
    return LevelDifference(
        level,
        (len(a), len(b)),
        Places(keys[0][alone[0]], names),
        Places(keys[1][alone[1]], names),
        Places(keys[0][rows_a[pixels]], names),
        Places(keys[0][rows_a[measured]], names),
        columns,
    )


def _matched(
    a: CropTable, b: CropTable, keys: tuple[Keys, Keys], names: Sequence[str]
) -> tuple[_Rows, _Rows]:
    """Rows of A and of B that are one place, in the order of A."""
    both = np.concatenate(keys)
    order = np.lexsort((both[:, 1], both[:, 0]))
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for half in (0, 1):
        column = both[:, half][order]
        same &= column[1:] == column[:-1]
    at = np.flatnonzero(same)
    first, second = order[at], order[at + 1] - len(keys[0])
    # the sort is stable: of two equal places A's comes first
    for table, bad, rows in ((a, second < 0, first), (b, first >= len(keys[0]), first)):
        if bad.any():
            scene, x, y, size = next(iter(Places(both[rows[bad]][:1], names)))
            raise DatasetError(
                f"{table.folder}: the crop of {size} px at ({x}, {y}) of {scene} is there twice. "
                "Run `defocus-ds verify` on it."
            )
    by_row = np.argsort(first)
    return first[by_row], second[by_row]


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number
