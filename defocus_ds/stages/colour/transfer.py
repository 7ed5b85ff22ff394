"""Distribution transfer: make one cloud of colours look like another.

The clouds need no correspondence: only their distributions are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.errors import ColourFailed
from defocus_ds.frames import FloatImage

__all__ = ["Idt", "check_clouds", "fit_idt", "fit_mkl", "rotation_axes"]

Matrix = npt.NDArray[np.float64]

_QUANTILES = 160  # knots of a 1-D transfer, means of blocks of sorted samples: more fit noise
_CELLS = 256  # regular cells in which a 1-D transfer is tabulated for look-up
_CHUNK = 1024  # colours displaced together


@dataclass(frozen=True, slots=True, eq=False)
class Idt:
    """An iterative distribution transfer, ready for any colour.

    Each iteration turns the colours into its axes, displaces every coordinate by a tabulated
    amount and turns back.  Beyond the range of the samples the displacement stays constant.

    Attributes:
        axes: (iterations, 3, 3) float64 rotations, rows are axes; the first is the identity.
        start: (iterations, 3) float32, coordinate of the first table entry.
        per_unit: (iterations, 3) float32, table cells per unit of the coordinate.
        displacement: (iterations, 3, cells + 1) float32.
    """

    axes: Matrix
    start: FloatImage
    per_unit: FloatImage
    displacement: FloatImage

    def apply(self, colours: npt.ArrayLike) -> FloatImage:
        """Transfer (..., 3) colours; float32 of the same shape, not clipped."""
        given = np.asarray(colours, np.float32)
        moved = np.array(given.reshape(-1, 3), np.float32, order="C")
        _displace(moved, self.axes, self.start, self.per_unit, self.displacement)
        return moved.reshape(given.shape)


def rotation_axes(count: int, seed: int) -> Matrix:
    """(count, 3, 3) float64 proper rotations: the identity, then uniform (Haar) random ones."""
    rng = np.random.default_rng(seed)
    axes = np.empty((count, 3, 3))
    for i in range(count):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        q *= np.sign(np.diag(r))  # makes the distribution uniform (Stewart 1980)
        axes[i] = q * np.linalg.det(q)
    axes[:1] = np.eye(3)
    return axes


def fit_idt(
    source: npt.NDArray[Any], target: npt.NDArray[Any], *, iterations: int = 20, seed: int = 0
) -> Idt:
    """Iterative distribution transfer (Pitié, Kokaram & Dahyot 2007, section 3).

    Along every axis of a rotated colour space the marginal of ``source`` is mapped to that of
    ``target`` by the 1-D optimal transport (equal quantiles); rotations follow each other until
    the distributions agree.  A cloud transferred to itself is displaced by exactly 0.

    Args:
        source: (N, 3) colours, continuous values (dither 8-bit ones).
        target: (M, 3) colours in the same space.
        iterations: number of rotations.
        seed: of the rotations.

    Returns:
        The transfer as a function of colour.

    Raises:
        ColourFailed: a cloud holds fewer than 16 colours or values that are not finite.
    """
    check_clouds(source, target)
    axes = rotation_axes(iterations, seed)
    moved = np.array(source, np.float32, order="C")
    goal = np.asarray(target, np.float32)
    start = np.empty((iterations, 3), np.float32)
    per_unit = np.empty((iterations, 3), np.float32)
    displacement = np.empty((iterations, 3, _CELLS + 1), np.float32)
    for i, rotation in enumerate(axes):
        turn = rotation.astype(np.float32)
        for axis in range(3):
            knots = _block_quantiles(moved @ turn[axis])
            values = _block_quantiles(goal @ turn[axis])
            start[i, axis], per_unit[i, axis], displacement[i, axis] = _tabulate(knots, values)
        now = slice(i, i + 1)
        _displace(moved, axes[now], start[now], per_unit[now], displacement[now])
    return Idt(axes, start, per_unit, displacement)


def fit_mkl(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> Matrix:
    """Linear Monge-Kantorovitch transfer (Pitié & Kokaram 2007, equation 15).

    The symmetric matrix ``A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2`` maps covariance A to B with the
    least displacement.  Directions in which the source does not vary are left alone.

    Args:
        source: (N, 3) colours.
        target: (M, 3) colours in the same space.

    Returns:
        (3, 4) float64: matrix and offset, ``colour @ m[:, :3].T + m[:, 3]``.

    Raises:
        ColourFailed: as `fit_idt`.
    """
    check_clouds(source, target)
    a = np.cov(source.T.astype(np.float64))
    b = np.cov(target.T.astype(np.float64))
    values, vectors = np.linalg.eigh(a)
    kept = values > max(values[-1] * 1e-9, 1e-15)
    root = np.sqrt(np.where(kept, values, 0))
    inverse_root = np.where(kept, 1 / np.where(kept, root, 1), 0)
    half = (vectors * root) @ vectors.T
    inverse_half = (vectors * inverse_root) @ vectors.T
    inner, turn = np.linalg.eigh(half @ b @ half)
    middle = (turn * np.sqrt(np.maximum(inner, 0))) @ turn.T
    flat = (vectors * ~kept) @ vectors.T
    linear = inverse_half @ middle @ inverse_half + flat
    offset = target.mean(axis=0, dtype=np.float64) - linear @ source.mean(axis=0, dtype=np.float64)
    return np.column_stack([linear, offset])


def check_clouds(*clouds: npt.NDArray[Any]) -> None:
    """`ColourFailed` unless each is (N, 3) with N >= 16 and finite."""
    for cloud in clouds:
        if cloud.ndim != 2 or cloud.shape[1] != 3 or len(cloud) < 16:
            raise ColourFailed(
                f"colour samples of shape {cloud.shape}: need at least 16 rows of 3. "
                "Is the valid area large enough and not clipped throughout?"
            )
        finite = np.isfinite(cloud)
        if not finite.all():
            raise ColourFailed(
                f"{int((~finite).sum())} of {finite.size} values of the colour samples are not "
                "finite; need all. Does an image hold NaN or infinity?"
            )


def _block_quantiles(values: FloatImage) -> Matrix:
    """Means of equal blocks of the sorted values: quantiles with less noise than single ones."""
    ordered = np.sort(values)
    count = min(_QUANTILES, ordered.size)
    edges = np.linspace(0, ordered.size, count + 1).astype(np.int64)
    sums = np.add.reduceat(ordered.astype(np.float64), edges[:-1])
    return np.asarray(sums / np.diff(edges))


def _tabulate(knots: Matrix, values: Matrix) -> tuple[float, float, FloatImage]:
    """Start, cells per unit and displacements of the map that takes ``knots`` to ``values``."""
    if knots.size != values.size:  # clouds of different size, one smaller than the knot count
        at = np.linspace(0, 1, knots.size)
        values = np.interp(at, np.linspace(0, 1, values.size), values)
    distinct, first, count = np.unique(knots, return_index=True, return_counts=True)
    moves = np.add.reduceat(values - knots, first) / count  # a tied value moves by the mean
    low, high = float(distinct[0]), float(distinct[-1])
    span = max(high - low, 1e-6)
    grid = low + np.linspace(0, span, _CELLS + 1)
    return low, _CELLS / span, np.interp(grid, distinct, moves).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _displace(colours: Any, axes: Any, start: Any, per_unit: Any, table: Any) -> None:
    """Displace (N, 3) colours in place, rotation after rotation, in chunks that stay in cache."""
    last = np.int32(table.shape[2] - 2)
    zero, top = np.float32(0), np.float32(table.shape[2] - 1)
    colour = np.zeros((3, _CHUNK), np.float32)
    moves = np.zeros((3, _CHUNK), np.float32)
    cell = np.zeros(_CHUNK, np.int32)
    t = np.zeros(_CHUNK, np.float32)
    c0, c1, c2 = colour[0], colour[1], colour[2]
    d0, d1, d2 = moves[0], moves[1], moves[2]
    for first in range(0, colours.shape[0], _CHUNK):
        rows = colours[first : first + _CHUNK]
        count = rows.shape[0]
        for i in range(count):
            c0[i], c1[i], c2[i] = rows[i, 0], rows[i, 1], rows[i, 2]
        for n in range(axes.shape[0]):
            r = axes[n].astype(np.float32)
            for a in range(3):
                x, y, z, low, scale = r[a, 0], r[a, 1], r[a, 2], start[n, a], per_unit[n, a]
                for i in range(count):
                    u = x * c0[i] + y * c1[i] + z * c2[i]
                    at = min(max((u - low) * scale, zero), top)
                    cell[i] = min(np.int32(at), last)
                    t[i] = at - np.float32(cell[i])
                steps, move = table[n, a], moves[a]
                for i in range(count):
                    k = cell[i]
                    move[i] = steps[k] + t[i] * (steps[k + 1] - steps[k])
            for c in range(3):
                x, y, z, line = r[0, c], r[1, c], r[2, c], colour[c]
                for i in range(count):
                    line[i] += x * d0[i] + y * d1[i] + z * d2[i]
        for i in range(count):
            rows[i, 0], rows[i, 1], rows[i, 2] = c0[i], c1[i], c2[i]
