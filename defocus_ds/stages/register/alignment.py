"""What registration hands on: the map, how good it is, and where it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import DatasetError
from defocus_ds.frames import FloatImage, Keep, Reject, Verdict
from defocus_ds.optics import Points, Warp
from defocus_ds.resample import resample
from defocus_ds.stages.register.radius_map import RadiusMap

__all__ = ["Alignment", "ResidualGrid", "shift_confidence", "thin"]

_TRACE_POINTS = 200
_HALF_SURE_PX = 0.25  # deviation of a shift at which its confidence is one half
_MOST_CELLS = 1_000_000


def shift_confidence(deviation_px: Points) -> Points:
    """Confidence in [0, 1] of shifts with these standard deviations."""
    return np.asarray(1 / (1 + (deviation_px / _HALF_SURE_PX) ** 2))


@dataclass(frozen=True, slots=True)
class ResidualGrid:
    """Residual shift and disk radius, cell by cell, in pixels of the sharp frame.

    All arrays are (rows, columns) float64: the cell's centre ``x``, ``y``; ``dx``, ``dy``, how
    far the resampled blurred capture still lies to the right and below where it should, NaN
    where there is no texture to tell; ``radius_px``, NaN likewise; ``confidence`` in [0, 1],
    ``1 / (1 + (deviation / 0.25 px)^2)`` of the measured shift, 0 where there is none;
    ``unexplained``, share of the cell's contrast that the pair's one map leaves, about 1 and more
    where the content is foreign, NaN where there is no texture to tell.  A cell may have such a
    share and no shift: its fit ran off.
    """

    x: Points
    y: Points
    dx: Points
    dy: Points
    radius_px: Points
    confidence: Points
    unexplained: Points

    @property
    def deviation_px(self) -> Points:
        """(rows, columns) standard deviation of the shift; inf where none was measured."""
        sure = np.minimum(self.confidence, 1.0)
        with np.errstate(divide="ignore"):
            return np.asarray(_HALF_SURE_PX * np.sqrt(1 / sure - 1))

    @property
    def shift_px(self) -> Points:
        """(rows, columns) length of the residual shift, NaN where unknown."""
        return np.asarray(np.hypot(self.dx, self.dy))

    def to_rows(self) -> list[list[float]]:
        """[x, y, dx, dy, confidence] of every cell with a measured shift."""
        return self._rows(self.dx, self.dy, self.confidence)

    def radius_rows(self) -> list[list[float]]:
        """[x, y, radius_px, confidence] of every cell with a measured radius."""
        return self._rows(self.radius_px, self.confidence)

    def unexplained_rows(self) -> list[list[float]]:
        """[x, y, share] of every textured cell, whether or not a shift was measured."""
        return self._rows(self.unexplained)

    def _rows(self, *columns: Points) -> list[list[float]]:
        table = np.stack([c.ravel() for c in (self.x, self.y, *columns)], axis=-1)
        known = np.isfinite(table).all(axis=1)
        return [[round(float(v), 5) for v in row] for row in table[known]]


@dataclass(frozen=True, slots=True)
class Alignment:
    """A blurred capture laid over its sharp partner.

    Attributes:
        warp: sharp frame -> blurred frame.
        blur_radius_px: disk radius, in pixels of the sharp frame, that makes the sharp image
            look like the resampled capture; mean over the frame.
        residual_px: expected mean distance, over the visible content of the valid area, between
            where this map puts a point and where it truly is; planes that move on their own count
            where they are seen.  See `certificate`.
        ncc: correlation of the blur-matched sharp image and the resampled capture, after taking
            slow changes of light away; ``ncc_before`` is the same with the identity map.
        verdict: `Keep`, or `Reject` with every reason.
        valid_area: (x0, y0, x1, y1), half-open: each pixel in it has all its source pixels.
        preset: "accurate" or "paper".
        model: "affine+radial" or "affine".
        deviation_px: the fit's own share of ``residual_px``, from its clustered covariance.
        misfit_px: the share that local checks find beyond their noise.  The residual is the root
            of both squared, or the larger where the misfit holds the error of the fit as well.
        explained: share of the textured area that the one map explains, in [0, 1].
        residual_grid: local checks.
        trace: metric per stage and level, at most 200 values each.
        radius_map: disk radius every 64 px; None where the frames hardly agree, and in records
            from before it was measured.
    """

    warp: Warp
    blur_radius_px: float
    residual_px: float
    ncc: float
    ncc_before: float
    verdict: Verdict
    valid_area: tuple[int, int, int, int]
    preset: str
    model: str
    deviation_px: float
    misfit_px: float
    explained: float
    residual_grid: ResidualGrid
    trace: dict[str, tuple[float, ...]] = field(default_factory=dict)
    radius_map: RadiusMap | None = None

    @property
    def matrix(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """((m00, m01, m02), (m10, m11, m12)) of the affine part."""
        return self.warp.matrix

    @property
    def radial(self) -> float:
        return self.warp.radial

    def map_points(self, xy: npt.ArrayLike) -> Points:
        """Map (N, 2) sharp-frame points to (N, 2) blurred-frame points."""
        return self.warp.map_points(xy)

    def resample(
        self, blurred: npt.NDArray[Any], lut: FloatImage | None = None
    ) -> npt.NDArray[Any]:
        """The blurred capture in the sharp frame, recoloured by ``lut`` in the same pass."""
        return resample(blurred, self.warp, lut=lut)

    def to_record(self) -> dict[str, Any]:
        """JSON-ready, finite numbers only; `from_record` reads it back."""
        return {
            "matrix": [list(row) for row in self.warp.matrix],
            "radial": self.warp.radial,
            "size": list(self.warp.size),
            "blur_radius_px": self.blur_radius_px,
            "residual_px": self.residual_px,
            "ncc": self.ncc,
            "ncc_before": self.ncc_before,
            "verdict": "keep" if self.verdict else "reject",
            "reasons": list(self.verdict.reasons),
            "valid_area": list(self.valid_area),
            "preset": self.preset,
            "model": self.model,
            "deviation_px": self.deviation_px,
            "misfit_px": self.misfit_px,
            "explained": self.explained,
            "residual_grid": self.residual_grid.to_rows(),
            "radius_grid": self.residual_grid.radius_rows(),
            "unexplained_grid": self.residual_grid.unexplained_rows(),
            "grid": {
                "columns": [round(float(v), 3) for v in self.residual_grid.x[0]],
                "rows": [round(float(v), 3) for v in self.residual_grid.y[:, 0]],
            },
            "trace": {name: list(values) for name, values in self.trace.items()},
            "radius_map": None if self.radius_map is None else self.radius_map.to_record(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Alignment:
        """Inverse of `to_record`, to the digits that it keeps.

        Raises:
            DatasetError: a key is missing or of the wrong kind.
        """
        try:
            first, second = ((float(a), float(b), float(c)) for a, b, c in record["matrix"])
            width, height = (int(v) for v in record["size"])
            x0, y0, x1, y1 = (int(v) for v in record["valid_area"])
            reasons = tuple(str(reason) for reason in record["reasons"])
            radii = record.get("radius_map")
            numbers = {
                name: float(record[name])
                for name in (
                    "blur_radius_px",
                    "residual_px",
                    "ncc",
                    "ncc_before",
                    "deviation_px",
                    "misfit_px",
                    "explained",
                )
            }
            return cls(
                warp=Warp((first, second), float(record["radial"]), (width, height)),
                verdict=Keep() if record["verdict"] == "keep" else Reject(reasons),
                valid_area=(x0, y0, x1, y1),
                preset=str(record["preset"]),
                model=str(record["model"]),
                residual_grid=_grid_from(record),
                trace={k: tuple(float(v) for v in values) for k, values in record["trace"].items()},
                radius_map=None if radii is None else RadiusMap.from_record(radii),
                **numbers,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(f"alignment record: damaged or incomplete ({error!r}).") from error


def thin(values: tuple[float, ...]) -> tuple[float, ...]:
    """At most 200 evenly spaced finite values, the first and the last among them."""
    if len(values) > _TRACE_POINTS:
        index = np.linspace(0, len(values) - 1, _TRACE_POINTS).round().astype(int)
        values = tuple(values[i] for i in index)
    return tuple(float(v) for v in values if math.isfinite(v))


def _grid_from(record: Mapping[str, Any]) -> ResidualGrid:
    columns = [float(v) for v in record["grid"]["columns"]]
    rows = [float(v) for v in record["grid"]["rows"]]
    if len(columns) * len(rows) > _MOST_CELLS:
        raise ValueError(f"{len(rows)}x{len(columns)} cells, at most {_MOST_CELLS}")
    x, y = np.meshgrid(columns, rows)
    dx, dy, radius, unexplained = (np.full(x.shape, np.nan) for _ in range(4))
    confidence = np.zeros(x.shape)
    sure = np.zeros(x.shape)  # of the radii: not kept
    for found, planes in (
        (record["residual_grid"], (dx, dy, confidence)),
        (record["radius_grid"], (radius, sure)),
        (record.get("unexplained_grid", ()), (unexplained,)),  # absent before it was recorded
    ):
        table = np.asarray(found, np.float64).reshape(-1, 2 + len(planes))
        at = _nearest(rows, table[:, 1]), _nearest(columns, table[:, 0])
        for plane, values in zip(planes, table.T[2:], strict=True):
            plane[at] = values
    return ResidualGrid(x, y, dx, dy, radius, confidence, unexplained)


def _nearest(centres: list[float], places: Points) -> npt.NDArray[np.intp]:
    """Index of the nearest of these rising centres."""
    if not centres and len(places):
        raise ValueError("cells without rows or columns")
    between = np.convolve(centres, (0.5, 0.5), "valid") if len(centres) > 1 else np.empty(0)
    return np.searchsorted(between, places)
