"""Registration against known truth: accuracy, success and cost of ours and of every peer.

    python benchmarks/registration.py                   # a full-size scene, 6 pairs;
                                                       # about 20 CPU minutes
    python benchmarks/registration.py --full            # also the paper's settings at full size
    python benchmarks/registration.py --size 1449x967 --work work --out out   # a quick look

Truth comes from seeds.  Every method runs in a process of its own with one thread.  The error is
the mean distance in px between the map found and the true one on a 21x21 grid over the frame; in
the hard case the truth is the background's.  Peers that are not installed are listed as such.
With --work the pairs and the finished runs are kept, and an interrupted benchmark goes on; a
folder holds the runs of one seed and size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peers_registration
import registration_report
from certificate_runs import ALL_KINDS
from isolated import remember, remembered, run_isolated, work_folder
from registration_error import (
    best_affine_px,
    covered_points,
    error_px,
    noise_floor_px,
    visible_error_px,
)
from results import frame_size, note
from truth_pairs import (
    FULL_SIZE,
    PairTruth,
    capture,
    draw_pairs,
    scene_for,
    see_blurred,
    see_sharp,
)

from defocus_ds.optics import Warp

__all__ = ["ITERATIONS", "make_pairs", "run_methods", "scored", "task"]

ITERATIONS = (100, 300, 500, 1000, 1500, 2300, 4600)
Run = dict[str, Any]


def main() -> None:
    given = parse()
    with work_folder(given.work, seed=given.seed, size=given.size) as work:
        methods = {
            name: method
            for name, method in peers_registration.METHODS.items()
            if (given.full or not method.asked) and given.only in name
        }
        warm_up(work)
        pairs: list[PairTruth] = []
        runs: list[Run] = []
        for scene in range(given.scenes):
            made = make_pairs(draw_pairs(scene, seed=given.seed, size=given.size), work, given.seed)
            pairs += made
            for truth in made:
                runs += run_methods(truth, methods, work, first=scene == 0)
        sweep = iterations(pairs, work) if given.sweep else []
        certificate = calibrate(given.calibration, work, given.seed)
    registration_report.write(given.out, pairs, runs, sweep, certificate, methods)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--work", type=Path, help="folder to keep pairs and finished runs in")
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--size", type=frame_size, default=FULL_SIZE, metavar="WxH")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibration", type=int, default=66, help="pairs for the certificate")
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--full", action="store_true", help="the paper's preset (7 CPU min a pair)")
    parser.add_argument("--no-sweep", dest="sweep", action="store_false")
    return parser.parse_args()


def warm_up(work: Path) -> None:
    """Compile what is compiled once per installation, so that no pair pays for it."""
    small = [p for p in draw_pairs(0, size=(512, 384)) if p.name == "scene0-medium"]
    folder = work / "warm"
    folder.mkdir(exist_ok=True)
    made = make_pairs([dataclasses.replace(small[0], radius_px=3.0)], folder, 0)
    for method in ("accurate", "es 10"):
        run_isolated("peers_registration", method, task(made[0], folder), folder=folder)
    shutil.rmtree(folder)


def make_pairs(pairs: Sequence[PairTruth], work: Path, seed: int) -> list[PairTruth]:
    """Write the captures of one scene's pairs as .npy files, unless they are there."""
    missing = [truth.name for truth in pairs if not _kept(truth, work)]
    if missing:
        note(f"scene {pairs[0].scene}: making {len(missing)} pairs")
        scene = scene_for(pairs, seed=seed)
        light = see_sharp(scene, pairs[0].warp.size)
        np.save(work / f"scene{pairs[0].scene}.npy", capture(light, None, [seed, pairs[0].scene]))
        for number, truth in enumerate(pairs):
            if truth.name not in missing:
                continue
            light = see_blurred(scene, truth)
            noise = [seed, truth.scene, number + 1]
            np.save(work / f"{truth.name}.npy", capture(light, truth.cast, noise))
            facts = {
                "noise_floor_px": noise_floor_px(light[..., 1], truth.warp),
                "foreground": covered_points(scene) if truth.kind == "hard" else [],
            }
            (work / f"{truth.name}.json").write_text(json.dumps(facts))
    return list(pairs)


def task(truth: PairTruth, work: Path) -> dict[str, str]:
    files = {"sharp": f"scene{truth.scene}.npy", "blurred": f"{truth.name}.npy"}
    return {name: str((work / file).resolve()) for name, file in files.items()}


def run_methods(
    truth: PairTruth, methods: dict[str, peers_registration.Method], work: Path, *, first: bool
) -> list[Run]:
    """Every installed method on one pair, and what is known without any."""
    size = truth.warp.size
    facts = json.loads((work / f"{truth.name}.json").read_text())
    runs: list[Run] = [
        {"method": "unregistered", "error_px": error_px(Warp.identity(size), truth)},
        {"method": "best affine map", "error_px": best_affine_px(truth)},
        {"method": "noise alone", "error_px": facts["noise_floor_px"]},
    ]
    for name, method in methods.items():
        if not method.installed or (method.slow and (truth.kind != "plain" or not first)):
            continue
        found = remembered(work, name, truth.name)
        if found is None:
            found = run_isolated("peers_registration", name, task(truth, work), folder=work)
            remember(work, name, truth.name, found)
        run = scored(found, truth)
        if "error_px" in run:
            run["visible_error_px"] = visible_error_px(
                _warp(run, truth), truth, facts["foreground"]
            )
        runs.append(run | {"method": name})
        note(f"{truth.name}  {name}: {runs[-1].get('error_px', found.get('failed'))}")
    return [run | {"pair": truth.name, "level": truth.level, "kind": truth.kind} for run in runs]


def iterations(pairs: Sequence[PairTruth], work: Path) -> list[Run]:
    """The evolution strategy alone on one pair, by its limit of iterations a level."""
    truth = next(p for p in pairs if p.name == "scene0-medium")
    runs = []
    for count in ITERATIONS:
        found = remembered(work, f"es {count}", truth.name)
        if found is None:
            found = run_isolated(
                "peers_registration", f"es {count}", task(truth, work), folder=work
            )
            remember(work, f"es {count}", truth.name, found)
        runs.append(scored(found, truth) | {"iterations": count, "pair": truth.name})
        note(f"{truth.name}  {count} iterations: {runs[-1].get('error_px')}")
    return runs


def calibrate(count: int, work: Path, seed: int) -> list[Run]:
    """The claimed residual against the true error, on smaller pairs of every kind in turn."""
    runs = []
    for index in range(count):
        kind, number = ALL_KINDS[index % len(ALL_KINDS)], index // len(ALL_KINDS)
        name = f"{kind}{number}"
        found = remembered(work, "certificate", name)
        if found is None:
            given = {"number": number, "seed": seed}
            found = run_isolated("certificate_runs", kind, given, folder=work)
            remember(work, "certificate", name, found)
        runs.append(found | {"pair": name, "kind": kind})
        claimed, true = found.get("residual_px"), found.get("error_px")
        note(f"certificate {index + 1}/{count}, {name}: claims {claimed}, true {true}")
    return runs


def scored(found: Run, truth: PairTruth) -> Run:
    """The run with its error against the truth."""
    if "matrix" not in found:
        return found
    return found | {"error_px": error_px(_warp(found, truth), truth)}


def _warp(found: Run, truth: PairTruth) -> Warp:
    (a, b, c), (d, e, f) = found["matrix"]
    return Warp(((a, b, c), (d, e, f)), found["radial"], truth.warp.size)


def _kept(truth: PairTruth, work: Path) -> bool:
    files = [Path(file) for file in task(truth, work).values()]
    return all(file.is_file() for file in (*files, work / f"{truth.name}.json"))


if __name__ == "__main__":
    main()
