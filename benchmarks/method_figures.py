"""The figures of docs/method.md (needs matplotlib).

python benchmarks/method_figures.py docs/benchmarks docs/images

The first is computed here, from the optics and a dead-leaves scene; the others show what the
benchmarks of colour and registration left in registration.json and colour.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from defocus_ds.optics import blur_disk, to_encoded  # noqa: E402
from defocus_ds.simulate.leaves import draw_leaves, paint, textures  # noqa: E402

Floats = npt.NDArray[np.float64]
Run = dict[str, Any]

SHARP, LINEAR, STORED = "#555555", "#33658a", "#c8442e"
METHODS = {
    "uncorrected": ("#888888", "not corrected"),
    "idt, not blur-matched": ("#c8442e", "distribution, to the sharp image"),
    "idt": ("#e9a020", "distribution, blur matched"),
    "response": ("#2a9d8f", "curves and matrix, blur matched"),
}
EDGE_RADIUS_PX = 8.0
SCENE_RADIUS_PX = 5.0
NOISE_LEVELS = 1.0


def main(results: Path, target: Path) -> None:
    """Read the JSON files in ``results``, write three SVG files to ``target``."""
    plt.rcParams |= {
        "svg.hashsalt": "defocus-ds",  # the same identifiers in every run
        "svg.fonttype": "none",
        "font.size": 10,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "legend.fontsize": 8,
    }
    target.mkdir(parents=True, exist_ok=True)
    figure, (one, two, three) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    draw_edge(one)
    draw_displacement(two)
    draw_radius_search(three)
    save(figure, target / "method-linear.svg")

    runs = json.loads((results / "colour.json").read_text())["summary"]
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True, layout="constrained")
    for axes, cast in zip(panels, ("none", "gains"), strict=True):
        draw_colour(axes, [run for run in runs if run["cast"] == cast], cast)
    panels[0].legend()
    panels[0].set_ylabel("mean CIEDE2000 to the truth")
    save(figure, target / "method-colour.svg")

    runs = json.loads((results / "registration.json").read_text())["certificate"]
    figure, (one, two) = plt.subplots(1, 2, figsize=(8.6, 3.8), layout="constrained")
    draw_certificate(one, runs)
    draw_error_by_radius(two, runs)
    save(figure, target / "method-certificate.svg")


def save(figure: Any, path: Path) -> None:
    """White behind it, so that it can be read on a dark page too."""
    figure.savefig(path, facecolor="white", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def edge(dark: float, bright: float, *, half: int = 24) -> tuple[Floats, Floats]:
    """Places in px, and linear light of a straight edge, bright from 0 on, as a wide image."""
    x = np.arange(-half, half + 1, dtype=np.float64) + 0.5
    line = np.where(x > 0, bright, dark).astype(np.float32)
    return x, np.tile(line, (2 * half + 1, 1))


def draw_edge(axes: Axes) -> None:
    """A section through an edge: sharp, blurred as light is, blurred as stored values."""
    x, light = edge(0.02, 0.8)
    sharp = to_encoded(light)
    middle = len(x) // 2
    for image, colour, style, label in (
        (sharp, SHARP, ":", "sharp"),
        (to_encoded(blur_disk(light, EDGE_RADIUS_PX)), LINEAR, "-", "disk in linear light"),
        (blur_disk(sharp, EDGE_RADIUS_PX), STORED, "--", "disk on stored values"),
    ):
        axes.plot(x, 255 * image[middle], style, color=colour, label=label)
    axes.set(
        title=f"An edge, disk radius {EDGE_RADIUS_PX:g} px",
        xlabel="px from the edge",
        ylabel="stored value",
        xlim=(-14, 14),
    )
    axes.legend(loc="lower right")


def draw_displacement(axes: Axes) -> None:
    """How far the place of half height moves to the dark side, for edges of some contrasts."""
    radii = np.linspace(0.5, 12, 24)
    for dark, style in ((0.02, "-"), (0.1, "--"), (0.4, ":")):
        x, light = edge(dark, 0.8)
        moved = []
        for radius in radii:
            line = to_encoded(blur_disk(light, float(radius)))[len(x) // 2]
            half = float(line[0] + line[-1]) / 2
            moved.append(-np.interp(half, line, x))
        axes.plot(radii, moved, style, color=LINEAR, label=f"contrast {0.8 / dark:g} : 1")
    axes.set(
        title="Where the blurred edge seems to be",
        xlabel="disk radius, px",
        ylabel="px to the dark side",
    )
    axes.legend(loc="upper left")


def draw_radius_search(axes: Axes) -> None:
    """What two models leave of a blurred capture, by the radius that they assume."""
    rng = np.random.default_rng(1)
    size = (480, 320)
    leaves = draw_leaves(rng, size, smallest_px=4, largest_px=120, coverage=6)
    canvas = np.full((size[1], size[0], 3), 0.2, np.float32)
    paint(canvas, None, leaves, textures(rng))
    light = np.clip(canvas[..., 1], 0, 1)
    sharp = to_encoded(light)
    capture = 255 * to_encoded(blur_disk(light, SCENE_RADIUS_PX))
    capture = np.round(capture + rng.normal(0, NOISE_LEVELS, capture.shape)).clip(0, 255)
    radii = np.linspace(0, 10, 41)
    inner = (slice(16, -16), slice(16, -16))
    for colour, style, label, model in (
        (LINEAR, "-", "disk in linear light", lambda r: to_encoded(blur_disk(light, r))),
        (STORED, "--", "disk on stored values", lambda r: blur_disk(sharp, r)),
    ):
        left = [
            float(np.sqrt(np.mean((255 * model(float(r)) - capture)[inner] ** 2))) for r in radii
        ]
        axes.plot(radii, left, style, color=colour, label=label)
    axes.axvline(SCENE_RADIUS_PX, color="grey", ls=":", lw=1)
    axes.axhline(NOISE_LEVELS, color="grey", ls=":", lw=1)
    axes.text(0.1, NOISE_LEVELS, "noise", fontsize=8, color="grey", va="bottom")
    axes.set(
        title=f"A capture of radius {SCENE_RADIUS_PX:g} px",
        xlabel="assumed radius, px",
        ylabel="rms left by the model, of 255",
        ylim=(0, None),
    )
    axes.legend(loc="upper right")


def draw_colour(axes: Axes, runs: list[Run], cast: str) -> None:
    """Colour difference by blur radius: with no cast, all of it is the method's own."""
    for method, (colour, label) in METHODS.items():
        own = sorted((r["radius_px"], r["ciede2000"]) for r in runs if r["method"] == method)
        size = 9 if method == "idt" else 5  # two of them lie on one another
        axes.plot(*zip(*own, strict=True), "o-", color=colour, label=label, ms=size)
    axes.set(title=f"cast: {cast}", xlabel="disk radius, px", xlim=(0, None), ylim=(0, None))


def draw_certificate(axes: Axes, runs: list[Run]) -> None:
    """`residual_px` beside the true mean error, where a map can have an error that it sees."""
    points = [(r.get("visible_error_px", r["error_px"]), r["residual_px"], r) for r in runs]
    low = min(min(p[:2]) for p in points) / 1.5
    high = max(max(p[:2]) for p in points) * 1.5
    for factor, style in ((1, "-"), (2, "--"), (0.5, "--")):
        axes.plot([low, high], [low * factor, high * factor], style, color="grey", lw=0.8)
    for true, claimed, run in points:
        fill = LINEAR if run["kind"] == "plain" else "none"
        axes.plot(true, claimed, "o", ms=5, color=LINEAR, mfc=fill)
    for fill, label in ((LINEAR, "as the model says"), ("none", "departs from the model")):
        axes.plot([], [], "o", color=LINEAR, mfc=fill, label=label)
    axes.set(
        title="What a pair says of itself",
        xscale="log",
        yscale="log",
        xlim=(low, high),
        ylim=(low, high),
        xlabel="true mean error, px",
        ylabel="residual_px",
    )
    axes.legend(loc="upper left")


def draw_error_by_radius(axes: Axes, runs: list[Run]) -> None:
    """True error of the same pairs by the radius of the disk."""
    for run in runs:
        fill = LINEAR if run["kind"] == "plain" else "none"
        axes.plot(run["true_radius_px"], run["error_px"], "o", ms=5, color=LINEAR, mfc=fill)
    axes.set(
        title="Error by blur",
        yscale="log",
        xlabel="true disk radius, px",
        ylabel="true mean error, px",
        xlim=(0, None),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
