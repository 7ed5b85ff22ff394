"""The picture of the colour benchmark (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from casts import CASTS  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402

__all__ = ["draw"]

_TARGET = 0.35
_TICKS = (0, 0.1, _TARGET, 1, 2, 4, 6)

_MARKS = {3.0: ("o", "#2a9d8f"), 6.0: ("s", "#e9a020"), 12.0: ("D", "#c8442e")}


def draw(target: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Colour difference by method, one panel a cast; dotted: the target and just noticeable."""
    names = list(dict.fromkeys(r["method"] for r in rows))
    figure, panels = plt.subplots(1, len(CASTS), figsize=(16, 4.6), sharey=True, sharex=True,
                                  layout="constrained")  # fmt: skip
    for axes, cast in zip(panels, CASTS, strict=True):
        for row in rows:
            if row["cast"] == cast:
                mark, colour = _MARKS[row["radius_px"]]
                axes.plot(row["ciede2000"], names.index(row["method"]), mark, color=colour, ms=6)
        # the square root shows both what is left of ours and what the peers add
        axes.set_xscale("function", functions=(_signed_root, lambda root: root * np.abs(root)))
        axes.set(title=f"cast: {cast}", xlabel="mean CIEDE2000", xlim=(-0.02, 7))
        axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.grid(axis="x", alpha=0.3)
        for line in (_TARGET, 1):
            axes.axvline(line, color="grey", ls=":", lw=1)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    for radius, (mark, colour) in _MARKS.items():
        panels[-1].plot([], [], mark, color=colour, label=f"radius {radius:g} px")
    panels[-1].legend(loc="upper right", fontsize=8)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=90, metadata={"Software": None})
    plt.close(figure)


def _signed_root(values: Any) -> Any:
    return np.sign(values) * np.sqrt(np.abs(values))
