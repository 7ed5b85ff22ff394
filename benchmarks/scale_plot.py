"""The picture of the benchmark of scale (needs matplotlib).

python benchmarks/scale_plot.py docs/benchmarks/scale.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402
from scale_report import TIMED  # noqa: E402

__all__ = ["draw"]


def draw(target: Path, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """CPU seconds over scenes, log on log with a linear growth beside; and memory."""
    found = {int(size): steps for size, steps in measured.items()}
    sizes = sorted(found)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    for step in TIMED:
        for axes, key in ((left, "cpu_s"), (right, "peak_mb")):
            axes.plot(sizes, [found[n][step][key] for n in sizes], "o-", ms=3, lw=1.2, label=step)
    least = min(found[sizes[0]][step]["cpu_s"] for step in TIMED)
    left.plot(sizes, [least * n / sizes[0] for n in sizes], ":", color="grey", label="linear")
    left.set(xscale="log", yscale="log", xlabel="scenes", ylabel="CPU seconds")
    right.set(xlabel="scenes", ylabel="largest memory, MB", ylim=(0, None))
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=90, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    draw(source.with_suffix(".png"), json.loads(source.read_text())["sizes"])
