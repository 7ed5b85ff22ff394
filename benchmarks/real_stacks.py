"""Real focus stacks and the authors' published quadruples: residual shift before and after.

    python benchmarks/real_stacks.py DATA_DIR OUT

DATA_DIR holds ``focus_stacks`` and ``mmsp2024``.  Every stack becomes a shoot with its own
shoot.csv, is built, and is then measured by a method that shares no code with the registration
but the disk: block by block, the translation that maximises the enhanced correlation coefficient
(Evangelidis & Psarakis 2008), started from a phase correlation, over a range of disk radii.  What
it finds after registration is an upper bound: it holds the method's own error and, in scenes of
some depth, the parallax that no single map removes.  Two more opinions of the map as a whole: the
way to the blurred frame and back by a registration of the other direction, and the distance to
the map of SIFT features.  OUT gets the shoots, the datasets and overlays (red: sharp, cyan:
blurred; before left, after right); the tables, real_stacks.md and .json, go to --report.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import real_stacks_report
from real_stacks_report import Result, Shifts
from second_opinions import second_opinions

from defocus_ds.dataset.manifest import read_scenes
from defocus_ds.errors import DefocusError
from defocus_ds.frames import Level
from defocus_ds.optics import Warp, blur_disk, to_linear
from defocus_ds.pipeline import build

__all__ = ["LEVELS", "STACKS", "local_shifts", "make_shoot", "measure", "read"]

Image = npt.NDArray[np.uint8]
Gray = npt.NDArray[np.float32]

# folder -> scene -> files from sharp to the most blurred
STACKS: dict[str, dict[str, tuple[str, ...]]] = {
    "mmsp2024/Dataset_Examples": {
        "keyboard1": (
            "keyboard1_original_crop.png",
            "keyboard1_lbc_crop.png",
            "keyboard1_mbc_crop.png",
            "keyboard1_hbc_crop.png",
        ),
        "soda2": (
            "soda2_original_crop.png",
            "soda2_lbC_crop.png",
            "soda2_mbC_crop.png",
            "soda2_hbC_crop.png",
        ),
        "peppermintTea3": (
            "peppermintTea3_original_crop.png",
            "peppermintTea3_lbC_crop.png",
            "peppermintTea3_mbC_crop.png",
            "peppermintTea3_hbC_crop.png",
        ),
    },
    "focus_stacks/rpbaptista": {
        "bench": ("bench/Source2.png", "bench/Source1.png"),
        "bottle": ("bottle/Source3.png", "bottle/Source2.png", "bottle/Source1.png"),
        "poster": ("poster/Source2.png", "poster/Source3.png", "poster/Source1.png"),
        "tree": ("tree/Source1.png", "tree/Source3.png", "tree/Source2.png"),
    },
    "focus_stacks/petteri": {
        "board": tuple(f"examples/depthmap/pcb_{n:03}.JPG" for n in (3, 2, 1, 0)),
        "socket": tuple(f"examples/pcb/pcb_{n:03}.jpg" for n in (1, 2, 4, 3)),
    },
    "focus_stacks/qraleq": {
        "table": tuple(f"data/Set1/FS-{n}.jpg" for n in (10, 12, 13, 14)),
    },
    "focus_stacks/cmcguinness": {
        "ring": tuple(f"Input/step{n}.jpg" for n in (2, 3, 4, 5)),
    },
}
RADII = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.5, 12.0, 14.0, 16.0, 18.0, 21.0)
WIDE = 0.03  # of the shorter side: what is slower than this is light, not structure
LEVELS = (Level.SHARP, Level.LOW, Level.MEDIUM, Level.HIGH)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--preset", default="accurate")
    parser.add_argument("--only", help="build only the stacks whose folder contains this text")
    parser.add_argument(
        "--report", type=Path, default=Path("docs/benchmarks"), help="folder for the tables"
    )
    arguments = parser.parse_args()
    results: list[Result] = []
    for folder, scenes in STACKS.items():
        if arguments.only and arguments.only not in folder:
            continue
        name = folder.replace("/", "_")
        shoot, dataset = arguments.out / name / "shoot", arguments.out / name / "dataset"
        make_shoot(arguments.data / folder, scenes, shoot)
        try:
            built = build(shoot, dataset, preset=arguments.preset, jobs=arguments.jobs)
        except DefocusError as error:
            print(f"{name}: {error}", file=sys.stderr)
            # a table that is published names no folder of this machine
            reason = str(error).replace(str(arguments.out), "OUT")
            results.append(Result(name, "failed", (reason,)))
            continue
        for complaint in built.complaints:
            print(f"{name}: {complaint}", file=sys.stderr)
        for result in measure(shoot, dataset, arguments.out / name / "overlays"):
            print(f"{result.pair}: {result.after.median_px} px left", file=sys.stderr, flush=True)
            results.append(result)
    real_stacks_report.write(arguments.report, results, preset=arguments.preset)
    sys.exit(0 if all(result.verdict != "failed" for result in results) else 1)


def make_shoot(source: Path, scenes: dict[str, tuple[str, ...]], shoot: Path) -> None:
    """Copies and a shoot.csv that states the roles; whatever was there before goes."""
    shutil.rmtree(shoot, ignore_errors=True)
    shoot.mkdir(parents=True)
    with (shoot / "shoot.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "scene", "level", "offset"])
        for scene, names in scenes.items():
            for level, name in zip(LEVELS, names, strict=False):
                target = shoot / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, target)
                table.writerow([name, scene, str(level), level.offset])


def measure(shoot: Path, dataset: Path, overlays: Path) -> Iterator[Result]:
    rows = read_scenes(dataset / "scenes.parquet")
    sharp = {row["scene"]: row for row in rows if row["level"] == Level.SHARP}
    for row in rows:
        if row["level"] == Level.SHARP:
            continue
        pair = f"{row['scene']}/{row['level']}"
        if row["image"] is None:
            yield Result(pair, row["verdict"], tuple(row["reasons"]))
            continue
        reference = read(shoot / sharp[row["scene"]]["source"])
        before = read(shoot / row["source"])
        after = read(dataset / row["image"])
        x0, y0, x1, y1 = row["valid_area"] or (0, 0, row["width"], row["height"])
        inside = np.zeros(reference.shape[:2], bool)
        inside[y0:y1, x0:x1] = True
        overlays.mkdir(parents=True, exist_ok=True)
        picture = np.hstack(
            [overlay(reference, image, row["blur_radius_px"] or 0.0) for image in (before, after)]
        )
        cv2.imwrite(str(overlays / f"{row['scene']}_{row['level']}.png"), picture[..., ::-1])
        yield Result(
            pair,
            row["verdict"],
            tuple(row["reasons"]),
            local_shifts(reference, before, np.ones_like(inside)),
            local_shifts(reference, after, inside),
            row["residual_px"],
            row["blur_radius_px"],
            second_opinions(
                reference,
                before,
                warp_of(row),
                radius_px=row["blur_radius_px"] or 0.0,
                valid_area=(x0, y0, x1, y1),
            ),
        )


def warp_of(row: dict[str, Any]) -> Warp:
    a, b, c, d, e, f = row["matrix"]
    return Warp(((a, b, c), (d, e, f)), row["radial"] or 0.0, (row["width"], row["height"]))


def read(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        sys.exit(f"{path}: cannot be read")
    return np.asarray(image, np.uint8)


def local_shifts(sharp: Image, blurred: Image, inside: npt.NDArray[np.bool_]) -> Shifts:
    """Shift of the blurred image against the sharp one, block by block.

    The sharp image is blurred by disks of many radii, of which the one that correlates best in a
    block counts there; a block counts if that is above 0.8.
    """
    side = min(sharp.shape[:2])
    factor = min(1.0, 768 / side)
    side = round(side * factor)
    sharp_light, light = reduced(sharp, factor), reduced(blurred, factor)
    candidates = [structure(blur_disk(sharp_light, radius)) for radius in RADII]
    image = structure(light)
    block, border = int(0.25 * side), int(0.08 * side)
    usable = cv2.resize(inside.astype(np.uint8), image.shape[::-1], interpolation=cv2.INTER_NEAREST)
    # what lies outside the valid area must not reach a block through the filters
    reach = 2 * int(2 * WIDE * side) + 1
    usable = cv2.erode(usable, np.ones((reach, reach), np.uint8), borderValue=1)
    contrast = cv2.GaussianBlur(np.square(light - cv2.GaussianBlur(light, (0, 0), 8)), (0, 0), 8)
    shifts = []
    for y in range(border, image.shape[0] - block - border + 1, block // 2):
        for x in range(border, image.shape[1] - block - border + 1, block // 2):
            window = slice(y, y + block), slice(x, x + block)
            if not usable[window].all() or contrast[window].mean() < 1e-5:
                continue
            score, dx, dy = best_match([c[window] for c in candidates], image, x, y)
            if score > 0.8:
                shifts.append(visible_length(candidates[0][window], dx, dy) / factor)
    return Shifts(float(np.median(shifts)) if shifts else None, len(shifts))


def visible_length(block: Gray, dx: float, dy: float) -> float:
    """Length of a shift; only across the stripes where there is nothing but stripes."""
    gy, gx = np.gradient(block)
    tensor = np.array([[(gx * gx).sum(), (gx * gy).sum()], [(gx * gy).sum(), (gy * gy).sum()]])
    values, vectors = np.linalg.eigh(tensor)
    if values[0] < 0.1 * values[1]:
        return float(abs(vectors[:, 1] @ (dx, dy)))
    return float(np.hypot(dx, dy))


def reduced(image: Image, factor: float) -> Gray:
    """Green in linear light, where blur is a sum, at the working resolution."""
    green = to_linear(image[..., 1])
    if factor < 1:
        green = cv2.resize(green, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(green, np.float32)


def structure(light: Gray) -> Gray:
    """Detail relative to its surroundings: without slow changes of light, and with no highlight
    louder than a shadow."""
    wide = WIDE * min(light.shape)
    values = np.sqrt(np.maximum(light, 0))
    detail = cv2.GaussianBlur(values, (0, 0), 1.0) - cv2.GaussianBlur(values, (0, 0), wide)
    strength = cv2.GaussianBlur(np.square(detail), (0, 0), wide)
    return np.asarray(detail / np.sqrt(strength + 1e-4), np.float32)


def best_match(templates: list[Gray], image: Gray, x: int, y: int) -> tuple[float, float, float]:
    """The best of `block_shift` over the radii: every fourth first, then those around it."""
    found: dict[int, tuple[float, float, float]] = {}
    for step in (4, 2, 1):
        centre = max(found, key=lambda i: found[i], default=None)
        near = range(len(templates)) if centre is None else range(centre - step, centre + step + 1)
        for index in near[::step]:
            if 0 <= index < len(templates) and index not in found:
                # a copy, for ECC misreads a view of an array
                found[index] = block_shift(templates[index].copy(), image, x, y)
    return max(found.values())


def block_shift(template: Gray, image: Gray, x: int, y: int) -> tuple[float, float, float]:
    """Correlation, and where the template, cut at (x, y), lies in the image from (x, y)."""
    height, width = template.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    here = image[y : y + height, x : x + width].copy()
    (dx, dy), _ = cv2.phaseCorrelate(template - template.mean(), here - here.mean(), window)
    best = (-1.0, 0.0, 0.0)
    for start in {(0.0, 0.0), (round(dx), round(dy))}:
        warp = np.float32([[1, 0, x + start[0]], [0, 1, y + start[1]]])
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-5)
        try:
            score, found = cv2.findTransformECC(
                template, image, warp, cv2.MOTION_TRANSLATION, criteria, None, 1
            )
        except cv2.error:  # it says so when the iteration diverges
            continue
        best = max(best, (float(score), float(found[0, 2]) - x, float(found[1, 2]) - y))
    return best


def overlay(sharp: Image, blurred: Image, radius_px: float, *, width: int = 800) -> Image:
    """Red the sharp image, softened as much as the other is; cyan the blurred one."""
    soft = cv2.GaussianBlur(sharp, (0, 0), radius_px / 2) if radius_px > 0.2 else sharp
    first, second = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (soft, blurred))
    both = np.dstack([first, second, second])
    factor = width / both.shape[1]
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(both, None, fx=factor, fy=factor, interpolation=how), np.uint8)


if __name__ == "__main__":
    main()
