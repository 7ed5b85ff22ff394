"""What a build costs against the least it could: decoding, one remap and one PNG a capture.

    python benchmarks/build.py OUT                          # two full-size scenes, three rounds
    python benchmarks/build.py OUT --size 1488x992          # a minute

OUT gets a simulated shoot, kept for the next run, and datasets.  In every round the floor and the
`accurate` build of the same scenes are measured one after the other, each in fresh processes of
one thread: CPU seconds by stage, the whole process included, and the largest memory.  Then one
worker and two build the same shoot, and their wall-clock times are compared.

The floor of a capture is what nobody can leave out: LibRaw's decoding and AHD demosaic, one
bicubic `cv2.remap` with its map given, one `cv2.imencode` to PNG with OpenCV's own options.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from isolated import Stopwatch, run_isolated
from results import Check, check_lines, frame_size, machine, note, number, table, write_text

from defocus_ds.dataset.manifest import SCENES_NAME, read_scenes
from defocus_ds.pipeline.plan import STAGES
from defocus_ds.simulate import simulate
from defocus_ds.stages.ingest import scan
from defocus_ds.store import read_json

FULL_SIZE = (5796, 3870)
MOST_OF_FLOOR = 1.6
LEAST_SPEED_UP = 1.8
MOST_MEMORY_MB = 2500
PARTS = ("decode and demosaic", "remap", "PNG")
STAGE_NAMES = STAGES["accurate"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--size", type=frame_size, default=FULL_SIZE, metavar="WxH")
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--shoot", type=Path, help="measure this one of raws, not a simulated one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, help="write the tables to this file too")
    given = parser.parse_args()
    shoot = given.shoot or given.out / "shoot"
    if given.shoot is None:
        simulate(shoot, scenes=given.scenes, size=given.size, seed=1)
    brackets = scan(shoot).brackets
    given.scenes = len(brackets)
    captures = [str(c.path.resolve()) for b in brackets for c in b]
    floors, builds, walls = [], [], []
    for number_ in range(given.rounds):
        floors.append(run_isolated("build", "floor", {"captures": captures}, folder=given.out))
        if "failed" in floors[-1]:
            raise SystemExit(floors[-1]["failed"])
        builds.append(measured_build(shoot, given.out / "one", jobs=1))
        walls.append(
            (builds[-1]["wall_s"], measured_build(shoot, given.out / "two", jobs=2)["wall_s"])
        )
        both = f"floor {total(floors[-1]):.1f}, build {total(builds[-1]):.1f} CPU s"
        note(f"round {number_ + 1}: {both}")
    text = page(floors, builds, walls, given)
    print(text)
    if given.page:
        write_text(given.page, text)


def run(_method: str, task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """The floor of every capture, in the process that `isolated.py` starts."""
    import cv2
    import numpy as np
    import rawpy

    encoded = 0
    for name in task["captures"]:
        with watch(PARTS[0]), rawpy.imread(name) as raw:
            pixels = raw.postprocess(
                demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
                use_camera_wb=True,
                no_auto_bright=True,
                user_flip=0,
            )
        height, width = pixels.shape[:2]
        x, y = (np.arange(n, dtype=np.float32) * np.float32(0.999) + 0.3 for n in (width, height))
        x, y = np.meshgrid(x, y)
        with watch(PARTS[1]):
            pixels = cv2.remap(pixels, x, y, cv2.INTER_CUBIC)
        with watch(PARTS[2]):
            encoded += len(cv2.imencode(".png", pixels)[1])
    return {"bytes": encoded}


def measured_build(shoot: Path, dataset: Path, *, jobs: int) -> dict[str, Any]:
    """CPU seconds by stage and of the whole, wall-clock seconds and memory of a new build."""
    shutil.rmtree(dataset, ignore_errors=True)
    command = [sys.executable, "-m", "defocus_ds_cli", "build", str(shoot), "-o", str(dataset)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, "--jobs", str(jobs)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr.strip()[-500:])
    receipts = [read_json(path) for path in (dataset / "receipts").glob("*/*.json")]
    by_stage = {
        stage: sum(r["cpu_seconds"] for r in receipts if r.get("stage") == stage)
        for stage in STAGE_NAMES
    }
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    by_stage["start, plan, assemble"] = whole - sum(by_stage.values())
    memory = max(r["peak_memory_mb"] for r in receipts if "peak_memory_mb" in r)
    return {"cpu_s": by_stage, "peak_mb": memory, "wall_s": wall}


def image_size(dataset: Path) -> tuple[int, int]:
    row = read_scenes(dataset / SCENES_NAME)[0]
    return row["width"], row["height"]


def total(measured: dict[str, Any]) -> float:
    return float(sum(measured["cpu_s"].values()))


def page(
    floors: list[dict[str, Any]],
    builds: list[dict[str, Any]],
    walls: list[tuple[float, float]],
    given: argparse.Namespace,
) -> str:
    """The tables: medians over the rounds, per scene."""
    rows = []
    for title, runs in (("floor", floors), ("build", builds)):
        for part in runs[0]["cpu_s"]:
            seconds = statistics.median(run["cpu_s"][part] for run in runs) / given.scenes
            rows.append((f"{title}: {part}", number(seconds)))
        whole = statistics.median(map(total, runs)) / given.scenes
        rows.append((f"**{title}**", f"**{number(whole)}**"))
    checks = [
        Check(
            "build, CPU seconds over those of the floor",
            statistics.median(total(b) / total(f) for f, b in zip(floors, builds, strict=True)),
            MOST_OF_FLOOR,
        ),
        Check(
            "two workers, times as fast as one",
            statistics.median(one / two for one, two in walls),
            LEAST_SPEED_UP,
            least=True,
        ),
        Check("largest memory of a stage, MB", max(b["peak_mb"] for b in builds), MOST_MEMORY_MB),
    ]
    versions = machine(["defocus-ds", "rawpy", "opencv-python-headless", "numba"])
    width, height = image_size(given.out / "one")
    own = " --shoot SHOOT" if given.shoot else ""
    return (
        f"# What a build costs\n\n`python benchmarks/build.py OUT{own} "
        f"--rounds {given.rounds}`: {given.scenes} scenes of {width}x{height}, medians of the "
        "rounds, floor and build of the same raws in turn.\n\n"
        f"{table(('CPU seconds a scene', ''), rows)}\n{check_lines(checks)}\n"
        f"{', '.join(f'{k} {v}' for k, v in versions.items())}\n"
    )


if __name__ == "__main__":
    main()
