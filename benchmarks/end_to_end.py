"""The main job, timed and scored against known truth: simulate, build, crop, measure.

    python benchmarks/end_to_end.py end_to_end                 # two full-size scenes
    python benchmarks/end_to_end.py small --size 744x496       # a minute
    python benchmarks/end_to_end.py end_to_end --identity      # also --jobs 1 against 2

Exits with 1 when a limit is missed.  Interrupted, it goes on where it stopped; give a new folder
for timings from scratch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.crop import crop
from defocus_ds.frames import Level
from defocus_ds.measure.alignment import PairScore, score_build
from defocus_ds.pipeline import STAGES, build
from defocus_ds.simulate import simulate
from defocus_ds.store import read_json, sha256_file

REGISTRATION_PX = {Level.LOW: 0.10, Level.MEDIUM: 0.15, Level.HIGH: 0.25}
COLOUR_DIFFERENCE = 0.9
WORKER_MEMORY_MB = 3000.0
SECOND_BUILD_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One limit and what was measured; missing figures fail."""

    name: str
    measured: float | None
    limit: float
    unit: str

    @property
    def passed(self) -> bool:
        return self.measured is not None and self.measured <= self.limit

    def __str__(self) -> str:
        shown = "nothing" if self.measured is None else f"{self.measured:.3f}"
        return (
            f"{'ok    ' if self.passed else 'MISSED'}  {self.name}: {shown} {self.unit} "
            f"(limit {self.limit:g})"
        )


def main() -> None:
    arguments = parse()
    out: Path = arguments.out
    shoot, dataset = out / "shoot", out / "dataset"
    seconds: dict[str, float] = {}

    def timed(name: str, start: float) -> None:
        seconds[name] = time.perf_counter() - start
        note(f"{name}: {seconds[name]:.1f} s")

    start = time.perf_counter()
    simulate(
        shoot,
        scenes=arguments.scenes,
        size=arguments.size,
        seed=arguments.seed,
        images=arguments.images,
        references=True,
        progress=lambda done, total, what: note(f"simulate {done}/{total} {what}"),
    )
    timed("simulate", start)
    config = BuildConfig.from_preset(arguments.preset)
    start = time.perf_counter()
    first = build(shoot, dataset, config=config, jobs=arguments.jobs)
    timed("build", start)
    start = time.perf_counter()
    second = build(shoot, dataset, config=config, jobs=arguments.jobs)
    timed("second build", start)
    start = time.perf_counter()
    crops = crop(dataset, level=Level.LOW)
    timed("crop --level low", start)
    start = time.perf_counter()
    scores = score_build(dataset, shoot)
    timed("measure", start)

    checks = list(pair_checks(scores))
    memory = max((r["peak_memory_mb"] for r in receipts(dataset)), default=None)
    checks.append(Check("peak memory of a worker", memory, WORKER_MEMORY_MB, "MB"))
    checks.append(Check("second build", seconds["second build"], SECOND_BUILD_S, "s"))
    checks.append(Check("stages run by the second build", second.stages_run, 0, "stages"))
    checks.append(Check("scenes failed", len(first.failed), 0, "scenes"))
    if arguments.identity:
        other = out / "dataset-jobs1"
        shutil.rmtree(other, ignore_errors=True)
        start = time.perf_counter()
        build(shoot, other, config=config, jobs=1)
        crop(other, level=Level.LOW)
        timed("build --jobs 1", start)
        differing = different_files(dataset, other)
        for name in differing:
            note(f"differs: {name}")
        checks.append(Check("files that differ between --jobs", len(differing), 0, "files"))

    if arguments.json:
        result = {
            "machine": machine(),
            "seconds": seconds,
            "stages": stage_costs(dataset, config),
            "scores": [asdict(score) for score in scores],
            "crops": crops.kept,
            "checks": [asdict(check) | {"passed": check.passed} for check in checks],
        }
        print(json.dumps(result, indent=2, sort_keys=True))
    else:
        print_tables(scores, checks, stage_costs(dataset, config), seconds)
        print(f"Crops: {sum(crops.kept.values())} kept ({crops.kept}), rejected {crops.rejected}")
    sys.exit(0 if all(check.passed for check in checks) else 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for the shoot and the dataset")
    parser.add_argument("--size", type=size, default=None, metavar="full|WxH")
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=Path, help="folder of photographs to simulate from")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--preset", default="accurate")
    parser.add_argument(
        "--identity", action="store_true", help="compare with --jobs 1, to the byte"
    )
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def size(text: str) -> tuple[int, int] | None:
    if text == "full":
        return None
    width, _, height = text.partition("x")
    return int(width), int(height)


def note(message: object) -> None:
    print(message, file=sys.stderr, flush=True)


def pair_checks(scores: list[PairScore]) -> Iterator[Check]:
    for score in scores:
        name = f"{score.scene}/{score.level}"
        yield Check(
            f"{name} registration",
            score.registration_mean_px,
            REGISTRATION_PX[score.level],
            "px",
        )
        yield Check(f"{name} colour", score.colour_difference, COLOUR_DIFFERENCE, "CIEDE2000")
        yield Check(f"{name} rejected", float(score.verdict != "keep"), 0, "pairs")


def receipts(dataset: Path) -> list[dict[str, Any]]:
    return [
        receipt
        for path in sorted((dataset / "receipts").glob("*/*.json"))
        if isinstance(receipt := read_json(path), dict) and "peak_memory_mb" in receipt
    ]


def stage_costs(dataset: Path, config: BuildConfig) -> dict[str, dict[str, float]]:
    """Stage -> mean seconds a scene, and the largest memory of any scene."""
    costs = {}
    for stage in STAGES[config.preset]:
        own = [receipt for receipt in receipts(dataset) if receipt["stage"] == stage]
        if own:
            costs[stage] = {
                "seconds_a_scene": sum(r["seconds"] for r in own) / len(own),
                "peak_memory_mb": max(r["peak_memory_mb"] for r in own),
            }
    return costs


def different_files(first: Path, second: Path) -> list[str]:
    """Files of two datasets that are not the same bytes; receipts hold times and are left out."""

    def files(root: Path) -> dict[str, str]:
        return {
            path.relative_to(root).as_posix(): sha256_file(path)
            for path in sorted(root.rglob("*"))
            if path.is_file()
            and path.relative_to(root).parts[0] not in ("receipts", "report")
            and not path.name.startswith(".")
        }

    one, two = files(first), files(second)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def machine() -> dict[str, str]:
    names = ("defocus-ds", "numpy", "opencv-python-headless", "SimpleITK", "rawpy", "numba")
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = lines[0].partition(":")[2].strip() if lines else processor
    found = {"processor": f"{processor}, {os.cpu_count()} cores", "python": sys.version.split()[0]}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def print_tables(
    scores: list[PairScore],
    checks: list[Check],
    costs: dict[str, dict[str, float]],
    seconds: dict[str, float],
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(title="Against the truth", box=box.MARKDOWN)
    for heading in ("pair", "error mean px", "max px", "limit px", "claimed px"):
        table.add_column(heading, justify="left" if heading == "pair" else "right")
    for heading in ("radius px", "true px", "CIEDE2000", f"limit {COLOUR_DIFFERENCE}", "verdict"):
        table.add_column(heading, justify="right")
    for s in scores:
        table.add_row(
            f"{s.scene}/{s.level}",
            figure(s.registration_mean_px),
            figure(s.registration_max_px),
            f"{REGISTRATION_PX[s.level]:.2f}",
            figure(s.residual_px),
            figure(s.blur_radius_px),
            figure(s.true_blur_radius_px),
            figure(s.colour_difference),
            "ok"
            if s.colour_difference is not None and s.colour_difference <= COLOUR_DIFFERENCE
            else "MISSED",
            s.verdict,
        )
    console.print(table)
    table = Table(title="Cost of a scene (four captures)", box=box.MARKDOWN)
    for heading in ("stage", "seconds in its worker", "peak memory MB"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, cost in costs.items():
        table.add_row(stage, f"{cost['seconds_a_scene']:.1f}", f"{cost['peak_memory_mb']:.0f}")
    console.print(table)
    print("  ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    print("  ".join(f"{name} {value}" for name, value in machine().items()))
    for check in checks:
        if not check.passed:
            print(check)
    print(f"{sum(c.passed for c in checks)} of {len(checks)} checks passed")


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
