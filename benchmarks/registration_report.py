"""The tables and the picture of the registration benchmark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peers_registration import METHODS, Method
from results import (
    NO_CLAIM_PX,
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
from truth_pairs import LEVELS, MORE, PairTruth

from defocus_ds.wording import counted

__all__ = ["CASES", "SUCCESS_PX", "checks", "summary", "write"]

Run = dict[str, Any]

CASES = (*((level, "plain") for level in LEVELS), *MORE)
SUCCESS_PX = 1.0

_KNOWN = ("unregistered", "best affine map", "noise alone")
_LIMITS = {
    ("low", "plain"): 0.01,
    ("medium", "plain"): 0.015,
    ("high", "plain"): 0.02,
    ("medium", "hard"): 0.06,
    ("high", "hard"): 0.12,
}
_MEANING = (
    "`residual_px` is what a record claims of its own map: the expected mean distance, over the "
    "visible content of the valid area, between where the map puts a point and where it truly is. "
    "The smaller pairs (1449x967 to 2898x1935 px) are of every kind: plain, noisy, other textures "
    "(photographs; leaves that are soft or faint), a radial term with vignetting, depth planes "
    "apart by 0.1 to 4 px, those with a radius that changes across the field (hard), a quadratic "
    "displacement that no map follows (bent), another aperture, raw files with three planes "
    "through LibRaw; and maps that were not refined: `paper`, and true maps with 0.03 to 1 px "
    "added (displaced). Kept, drawn: verdicts; failed: no result at all; no claim: rejected with "
    "nothing claimed. Whatever else has a claim counts, rejected or not, and a failed run fails "
    "the targets. The last column is the share of local shifts that are right to two of "
    "their stated deviations, where 86 % is to be expected."
)
_LEFT_OUT = ("matrix", "radial", "wall_s")  # of the JSON file
_PARTS = ("start", "evolution strategy", "refinement", "checks", "doubts", "radius map")
_VERSIONS = (
    "defocus-ds",
    "numpy",
    "numba",
    "opencv-python-headless",
    "SimpleITK",
    "pystackreg",
    "antspyx",
    "itk-elastix",
)


def write(
    out: Path,
    pairs: Sequence[PairTruth],
    runs: Sequence[Run],
    sweep: Sequence[Run],
    certificate: Sequence[Run],
    methods: Mapping[str, Method],
) -> None:
    """Print the tables, and write registration.md, registration.json and registration.png."""
    rows = summary(runs)
    targets = checks(runs, certificate)
    computer = machine(_VERSIONS, ("align_image_stack",))
    size = "x".join(str(n) for n in pairs[0].warp.size)
    scenes = len({p.scene for p in pairs})
    absent = [name for name in methods if not methods[name].installed]
    parts = [
        "# Registration",
        f"{len(pairs)} pairs of {size} px from {counted(scenes, 'scene')}: mean error in px on a "
        f"21x21 grid, averaged over the scenes; success is an error below {SUCCESS_PX:g} px; CPU "
        "seconds are of one thread, median and largest over the pairs, memory is that of the whole "
        "process.",
        error_table(rows),
        f"Not installed: {', '.join(absent)}.\n" if absent else "",
        "## Targets",
        check_lines(targets),
        cost_text(runs),
        "## What the iterations buy",
        "The evolution strategy alone, from the identity, at an eighth of the size with 5 % of "
        "the pixels, three levels, on one medium pair; iterations are a level's limit.",
        sweep_table(sweep),
        "## The certificate",
        _MEANING,
        certificate_text(runs, certificate),
        "## Machine",
        table(("", ""), sorted(computer.items())),
    ]
    text = "\n".join(part if part.endswith("\n") else part + "\n" for part in parts if part)
    print(text)
    write_text(out / "registration.md", text)
    write_json(
        out / "registration.json",
        {
            "size": size,
            "machine": computer,
            "not_installed": absent,
            "summary": rows,
            "targets": [c.as_dict() for c in targets],
            "runs": [shortened(r, without=_LEFT_OUT) for r in runs],
            "iterations": [shortened(r, without=_LEFT_OUT) for r in sweep],
            "certificate": [shortened(r, without=_LEFT_OUT) for r in certificate],
        },
    )
    try:
        from registration_plot import draw
    except ImportError:
        note("matplotlib is not installed: no picture")
        return
    claims = [r for r in (*_ours(runs), *certificate) if not _claims_nothing(r)]
    draw(out / "registration.png", runs, sweep, claims)


def summary(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One row a method: mean error by case, successes, cost; in the order of the table."""
    rows = []
    for name in (*_KNOWN, *METHODS):
        own = [r for r in runs if r["method"] == name]
        if not own:
            continue
        row: dict[str, Any] = {"method": name}
        for level, kind in CASES:
            errors = [
                r["error_px"]
                for r in own
                if (r["level"], r["kind"]) == (level, kind) and "error_px" in r
            ]
            row[_case(level, kind)] = statistics.mean(errors) if errors else None
        if name not in _KNOWN:
            row["pairs"] = len(own)
            row["succeeded"] = sum(r.get("error_px", SUCCESS_PX) < SUCCESS_PX for r in own)
            costs = [r["cpu_s"]["all"] for r in own if "cpu_s" in r]
            row["cpu_s"] = statistics.median(costs) if costs else None
            row["most_cpu_s"] = max(costs, default=None)
            row["peak_mb"] = max((r["peak_mb"] for r in own if "peak_mb" in r), default=None)
        rows.append(row)
    return rows


def checks(runs: Sequence[Run], certificate: Sequence[Run]) -> list[Check]:
    """The targets for `accurate`; the worst pair counts, not the mean."""
    own = [r for r in runs if r["method"] == "accurate"]
    found = []
    for (level, kind), limit in _LIMITS.items():
        errors = [
            r.get("error_px", float("inf")) for r in own if (r["level"], r["kind"]) == (level, kind)
        ]
        name = f"accurate, {_case(level, kind)}: worst pair, px"
        found.append(Check(name, max(errors, default=None), limit))
    plain = [r["cpu_s"] for r in own if r["kind"] == "plain" and "cpu_s" in r]
    for part, limit in (("all", 6.0), ("refinement", 3.0)):
        cost = statistics.median(c[part] for c in plain) if plain else None
        found.append(Check(f"accurate, plain pairs: median CPU s, {part}", cost, limit))
    claims = [*_ours(runs), *certificate]
    ratios = claimed_over_true(claims)
    whole = bool(ratios) and not any("failed" in r for r in claims)
    within = _within(ratios) if whole else None
    least = min(ratios) if whole else None
    found.append(Check("certificate: share within a factor 2", within, 0.9, least=True))
    found.append(Check("certificate: least claimed / true", least, 1 / 3, least=True))
    return found


def claimed_over_true(runs: Iterable[Run]) -> list[float]:
    """Of every pair whose error is known and that claims one, kept or rejected."""
    return [
        (r["residual_px"] if math.isfinite(r["residual_px"]) else math.inf) / _true_px(r)
        for r in runs
        if r.get("error_px", 0) > 0 and not _claims_nothing(r)
    ]


def error_table(rows: Iterable[Mapping[str, Any]]) -> str:
    header = ["method", *(_case(*case) for case in CASES), "success", "CPU s", "most", "MB"]
    lines = []
    for row in rows:
        cells = [row["method"], *(number(row[_case(*case)]) for case in CASES)]
        if "pairs" in row:
            cells.append(f"{row['succeeded']}/{row['pairs']}")
            cells += [number(row["cpu_s"]), number(row["most_cpu_s"])]
            cells.append("–" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}")
        else:
            cells += [""] * 4
        lines.append(cells)
    return table(header, lines)


def cost_text(runs: Iterable[Run]) -> str:
    """Where the CPU seconds of `accurate` go, median and largest over the pairs."""
    own = [r for r in _ours(runs) if "cpu_s" in r]
    groups = {
        "plain": [r["cpu_s"] for r in own if r["kind"] == "plain"],
        "the others": [r["cpu_s"] for r in own if r["kind"] != "plain"],
    }
    rows = []
    for part in ("all", *_PARTS):
        cells = []
        for costs in groups.values():
            known = [c[part] for c in costs if part in c]
            cells += [statistics.median(known), max(known)] if known else [None, None]
        rows.append((part, *(number(c) for c in cells)))
    header = [f"{group}, {what}" for group in groups for what in ("median", "most")]
    return (
        "The target of 6 s is of the median over the plain pairs. Where the CPU seconds of "
        "`accurate` go; the refinement is that of the fit, the second one that looks for another "
        "end is among the doubts, and what is missing from the sum is reading and pyramids:\n\n"
        + table(("part", *header), rows)
    )


def sweep_table(sweep: Iterable[Run]) -> str:
    rows = [
        (
            str(r["iterations"]),
            number(r.get("error_px")),
            number(r["cpu_s"].get("evolution strategy") if "cpu_s" in r else None),
        )
        for r in sweep
    ]
    return table(("iterations", "error px", "CPU s"), rows)


def certificate_text(runs: Sequence[Run], certificate: Sequence[Run]) -> str:
    """How `residual_px` compares with the truth, in a table by kind of pair."""
    kinds = dict.fromkeys(r["kind"] for r in certificate)
    groups = {
        "above, plain": _ours(runs, "plain"),
        "above, the others": _ours(runs, "hard", "aperture"),
        **{kind: [r for r in certificate if r["kind"] == kind] for kind in kinds},
        "all": [*_ours(runs), *certificate],
    }
    rows = []
    for name, own in groups.items():
        if not own:
            continue
        ratios = sorted(claimed_over_true(own))
        errors = [_true_px(r) for r in own if "error_px" in r]
        local = [
            float(r["within_two_deviations"])
            for r in own
            if r.get("within_two_deviations") is not None
        ]
        cells = (ratios[0], statistics.median(ratios), ratios[-1]) if ratios else (None,) * 3
        rows.append(
            (
                name,
                str(sum(r.get("verdict") == "keep" for r in own)),
                str(len(own)),
                str(sum("failed" in r for r in own)),
                str(sum("error_px" in r and _claims_nothing(r) for r in own)),
                f"{number(min(errors))} to {number(max(errors))}" if errors else "–",
                *(number(c) for c in cells),
                f"{_within(ratios):.0%}" if ratios else "–",
                f"{statistics.mean(local):.0%}" if local else "–",
            )
        )
    header = ("pairs", "kept", "drawn", "failed", "no claim", "true error px")
    ratio = ("claimed / true: least", "median", "most", "within a factor 2")
    return table((*header, *ratio, "cells within 2 deviations"), rows)


def _ours(runs: Iterable[Run], *kinds: str) -> list[Run]:
    own = (r for r in runs if r["method"] == "accurate")
    return [r for r in own if not kinds or r["kind"] in kinds]


def _true_px(run: Run) -> float:
    return float(run["visible_error_px" if "visible_error_px" in run else "error_px"])


def _claims_nothing(run: Run) -> bool:
    """Rejected without a finite claim; a kept one has to have one."""
    claim = run.get("residual_px", math.inf)
    return run.get("verdict") != "keep" and not claim < NO_CLAIM_PX


def _within(ratios: Sequence[float]) -> float:
    return sum(0.5 <= ratio <= 2 for ratio in ratios) / len(ratios)


def _case(level: str, kind: str) -> str:
    return level if kind == "plain" else f"{level}, {kind}"
