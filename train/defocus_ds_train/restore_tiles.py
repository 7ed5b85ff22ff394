"""A frame in tiles: where they lie, how large they are, and how they become one again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from defocus_ds.errors import DefocusError, InputError
from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds_train.restore_network import ResidualNet

__all__ = ["FEATHER", "Axis", "NotFinite", "Tiling", "change_by_tiles", "plan_tiling"]

FEATHER = 16  # px over which a tile passes into the next, in the middle of what they share
# along an axis, when their size is chosen; more would compute little but what they share
_MOST_TILES = 64


class NotFinite(DefocusError):
    """The network's output holds values that are not numbers."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Tiles along one axis: their first pixels, and the length of each."""

    starts: tuple[int, ...]
    tile: int

    def __len__(self) -> int:
        return len(self.starts)

    def kept(self, index: int, feather: int) -> tuple[int, int, int]:
        """Where a tile begins to fade in, where it has, and where it ends."""
        start = self.starts[index]
        if index == 0:
            return start, start, start + self.tile
        seam = (start + self.starts[index - 1] + self.tile) // 2
        return seam - feather // 2, seam + feather // 2, start + self.tile


@dataclass(frozen=True, slots=True)
class Tiling:
    """Overlapping tiles of one size that cover a frame.

    Attributes:
        frame: (height, width).
        rows, columns: where tiles lie in the frame, which is first padded to multiples of the
            network's stride, as the network itself does.
        overlap: pixels that neighbours share, at least.
        batch: tiles computed at once.
        exact: whether every kept pixel sees all that the network could look at, so that the
            tiles equal the whole frame computed at once.
    """

    frame: tuple[int, int]
    rows: Axis
    columns: Axis
    overlap: int
    batch: int
    exact: bool

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def computed(self) -> float:
        """Pixels that are computed, as a multiple of the frame's."""
        height, width = self.frame
        return len(self) * self.rows.tile * self.columns.tile / (height * width)


def plan_tiling(
    frame: tuple[int, int],
    *,
    stride: int,
    radius: int,
    budget_pixels: float,
    tile: int | None = None,
    overlap: int | None = None,
    batches: bool = False,
) -> Tiling:
    """Decide the tiles of a frame: those that compute the fewest pixels twice.

    Args:
        frame: (height, width), >= 1.
        stride: of the network; tiles start at its multiples, so that pooling falls alike.
        radius: of the network's receptive field, in px.
        budget_pixels: pixels that may be computed at once.
        tile: longest side of a tile; default: what the budget allows.
        overlap: pixels that neighbours share; default: what makes tiles equal the whole.
        batches: several tiles at once where the budget allows.

    Raises:
        InputError: the tiles are too small for their overlap, or the budget for any tile.
    """
    exact = 2 * radius + FEATHER
    shared = _up(exact if overlap is None else overlap, stride)
    sides = [_up(side, stride) for side in frame]
    if tile is None:
        ways = [[_axis(n, c, shared, stride) for c in range(1, _MOST_TILES + 1)] for n in sides]
    else:
        ways = [[_axis_of_tile(n, _up(tile, stride), shared, stride)] for n in sides]
    pairs = [(r, c) for r, c in itertools.product(*ways) if r is not None and c is not None]
    if not pairs:
        raise InputError(
            f"tiles of {tile} px cannot share {shared} px with their neighbours. Give a --tile "
            f"of {shared + max(stride, FEATHER)} px or more, or a smaller --overlap."
        )
    fitting = [(r, c) for r, c in pairs if r.tile * c.tile <= budget_pixels]
    if not fitting:
        least = min(r.tile * c.tile for r, c in pairs)
        raise InputError(
            f"the memory allows {budget_pixels / 1e6:.3g} megapixels at once; the smallest "
            f"tiles that share {shared} px have {least / 1e6:.3g}. Give more with "
            "--memory-limit, or a smaller --overlap."
        )
    # of two equal costs the one of fewer tiles comes first
    rows, columns = min(fitting, key=lambda way: _cost(*way))
    count, area = len(rows) * len(columns), rows.tile * columns.tile
    batch = min(count, max(1, int(budget_pixels / area))) if batches else 1
    return Tiling(frame, rows, columns, shared, batch, count == 1 or shared >= exact)


def change_by_tiles(
    luma: UInt8Image | FloatImage,
    network: ResidualNet,
    tiling: Tiling,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> FloatImage:
    """What the network adds to a frame, computed tile by tile.

    Args:
        luma: (H, W) uint8, or float32 in [0, 1].
        network: with the stride the tiling was planned for.
        tiling: of a frame of that size.
        progress: called with tiles done and all tiles.

    Returns:
        (H, W) float32, in units of [0, 1]; the same, to the bit, for every exact tiling of a
        frame as long as the convolutions are (in fp32 on the CPU they are).

    Raises:
        NotFinite: some of it is not a number.
    """
    height, width = luma.shape
    rows, columns = tiling.rows, tiling.columns
    padding = [
        (0, axis.starts[-1] + axis.tile - n) for axis, n in ((rows, height), (columns, width))
    ]
    padded: npt.NDArray[Any] = np.pad(luma, padding, mode="edge")
    change = np.empty(padded.shape, np.float32)
    strip = np.empty((rows.tile, padded.shape[1]), np.float32)
    feather = min(FEATHER, tiling.overlap)
    for done, (row, column, tile) in enumerate(_tiles(padded, network, tiling), 1):
        if not np.isfinite(tile).all():
            raise NotFinite(
                f"the network's output is not finite in tile {row + 1}, {column + 1} of "
                f"{len(rows)} x {len(columns)} ({network.dtype}). Give --precision fp32, or other "
                "weights."
            )
        _fade_in(strip.T, tile.T, columns, column, feather)
        if column == len(columns) - 1:
            _fade_in(change, strip, rows, row, feather)
        if progress is not None:
            progress(done, len(tiling))
    return change[:height, :width]


def _tiles(
    padded: UInt8Image | FloatImage, network: ResidualNet, tiling: Tiling
) -> Iterator[tuple[int, int, FloatImage]]:
    """Row, column and output of every tile, row by row."""
    rows, columns = tiling.rows, tiling.columns
    places = list(itertools.product(range(len(rows)), range(len(columns))))
    for first in range(0, len(places), tiling.batch):
        chosen = places[first : first + tiling.batch]
        batch = np.stack(
            [
                padded[y : y + rows.tile, x : x + columns.tile]
                for y, x in ((rows.starts[r], columns.starts[c]) for r, c in chosen)
            ]
        )
        tensor = torch.from_numpy(batch)[:, None].float()
        if padded.dtype == np.uint8:
            tensor /= 255
        for (row, column), tile in zip(chosen, network(tensor).numpy()[:, 0], strict=True):
            yield row, column, tile


def _fade_in(target: FloatImage, tile: FloatImage, axis: Axis, index: int, feather: int) -> None:
    """Put a tile over what lies before it; equal values stay equal to the bit."""
    start = axis.starts[index]
    fade, full, end = axis.kept(index, feather)
    if fade < full:
        ramp = (np.arange(full - fade, dtype=np.float32) + 0.5) / np.float32(full - fade)
        before = target[fade:full]
        before += ramp[:, None] * (tile[fade - start : full - start] - before)
    target[full:end] = tile[full - start :]


def _cost(rows: Axis, columns: Axis) -> tuple[int, int]:
    count = len(rows) * len(columns)
    return count * rows.tile * columns.tile, count


def _axis(length: int, count: int, shared: int, stride: int) -> Axis | None:
    """``count`` tiles as short as they can be; None if they cannot share that much."""
    if count == 1:
        return Axis((0,), length)
    tile = _up(-(-(length + (count - 1) * shared) // count), stride)
    step, last = tile - shared, length - tile
    starts = (*range(0, (count - 1) * step, step), last) if step >= max(stride, FEATHER) else ()
    if len(starts) != count or last - starts[-2] < max(stride, FEATHER):
        return None
    return Axis(starts, tile)


def _axis_of_tile(length: int, tile: int, shared: int, stride: int) -> Axis | None:
    if tile >= length:
        return Axis((0,), length)
    step = tile - shared
    if step < max(stride, FEATHER):
        return None
    return _axis(length, -(-(length - shared) // step), shared, stride)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
