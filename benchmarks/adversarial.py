"""Where registration finds its start, and what it must never accept.

    python benchmarks/adversarial.py                       # about 20 minutes on one core
    python benchmarks/adversarial.py --rounds 1 --pairs 20 --unscaled 0 --full 0 --out out

Wrong pairs of every kind (another scene, a moved camera, moved things, broken captures) at a small
size: none may be accepted.  Right pairs over the whole range that the start must cover: at a
quarter of the camera's size with shift and radius in proportion, at that size with shift and radius
as they are (up to 80 and 25 px), and a few at full size.  Each must be found or rejected, and what
is accepted must be as exact as it says.  Everything comes from the seed.  With --data the sharp
captures of real stacks are also paired with the blurred ones of others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import adversarial_report
from adversarial_pairs import KINDS, WrongPair, crossed_pairs, wrong_pairs
from results import frame_size, note
from start_pairs import StartPair, draw_starts, flat_scene, make_start, start_margin_px
from truth_pairs import FULL_SIZE

from defocus_ds.config import RegisterConfig
from defocus_ds.errors import RegistrationFailed
from defocus_ds.frames import UInt8Image
from defocus_ds.optics import Warp
from defocus_ds.stages.register import register

__all__ = ["judge_starts", "judge_wrong"]

WRONG_SIZE = (480, 320)
START_SIZE = (1449, 967)

Run = dict[str, Any]


def main() -> None:
    given = parse()
    drawn = wrong_pairs(given.wrong_size, count=given.rounds, seed=given.seed, only=given.only)
    wrong = judge_wrong(drawn)
    if given.data is not None:
        wrong += judge_wrong(crossed_pairs(given.data, given.wrong_size))
    starts: list[Run] = []
    for count, size, unscaled in (
        (given.pairs, given.size, False),
        (given.unscaled, given.size, True),
        (given.full, FULL_SIZE, False),
    ):
        more = draw_starts(count, size=size, seed=given.seed, full_scale=unscaled) if count else []
        starts += judge_starts(more, seed=given.seed)
    adversarial_report.write(given.out, wrong, starts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=6, help=f"{len(KINDS)} wrong pairs a round")
    parser.add_argument("--wrong-size", type=frame_size, default=WRONG_SIZE, metavar="WxH")
    parser.add_argument("--only", default="", help="kinds of wrong pairs whose name contains this")
    parser.add_argument("--data", type=Path, help="real stacks, to be paired with one another")
    parser.add_argument("--pairs", type=int, default=100, help="right pairs")
    parser.add_argument("--size", type=frame_size, default=START_SIZE, metavar="WxH")
    parser.add_argument(
        "--unscaled",
        type=int,
        default=24,
        help="right pairs of --size with shift and radius up to 80 and 25 px",
    )
    parser.add_argument("--full", type=int, default=3, help="right pairs at 5796x3870")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def judge_wrong(pairs: Iterable[WrongPair], *, config: RegisterConfig | None = None) -> list[Run]:
    """Register wrong pairs: kind, whether it was accepted, and why not."""
    runs = []
    for pair in pairs:
        run = _registered(pair.sharp, pair.blurred, config)[0]
        height, width = pair.sharp.shape[:2]
        runs.append({"kind": pair.kind, "number": pair.number, "size": [width, height]} | run)
        note(f"{pair.kind} {pair.number}: {'ACCEPTED' if run['accepted'] else run['reasons']}")
    return runs


def judge_starts(
    pairs: Sequence[StartPair], *, seed: int = 0, config: RegisterConfig | None = None
) -> list[Run]:
    """Register right pairs: what was drawn, whether the map was accepted, and how wrong it is."""
    if not pairs:
        return []
    margin = start_margin_px(pairs)
    runs = []
    for scene in sorted({p.scene for p in pairs}):
        light = flat_scene(scene, pairs[0].warp.size, margin=margin, seed=seed)
        for pair in (p for p in pairs if p.scene == scene):
            sharp, blurred = make_start(pair, light, margin=margin, seed=seed)
            run, warp = _registered(sharp, blurred, config)
            if warp is not None:
                run["error_px"] = warp.mean_difference_px(pair.warp)
            about = {"number": pair.number, "size": list(pair.warp.size), "drawn": pair.drawn}
            about |= {"unscaled": pair.unscaled, "true_radius_px": pair.radius_px}
            runs.append(about | run)
            note(f"{pair.number}: {run.get('error_px')} px, {run['reasons'] or 'accepted'}")
    return runs


def _registered(
    sharp: UInt8Image, blurred: UInt8Image, config: RegisterConfig | None
) -> tuple[Run, Warp | None]:
    begun = time.process_time()
    try:
        found = register(sharp, blurred, config=config)
    except RegistrationFailed as error:
        return {"accepted": False, "reasons": [f"refused: {error}"], "cpu_s": 0.0}, None
    return {
        "accepted": bool(found.verdict),
        "reasons": list(found.verdict.reasons),
        "residual_px": found.residual_px,
        "ncc": found.ncc,
        "explained": found.explained,
        "radius_px": found.blur_radius_px,
        "cpu_s": time.process_time() - begun,
    }, found.warp


if __name__ == "__main__":
    main()
