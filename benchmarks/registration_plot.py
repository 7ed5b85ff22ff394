"""The picture of the registration benchmark (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

__all__ = ["draw"]

Run = dict[str, Any]

_PLACES = {"plain": -0.22, "hard": 0.05, "aperture": 0.28}
_COLOURS = {"low": "#2a9d8f", "medium": "#e9a020", "high": "#c8442e"}


def draw(target: Path, runs: Sequence[Run], sweep: Sequence[Run], claimed: Sequence[Run]) -> None:
    """Errors by method, error by iterations, claimed against true residual."""
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(16, 5), width_ratios=(1.7, 1, 1), layout="constrained"
    )
    _errors(left, runs)
    _iterations(middle, sweep)
    _certificate(right, claimed)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=90, metadata={"Software": None})
    plt.close(figure)


def _errors(axes: Axes, runs: Sequence[Run]) -> None:
    names = list(dict.fromkeys(r["method"] for r in runs))
    for run in runs:
        if "error_px" not in run or run["error_px"] < 1e-6:
            continue
        place = names.index(run["method"]) + _PLACES[run["kind"]]
        fill = _COLOURS[run["level"]] if run["kind"] == "plain" else "none"
        mark = "^" if run["kind"] == "aperture" else "o"
        axes.plot(run["error_px"], place, mark, ms=6, mec=_COLOURS[run["level"]], mfc=fill, mew=1.4)
    for level, colour in _COLOURS.items():
        axes.plot([], [], "o", color=colour, label=level)
    axes.plot([], [], "o", mec="grey", mfc="none", label="hard case")
    axes.plot([], [], "^", mec="grey", mfc="none", label="aperture case")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="mean error, px", title="Error of every pair")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left", fontsize=8)


def _iterations(axes: Axes, sweep: Sequence[Run]) -> None:
    known = [r for r in sweep if "error_px" in r]
    if not known:
        return
    axes.plot(
        [r["iterations"] for r in known], [r["error_px"] for r in known], "o-", color="#33658a"
    )
    axes.axvline(2300, color="grey", ls=":", lw=1)
    axes.text(2300, axes.get_ylim()[1], " MMSP 2024", va="top", fontsize=8, color="grey")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="iterations a level",
        ylabel="mean error, px",
        title="1+1 evolution strategy alone",
    )
    axes.grid(alpha=0.3)


def _certificate(axes: Axes, claimed: Sequence[Run]) -> None:
    known = [r for r in claimed if r.get("error_px")]
    if not known:
        return
    points = [(r.get("visible_error_px", r["error_px"]), r["residual_px"]) for r in known]
    values = [value for point in points for value in point]
    low, high = min(values) / 1.5, max(values) * 1.5
    for factor, style in ((1, "-"), (2, "--"), (0.5, "--")):
        axes.plot([low, high], [low * factor, high * factor], style, color="grey", lw=0.8)
    for run, point in zip(known, points, strict=True):
        fill = "#33658a" if run.get("kind", "plain") == "plain" else "none"
        axes.plot(*point, "o", color="#33658a", ms=5, mfc=fill)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        ylim=(low, high),
        xlabel="true mean error, px",
        ylabel="residual_px",
        title="Certificate (filled: plain pairs)",
    )
    axes.grid(alpha=0.3)
