"""What grows with the number of scenes: time, memory and bytes of every command at several sizes.

    python benchmarks/scale.py OUT                  # 5,000 scenes: two hours, 8 GB of disk
    python benchmarks/scale.py OUT --scenes 1000    # half an hour
    python benchmarks/scale_plot.py docs/benchmarks/scale.json    # the picture, by matplotlib

OUT gets small scenes, drawn once and kept (see `scale_scenes.py`), and for each size a shoot and a
dataset of the first of them, as links, which are deleted when they were measured.  Every step runs
in a process of its own; finished sizes are kept in OUT and not measured again.

The price of much more is reckoned from these figures and from assumptions that are options:
--scene-cpu-s (of `benchmarks/build.py`), --raw-mb, --image-mb, --crop-mb a full-size scene, and
prices a core-hour and a TB-month.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from isolated import Stopwatch, remember, remembered, run_isolated, work_folder
from results import note, write_json, write_text
from scale_report import page, summary
from scale_scenes import lay_out, make_scenes, planted, sign_scenes

__all__ = ["LEVELS", "STEPS", "main", "measured", "run"]

LEVELS = ("low", "medium", "high")
SIZES = (50, 305, 1000)
STEPS = (
    "start",
    "plan",
    "assemble",
    "no-op build",
    "status",
    "crop",
    "verify crops",
    "release",
    "verify release",
    "open",
    "read",
)
FULL_SIZE = (5796, 3870)
MMSP_SCENES = 305
_READS = 200


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="smaller ones too")
    parser.add_argument("--records", type=int, default=MMSP_SCENES, metavar="SCENES",
                        help="of the dataset with records of full-size frames")  # fmt: skip
    parser.add_argument("--scene-cpu-s", type=float, default=15, help="of building a full scene")
    parser.add_argument("--raw-mb", type=float, default=115, help="four raws")
    parser.add_argument("--image-mb", type=float, default=111, help="four developed images")
    parser.add_argument("--crop-mb", type=float, default=88, help="crops of three levels")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price, in any currency")
    parser.add_argument("--tb-month", type=float, default=20.0, help="price of a TB kept a month")
    parser.add_argument("--page", type=Path, help="write page and JSON here")
    given = parser.parse_args(arguments)
    with work_folder(given.out, format=1):
        found = measured(given.out, [*given.sizes, given.scenes], records=given.records)
    text = page(found, given)
    print(text)
    if given.page:
        write_text(given.page, text)
        write_json(given.page.with_suffix(".json"), summary(found))


def measured(out: Path, sizes: Sequence[int], *, records: int) -> dict[str, Any]:
    """The steps at every size, and status and no-op build with records of full-size frames."""
    everything = out / "all"
    scenes = sizes[-1]
    sizes = [size for size in sizes if size < scenes] + [scenes]
    wanted = [str(size) for size in sizes] + ["records"]
    if any(remembered(out, "steps", name) is None for name in wanted):
        note(f"drawing {scenes} scenes")
        make_scenes(everything / "shoot", scenes)
        sign_scenes(everything / "shoot", everything / "dataset")
        note("once for what is compiled once")
        _all_steps(everything, out / "some", min(sizes))
    found: dict[str, Any] = {"sizes": {}}
    for size in sizes:
        steps = _once(out, str(size), partial(_all_steps, everything, out / "some", size))
        found["sizes"][size] = steps | {"planted": planted(size)}
    found["records"] = _once(out, "records", lambda: _records(everything, out / "full", records))
    found["records"]["scenes"] = records
    return found


def run(method: str, task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """One step, in the process that `isolated.py` starts."""
    shoot, dataset, out = (Path(task["place"]) / name for name in ("shoot", "dataset", "release"))
    import_everything()
    read = _bytes_read()
    with watch("step"):
        result = _WORK[method](shoot, dataset, out)
    return result | {"bytes_read": _bytes_read() - read}


def import_everything() -> None:
    """What every step loads is loaded before its seconds are counted."""
    import numba  # noqa: F401
    import pyarrow.compute  # noqa: F401

    import defocus_ds.dataset.crop
    import defocus_ds.dataset.release
    import defocus_ds.pipeline.build_dataset
    import defocus_ds.png  # noqa: F401


class _Planned(Exception):
    """Ends a build when it has its plan."""


def _plan(shoot: Path, dataset: Path, _: Path) -> dict[str, Any]:
    """Scan a shoot that nobody has seen, roles confirmed, and plan all of it."""
    from defocus_ds import build

    plans: list[Any] = []

    def stop(_config: Any, planned: Any) -> None:
        plans.extend(planned)
        raise _Planned

    target = dataset.with_name("new")
    try:
        build(shoot, target, on_plan=stop)
    except _Planned:
        shutil.rmtree(target)
    return {"count": sum(len(plan.todo) for plan in plans)}


def _build(shoot: Path, dataset: Path, _: Path) -> dict[str, Any]:
    from defocus_ds import build

    report = build(shoot, dataset)
    if report.stages_run or report.failed:
        raise RuntimeError(f"{report.stages_run} stages run, {len(report.failed)} scenes failed")
    return {"count": len(report.kept)}


def _status(_: Path, dataset: Path, _out: Path) -> dict[str, Any]:
    from defocus_ds.pipeline import status

    found = status(dataset)
    if not found.complete:
        raise RuntimeError("status: not complete")
    return {"count": len(found.scenes)}


def _crop(_: Path, dataset: Path, _out: Path) -> dict[str, Any]:
    from defocus_ds.dataset.crop import crop

    return {"count": sum(sum(crop(dataset, level=level).kept.values()) for level in LEVELS)}


def _verify(folder: Path) -> dict[str, Any]:
    from defocus_ds.dataset.verify import verify

    report = verify(folder)
    if not report.clean:
        raise RuntimeError(f"not clean: {report.findings[0]}")
    return {"count": report.checked["crops"]}


def _release(_: Path, dataset: Path, out: Path) -> dict[str, Any]:
    from defocus_ds.dataset.release import release
    from defocus_ds.dataset.release_facts import About

    about = About("scale", "CC0-1.0", ("Nobody",))
    report = release(dataset, out, about=about)
    crops = sum(sum(counts.values()) for counts in report.crops.values())
    return {"count": crops, "duplicates": len(report.duplicates)}


def _open(_: Path, _dataset: Path, out: Path) -> dict[str, Any]:
    from defocus_ds import load_crops

    for _ in range(_READS):
        crops = load_crops(out, level="low", split="train")
    return {"count": _READS, "crops": len(crops)}


def _read(_: Path, _dataset: Path, out: Path) -> dict[str, Any]:
    """Random crops, each from a release that was just opened, which no cache helps."""
    from defocus_ds import load_crops

    rng = np.random.default_rng(0)
    for _ in range(_READS):
        crops = load_crops(out, level="low", split="train")
        crops[int(rng.integers(len(crops)))]
    return {"count": _READS}


_WORK: dict[str, Callable[[Path, Path, Path], dict[str, Any]]] = {
    "start": lambda *_: {"count": 0},
    "plan": _plan,
    "assemble": _build,
    "no-op build": _build,
    "status": _status,
    "crop": _crop,
    "verify crops": lambda _shoot, dataset, _out: _verify(dataset),
    "release": _release,
    "verify release": lambda _shoot, _dataset, out: _verify(out),
    "open": _open,
    "read": _read,
}


def _all_steps(source: Path, target: Path, size: int) -> dict[str, Any]:
    """Every step on the first scenes, in a place that is gone afterwards."""
    shutil.rmtree(target, ignore_errors=True)
    try:
        lay_out(source, target, size)
        return _steps(target, STEPS)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _records(source: Path, target: Path, scenes: int) -> dict[str, Any]:
    """Status and no-op build, as commands, of scenes with the records of full frames."""
    shutil.rmtree(target, ignore_errors=True)
    try:
        lay_out(source, target, scenes, parts=("shoot",))
        sign_scenes(target / "shoot", target / "dataset", record_size=FULL_SIZE)
        shoot, dataset = str(target / "shoot"), str(target / "dataset")
        found = _steps(target, ("assemble", "no-op build", "status"))
        found["no-op build"] |= _command("build", shoot, "-o", dataset)
        found["status"] |= _command("status", dataset)
        found["build --help"] = _command("build", "--help")
        return found
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _steps(place: Path, steps: tuple[str, ...]) -> dict[str, Any]:
    """Each step in its own process, in order."""
    found: dict[str, Any] = {}
    for step in steps:
        result = run_isolated("scale", step, {"place": str(place)}, folder=place.parent)
        if "failed" in result:
            raise SystemExit(f"{step}: {result['failed']}")
        result["cpu_s"] = result["cpu_s"]["step"]
        found[step] = result
        note(f"  {step}: {result['cpu_s']:.2f} CPU s, {result['peak_mb']:.0f} MB")
    return found


def _command(*words: str) -> dict[str, float]:
    """CPU and wall-clock seconds of a whole command, the start of Python included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "defocus_ds_cli", *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu_s, "wall_s": time.perf_counter() - start}


def _once(out: Path, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A finished measurement from the work folder, or a new one."""
    found = remembered(out, "steps", name)
    if found is None:
        note(name)
        found = work()
        remember(out, "steps", name, found)
    return found


def _bytes_read() -> int:
    """Bytes that this process has asked the system for; 0 where the system does not say."""
    path = Path("/proc/self/io")
    if not path.is_file():
        return 0
    return int(path.read_text().split("rchar:")[1].split()[0])


if __name__ == "__main__":
    main()
