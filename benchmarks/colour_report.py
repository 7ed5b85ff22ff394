"""The tables and the picture of the colour benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from casts import CASTS
from peers_colour import METHODS, Method
from results import (
    Check,
    check_lines,
    counted,
    machine,
    note,
    number,
    table,
    write_json,
    write_text,
)

__all__ = ["checks", "summary", "write"]

Run = dict[str, Any]

_RADII = (3.0, 6.0, 12.0)
_LIMITS = {"none": 0.15, "gains": 0.35, "gain+gamma+3x3": 0.35, "tone curve": 0.9}
_LUT = "lut against exact"
_VERSIONS = (
    "defocus-ds",
    "numpy",
    "numba",
    "opencv-python-headless",
    "scikit-image",
    "color-matcher",
    "python-color-transfer",
)


def write(
    out: Path,
    size: tuple[int, int],
    cost_size: tuple[int, int],
    runs: Sequence[Run],
    costs: Mapping[str, Run],
    methods: Mapping[str, Method],
) -> None:
    """Print the tables, and write colour.md, colour.json and colour.png."""
    rows = summary(runs)
    targets = checks(rows, costs)
    computer = machine(_VERSIONS)
    absent = [name for name in methods if not methods[name].installed]
    scenes = len({r["scene"] for r in runs})
    parts = [
        "# Colour",
        f"Mean CIEDE2000 to the same capture without the cast, {size[0]}x{size[1]} px, mean over "
        f"{counted(scenes, 'scene')}, at disk radius 3 / 6 / 12 px. About 1 is just noticeable. "
        '"cast known" undoes the true cast on the 8-bit capture: what rounding alone leaves.',
        difference_table(rows),
        f"Not installed: {', '.join(absent)}.\n" if absent else "",
        'The same of 8x8 averages, where noise is gone; what is left of "cast known" is that a '
        "map from 8 bits to 8 bits cannot move a colour by a part of a level:",
        difference_table(rows, "ciede2000_8px"),
        "## Contrast",
        "Standard deviation of L* against the capture without the cast, in percent, worst case.",
        contrast_table(rows),
        "## Cost",
        f"One pair of {cost_size[0]}x{cost_size[1]} px, one thread: fit and apply, CPU seconds; "
        "memory is that of the whole process, both images included.",
        cost_table(costs),
        "## LUT against exact",
        "Distribution transfer, 8-bit levels.",
        lut_table(costs.get(_LUT, {})),
        "## Targets",
        check_lines(targets),
        "## Machine",
        table(("", ""), sorted(computer.items())),
    ]
    text = "\n".join(part if part.endswith("\n") else part + "\n" for part in parts if part)
    print(text)
    write_text(out / "colour.md", text)
    write_json(
        out / "colour.json",
        {
            "machine": computer,
            "not_installed": absent,
            "summary": rows,
            "targets": [c.as_dict() for c in targets],
            "costs": _rounded(dict(costs)),
            "runs": [_rounded(r) for r in runs],
        },
    )
    try:
        from colour_plot import draw
    except ImportError:
        note("matplotlib is not installed: no picture")
        return
    draw(out / "colour.png", rows)


def summary(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One row a method, cast and radius: mean difference, largest error of contrast."""
    runs = list(runs)
    rows = []
    for method in ("cast known", *METHODS):
        for cast in CASTS:
            for radius in _RADII:
                own = [
                    r
                    for r in runs
                    if (r["method"], r["cast"], r["radius_px"]) == (method, cast, radius)
                    and "ciede2000" in r
                ]
                if own:
                    rows.append(
                        {
                            "method": method,
                            "cast": cast,
                            "radius_px": radius,
                            "ciede2000": statistics.mean(r["ciede2000"] for r in own),
                            "ciede2000_8px": statistics.mean(r["ciede2000_8px"] for r in own),
                            "contrast_percent": max((r["contrast_percent"] for r in own), key=abs),
                        }
                    )
    return rows


def checks(rows: Sequence[Run], costs: Mapping[str, Run]) -> list[Check]:
    """The targets: `response` is the default method, `idt` the distribution transfer."""
    found = []
    for cast, limit in _LIMITS.items():
        own = [r for r in rows if r["method"] == "response" and r["cast"] == cast]
        worst = max((r["ciede2000"] for r in own), default=None)
        found.append(Check(f"response, {cast}: CIEDE2000, worst radius", worst, limit))
    own = [r for r in rows if r["method"] == "response"]
    worst = max((abs(r["contrast_percent"]) for r in own), default=None)
    found.append(Check("response: contrast, worst case, percent", worst, 1.0))
    for name, method, part, limit in (
        ("affine, apply, CPU s", "affine", "apply", 0.2),
        ("idt with a 65³ LUT, all, CPU s", "idt", "all", 1.5),
    ):
        found.append(Check(name, costs.get(method, {}).get("cpu_s", {}).get(part), limit))
    found.append(Check("idt, peak memory, MB", costs.get("idt", {}).get("peak_mb"), 1000))
    lut = costs.get(_LUT, {}).get("65", {})
    found.append(Check("65³ LUT against exact, mean levels", lut.get("mean"), 0.4))
    found.append(Check("65³ LUT against exact, 99.9 %, levels", lut.get("p99.9"), 2.0))
    return found


def difference_table(rows: Sequence[Run], key: str = "ciede2000") -> str:
    return _by_cast(rows, lambda own: " / ".join(f"{r[key]:.2f}" for r in own))


def contrast_table(rows: Sequence[Run]) -> str:
    return _by_cast(rows, lambda own: f"{max((r['contrast_percent'] for r in own), key=abs):+.1f}")


def cost_table(costs: Mapping[str, Run]) -> str:
    lines = []
    for name, found in costs.items():
        if name == _LUT:
            continue
        seconds = found.get("cpu_s", {})
        memory = found.get("peak_mb")
        cells = (seconds.get(part) for part in ("all", "fit", "apply"))
        lines.append(
            (name, *(number(c) for c in cells), "–" if memory is None else f"{memory:.0f}")
        )
    return table(("method", "CPU s", "fit", "apply", "MB"), lines)


def lut_table(found: Mapping[str, Any]) -> str:
    rows = [
        (f"{size}³", number(found[size]["mean"]), number(found[size]["p99.9"]))
        for size in ("33", "65")
        if size in found
    ]
    return table(("nodes", "mean", "99.9 %"), rows)


def _by_cast(rows: Sequence[Run], cell: Any) -> str:
    lines = []
    for method in dict.fromkeys(r["method"] for r in rows):
        cells = []
        for cast in CASTS:
            own = [r for r in rows if (r["method"], r["cast"]) == (method, cast)]
            cells.append(cell(own) if own else "–")
        lines.append((method, *cells))
    return table(("method", *CASTS), lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items() if k not in ("wall_s", "alignment")}
    return value
