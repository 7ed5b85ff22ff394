"""The tables and the picture of the colour benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from casts import CASTS
from colour_real import CONTRAST as REAL_CONTRAST
from colour_real import METHODS as REAL_METHODS
from peers_colour import METHODS, Method
from results import (
    Check,
    check_lines,
    machine,
    note,
    number,
    shortened,
    table,
    write_json,
    write_text,
)

from defocus_ds.wording import counted

__all__ = ["checks", "summary", "write"]

Run = dict[str, Any]

_RADII = (3.0, 6.0, 12.0)
_LIMITS = {"none": 0.15, "gains": 0.35, "gain+gamma+3x3": 0.35, "tone curve": 0.9}
_LUT = "lut against exact"
_BASELINES = ("cast known", "cast known, 16 bits", "without a cast, in the dataset")
_PEER = "python-color-transfer pdf"
_LEFT_OUT = ("wall_s", "alignment")
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
    real: Sequence[Run] | None = None,
) -> None:
    """Print the tables, and write colour.md, colour.json and colour.png."""
    everything = summary(runs)
    rows = [r for r in everything if not _is_dataset(r["method"])]
    written = [r for r in everything if _is_dataset(r["method"])]
    targets = checks(everything, costs)
    computer = machine(_VERSIONS)
    absent = [name for name in methods if not methods[name].installed]
    scenes = len({r["scene"] for r in runs})
    parts = [
        "# Colour",
        f"Mean CIEDE2000 to the same capture without the cast, {size[0]}x{size[1]} px, mean over "
        f"{counted(scenes, 'scene')}, at disk radius 3 / 6 / 12 px. About 1 is just noticeable. "
        '"cast known" undoes the true cast: on the 8-bit capture it leaves what the two roundings '
        "to 8 bits make, on a 16-bit one almost nothing, so that no method for 8-bit captures can "
        'do better than the former. "16 bits" is `match_colour` and `apply` on 16-bit captures; '
        "the build develops to 8 bits.",
        difference_table(rows),
        f"Not installed: {', '.join(absent)}.\n" if absent else "",
        'The same of 8x8 averages, where noise is gone; what is left of "cast known" is that a '
        "map from 8 bits to 8 bits cannot move a colour by a part of a level:",
        difference_table(rows, "ciede2000_8px"),
        "## In the dataset",
        "What the build writes: registered, interpolated and recoloured in one pass, rounded "
        "once. Mean CIEDE2000 to the capture without the cast, interpolated in the same way "
        "before it was ever rounded to 8 bits.",
        difference_table(written),
        "## Contrast",
        "Standard deviation of L* against the capture without the cast, in percent, worst case.",
        contrast_table(rows),
        "## Cost",
        f"One pair of {cost_size[0]}x{cost_size[1]} px, one thread: fit and apply, CPU seconds; "
        "memory is that of the whole process, both images included. Modules are imported and "
        "compiled code is loaded before the clock starts.",
        cost_table(costs),
        "## LUT against exact",
        "Distribution transfer, 8-bit levels.",
        lut_table(costs.get(_LUT, {})),
        *real_parts(real or ()),
        *failed_parts(runs, costs),
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
            "summary": everything,
            "targets": [c.as_dict() for c in targets],
            "costs": shortened(dict(costs), without=_LEFT_OUT),
            "runs": [shortened(r, without=_LEFT_OUT) for r in runs],
            "real": [shortened(r, without=_LEFT_OUT) for r in real or ()],
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
    for method in (*_BASELINES, *METHODS):
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
    for method, limit in (("response, 16 bits", 0.35), ("response, in the dataset", 0.35)):
        own = [r for r in rows if (r["method"], r["cast"]) == (method, "gain+gamma+3x3")]
        worst = max((r["ciede2000"] for r in own), default=None)
        found.append(Check(f"{method}, gain+gamma+3x3: CIEDE2000, worst radius", worst, limit))
    found.append(
        Check(
            "response, gain+gamma+3x3: CIEDE2000 above the known cast's, worst radius",
            _above_the_floor(rows),
            0.03,
        )
    )
    own = [r for r in rows if r["method"] == "response"]
    worst = max((abs(r["contrast_percent"]) for r in own), default=None)
    found.append(Check("response: contrast, worst case, percent", worst, 1.0))
    for name, method, part, limit in (
        ("response, apply, CPU s", "response", "apply", 0.2),
        ("affine, apply, CPU s", "affine", "apply", 0.2),
        ("idt with a 65³ LUT, all, CPU s", "idt", "all", 1.5),
    ):
        found.append(Check(name, costs.get(method, {}).get("cpu_s", {}).get(part), limit))
    peer, ours = (costs.get(m, {}).get("cpu_s", {}).get("all") for m in (_PEER, "idt"))
    ratio = peer / ours if peer and ours else None
    found.append(Check(f"idt: times faster than {_PEER}", ratio, 50.0, least=True))
    found.append(Check("idt, peak memory, MB", costs.get("idt", {}).get("peak_mb"), 1000))
    lut = costs.get(_LUT, {}).get("65", {})
    found.append(Check("65³ LUT against exact, mean levels", lut.get("mean"), 0.4))
    found.append(Check("65³ LUT against exact, 99.9 %, levels", lut.get("p99.9"), 2.0))
    return found


def _above_the_floor(rows: Sequence[Run]) -> float | None:
    """Largest excess over what the true inverse of the cast leaves on the same 8-bit captures."""
    by_radius: dict[tuple[str, float], float] = {
        (r["method"], r["radius_px"]): r["ciede2000"] for r in rows if r["cast"] == "gain+gamma+3x3"
    }
    return max(
        (
            by_radius["response", radius] - by_radius["cast known", radius]
            for radius in _RADII
            if ("response", radius) in by_radius and ("cast known", radius) in by_radius
        ),
        default=None,
    )


def _is_dataset(method: str) -> bool:
    return method.endswith(", in the dataset")


def real_parts(real: Sequence[Run]) -> list[str]:
    """Section on real pairs; nothing if there are none."""
    if not real:
        return []
    lines = [
        (
            r["pair"],
            *(number(r["difference"][m]) if m in r["difference"] else "–" for m in REAL_METHODS),
            number(r["radius_px"]),
            *(f"{r['contrast'][m]:.2f}" if m in r["contrast"] else "–" for m in REAL_CONTRAST),
            r["note"],
        )
        for r in real
    ]
    header = ["pair", *REAL_METHODS, "radius px", *(f"contrast, {m}" for m in REAL_CONTRAST), ""]
    return [
        "## Real pairs",
        "The authors' published quadruples and public focus stacks, registered by this project. "
        "Mean CIEDE2000 between averages over squares at least three blur radii wide, so that "
        "defocus hardly counts, of the blurred capture and the sharp one, before and after; "
        "contrast is the standard deviation of L* against the sharp image blurred by the disk: "
        "1 is right. The command also writes `colour_real.png`, which shows the pairs: sharp, "
        "blurred, matched, paper; the photographs are their authors', so it is not kept here.",
        table(header, lines),
    ]


def failed_parts(runs: Sequence[Run], costs: Mapping[str, Run]) -> list[str]:
    """Section on runs that failed, which no mean above counts; nothing if there are none."""
    lines = [
        (r["method"], f"scene {r['scene']}, {r['cast']}, {r['radius_px']:g} px", r["failed"])
        for r in runs
        if "failed" in r
    ]
    lines += [(name, "cost", run["failed"]) for name, run in costs.items() if "failed" in run]
    if not lines:
        return []
    return [
        "## Failed",
        "Not counted in the means above.",
        table(("method", "where", "reason"), lines),
    ]


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
