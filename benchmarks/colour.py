"""Colour matching against known truth: CIEDE2000, contrast and cost of ours and of every peer.

    python benchmarks/colour.py                 # accuracy at 0.6 megapixels, cost at 22
    python benchmarks/colour.py --size 744x496 --cost-size 744x496 --scenes 1 --out out

A capture is made twice from the same light and the same noise, with and without a change of
colours.  The first is corrected by each method and compared, pixel by pixel, with the second:
blurred alike, so that the difference is colour alone.  Costs are measured in a process for each
method, with one thread.  Peers that are not installed are listed as such.  With ``--data``, real
pairs are matched too (see `colour_real`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import colour_real
import colour_report
import numpy as np
import numpy.typing as npt
from casts import CASTS, Cast
from isolated import run_isolated
from peers_colour import METHODS, Alignment, Method
from registration import work_folder
from results import note
from truth_pairs import (
    FULL_SIZE,
    READ,
    SHOT,
    PairTruth,
    draw_pairs,
    scene_for,
    see_blurred,
    see_sharp,
)

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.measure.colour import colour_difference
from defocus_ds.optics import to_encoded
from defocus_ds.resample import resample

__all__ = ["RADII_PX", "Captures", "compare", "make_captures", "make_pair"]

RADII_PX = (3.0, 6.0, 12.0)

_SIZE = (966, 644)
_BORDER = 32
_COMPARED = 150_000  # pixels, about: their mean is good to 0.002

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
    real = None if given.data is None else colour_real.measure(given.data, given.out)
    colour_report.write(given.out, given.size, given.cost_size, runs, costs, methods, real)


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
    parser.add_argument(
        "--data", type=Path, help="folder with focus_stacks and mmsp2024: real pairs too"
    )
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
        made = make_captures(
            scene, radius_px=radius_px, cast=cast, size=given.size, seed=given.seed
        )
        uncast = rounded(made.uncast)
        kept |= {
            f"cast known{depth}": compare(made.truth.cast.undo(rounded(made.blurred, bits)), uncast)
            for depth, bits in (("", 8), (", 16 bits", 16))
        }
        task = _saved(work, made, (8, 16))
        found = run_isolated("peers_colour", "register", task, folder=work)
        warp = Alignment.from_record(found["alignment"]).warp
        written = rounded(resample(made.uncast, warp))
        kept["without a cast, in the dataset"] = compare(resample(uncast, warp), written)
        task |= {
            "alignment": found["alignment"],
            "methods": missing,
            "results": str(work.resolve()),
        }
        ran = run_isolated("peers_colour", "each", task, folder=work)
        failed = ran.get("failed_methods", dict.fromkeys(missing, ran.get("failed")))
        for number, method in enumerate(missing):
            if method in failed:
                kept[method] = {"failed": failed[method]}
            else:
                goal = written if METHODS[method].dataset else uncast
                kept[method] = compare(np.load(work / f"{number}.npy", allow_pickle=False), goal)
            note(f"{name}  {method}: {kept[method].get('ciede2000', failed.get(method))}")
        done.write_text(json.dumps(kept))
    case = {"scene": scene, "radius_px": radius_px, "cast": cast}
    return [case | {"method": m} | kept[m] for m in kept]


def cost(given: argparse.Namespace, work: Path, methods: Mapping[str, Method]) -> dict[str, Run]:
    """CPU seconds and memory of every method on one large pair, and what a LUT loses."""
    done = work / "cost.json"
    kept: dict[str, Run] = json.loads(done.read_text()) if done.is_file() else {}
    ready = [m for m in methods if METHODS[m].installed and METHODS[m].bits == 8]
    names = [*ready, "lut against exact"]
    if all(name in kept for name in names):
        return kept
    note("cost: making the pair")
    made = make_captures(
        0, radius_px=6.0, cast="gain+gamma+3x3", size=given.cost_size, seed=given.seed
    )
    task = _saved(work, made, (8,))
    del made
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


@dataclass(frozen=True, slots=True)
class Captures:
    """One pair and its truth: (H, W, 3) float32 stored values in [0, 1], before rounding."""

    truth: PairTruth
    sharp: FloatImage
    blurred: FloatImage
    uncast: FloatImage


def make_captures(
    scene: int, *, radius_px: float, cast: str, size: tuple[int, int], seed: int = 0
) -> Captures:
    """Sharp capture, blurred capture, and the blurred one without the cast."""
    drawn = draw_pairs(scene, seed=seed, size=size, more=(), cast=cast)[1]
    truth = dataclasses.replace(drawn, radius_px=radius_px)
    layers = scene_for([truth], seed=seed)
    light = see_blurred(layers, truth)
    noise = [seed, scene, 1]
    return Captures(
        truth,
        _exposed(see_sharp(layers, size), Cast(), [seed, scene]),
        _exposed(light, truth.cast, noise),
        _exposed(light, Cast(), noise),
    )


def make_pair(
    scene: int, *, radius_px: float, cast: str, size: tuple[int, int], seed: int = 0
) -> tuple[PairTruth, UInt8Image, UInt8Image, UInt8Image]:
    """`make_captures` in 8 bits: truth, sharp, blurred, uncast."""
    made = make_captures(scene, radius_px=radius_px, cast=cast, size=size, seed=seed)
    return made.truth, rounded(made.sharp), rounded(made.blurred), rounded(made.uncast)


def _exposed(light: FloatImage, cast: Cast, noise_seed: Sequence[int]) -> FloatImage:
    """Cast, shot and read noise, sRGB; the same seed draws the same noise."""
    rng = np.random.default_rng(noise_seed)
    out = np.empty(light.shape, np.float32)
    for top in range(0, len(light), 256):  # in strips, for memory
        rows = cast.change_light(light[top : top + 256])
        draws = rng.standard_normal(rows.shape, np.float32)
        noisy = rows + draws * np.sqrt(SHOT * np.maximum(rows, 0) + READ**2).astype(np.float32)
        stored = cast.change_stored(to_encoded(np.clip(noisy, 0, 1)))
        out[top : top + 256] = np.clip(stored, 0, 1)
    return out


def rounded(image: FloatImage, bits: int = 8) -> npt.NDArray[Any]:
    """Stored values in [0, 1] as uint8 or uint16."""
    kind = np.uint8 if bits == 8 else np.uint16
    return np.asarray(np.rint(image * np.float32(np.iinfo(kind).max)), kind)


def compare(image: UInt8Image, reference: UInt8Image) -> Run:
    """Mean CIEDE2000 of pixels and of 8x8 averages, and the error of contrast.

    A border of 32 px is left out.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    inner = (slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    step = max(1, round(np.sqrt(image.size / 3 / _COMPARED)))
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


def _saved(work: Path, made: Captures, depths: Sequence[int]) -> dict[str, Any]:
    task: dict[str, Any] = {}
    for bits in depths:
        for name, image in (("sharp", made.sharp), ("blurred", made.blurred)):
            key = name if bits == 8 else f"{name}{bits}"
            task[key] = str((work / f"{key}.npy").resolve())
            np.save(task[key], rounded(image, bits))
    return task


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
