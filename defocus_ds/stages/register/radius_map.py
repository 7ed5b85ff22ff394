"""The disk radius of every part of the frame: a map of depth, with its own uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import DatasetError
from defocus_ds.optics import Points

__all__ = ["STEP_PX", "CropRadii", "RadiusMap", "node_shape"]

STEP_PX = 64
_DOUBT_PX, _DOUBT_SHARE = 0.25, 0.05  # deviation, and share of the radius, of confidence one half
_MOST_NODES = 1_000_000
_DIGITS = 2  # hundredths of a pixel are kept in a record


@dataclass(frozen=True, slots=True)
class CropRadii:
    """Disk radius in each of N crops.

    ``radius_px`` and ``spread_px`` (deviation of the radii within the crop beyond their noise)
    are (N,), NaN where nothing was measured; ``confidence`` is (N,) in [0, 1], 0 there.
    """

    radius_px: Points
    spread_px: Points
    confidence: Points


@dataclass(frozen=True, slots=True)
class RadiusMap:
    """Disk radius every 64 px of the sharp frame, looked at through windows of about 130 px.

    All arrays are (rows, columns) float64 in px of the sharp frame, NaN where unknown; node
    (row, column) lies at ``((column + 0.5) * 64 - 0.5, (row + 0.5) * 64 - 0.5)``.

    Attributes:
        radius_px: >= 0; 0 is in focus in both captures, and all disks below half a pixel are.
        deviation_px: standard deviation of ``radius_px``; large where a window shows two depths.
        spread_px: >= 0, by how much the parts of a window disagree beyond their noise: half the
            difference of two depths that share it evenly.
    """

    radius_px: Points
    deviation_px: Points
    spread_px: Points

    @property
    def confidence(self) -> Points:
        """(rows, columns) in [0, 1]: ``1 / (1 + (deviation / doubt)^2)``, 0 where unknown.

        The doubt is 0.25 px or a twentieth of the radius, whichever is larger.
        """
        doubt = np.maximum(_DOUBT_PX, _DOUBT_SHARE * self.radius_px)
        return np.asarray(np.nan_to_num(1 / (1 + (self.deviation_px / doubt) ** 2), nan=0.0))

    def check_frame(self, size: tuple[int, int]) -> None:
        """Refuse a map that is not one of a (width, height) frame.

        Raises:
            DatasetError: another number of nodes.
        """
        if self.radius_px.shape != (wanted := node_shape(size)):
            (rows, columns), (r, c) = self.radius_px.shape, wanted
            raise DatasetError(
                f"radius map: {columns}x{rows} nodes, a frame of {size[0]}x{size[1]} has {c}x{r}. "
                "Build the scene again."
            )

    @property
    def nodes(self) -> tuple[Points, Points]:
        """x (columns,) and y (rows,) of the nodes."""
        rows, columns = self.radius_px.shape
        x, y = (np.asarray((np.arange(n) + 0.5) * STEP_PX - 0.5) for n in (columns, rows))
        return x, y

    def over(self, xy: npt.ArrayLike, size: int) -> CropRadii:
        """Radii of square crops: means over their area, weighted by confidence.

        Args:
            xy: (N, 2) top-left pixels.
            size: side in px.
        """
        corner = np.asarray(xy, np.float64).reshape(-1, 2)
        x, y = self.nodes
        across, down = _cover(corner[:, 0], size, x), _cover(corner[:, 1], size, y)
        sure = self.confidence
        radius = np.where(sure > 0, np.nan_to_num(self.radius_px), 0.0)
        spread = np.where(sure > 0, np.nan_to_num(self.spread_px), 0.0)

        def total(values: Points) -> Points:
            return np.asarray(((down @ values) * across).sum(axis=1))

        weight, area = total(sure), total(np.ones_like(sure))
        known = weight > 1e-6 * area
        weight = np.where(known, weight, np.nan)
        mean = total(sure * radius) / weight
        square = total(sure * (radius**2 + spread**2)) / weight
        noise = total(sure * np.where(sure > 0, np.nan_to_num(self.deviation_px) ** 2, 0)) / weight
        beyond = np.sqrt(np.maximum(square - mean**2 - noise, 0))
        return CropRadii(mean, beyond, np.where(known, np.nan_to_num(weight) / area, 0.0))

    def to_record(self) -> dict[str, Any]:
        """JSON-ready: rows after rows, in hundredths of a pixel, null where unknown."""
        rows, columns = self.radius_px.shape
        return {"step_px": STEP_PX, "rows": rows, "columns": columns} | {
            name: [
                round(float(v), _DIGITS) if np.isfinite(v) else None
                for v in getattr(self, name).ravel()
            ]
            for name in ("radius_px", "deviation_px", "spread_px")
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RadiusMap:
        """Inverse of `to_record`, to the digits that it keeps.

        Raises:
            DatasetError: a key is missing, of the wrong kind or of the wrong length.
        """
        try:
            rows, columns = int(record["rows"]), int(record["columns"])
            if record["step_px"] != STEP_PX or not 0 < rows * columns <= _MOST_NODES:
                raise ValueError(f"{rows}x{columns} nodes every {record['step_px']!r} px")
            arrays = [
                np.array(
                    [np.nan if v is None else float(v) for v in record[name]], np.float64
                ).reshape(rows, columns)
                for name in ("radius_px", "deviation_px", "spread_px")
            ]
            return cls(*arrays)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"radius map: damaged or incomplete ({error!r}).") from error


def node_shape(size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the nodes over a frame of (width, height); at least one each.

    >>> node_shape((5796, 3870))
    (60, 91)
    """
    return max(round(size[1] / STEP_PX), 1), max(round(size[0] / STEP_PX), 1)


def _cover(start: Points, size: int, nodes: Points) -> Points:
    """(N, nodes) px of each cell of a node that lie in a stretch; the outer cells go on."""
    low, high = nodes - (STEP_PX - 1) / 2, nodes + (STEP_PX + 1) / 2
    low[0], high[-1] = -np.inf, np.inf
    begin, end = start[:, None], start[:, None] + size
    return np.asarray(np.maximum(np.minimum(end, high) - np.maximum(begin, low), 0))
