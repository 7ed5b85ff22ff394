"""What the page shows of one pair, read from its row of scenes.parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level, known_px
from defocus_ds.optics import Transfer, Warp
from defocus_ds.stages.register.radius_map import RadiusMap

__all__ = ["Area", "Cell", "PairView", "Shift", "Trace", "pair_view"]

Area = tuple[int, int, int, int]


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
class Cell:
    """``share`` of the contrast around (x, y) that the pair's one map does not explain."""

    x: float
    y: float
    share: float


@dataclass(frozen=True, slots=True)
class Trace:
    """How one stage of the registration converged: its metric by iteration."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PairView:
    """One pair as a reviewer needs it; figures are None where the build has none.

    ``colour_before`` and ``colour_after`` are the low-pass CIEDE2000 differences that colour
    matching recorded; ``size`` is (width, height) of the sharp frame in px, (0, 0) if unknown;
    ``warp`` is the map that the image was resampled through; ``colour_map`` the (3, 4) affine map
    in linear light nearest to the one that its colours went through; ``colour`` what was done to
    the colours, name and text; ``q_sharp`` and ``q_blurred`` are means over the pair's crops;
    ``flags`` are `defocus_ds.report.flags`.
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
    warp: Warp | None
    shifts: tuple[Shift, ...]
    unexplained: tuple[Cell, ...]
    radii: RadiusMap | None
    traces: tuple[Trace, ...]
    colour_map: tuple[tuple[float, ...], ...] | None = None
    colour: tuple[tuple[str, str], ...] = ()
    q_sharp: float | None = None
    q_blurred: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.scene}/{self.level}"


def pair_view(row: Mapping[str, Any]) -> PairView:
    """The view of one row; a record that lacks a field, or has another, shows nothing there."""
    alignment = _record(row.get("alignment"))
    colour = _record(row.get("colour"))
    difference = colour.get("ciede2000")
    difference = difference if isinstance(difference, dict) else {}
    area = row.get("valid_area")
    size = (int(row["width"] or 0), int(row["height"] or 0))
    return PairView(
        scene=row["scene"],
        level=Level(row["level"]),
        verdict=row["verdict"],
        reasons=tuple(row.get("reasons") or ()),
        image=row.get("image"),
        image_sha256=row.get("image_sha256"),
        size=size,
        transfer=Transfer(row.get("transfer") or Transfer.SRGB),
        valid_area=None
        if area is None
        else (int(area[0]), int(area[1]), int(area[2]), int(area[3])),
        residual_px=known_px(_number(row.get("residual_px"))),
        blur_radius_px=_number(row.get("blur_radius_px")),
        ncc=_number(alignment.get("ncc")),
        colour_before=_number(difference.get("before")),
        colour_after=_number(difference.get("after")),
        warp=_warp(row, size),
        shifts=tuple(Shift(*v) for v in _points(alignment.get("residual_grid"), 5)),
        unexplained=tuple(Cell(*v) for v in _points(alignment.get("unexplained_grid"), 3)),
        radii=_radii(alignment.get("radius_map"), size),
        traces=tuple(_traces(alignment.get("trace"))),
        colour_map=_colour_map(colour.get("matrix")),
        colour=tuple(_colour(colour)),
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


def _points(grid: Any, length: int) -> Iterator[tuple[float, ...]]:
    for point in grid if isinstance(grid, list) else ():
        values = _numbers(point)
        if len(values) == length:  # a point that was not measured is not drawn
            yield values


def _warp(row: Mapping[str, Any], size: tuple[int, int]) -> Warp | None:
    numbers, radial = _numbers(row.get("matrix")), _number(row.get("radial"))
    if len(numbers) != 6 or radial is None or min(size) < 1:
        return None
    a, b, c, d, e, f = numbers
    return Warp(((a, b, c), (d, e, f)), radial, size)


def _radii(record: Any, size: tuple[int, int]) -> RadiusMap | None:
    if not isinstance(record, dict):
        return None
    try:
        found = RadiusMap.from_record(record)
        found.check_frame(size)
    except DatasetError:
        return None
    return found


def _colour_map(matrix: Any) -> tuple[tuple[float, ...], ...] | None:
    lines = tuple(_numbers(line) for line in matrix) if isinstance(matrix, list) else ()
    return lines if [len(line) for line in lines] == [4, 4, 4] else None


def _colour(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the record of colour matching says, for a person; nothing that it does not hold."""
    if isinstance(record.get("failed"), str):
        yield "failed", record["failed"]
    if isinstance(record.get("method"), str):
        yield "method", record["method"]
    gains, errors = _numbers(record.get("gains")), _numbers(record.get("gains_error"))
    if len(gains) == 3:
        spread = f" ± {max(errors):.4f}" if len(errors) == 3 else ""
        yield "gains R, G, B", ", ".join(f"{gain:.3f}" for gain in gains) + spread
    for name, key, digits in (("ΔE", "ciede2000", 2), ("contrast", "contrast", 3)):
        part = record.get(key)
        ends = [_number(part.get(end)) for end in ("before", "after")] if _is_table(part) else []
        if ends and None not in ends:
            yield name, " → ".join(f"{end:.{digits}f}" for end in ends)
    moved = record.get("displacement_levels")
    sizes = [_number(moved.get(key)) for key in ("mean", "max")] if _is_table(moved) else []
    if sizes and None not in sizes:
        yield "values moved", f"{sizes[0]:.1f} of 255 in the mean, {sizes[1]:.1f} at most"
    if (correlation := _number(record.get("correlation"))) is not None:
        yield "correlation", f"{correlation:.4f}"
    if (clipped := _number(record.get("clipped_share"))) is not None:
        yield "clipped", f"{clipped:.1%}"
    notes = record.get("notes")
    for note in notes if isinstance(notes, list) else ():
        yield "note", str(note)


def _is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _turn(entry: tuple[str, Any]) -> tuple[str, int, str]:
    """Order of a stage: ``refine 1/8`` comes before ``refine 1/4``."""
    stage, _, factor = entry[0].partition(" 1/")
    return (stage, -int(factor), "") if factor.isdecimal() else (stage, 0, factor)


def _traces(trace: Any) -> Iterator[Trace]:
    """From ``{name: values}`` or ``[{"name" or "stage": name, "values": values}]``."""
    # a record's keys are sorted; the refinement goes from coarse to fine
    entries = sorted(trace.items(), key=_turn) if isinstance(trace, dict) else []
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
