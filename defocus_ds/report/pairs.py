"""What the page shows of one pair, read from its row of scenes.parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from defocus_ds.frames import Level
from defocus_ds.optics import Transfer

__all__ = ["PairView", "Shift", "Trace", "pair_view"]


@dataclass(frozen=True, slots=True)
class Shift:
    """Residual shift (dx, dy) in px measured around the sharp-frame point (x, y)."""

    x: float
    y: float
    dx: float
    dy: float
    confidence: float

    @property
    def length_px(self) -> float:
        return math.hypot(self.dx, self.dy)


@dataclass(frozen=True, slots=True)
class Trace:
    """How one stage of the registration converged: its metric by iteration."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PairView:
    """One pair as a reviewer needs it; figures are None where the build has none.

    ``colour_before`` and ``colour_after`` are the low-pass CIEDE2000 differences that colour
    matching recorded; ``size`` is (width, height) of the sharp frame in px, (0, 0) if unknown.
    """

    scene: str
    level: Level
    verdict: str
    reasons: tuple[str, ...]
    image: str | None
    image_sha256: str | None
    size: tuple[int, int]
    transfer: Transfer
    valid_area: tuple[int, int, int, int] | None
    residual_px: float | None
    blur_radius_px: float | None
    ncc: float | None
    colour_before: float | None
    colour_after: float | None
    shifts: tuple[Shift, ...]
    traces: tuple[Trace, ...]

    @property
    def name(self) -> str:
        return f"{self.scene}/{self.level}"


def pair_view(row: Mapping[str, Any]) -> PairView:
    """The view of one row; a record that lacks a field, or has another, shows nothing there."""
    alignment = _record(row.get("alignment"))
    difference = _record(row.get("colour")).get("ciede2000")
    difference = difference if isinstance(difference, dict) else {}
    area = row.get("valid_area")
    return PairView(
        scene=row["scene"],
        level=Level(row["level"]),
        verdict=row["verdict"],
        reasons=tuple(row.get("reasons") or ()),
        image=row.get("image"),
        image_sha256=row.get("image_sha256"),
        size=(int(row["width"] or 0), int(row["height"] or 0)),
        transfer=Transfer(row.get("transfer") or Transfer.SRGB),
        valid_area=None
        if area is None
        else (int(area[0]), int(area[1]), int(area[2]), int(area[3])),
        residual_px=_number(row.get("residual_px")),
        blur_radius_px=_number(row.get("blur_radius_px")),
        ncc=_number(alignment.get("ncc")),
        colour_before=_number(difference.get("before")),
        colour_after=_number(difference.get("after")),
        shifts=tuple(_shifts(alignment.get("residual_grid"))),
        traces=tuple(_traces(alignment.get("trace"))),
    )


def _record(text: str | None) -> dict[str, Any]:
    try:
        record = json.loads(text) if text else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _numbers(values: Any) -> tuple[float, ...]:
    found = (_number(v) for v in values) if isinstance(values, list) else ()
    return tuple(v for v in found if v is not None)


def _shifts(grid: Any) -> Iterator[Shift]:
    for point in grid if isinstance(grid, list) else ():
        values = _numbers(point)
        if len(values) == 5:  # a point without texture has no shift, and is not drawn
            yield Shift(*values)


def _traces(trace: Any) -> Iterator[Trace]:
    """From ``{name: values}`` or ``[{"name" or "stage": name, "values": values}]``."""
    entries = trace.items() if isinstance(trace, dict) else []
    if isinstance(trace, list):
        entries = [
            (entry.get("name", entry.get("stage", "")), entry.get("values"))
            for entry in trace
            if isinstance(entry, dict)
        ]
    for name, values in entries:
        numbers = _numbers(values)
        if len(numbers) > 1:
            yield Trace(str(name), numbers)
