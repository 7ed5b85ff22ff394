"""The tables of the adversarial benchmark: by kind, and by what was drawn."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results import (
    Check,
    check_lines,
    machine,
    number,
    shortened,
    table,
    write_json,
    write_text,
)
from start_pairs import FACTORS

from defocus_ds.wording import counted

__all__ = ["by_factor", "by_kind", "checks", "outcome", "write"]

Run = dict[str, Any]

WRONG_PX = 1.0
_UNDERSTATED = 3.0
_RIGHT_PX = 0.2  # a map no worse than this, rejected, counts as a false rejection
_PARTS = 3
_VERSIONS = ("defocus-ds", "numpy", "numba", "opencv-python-headless", "SimpleITK")


def write(out: Path, wrong: Sequence[Run], starts: Sequence[Run]) -> None:
    """Print the tables, and write adversarial.md and adversarial.json."""
    targets = checks(wrong, starts)
    computer = machine(_VERSIONS)
    parts = ["# Wrong pairs, and the range of the start", "## Targets", check_lines(targets)]
    if wrong:
        parts += [
            "## Wrong pairs",
            f"{_sizes(wrong)}; none may be accepted. Reasons are the codes of the verdict, with "
            "how many pairs had them.",
            by_kind(wrong),
        ]
    if starts:
        parts += [
            "## Range of the start",
            f"{_sizes(starts)}: a Latin hypercube over all factors at once. Shift and radius "
            "shrink with the frame (the tables give them in px of the full size), except for the "
            "pairs called unscaled: there they are as drawn, up to 80 and 25 px. *Found* is "
            f"accepted with an error below {WRONG_PX:g} px and below {_UNDERSTATED:g} times the "
            "claim; *silent* is accepted otherwise; *false* are rejected although the map is right "
            "to "
            f"{_RIGHT_PX:g} px.",
            by_size(starts),
            *_factor_tables(starts),
            "Rejected, or silent:\n",
            _exceptions(starts),
        ]
    parts += ["## Machine", table(("", ""), sorted(computer.items()))]
    text = "\n".join(part if part.endswith("\n") else part + "\n" for part in parts)
    print(text)
    write_text(out / "adversarial.md", text)
    write_json(
        out / "adversarial.json",
        {
            "machine": computer,
            "checks": [check.as_dict() for check in targets],
            "wrong": [shortened(run) for run in wrong],
            "starts": [shortened(run) for run in starts],
        },
    )


def checks(wrong: Sequence[Run], starts: Sequence[Run]) -> list[Check]:
    """The targets: nothing wrong is accepted, nothing is wrong in silence, few are lost."""
    accepted = sum(run["accepted"] for run in wrong) if wrong else None
    silent = [outcome(run) for run in starts].count("silent") if starts else None
    # the share was set for frames like those of the camera; the others are found or rejected
    scaled = [outcome(run) for run in starts if not run.get("unscaled")]
    found = scaled.count("found") / len(scaled) if scaled else None
    return [
        Check("wrong pairs", float(len(wrong)), 200, least=True),
        Check("wrong pairs accepted", accepted, 0),
        Check("right pairs", float(len(starts)), 100, least=True),
        Check("right pairs accepted with a wrong map or claim", silent, 0),
        Check("share found of those in proportion to the frame", found, 0.9, least=True),
    ]


def outcome(run: Run) -> str:
    """found, silent, false (rejected with a right map) or rejected."""
    error = run.get("error_px", float("inf"))
    if run["accepted"]:
        honest = error <= WRONG_PX and error <= _UNDERSTATED * run["residual_px"]
        return "found" if honest else "silent"
    return "false" if error <= _RIGHT_PX else "rejected"


def by_kind(wrong: Iterable[Run]) -> str:
    kinds: dict[str, list[Run]] = {}
    for run in wrong:
        kinds.setdefault(run["kind"], []).append(run)
    rows = []
    for kind, runs in kinds.items():
        codes = Counter(r.partition(":")[0] for run in runs for r in run["reasons"])
        reasons = ", ".join(f"{code} {n}" for code, n in codes.most_common(5))
        accepted = sum(run["accepted"] for run in runs)
        rows.append((kind, str(len(runs)), f"**{accepted}**" if accepted else "0", reasons))
    return table(("kind", "pairs", "accepted", "reasons"), rows)


def by_size(starts: Sequence[Run]) -> str:
    sizes = list(dict.fromkeys(_size(run) for run in starts))
    header = ("size", *_COLUMNS, "CPU s")
    rows = []
    for size in sizes:
        own = [run for run in starts if _size(run) == size]
        cost = statistics.median(run["cpu_s"] for run in own)
        rows.append((size, *_cells(own), number(cost)))
    return table(header, rows)


def _factor_tables(starts: Sequence[Run]) -> list[str]:
    """Of the pairs in proportion to their frame, and of the others."""
    parts = []
    for unscaled, title in ((False, "In proportion to the frame:"), (True, "Unscaled:")):
        own = [run for run in starts if bool(run.get("unscaled")) == unscaled]
        parts += [title + "\n", by_factor(own)] if own else []
    return parts


def by_factor(starts: Sequence[Run]) -> str:
    """One row a third of each factor's range."""
    rows = []
    for name, (low, high) in FACTORS.items():
        ordered = sorted(starts, key=lambda run: abs(run["drawn"][name]))
        cuts = [round(len(ordered) * part / _PARTS) for part in range(_PARTS + 1)]
        for first, last in zip(cuts, cuts[1:], strict=False):
            own = ordered[first:last]
            if not own:
                continue
            ends = (abs(own[0]["drawn"][name]), abs(own[-1]["drawn"][name]))
            sign = "±" if low < 0 < high else ""
            label = f"{name}: {sign}{number(ends[0])} to {number(ends[1])}"
            rows.append((label, *_cells(own)))
    return table(("factor", *_COLUMNS), rows)


_COLUMNS = ("pairs", "found", "rejected", "false", "silent", "error px, median", "90 %", "most")


def _cells(runs: Sequence[Run]) -> tuple[str, ...]:
    counts = Counter(outcome(run) for run in runs)
    errors = sorted(run["error_px"] for run in runs if run["accepted"])
    spread = (
        (statistics.median(errors), errors[math.ceil(0.9 * (len(errors) - 1))], errors[-1])
        if errors
        else (None, None, None)
    )
    kinds = (str(counts[kind]) for kind in ("found", "rejected", "false", "silent"))
    return (str(len(runs)), *kinds, *(number(value) for value in spread))


def _exceptions(starts: Iterable[Run]) -> str:
    rows = []
    for run in starts:
        kind = outcome(run)
        if kind != "found":
            error = run.get("error_px")
            drawn = " / ".join(number(value) for value in run["drawn"].values())
            why = "; ".join(run["reasons"]) or f"claimed {number(run['residual_px'])} px"
            rows.append((f"{run['number']}, {_size(run)}", kind, number(error), drawn, why))
    return table(("pair", "", "error px", " / ".join(FACTORS), "why"), rows)


def _size(run: Run) -> str:
    unscaled = ", unscaled" if run.get("unscaled") else ""
    return "x".join(str(n) for n in run["size"]) + " px" + unscaled


def _sizes(runs: Iterable[Run]) -> str:
    sizes = Counter(_size(run) for run in runs)
    return "; ".join(f"{counted(n, 'pair')} of {size}" for size, n in sizes.items())
