"""The map of blur radii against known truth: depth planes, and a field that grows smoothly.

    python benchmarks/radius_map.py                        # 1448x968 and one full-size scene
    python benchmarks/radius_map.py --sizes 744x496 --scenes 1 --out out    # a quick look

Scenes of the simulator have three depth planes, each with a radius and a map of its own: as
`defocus-ds simulate` draws them, and with the planes three times as far apart (``--depth 3``).
Every pair is registered by the accurate preset, which knows nothing of the planes, and the map it
records is held against the truth at every node.  The radius of a window that one plane fills for
more than nine tenths is that plane's; in the others the map may say anything between the planes
that are seen, and should say that it is unsure.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import radius_map_report
from results import frame_size, note
from truth_pairs import FIELD, capture, draw_pairs, scene_for, see_blurred, see_sharp

from defocus_ds.frames import FloatImage, Level, UInt8Image
from defocus_ds.optics import Transfer, Warp
from defocus_ds.simulate.draw import draw_captures, stream
from defocus_ds.simulate.lens import PlaneView, margin_px, view
from defocus_ds.simulate.scene import SceneLayers, dead_leaves_scene
from defocus_ds.stages.register import register
from defocus_ds.stages.register.local_radius import measure_radii
from defocus_ds.stages.register.planes import pyramid
from defocus_ds.stages.register.radius_map import STEP_PX, RadiusMap

__all__ = ["TruePair", "compared", "measured", "plane_pairs", "smooth_pairs", "visible"]

Grid = npt.NDArray[np.float64]

_PURE = 0.9  # share of a window from which it belongs to one plane
_TAPER = np.array([0.25, 0.5, 0.25])


@dataclass(frozen=True, slots=True)
class TruePair:
    """A pair and the radii it was made with, on the nodes of the map, px of the sharp frame.

    ``lowest`` and ``highest`` are those seen in a window, ``radius`` is the one that fills most of
    it and ``share`` how much it fills; ``spread`` is the deviation of those that are seen.
    """

    name: str
    kind: str
    level: str
    sharp: UInt8Image
    blurred: UInt8Image
    radius: Grid
    lowest: Grid
    highest: Grid
    share: Grid
    spread: Grid


def main() -> None:
    given = parse()
    pairs: list[dict[str, Any]] = []
    pictures: dict[str, tuple[TruePair, RadiusMap]] = {}
    for size in given.sizes:
        # a full-size scene takes two minutes to draw
        for scene in range(given.scenes if size[0] < 4000 else 1):
            for truth in all_pairs(scene, size, given.seed):
                row, found = measured(truth)
                pairs.append(row | {"size": list(size)})
                note(f"{truth.name} {size[0]}x{size[1]}: {row}")
                if scene == 0 and size == given.sizes[0] and truth.level != "low":
                    pictures[f"{truth.kind} {truth.level}"] = truth, found
    radius_map_report.write(given.out, pairs, pictures)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--scenes", type=int, default=4, help="of each small size")
    parser.add_argument("--sizes", type=_sizes, default=_sizes("1448x968,5796x3870"))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def all_pairs(scene: int, size: tuple[int, int], seed: int) -> Iterator[TruePair]:
    yield from plane_pairs(scene, size, seed=seed, depth=1.0)
    yield from plane_pairs(scene, size, seed=seed, depth=3.0)
    yield from smooth_pairs(scene, size, seed=seed)


def plane_pairs(
    scene: int, size: tuple[int, int], *, seed: int, depth: float, levels: Iterable[Level] = Level
) -> Iterator[TruePair]:
    """Low, medium and high of one scene of the simulator, developed without a camera."""
    name = f"scene{scene + 1:02d}"
    truths = draw_captures(seed, name, size, taken=datetime(2024, 5, 1), depth=depth)
    margin = margin_px([each for truth in truths for each in truth.planes])
    layers = dead_leaves_scene(stream(seed, name, "scene"), size, margin=margin)
    sharp = capture(view(layers, truths[0].planes), None, [seed, scene, 0])
    seen = np.stack([_windows(plane) for plane in visible(layers)])
    for number, truth in enumerate(truths):
        if truth.level is Level.SHARP or truth.level not in levels:
            continue
        light = view(layers, truth.planes) * np.asarray(truth.light.gains, np.float32)
        yield TruePair(
            f"{name} {truth.level}",
            f"planes x{depth:g}",
            str(truth.level),
            sharp,
            capture(light, None, [seed, scene, number]),
            *_truth_of(seen, [_sharp_radius(each) for each in truth.planes]),
        )


def smooth_pairs(scene: int, size: tuple[int, int], *, seed: int) -> Iterator[TruePair]:
    """The hard pairs of the registration benchmark: the radius grows from left to right."""
    truths = [p for p in draw_pairs(scene, seed=seed, size=size) if p.kind == "hard"]
    layers = scene_for(truths, seed=seed)
    sharp = capture(see_sharp(layers, size), None, [seed, scene])
    for number, truth in enumerate(truths):
        blurred = capture(see_blurred(layers, truth), truth.cast, [seed, scene, number + 1])
        columns, rows = (max(round(n / STEP_PX), 1) for n in size)
        at = ((np.arange(columns) + 0.5) * STEP_PX - 0.5) / (size[0] - 1)
        line = truth.radius_px * (FIELD[0] + (FIELD[1] - FIELD[0]) * at)
        radius = np.tile(line, (rows, 1))
        whole = np.ones_like(radius)
        grids = radius, radius, radius, whole, 0 * whole
        yield TruePair(truth.name, "smooth field", truth.level, sharp, blurred, *grids)


def measured(truth: TruePair) -> tuple[dict[str, Any], RadiusMap]:
    """Register, take the map that was recorded, and compare."""
    alignment = register(truth.sharp, truth.blurred)
    found = alignment.radius_map
    if found is None:
        raise SystemExit(f"{truth.name}: no map; {alignment.verdict.reasons}")
    planes = [pyramid(image, Transfer.SRGB) for image in (truth.sharp, truth.blurred)]
    start = time.process_time()
    measure_radii(*planes, alignment.warp, radius_px=alignment.blur_radius_px)
    seconds = time.process_time() - start
    row: dict[str, Any] = {"name": truth.name, "kind": truth.kind, "level": truth.level}
    row |= {"cpu_s": seconds, "kept": bool(alignment.verdict)}
    return row | compared(truth, found), found


def compared(truth: TruePair, found: RadiusMap) -> dict[str, Any]:
    """Errors, and how they go with the stated deviations, as `radius_map_report` shows them."""
    known = found.confidence > 0
    pure = known & (truth.share >= _PURE)
    error = np.abs(found.radius_px - truth.radius)[pure]
    deviation = found.deviation_px[pure]
    z = error / deviation
    row: dict[str, Any] = {
        "coverage": float(known.mean()),
        "radius_px": float(np.median(truth.radius)),
        "windows": int(pure.sum()),
        "relative": float(np.median(error / np.maximum(truth.radius[pure], 0.5))),
        "error_px": float(np.median(error)),
        "p95_px": float(np.percentile(error, 95)),
        "deviation_px": float(np.median(deviation)),
        "within_1": float((z <= 1).mean()),
        "within_2": float((z <= 2).mean()),
        "within_3": float((z <= 3).mean()),
    }
    mixed = known & (truth.share < _PURE) & (truth.highest - truth.lowest > 0.1)
    if mixed.any():
        low = (truth.lowest - 2 * found.deviation_px)[mixed]
        high = (truth.highest + 2 * found.deviation_px)[mixed]
        at = found.radius_px[mixed]
        row |= {
            "mixed": int(mixed.sum()),
            "between": float(((at >= low) & (at <= high)).mean()),
            "mixed_deviation_px": float(np.median(found.deviation_px[mixed])),
            "spread_px": float(np.median(found.spread_px[mixed])),
            "true_spread_px": float(np.median(truth.spread[mixed])),
            "spread_correlation": float(
                np.corrcoef(found.spread_px[known], truth.spread[known])[0, 1]
            ),
        }
    return row


def visible(layers: SceneLayers) -> list[FloatImage]:
    """(H, W) share of each pixel of the sharp frame that shows each plane, farthest first."""
    inner = slice(layers.margin, -layers.margin or None)
    left = np.ones(layers.planes[0][inner, inner, 3].shape, np.float32)
    shares = []
    for plane in reversed(layers.planes):
        cover = plane[inner, inner, 3] / np.float32(65535)
        shares.append(left * cover)
        left = left * (1 - cover)
    return shares[::-1]


def _truth_of(seen: Grid, radii: list[float]) -> tuple[Grid, Grid, Grid, Grid, Grid]:
    """Radius, lowest, highest, share of the plane that fills most of each window, and spread."""
    shares = seen / seen.sum(axis=0)
    of_plane = np.array(radii)[:, None, None]
    radius = np.array(radii)[shares.argmax(axis=0)]
    there = shares > 0.02
    lowest = np.where(there, of_plane, np.inf).min(axis=0)
    highest = np.where(there, of_plane, -np.inf).max(axis=0)
    mean = (shares * of_plane).sum(axis=0)
    spread = np.sqrt((shares * (of_plane - mean) ** 2).sum(axis=0))
    return radius, lowest, highest, shares.max(axis=0), spread


def _windows(plane: FloatImage) -> Grid:
    """Means over the cells of the map, then over windows as the map weighs them."""
    rows, columns = (max(round(n / STEP_PX), 1) for n in plane.shape)
    cells = np.array(
        [
            [
                plane[_cell(r, rows, plane.shape[0]), _cell(c, columns, plane.shape[1])].mean()
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )
    for axis in (0, 1):
        padded = np.pad(cells, [(1, 1) if n == axis else (0, 0) for n in (0, 1)], mode="edge")
        length = cells.shape[axis]
        cells = sum(
            w * np.take(padded, range(i, i + length), axis=axis) for i, w in enumerate(_TAPER)
        )
    return np.asarray(cells)


def _cell(index: int, count: int, length: int) -> slice:
    return slice(index * STEP_PX, length if index == count - 1 else (index + 1) * STEP_PX)


def _sharp_radius(view_: PlaneView) -> float:
    """Radius in px of the sharp frame, of a plane whose disk is in px of the capture."""
    return view_.blur_radius_px / scale_of(view_.warp)


def scale_of(warp: Warp) -> float:
    return float(np.sqrt(np.linalg.det(np.asarray(warp.matrix)[:, :2])))


def _sizes(text: str) -> list[tuple[int, int]]:
    return [frame_size(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
