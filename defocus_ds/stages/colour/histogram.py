"""Distribution transfer by histograms, as published: for comparison with the authors' results.

`fit_idt` tabulates the same 1-D transfers from quantiles, with less noise and for any colour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.stages.colour.transfer import check_clouds

__all__ = ["transfer_by_histograms"]

Matrix = npt.NDArray[np.float64]

_BINS = 300
_FLOOR = 1e-6  # added to every count, so that the cumulative histograms rise strictly


def transfer_by_histograms(
    source: npt.NDArray[Any],
    target: npt.NDArray[Any],
    *,
    axes: Matrix,
    reference: bool = False,
) -> Matrix:
    """Move a cloud of colours by iterative distribution transfer with 300-bin histograms.

    Args:
        source: (N, 3) colours, continuous values (dither 8-bit ones).
        target: (M, 3) colours in the same space.
        axes: (iterations, 3, 3) rotations, rows are axes; see `rotation_axes`.
        reference: reproduce the reference implementation, which leaves every colour one bin too
            low along each axis; without it a cloud transferred to itself does not move.

    Returns:
        (N, 3) float64, not clipped.

    Raises:
        ColourFailed: a cloud holds fewer than 16 colours or values that are not finite.

    Source:
        Pitié, Kokaram & Dahyot 2007, section 3.  Bins, floor and displacement are those that the
        reference implementation's results show: see ``benchmarks/parity_octave.py``.
    """
    check_clouds(source, target)
    moved = np.array(source, np.float64)
    goal = np.asarray(target, np.float64)
    for rotation in np.asarray(axes, np.float64):
        before, wanted = moved @ rotation.T, goal @ rotation.T
        after = np.stack(
            [_transfer(before[:, i], wanted[:, i], float(reference)) for i in range(3)], axis=-1
        )
        moved = moved + np.linalg.solve(rotation, (after - before).T).T
    return moved


def _transfer(values: Matrix, goal: Matrix, lag: float) -> Matrix:
    """Rising map of the values' histogram to the goal's, ``lag`` bins too low."""
    tiny = np.finfo(np.float64).eps
    low, high = min(values.min(), goal.min()) - tiny, max(values.max(), goal.max()) + tiny
    nodes = np.arange(_BINS) / (_BINS - 1) * (high - low) + low
    if not np.diff(nodes).min() > 0:  # one value only
        return np.asarray(values + (goal.mean() - values.mean()))
    share, reached = _shares(values, nodes), _shares(goal, nodes)
    bins = np.interp(share, reached, np.arange(_BINS))
    bins[share <= reached[0]] = 0
    bins[share >= reached[-1]] = _BINS - 1
    reached_bin = np.interp(values, nodes, bins) - lag
    return np.asarray(reached_bin / (_BINS - 1) * (high - low) + low)


def _shares(values: Matrix, nodes: Matrix) -> Matrix:
    """Cumulative histogram with bins around the nodes, rising to 1."""
    edges = (nodes[1:] + nodes[:-1]) / 2
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=nodes.size)
    total = np.cumsum(counts + _FLOOR)
    return np.asarray(total / total[-1])
