"""Local checks of a fit: does each small area agree with the one map, and by how many pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defocus_ds.stages.register.alignment import ResidualGrid, shift_confidence
from defocus_ds.stages.register.cells import Cells, measure_cells
from defocus_ds.stages.register.certificate import Certificate, certify
from defocus_ds.stages.register.model import observed_plane
from defocus_ds.stages.register.planes import Pyramid
from defocus_ds.stages.register.refine import Fit
from defocus_ds.stages.register.spline import spline_coefficients

__all__ = ["LocalChecks", "check_locally"]

_CELL_PX = 256.0
_SMALLEST_FINE_PX = 20.0
_FINE_SHARE = 1 / 24  # of the shorter side: small enough to lie on one depth plane, mostly
_FINE_RADII = 2.5  # a cell not much wider than the disk sees mostly what lies around it
_LEAST_CONTRAST = 0.01  # deviation of encoded values below which a cell has no texture
_MOST_LEFT = 0.5  # share of the contrast that the one map may leave in a cell that agrees


@dataclass(frozen=True, slots=True)
class LocalChecks:
    """``certificate``: the expected error of the map.  ``explained``: share of textured cells
    that agree with the map.  ``textured``: their number.
    """

    grid: ResidualGrid
    certificate: Certificate
    explained: float
    textured: int


def check_locally(
    fit: Fit,
    blurred: Pyramid,
    *,
    tolerance_px: float,
    area: tuple[int, int, int, int],
    fitted: bool = True,
) -> LocalChecks:
    """Measure shift and radius in every cell of a grid, and from a finer one the map's error.

    Args:
        fit: the global fit whose samples are used again.
        blurred: pyramid of the blurred capture.
        tolerance_px: residual shift up to which a cell counts as explained.
        area: (x0, y0, x1, y1) over which the error is meant, half-open.
        fitted: whether the fit estimated the map; False for one that was given.

    Returns:
        Cells about 256 px wide (a sixth of the shorter side in small frames).
    """
    side = min(fit.size)
    observed = spline_coefficients(observed_plane(blurred, fit.factor))
    fine_px = max(side * _FINE_SHARE, _SMALLEST_FINE_PX, _FINE_RADII * fit.radius_px)
    fine = measure_cells(fit, observed, fine_px)
    cells = measure_cells(fit, observed, float(np.clip(side / 6, 40.0, _CELL_PX)))
    certificate = certify(fine, fit, area=area, fitted=fitted, wide=cells)
    floor = max((4 * min(fit.deviation, 0.005)) ** 2, _LEAST_CONTRAST**2)
    textured = (cells.contrast > floor) & (cells.samples >= 60)
    left = cells.error / np.maximum(cells.contrast, 1e-12)
    stays = np.hypot(*cells.shift_px.T) <= tolerance_px
    explained = textured & (left < _MOST_LEFT) & (stays | ~cells.known)
    # content that no shift and no disk explains has no shift, though the fit came to rest
    foreign = textured & (cells.own_error > _MOST_LEFT * cells.contrast)
    known = cells.known & ~foreign
    return LocalChecks(
        _grid(cells, known, np.where(textured, left, np.nan), certificate.noise_factor),
        certificate,
        float(explained.sum() / max(int(textured.sum()), 1)),
        int(textured.sum()),
    )


def _grid(
    cells: Cells,
    known: npt.NDArray[np.bool_],
    unexplained: npt.NDArray[np.float64],
    noise_factor: float,
) -> ResidualGrid:
    """The record's arrays, (rows, columns)."""
    shape = (cells.rows, cells.columns)
    shift = np.where(known[:, None], cells.shift_px, np.nan)
    deviation = cells.deviation_px * noise_factor
    confidence = np.where(known, shift_confidence(deviation), 0.0)
    radius = np.where(known, np.maximum(cells.radius_px, 0), np.nan)
    columns = (*cells.xy.T, *shift.T, radius, confidence, unexplained)
    return ResidualGrid(*(column.reshape(shape) for column in columns))
