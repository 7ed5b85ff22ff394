"""Colour matching against known truth: CIEDE2000, contrast and cost of ours and of every peer.

    python benchmarks/colour.py                 # accuracy at 2.5 megapixels, cost at 22
    python benchmarks/colour.py --size 744x496 --cost-size 744x496 --scenes 1 --out out

A capture is made twice from the same light and the same noise, with and without a change of
colours.  The first is corrected by each method and compared, pixel by pixel, with the second:
blurred alike, so that the difference is colour alone.  Every run has a process of its own with
one thread.  Peers that are not installed are listed as such.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import colour_report
import numpy as np
from casts import CASTS
from isolated import run_isolated
from peers_colour import METHODS, Method
from registration import work_folder
from results import note
from truth_pairs import FULL_SIZE, PairTruth, capture, draw_pairs, scene_for, see_blurred, see_sharp

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.measure.colour import colour_difference

__all__ = ["RADII_PX", "compare", "make_pair"]

RADII_PX = (3.0, 6.0, 12.0)

_SIZE = (1932, 1290)
_KNOWN = "cast known"
_BORDER = 32

Run = dict[str, Any]


def main() -> None:
    given = parse()
    methods = {name: m for name, m in METHODS.items() if given.only in name}
    with work_folder(given.work) as work:
        runs = []
        for scene in range(given.scenes):
            for radius in RADII_PX:
                for cast in CASTS:
                    runs += accuracy(given, work, methods, scene, radius, cast)
        costs = cost(given, work, methods)
    colour_report.write(given.out, given.size, given.cost_size, runs, costs, methods)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--work", type=Path, help="folder to keep finished runs in")
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--size", type=_size, default=_SIZE, metavar="WxH")
    parser.add_argument("--cost-size", type=_size, default=FULL_SIZE, metavar="WxH")
    parser.add_argument("--repeats", type=int, default=3, help="cost: runs, the median counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="methods whose name contains this")
    return parser.parse_args()


def accuracy(
    given: argparse.Namespace,
    work: Path,
    methods: Mapping[str, Method],
    scene: int,
    radius_px: float,
    cast: str,
) -> list[Run]:
    """Every method on one pair: differences to the capture without the cast."""
    name = f"scene{scene}-{radius_px:g}-{''.join(c if c.isalnum() else '-' for c in cast)}"
    done = work / f"{name}.json"
    kept: dict[str, Run] = json.loads(done.read_text()) if done.is_file() else {}
    missing = [m for m in methods if METHODS[m].installed and m not in kept]
    if missing:
        truth, sharp, blurred, uncast = make_pair(
            scene, radius_px=radius_px, cast=cast, size=given.size, seed=given.seed
        )
        kept[_KNOWN] = compare(truth.cast.undo(blurred), uncast)
        task = _saved(work, sharp, blurred)
        task["alignment"] = run_isolated("peers_colour", "register", task, folder=work).get(
            "alignment"
        )
        task["result"] = str((work / "result.npy").resolve())
        for method in missing:
            found = run_isolated("peers_colour", method, task, folder=work)
            if "failed" not in found:
                found |= compare(np.load(task["result"], allow_pickle=False), uncast)
            kept[method] = found
            note(f"{name}  {method}: {found.get('ciede2000', found.get('failed'))}")
        done.write_text(json.dumps(kept))
    case = {"scene": scene, "radius_px": radius_px, "cast": cast}
    return [case | {"method": m} | kept[m] for m in (_KNOWN, *methods) if m in kept]


def cost(given: argparse.Namespace, work: Path, methods: Mapping[str, Method]) -> dict[str, Run]:
    """CPU seconds and memory of every method on one large pair, and what a LUT loses."""
    done = work / "cost.json"
    kept: dict[str, Run] = json.loads(done.read_text()) if done.is_file() else {}
    names = [*(m for m in methods if METHODS[m].installed), "lut against exact"]
    if all(name in kept for name in names):
        return kept
    note("cost: making the pair")
    _, sharp, blurred, _ = make_pair(
        0, radius_px=6.0, cast="gain+gamma+3x3", size=given.cost_size, seed=given.seed
    )
    task = _saved(work, sharp, blurred)
    task["alignment"] = run_isolated("peers_colour", "register", task, folder=work).get("alignment")
    for name in names:
        if name in kept:
            continue
        found = run_isolated("peers_colour", name, task, folder=work, timeout_s=1200)
        again = found.get("cpu_s", {}).get("all", 1e9) < 20
        others = [
            run_isolated("peers_colour", name, task, folder=work)
            for _ in range(given.repeats - 1 if again else 0)
        ]
        parts = found.get("cpu_s", {})
        for part in parts:
            parts[part] = float(np.median([parts[part], *(o["cpu_s"][part] for o in others)]))
        kept[name] = found
        note(f"cost  {name}: {parts} {found.get('failed', '')}")
        done.write_text(json.dumps(kept))
    return kept


def make_pair(
    scene: int, *, radius_px: float, cast: str, size: tuple[int, int], seed: int = 0
) -> tuple[PairTruth, UInt8Image, UInt8Image, UInt8Image]:
    """Truth, sharp capture, blurred capture, and the blurred one without the cast."""
    drawn = draw_pairs(scene, seed=seed, size=size, more=(), cast=cast)[1]
    truth = dataclasses.replace(drawn, radius_px=radius_px)
    layers = scene_for([truth], seed=seed)
    sharp = capture(see_sharp(layers, size), None, [seed, scene])
    light = see_blurred(layers, truth)
    noise = [seed, scene, 1]
    return truth, sharp, capture(light, truth.cast, noise), capture(light, None, noise)


def compare(image: UInt8Image, reference: UInt8Image) -> Run:
    """Mean CIEDE2000 of pixels and of 8x8 averages, and the error of contrast.

    A border of 32 px is left out.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    inner = (slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    step = max(1, int(np.sqrt(image.size / 3 / 1_000_000)))
    spread = [float(rgb2lab(i[inner][::step, ::step])[..., 0].std()) for i in (image, reference)]
    coarse = [rgb2lab(_averaged(i[inner])) for i in (image, reference)]
    return {
        "ciede2000_8px": float(deltaE_ciede2000(*coarse).mean()),
        "ciede2000": colour_difference(image[inner], reference[inner], step=step),
        "contrast_percent": 100 * (spread[0] / spread[1] - 1),
    }


def _averaged(image: UInt8Image) -> FloatImage:
    """Means of 8x8 pixels, in [0, 1]: noise is gone there."""
    height, width = (length // 8 for length in image.shape[:2])
    blocks = image[: height * 8, : width * 8].reshape(height, 8, width, 8, 3)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32) / 255)


def _saved(work: Path, sharp: UInt8Image, blurred: UInt8Image) -> dict[str, Any]:
    task: dict[str, Any] = {}
    for name, image in (("sharp", sharp), ("blurred", blurred)):
        task[name] = str((work / f"{name}.npy").resolve())
        np.save(task[name], image)
    return task


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
