"""Tile: where crops lie, and which of them are fit to train on.  Pure functions on arrays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.config import TileConfig
from defocus_ds.errors import InputError
from defocus_ds.frames import Keep, Reject, UInt8Image, Verdict

__all__ = ["CODES", "Tiles", "judge", "local_residual", "local_value", "luma", "positions"]

# reasons to reject a crop, in the order they are tested: the first that holds is recorded
CODES = ("outside", "flat", "clipped", "misaligned", "unexplained", "reversed")


@dataclass(frozen=True, slots=True)
class Tiles:
    """Every position of the grid over one pair, with its verdict.

    Attributes:
        xy: (N, 2) int32, top-left pixels, row by row.
        size: side of a crop in pixels.
        residual_px: (N,) local residual shift.
        code: (N,) int8, index into `CODES`; -1 is kept.
        value: (N,) what was measured for the code; NaN where kept.
        limit: (N,) what it was held against; NaN where kept.
    """

    xy: npt.NDArray[np.int32]
    size: int
    residual_px: npt.NDArray[np.float64]
    code: npt.NDArray[np.int8]
    value: npt.NDArray[np.float64]
    limit: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.code)

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(N,) mask of the crops that passed."""
        return self.code < 0

    def verdict(self, index: int) -> Verdict:
        """Keep, or Reject with the first reason as ``"code: value, limit"``."""
        code = int(self.code[index])
        if code < 0:
            return Keep()
        return Reject((f"{CODES[code]}: {self.value[index]:.4g}, {self.limit[index]:.4g}",))

    def counts(self) -> dict[str, int]:
        """Number of rejected crops by code; codes that never occurred are left out."""
        return dict(Counter(CODES[code] for code in self.code[~self.kept]))


def luma(rgb: UInt8Image) -> UInt8Image:
    """Full-range JPEG luma, exactly as Pillow's YCbCr conversion gives it.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) uint8.  The published crops of MMSP 2024 equal this channel in every pixel.

    Raises:
        TypeError: no array.
        InputError: another shape or dtype.
    """
    from PIL import Image

    require_array(rgb, "luma: rgb", takes="(H, W, 3) uint8")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"luma: got {rgb.dtype} {rgb.shape}; need (H, W, 3) uint8.")
    return np.asarray(Image.fromarray(rgb).convert("YCbCr").getchannel(0))


def positions(frame: tuple[int, int], *, size: int, stride: int) -> npt.NDArray[np.int32]:
    """Top-left pixels of the crops of a frame.

    The grid starts at the frame's origin, so a crop's place depends on nothing but the frame,
    the size and the stride, and is the same at every level of a scene.

    Args:
        frame: (width, height) in pixels.
        size: side of a crop in pixels, >= 1.
        stride: step in pixels, >= 1.

    Returns:
        (N, 2) int32 (x, y), row by row; empty if the frame is smaller than a crop.

    >>> positions((300, 256), size=128, stride=128).tolist()
    [[0, 0], [128, 0], [0, 128], [128, 128]]
    """
    xs = np.arange(0, frame[0] - size + 1, stride, dtype=np.int32)
    ys = np.arange(0, frame[1] - size + 1, stride, dtype=np.int32)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def local_value(
    nodes: npt.ArrayLike, points: npt.ArrayLike, *, fallback: float
) -> npt.NDArray[np.float64]:
    """A measured quantity at points between the nodes of a regular grid.

    Weights are bilinear times confidence; beyond the outermost nodes the nearest ones count.

    Args:
        nodes: (M, 4) rows of x, y in pixels, value, confidence; unmeasured nodes are absent, not
            finite, or of confidence 0.
        points: (N, 2) x, y in pixels.
        fallback: value where no node with confidence is near.

    Returns:
        (N,) float64, in the unit of the values.
    """
    table = np.asarray(nodes, np.float64).reshape(-1, 4)
    places = np.asarray(points, np.float64).reshape(-1, 2)
    result = np.full(len(places), fallback, np.float64)
    spacing = [_spacing(table[:, axis]) for axis in (0, 1)]
    table = table[np.isfinite(table).all(axis=1) & (table[:, 3] > 0)]
    if not len(table):
        return result
    inside = np.clip(places, table[:, :2].min(axis=0), table[:, :2].max(axis=0))
    for index, place in enumerate(inside):
        weight = table[:, 3].copy()
        for axis in (0, 1):
            distance = np.abs(table[:, axis] - place[axis]) / spacing[axis]
            weight *= np.maximum(1 - distance, 0)
        if (total := weight.sum()) > 1e-9:
            result[index] = (weight * table[:, 2]).sum() / total
    return result


def local_residual(
    grid: npt.ArrayLike, points: npt.ArrayLike, *, fallback_px: float
) -> npt.NDArray[np.float64]:
    """Length of the residual shift at points between the nodes of a measured grid.

    Lengths are interpolated, not vectors: nodes that disagree in direction lie on an edge in
    depth, and must not cancel there.

    Args:
        grid: (M, 5) rows of x, y, dx, dy in pixels and confidence, as in `local_value`.
        points: (N, 2) x, y in pixels.
        fallback_px: value where no node with confidence is near.

    Returns:
        (N,) float64, pixels, >= 0.
    """
    table = np.asarray(grid, np.float64).reshape(-1, 5)
    length = np.hypot(table[:, 2], table[:, 3])
    nodes = np.column_stack([table[:, :2], length, table[:, 4]])
    return local_value(nodes, points, fallback=fallback_px)


def judge(
    sharp: UInt8Image,
    blurred: UInt8Image,
    *,
    valid_area: tuple[int, int, int, int],
    residual_grid: npt.ArrayLike,
    residual_px: float,
    config: TileConfig,
    unexplained_grid: npt.ArrayLike = (),
) -> Tiles:
    """Judge every crop of a pair.

    Args:
        sharp: (H, W) uint8 luma.
        blurred: (H, W) uint8 luma in the sharp frame.
        valid_area: (x0, y0, x1, y1) pixels, half-open: where the blurred image has data.
        residual_grid: (M, 5) as in `local_residual`; may be empty.
        residual_px: the pair's residual shift, used where the grid says nothing.
        config: size, stride and limits.
        unexplained_grid: (M, 3) rows of x, y in pixels and share of the contrast that the pair's
            map leaves there.  It counts in cells where no shift is known: that content is
            foreign, even if a crop of it has too little contrast to tell.

    Returns:
        One entry a grid position.

    Raises:
        InputError: the two images differ in shape or are not uint8 luma.
    """
    if sharp.shape != blurred.shape or sharp.ndim != 2 or sharp.dtype != np.uint8:
        raise InputError(
            f"judge: got {sharp.dtype} {sharp.shape} and {blurred.dtype} {blurred.shape}; "
            "need two (H, W) uint8 images of one shape."
        )
    from defocus_ds.stages.register.unexplained import unexplained_share

    size = config.size
    xy = positions((sharp.shape[1], sharp.shape[0]), size=size, stride=config.stride)
    centres = xy + (size - 1) / 2
    residual = local_residual(residual_grid, centres, fallback_px=residual_px)
    code = np.full(len(xy), -1, np.int8)
    value = np.full(len(xy), np.nan)
    limit = np.full(len(xy), np.nan)
    for index, (x, y) in enumerate(xy.tolist()):
        found = _first_reason(sharp, blurred, x, y, valid_area, float(residual[index]), config)
        if found is not None:
            code[index] = CODES.index(found[0])
            value[index], limit[index] = found[1:]
    passed = np.flatnonzero(code < 0)
    share = np.maximum(
        unexplained_share(sharp, blurred, xy[passed], size=size),
        _foreign_share(residual_grid, unexplained_grid, centres[passed]),
    )
    ratio = [_sharpness_ratio(sharp, blurred, x, y, size) for x, y in xy[passed].tolist()]
    for name, measured, most in (
        ("reversed", np.asarray(ratio), config.max_sharpness_ratio),
        ("unexplained", share, config.max_unexplained),  # foreign content comes first
    ):
        bad = measured > most
        code[passed[bad]] = CODES.index(name)
        value[passed[bad]], limit[passed[bad]] = measured[bad], most
    return Tiles(xy, size, residual, code, value, limit)


def _foreign_share(
    residual_grid: npt.ArrayLike, unexplained_grid: npt.ArrayLike, points: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """(N,) unexplained share of the cell around each point if it has no shift, 0 elsewhere."""
    shares = np.asarray(unexplained_grid, np.float64).reshape(-1, 3)
    known = {(x, y) for x, y, *_ in np.asarray(residual_grid, np.float64).reshape(-1, 5).tolist()}
    foreign = np.array([(x, y) not in known for x, y, _ in shares.tolist()], np.bool_)
    reach = [_spacing(shares[:, axis]) / 2 for axis in (0, 1)]
    places = np.asarray(points, np.float64).reshape(-1, 2)
    result = np.zeros(len(places))
    for x, y, share in shares[foreign].tolist():
        inside = (np.abs(places - (x, y)) <= reach).all(axis=1)
        result[inside] = np.maximum(result[inside], share)
    return result


def _first_reason(
    sharp: UInt8Image,
    blurred: UInt8Image,
    x: int,
    y: int,
    valid_area: tuple[int, int, int, int],
    residual_px: float,
    config: TileConfig,
) -> tuple[str, float, float] | None:
    """(code, value, limit) of the first test that fails."""
    from defocus_ds.measure.values import value_sums

    size = config.size
    x0, y0, x1, y1 = valid_area
    beyond = max(x0 - x, y0 - y, x + size - x1, y + size - y1)
    if beyond > 0:
        return "outside", float(beyond), 0.0
    window = np.s_[y : y + size, x : x + size]
    total, squares, ends = value_sums(sharp[window])
    std = float((size**2 * squares - total**2) ** 0.5 / size**2)
    if std < config.min_std:
        return "flat", std, config.min_std
    clipped = max(ends, value_sums(blurred[window])[2]) / size**2
    if clipped > config.max_clipped:
        return "clipped", clipped, config.max_clipped
    if not residual_px <= config.max_residual_px:
        return "misaligned", residual_px, config.max_residual_px
    return None


def _sharpness_ratio(sharp: UInt8Image, blurred: UInt8Image, x: int, y: int, size: int) -> float:
    """Gradient energy of the blurred crop over that of the sharp one."""
    from defocus_ds.measure.sharpness import gradient_energy

    window = np.s_[y : y + size, x : x + size]
    return gradient_energy(blurred[window]) / max(gradient_energy(sharp[window]), 1e-9)


def _spacing(coordinates: npt.NDArray[np.float64]) -> float:
    """Distance between neighbouring grid lines; infinite where there is only one.

    The smallest gap counts: wider ones are lines without a measured node.
    """
    lines = np.unique(coordinates[np.isfinite(coordinates)])
    return float(np.diff(lines).min()) if len(lines) > 1 else float("inf")
