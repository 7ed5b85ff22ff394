"""Colour matching against known truth: CIEDE2000, contrast and cost of ours and of every peer.

    python benchmarks/colour.py                 # accuracy at 0.6 megapixels, cost at 22
    python benchmarks/colour.py --size 744x496 --cost-size 744x496 --scenes 1 --out out

A capture is made twice from the same light and the same noise, with and without a change of
colours.  The first is corrected by each method and compared, pixel by pixel, with the second:
blurred alike, so that the difference is colour alone.  Costs are measured in a process for each
method, with one thread.  Peers that are not installed are listed as such.  With ``--data``, real
pairs are matched too (see `colour_real`).  With ``--work`` finished runs are kept, and an
interrupted benchmark goes on; a folder holds the runs of one seed, data and sizes, and failed runs
are tried again.
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
from isolated import run_isolated, work_folder
from peers_colour import METHODS, Alignment, Method
from results import frame_size, note
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
    key = {
        "benchmark": "colour",
        "seed": given.seed,
        "size": given.size,
        "cost_size": given.cost_size,
        "scenes": given.scenes,
        "repeats": given.repeats,
        "data": None if given.data is None else str(given.data),
    }
    with work_folder(given.work, **key) as work:
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
    parser.add_argument("--size", type=frame_size, default=_SIZE, metavar="WxH")
    parser.add_argument("--cost-size", type=frame_size, default=FULL_SIZE, metavar="WxH")
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
    """Every method on one pair: differences to the capture without the cast, or what failed."""
    name = f"scene{scene}-{radius_px:g}-{''.join(c if c.isalnum() else '-' for c in cast)}"
    done = work / f"{name}.json"
    kept: dict[str, Run] = json.loads(done.read_text()) if done.is_file() else {}
    missing = [m for m in methods if METHODS[m].installed and m not in kept]
    failed: dict[str, str] = {}
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
        task |= {"methods": missing, "results": str(work.resolve())}
        ran = _registered(task, work)
        if "failed" not in ran:
            warp = Alignment.from_record(task["alignment"]).warp
            written = rounded(resample(made.uncast, warp))
            kept["without a cast, in the dataset"] = compare(resample(uncast, warp), written)
            ran = run_isolated("peers_colour", "each", task, folder=work)
        failed = ran.get("failed_methods", dict.fromkeys(missing, ran.get("failed")))
        for number, method in enumerate(missing):
            if method not in failed:
                goal = written if METHODS[method].dataset else uncast
                kept[method] = compare(np.load(work / f"{number}.npy", allow_pickle=False), goal)
            note(f"{name}  {method}: {failed.get(method) or kept[method]['ciede2000']}")
        done.write_text(json.dumps(kept))
    case = {"scene": scene, "radius_px": radius_px, "cast": cast}
    runs = kept | {m: {"failed": reason} for m, reason in failed.items()}
    return [case | {"method": m} | run for m, run in runs.items()]


def cost(given: argparse.Namespace, work: Path, methods: Mapping[str, Method]) -> dict[str, Run]:
    """CPU seconds and memory of every method on one large pair, and what a LUT loses.

    A method of which one run failed has no figures but ``failed``, the reason.
    """
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
    without = _registered(task, work)
    failed: dict[str, Run] = {}
    for name in names:
        if name in kept:
            continue
        found = without or _median_run(name, task, work, given.repeats)
        (failed if "failed" in found else kept)[name] = found
        note(f"cost  {name}: {found.get('failed') or found['cpu_s']}")
        done.write_text(json.dumps(kept))
    return {name: (kept | failed)[name] for name in names}


def _registered(task: Run, work: Path) -> Run:
    """Give the task its alignment; empty, or why there is none."""
    found = run_isolated("peers_colour", "register", task, folder=work)
    if "failed" in found:
        return {"failed": f"registration: {found['failed']}"}
    task["alignment"] = found["alignment"]
    return {}


def _median_run(name: str, task: Run, work: Path, repeats: int) -> Run:
    """A method's run with the median of its seconds; a slow method runs once."""
    found = run_isolated("peers_colour", name, task, folder=work, timeout_s=1200)
    again = found.get("cpu_s", {}).get("all", 1e9) < 20
    runs = [found]
    for _ in range(repeats - 1 if again else 0):
        runs.append(run_isolated("peers_colour", name, task, folder=work))
        if "failed" in runs[-1]:
            return {"failed": f"repeat {len(runs)}: {runs[-1]['failed']}"}
    if "failed" in found:
        return found
    parts = {
        part: float(np.median([run["cpu_s"][part] for run in runs])) for part in found["cpu_s"]
    }
    return found | {"cpu_s": parts}


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


if __name__ == "__main__":
    main()
