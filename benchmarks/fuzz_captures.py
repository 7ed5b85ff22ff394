"""Damaged captures: what scan and develop refuse, and what passes them unseen.

``python benchmarks/fuzz_captures.py DATA_DIR OUT [--captures 2100] [--full-size 14]``: every
damaged capture is the sharp one of a bracket, beside an undamaged one, in a shoot that is
scanned as `build` does; what the scan keeps is planned and developed in the decoding process.
Passed with other pixels than those of the undamaged file is *undetected*.
DATA_DIR holds the folder ``canon`` of real captures.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from fuzz_kinds import KINDS, damaged
from fuzz_seeds import Seed, seeds
from results import machine, note, number, table, write_json, write_text

from defocus_ds.config import DevelopConfig, LimitsConfig
from defocus_ds.errors import StageFailed
from defocus_ds.frames import Bracket, UInt8Image
from defocus_ds.stages.decoding import Decoder
from defocus_ds.stages.develop import develop, plan_development
from defocus_ds.stages.ingest import survey

__all__ = ["OUTCOMES", "Case", "judge", "report"]

LIMITS = LimitsConfig()
OUTCOMES = ("refused", "unharmed", "undetected", "defect")
_BATCH = 40
_START = "<!-- damaged captures: written by benchmarks/fuzz_captures.py -->\n"
_END = "<!-- end of damaged captures -->\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One damaged capture and what became of it.

    ``outcome`` is one of `OUTCOMES`; ``by`` the step that refused it: scan, plan, develop or
    worker (it died or hit a limit); ``changed`` the share of the picture's pixels that
    differ; ``message`` what was said, or the traceback of a defect.
    """

    seed: str
    kind: str
    outcome: str
    by: str = ""
    changed: float = 0.0
    seconds: float = 0.0
    message: str = ""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--captures", type=int, default=2100, help="small ones, of all seeds")
    options.add_argument("--full-size", type=int, default=14, help="raws of 5796x3870 developed")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--page", type=Path, help="Markdown page to write the section into")
    given = options.parse_args()
    work = given.out / "work"
    found = seeds(given.data, work / "seeds", full_size=given.full_size > 0)
    rng = np.random.default_rng(given.seed)
    cases: list[Case] = []
    started = time.perf_counter()
    small = [seed for seed in found if not seed.full_size]
    weights = np.array([seed.weight for seed in small]) / sum(seed.weight for seed in small)
    counts = dict(zip(small, np.round(weights * given.captures).astype(int), strict=True))
    counts |= {seed: given.full_size for seed in found if seed.full_size}
    for seed, count in counts.items():
        cases += _run_seed(seed, int(count), rng, work)
        note(f"{seed.path.name}: {Counter(c.outcome for c in cases)}")
    usage = {
        "seconds": time.perf_counter() - started,
        # an upper bound: the system counts what this process held when it started them, too
        "largest worker, MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    record = {
        "limits": asdict(LIMITS),
        "usage": usage,
        "machine": machine(("defocus-ds", "rawpy", "pillow", "opencv-python-headless", "numpy")),
        "cases": [asdict(case) for case in cases],
    }
    write_json(given.out / "fuzz_captures.json", record)
    text = report(cases, usage, record["machine"])
    if given.page:
        _into_page(given.page, text)
    print(text)
    defects = [case for case in cases if case.outcome == "defect"]
    for case in defects:
        note(f"{case.seed}, {case.kind}: {case.message}")
    if defects:
        raise SystemExit(1)


def _run_seed(seed: Seed, count: int, rng: np.random.Generator, work: Path) -> list[Case]:
    """Damage a seed ``count`` times, the kinds in turn."""
    whole = seed.path.read_bytes()
    made: list[tuple[str, bytes]] = []
    # of the large ones, what reaches the samples: their headers are those of the small ones
    kinds = list(KINDS)[2:8] + list(KINDS)[:1] if seed.full_size else list(KINDS)
    for turn in range(count + 10 * len(kinds)):
        if len(made) == count:
            break
        kind = kinds[turn % len(kinds)]
        data = damaged(kind, whole, rng)
        if data is not None:
            made.append((kind, data))
    intact = None
    if judge(seed, [("none", whole)], work, None)[0].outcome == "unharmed":
        intact = np.load(work / "pixels.npy")
    cases: list[Case] = []
    size = 4 if seed.full_size else _BATCH
    for at in range(0, len(made), size):
        cases += judge(seed, made[at : at + size], work, intact)
    return cases


def judge(
    seed: Seed, made: Sequence[tuple[str, bytes]], work: Path, intact: UInt8Image | None
) -> list[Case]:
    """Scan a shoot of (kind, bytes), each the sharp capture of a scene, and develop what passes.

    Args:
        seed: what they were made of; its ``partner`` is the other capture of each scene.
        work: folder to use; ``pixels.npy`` in it are those of the last one that passed.
        intact: pixels of the undamaged file; None: nothing to compare with, "unharmed".
    """
    shoot = work / "shoot"
    shutil.rmtree(shoot, ignore_errors=True)
    shoot.mkdir(parents=True)
    suffix = seed.path.suffix
    lines = ["file,scene,level"]
    for index, (_, data) in enumerate(made):
        (shoot / f"c{index}{suffix}").write_bytes(data)
        (shoot / f"p{index}{seed.partner.suffix}").hardlink_to(seed.partner)
        lines += [f"c{index}{suffix},s{index},sharp", f"p{index}{seed.partner.suffix},s{index},low"]
    (shoot / "shoot.csv").write_text("\n".join(lines) + "\n")
    started = time.perf_counter()
    try:
        found = survey(shoot, limits=LIMITS).shoot
    except Exception:
        if len(made) == 1:
            return [Case(seed.path.name, made[0][0], "defect", "scan", message=_trace())]
        return [case for item in made for case in judge(seed, [item], work, intact)]
    scanned = (time.perf_counter() - started) / len(made)
    brackets = {bracket.scene: bracket for bracket in found.brackets}
    complaints: dict[str, str] = {}
    for said in found.complaints:
        if said.severity == "error":
            for index in range(len(made)):
                if said.where in (f"c{index}{suffix}", f"s{index}"):
                    complaints.setdefault(f"s{index}", f"{said.where}: {said.message}")
    cases = []
    decoder = Decoder(LIMITS)
    for index, (kind, _) in enumerate(made):
        name = f"c{index}{suffix}"
        if (bracket := brackets.get(f"s{index}")) is None:
            message = complaints.get(f"s{index}", "")
            case = _refused(seed, kind, "scan", message, name, f"s{index}")
        else:
            case = _developed(seed, kind, bracket, name, work, intact, decoder)
        cases.append(_at(case, case.seconds + scanned))
    decoder.close()
    return cases


def _developed(
    seed: Seed,
    kind: str,
    bracket: Bracket,
    name: str,
    work: Path,
    intact: UInt8Image | None,
    decoder: Decoder,
) -> Case:
    target = work / "pixels.npy"
    started = time.perf_counter()
    by = "plan"
    try:
        plan = plan_development(bracket, DevelopConfig(), limits=LIMITS)
        by = "develop"
        develop(bracket.sharp, development=plan, limits=LIMITS, target=target, decoder=decoder)
    except StageFailed as error:
        by = "worker" if type(error).__name__ == "WorkerDied" else by
        return _at(_refused(seed, kind, by, str(error), name), time.perf_counter() - started)
    except Exception:
        return Case(seed.path.name, kind, "defect", by, message=_trace())
    seconds = time.perf_counter() - started
    pixels = np.load(target)
    if intact is None or np.array_equal(pixels, intact):
        return Case(seed.path.name, kind, "unharmed", seconds=seconds)
    changed = 1.0
    if pixels.shape == intact.shape:
        changed = float(np.any(pixels != intact, axis=2).mean())
    return Case(seed.path.name, kind, "undetected", changed=changed, seconds=seconds)


def _refused(seed: Seed, kind: str, by: str, message: str, *names: str) -> Case:
    """A refusal; it is a defect unless it is one line that names the file or its scene."""
    good = "\n" not in message and "Traceback" not in message
    good = good and any(f"{name}:" in message for name in names)
    # the software's own fault, by its own words: nothing a damaged file may bring about
    good = good and "fault of the software" not in message
    return Case(seed.path.name, kind, "refused" if good else "defect", by, message=message)


def _at(case: Case, seconds: float) -> Case:
    return Case(**(asdict(case) | {"seconds": round(seconds, 3)}))


def _trace() -> str:
    return traceback.format_exc(limit=-3)


def report(cases: Sequence[Case], usage: dict[str, float], where: dict[str, str]) -> str:
    """The section of the page: by kind of damage, by kind of file, and what it cost."""
    undetected = [case.changed for case in cases if case.outcome == "undetected"]
    steps = Counter(case.by for case in cases if case.outcome == "refused")
    passed = [f"{steps[step]} by {step}" for step in ("scan", "plan", "develop", "worker")]
    median = f", half of these in at most {np.median(undetected):.1%} of the pixels"
    parts = [
        f"`python benchmarks/fuzz_captures.py DATA_DIR OUT`: {len(cases)} damaged captures, "
        f"{sum(c.outcome == 'defect' for c in cases)} defects. Refused: {', '.join(passed)}. "
        f"Passed with other pixels: {len(undetected)}{median if undetected else ''}.",
        table(("damage", "tried", *OUTCOMES[:3]), _rows(cases, list(KINDS), "kind")),
        table(
            ("file", "tried", *OUTCOMES[:3]),
            _rows(cases, sorted({case.seed for case in cases}), "seed"),
        ),
        f"Slowest capture {number(max(c.seconds for c in cases))} s "
        f"(limit {LIMITS.decode_timeout_s:g}), no decoding process above "
        f"{usage['largest worker, MB']:.0f} MB (limit {LIMITS.decode_memory_mb}), all in "
        f"{usage['seconds'] / 60:.0f} min.",
        ", ".join(f"{key} {value}" for key, value in where.items()) + ".",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _rows(cases: Sequence[Case], names: Sequence[str], by: str) -> list[tuple[str, ...]]:
    rows = []
    for name in [*names, "all"]:
        counts = Counter(c.outcome for c in cases if name in (getattr(c, by), "all"))
        tried = sum(counts.values())
        rows.append((name, str(tried), *(str(counts[outcome]) for outcome in OUTCOMES[:3])))
    return rows


def _into_page(page: Path, text: str) -> None:
    """Put the section between its two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(_START)
    _, _, after = rest.partition(_END)
    write_text(page, f"{before}{_START}\n{text}\n{_END}{after}")


if __name__ == "__main__":
    main()
