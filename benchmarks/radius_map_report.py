"""The table and the picture of the radius-map benchmark."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from results import Check, check_lines, machine, note, number, table, write_json, write_text

from defocus_ds.stages.register.radius_map import RadiusMap

if TYPE_CHECKING:
    from radius_map import TruePair

__all__ = ["checks", "draw", "write"]

Row = dict[str, Any]

_MOST_RELATIVE = 0.02
_LEAST_WITHIN = 0.68
_LEAST_WITHIN_2 = 0.95
_MOST_CPU_S = 0.7
_FULL = 20e6
_VERSIONS = ("defocus-ds", "numpy", "numba", "opencv-python-headless")


def write(
    out: Path, rows: Sequence[Row], pictures: Mapping[str, tuple[TruePair, RadiusMap]]
) -> None:
    """Print the table, and write radius_map.md, radius_map.json and radius_map.png."""
    reached = checks(rows)
    text = "\n".join(
        [
            "# Blur-radius maps against known truth\n",
            "`python benchmarks/radius_map.py`\n",
            "Windows that one depth plane fills for more than nine tenths, or those of a smooth "
            "field; every row is the mean over the scenes of a size:\n",
            table(_HEADER, _lines(rows)),
            "within 1, 2: share of the windows whose true radius is no farther away than one or "
            "two of the deviations that the map states. Coverage: share of all nodes with a "
            "radius.\n",
            "Windows that show two planes. Between: share whose radius lies between those of the "
            "planes seen, or outside by no more than two stated deviations. Spread: deviation of "
            "the radii within a window, as the map records it and as it is, medians, and the "
            "correlation of the two over all windows:\n",
            table(_MIXED_HEADER, _mixed_lines(rows)),
            "![true map, found map, difference and confidence](radius_map.png)\n",
            check_lines(reached),
            _conditions(),
        ]
    )
    print(text)
    write_text(out / "radius_map.md", text)
    record = {"pairs": list(rows), "checks": [c.as_dict() for c in reached]}
    write_json(out / "radius_map.json", record | {"machine": _machine()})
    if pictures:
        draw(out / "radius_map.png", pictures)
    note(f"written to {out}")


def checks(rows: Sequence[Row]) -> list[Check]:
    """What is promised of the map, and what was measured: the worst kind and level counts."""
    groups = list(_grouped(rows).values())
    found = [
        Check("median relative error, worst kind", _worst(groups, "relative", max), _MOST_RELATIVE),
        Check(
            "share within one stated deviation, worst kind",
            _worst(groups, "within_1", min),
            _LEAST_WITHIN,
            least=True,
        ),
        Check(
            "share within two stated deviations, worst kind",
            _worst(groups, "within_2", min),
            _LEAST_WITHIN_2,
            least=True,
        ),
    ]
    full = [r["cpu_s"] for r in rows if r["size"][0] * r["size"][1] > _FULL]
    if full:
        found.append(Check("CPU s at full size", float(np.mean(full)), _MOST_CPU_S))
    return found


_HEADER = (
    "size, scene, level",
    "radius px",
    "coverage",
    "median error",
    "95 % below, px",
    "stated deviation px",
    "within 1",
    "within 2",
    "CPU s",
)
_MIXED_HEADER = (
    "size, scene, level",
    "windows",
    "between",
    "deviation px",
    "spread px",
    "true spread px",
    "correlation",
)

Key = tuple[str, str, str]


def _grouped(rows: Sequence[Row]) -> dict[Key, list[Row]]:
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        size = f"{row['size'][0]}x{row['size'][1]}"
        groups.setdefault((size, row["kind"], row["level"]), []).append(row)
    return groups


def _mean(rows: Sequence[Row], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def _worst(groups: Sequence[Sequence[Row]], key: str, of: Any) -> float | None:
    return float(of(_mean(group, key) for group in groups)) if groups else None


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    return [
        [
            f"{size}, {kind}, {level}",
            number(_mean(group, "radius_px")),
            f"{_mean(group, 'coverage'):.0%}",
            f"{_mean(group, 'relative'):.2%}",
            number(_mean(group, "p95_px")),
            number(_mean(group, "deviation_px")),
            f"{_mean(group, 'within_1'):.0%}",
            f"{_mean(group, 'within_2'):.0%}",
            f"{_mean(group, 'cpu_s'):.2f}",
        ]
        for (size, kind, level), group in _grouped(rows).items()
    ]


def _mixed_lines(rows: Sequence[Row]) -> list[list[str]]:
    mixed = {k: [r for r in g if "mixed" in r] for k, g in _grouped(rows).items()}
    return [
        [
            f"{size}, {kind}, {level}",
            str(sum(row["mixed"] for row in group)),
            f"{_mean(group, 'between'):.0%}",
            number(_mean(group, "mixed_deviation_px")),
            number(_mean(group, "spread_px")),
            number(_mean(group, "true_spread_px")),
            number(_mean(group, "spread_correlation")),
        ]
        for (size, kind, level), group in mixed.items()
        if group
    ]


def _machine() -> dict[str, str]:
    return machine(_VERSIONS)


def _conditions() -> str:
    found = "; ".join(f"{name} {value}" for name, value in _machine().items())
    return f"Measured on {found}. {platform.python_implementation()}, one thread.\n"


def draw(target: Path, pictures: Mapping[str, tuple[TruePair, RadiusMap]]) -> None:
    """Five columns a pair: the sharp frame, true and found radius, their difference, confidence."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        len(pictures), 5, figsize=(19, 2.7 * len(pictures)), layout="constrained", squeeze=False
    )
    for axes, (name, (truth, found)) in zip(grid, pictures.items(), strict=True):
        low, high = float(truth.radius.min()), float(truth.radius.max())
        room = max(0.1 * (high - low), 0.02 * high)
        span = {"vmin": max(low - room, 0), "vmax": high + room, "cmap": "viridis"}
        apart = found.radius_px - truth.radius
        most = max(3 * float(np.nanmedian(np.abs(apart))), 0.05 * high)
        panels = (
            ("true radius, px", truth.radius, span),
            ("found", found.radius_px, span),
            ("difference", apart, {"vmin": -most, "vmax": most, "cmap": "RdBu"}),
            ("confidence", found.confidence, {"vmin": 0, "vmax": 1, "cmap": "gray"}),
        )
        axes[0].imshow(truth.sharp[::4, ::4])
        axes[0].set_title(name, fontsize=9)
        for place, (title, values, look) in zip(axes[1:], panels, strict=True):
            shown = place.imshow(values, interpolation="nearest", **look)
            place.set_title(title, fontsize=9)
            figure.colorbar(shown, ax=place, shrink=0.85)
        for place in axes:
            place.set_xticks([])
            place.set_yticks([])
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=70, metadata={"Software": None})
    plt.close(figure)
