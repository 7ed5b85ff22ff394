"""The page of the benchmark of scale: growth fitted, memory, and what much more would cost."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from results import Check, check_lines, machine, number, shortened, table

__all__ = ["estimate", "exponent", "page", "slope", "summary"]

STREAMED = ("crop", "verify crops", "release", "verify release")
COMMANDS = {"no-op build": 2, "status": 2, "build --help": 0.3}  # CPU seconds at the most
TIMED = ("plan", "assemble", "no-op build", "status", *STREAMED)
READ = ("open", "read")
MOST_EXPONENT = 1.15  # linear, and what a shared machine adds to a fit
MOST_STATE_KB = 200
MOST_TIMES = 1.5
SCENE_LIMIT = 50_000  # rows of scenes.parquet, four a scene: MAX_SCENE_ROWS
TABLE_BYTES = 1 << 32  # of a table that is read whole, decoded
RECORD_BYTES = 434_894  # rows of scenes.parquet of a scene of 5796x3870, decoded
MANIFEST_ROW_BYTES = 364
DAY_S, MEGABYTES_A_TB = 86_400, 1e6


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """By which power of the number of scenes the time grows: 1 + slope of the marginal cost.

    The marginal cost is that of a scene between two neighbouring sizes; its slope is fitted over
    log and log by least squares, each stretch weighted by the scenes that it has.

    >>> round(exponent([100, 200, 400, 800], [7 + n**2 for n in (100, 200, 400, 800)]), 1)
    2.0
    """
    points = []
    for (n0, s0), (n1, s1) in _neighbours(sizes, seconds):
        marginal = max(s1 - s0, 1e-6) / (n1 - n0)
        points.append((math.log((n0 + n1) / 2), math.log(marginal), n1 - n0))
    total = sum(w for *_, w in points)
    x0 = sum(x * w for x, _, w in points) / total
    y0 = sum(y * w for _, y, w in points) / total
    spread = sum(w * (x - x0) ** 2 for x, _, w in points)
    return 1 + sum(w * (x - x0) * (y - y0) for x, y, w in points) / spread if spread else 1.0


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    """What a scene adds, by least squares.

    >>> slope([1, 2, 3], [5.0, 7.0, 9.0])
    2.0
    """
    x0, y0 = sum(sizes) / len(sizes), sum(values) / len(values)
    spread = sum((x - x0) ** 2 for x in sizes)
    both = zip(sizes, values, strict=True)
    return sum((x - x0) * (y - y0) for x, y in both) / spread if spread else 0.0


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The measured figures, for JSON."""
    sizes = {
        str(size): {
            step: shortened(result) if isinstance(result, dict) else result
            for step, result in steps.items()
        }
        for size, steps in found["sizes"].items()
    }
    return {"sizes": sizes, "records": shortened(dict(found["records"]))}


def estimate(given: argparse.Namespace, scenes: float, crop_cpu_s: float) -> dict[str, float]:
    """What so many full-size scenes cost, from seconds, megabytes and prices of the options."""
    hours = scenes * (given.scene_cpu_s + crop_cpu_s) / 3600
    raws, images, crops = (
        scenes * mb / MEGABYTES_A_TB for mb in (given.raw_mb, given.image_mb, 2 * given.crop_mb)
    )
    return {
        "scenes": scenes,
        "core_hours": hours,
        "raw_tb": raws,
        "image_tb": images,
        "crop_tb": crops,
        "computing": hours * given.core_hour,
        "keeping_a_month": (raws + images + crops) * given.tb_month,
    }


def page(found: Mapping[str, Any], given: argparse.Namespace) -> str:
    """The whole page."""
    sizes = sorted(found["sizes"])
    steps = found["sizes"]
    return "\n".join(
        (
            _head(given, sizes, steps),
            _seconds(sizes, steps),
            _memory(sizes, steps),
            _reading(sizes, steps),
            _small(found["records"]),
            check_lines(_checks(sizes, steps, found["records"])),
            _paper(given, sizes, steps, found["records"]),
            ", ".join(
                f"{name} {text}"
                for name, text in machine(["defocus-ds", "numpy", "pyarrow", "numba"]).items()
            )
            + "\n",
        )
    )


def _head(given: argparse.Namespace, sizes: Sequence[int], steps: Mapping[int, Any]) -> str:
    last = steps[sizes[-1]]
    return f"""# Scale

`python benchmarks/scale.py OUT --scenes {given.scenes} --scene-cpu-s {given.scene_cpu_s:g}`: time,
memory and bytes of every command with {", ".join(map(str, sizes))} scenes,
{last["crop"]["count"]} crops of 128x128 at the most.

What was made: every scene is a picture of 384x256 of its own, drawn by the simulator's dead leaves,
and its blurs by disks of 1.2, 2.0 and 3.2 px in linear light, six crops a level; every hundredth
scene is the one before it, shifted by 24 px, which the release must find. These pictures are the
captures and, as links, the images of the dataset. **They were not built**: nothing was to be
aligned, so the receipts of all stages were written and signed by the library's own writer, with
records of the form and size that a build leaves. From there on everything is what a user runs:
the scan that confirms the roles and the plan ("plan"), the same again with all stages signed and
the tables written ("assemble"), the build that finds nothing to do, `status`, `crop` of three
levels, `release` with its search for near-duplicates, `verify` of both. A size is the first scenes
of the largest. Each step ran in a process of its own, with one thread; CPU seconds are those after
the start and the loading of libraries, memory is the largest of the process.

![CPU seconds and memory over the number of scenes](scale.png)
"""


def _seconds(sizes: Sequence[int], steps: Mapping[int, Any]) -> str:
    rows = [
        (
            step,
            *(number(steps[size][step]["cpu_s"]) for size in sizes),
            f"{1000 * slope(sizes, _of(steps, sizes, step, 'cpu_s')):.2f}",
            f"{exponent(sizes, _of(steps, sizes, step, 'cpu_s')):.2f}",
            f"{exponent(sizes[-3:], _of(steps, sizes[-3:], step, 'cpu_s')):.2f}",
        )
        for step in TIMED
    ]
    header = ("CPU seconds, of scenes", *map(str, sizes), "ms a scene", "exponent", "at the end")
    found = ", ".join(
        f"{steps[s]['release']['duplicates']} of {steps[s]['planted']}" for s in sizes
    )
    return (
        f"## Time\n\n{table(header, rows)}\n"
        "The exponent is 1 + the slope, over log and log, of the marginal cost of a scene: 1 is "
        f"linear, below it is cheaper by the dozen. At the end: of the last two stretches alone. "
        f"Near-duplicates found, of those planted: "
        f"{found}.\n"
    )


def _memory(sizes: Sequence[int], steps: Mapping[int, Any]) -> str:
    rows = [
        (
            step,
            *(f"{steps[size][step]['peak_mb']:.0f}" for size in sizes),
            f"{1024 * slope(sizes, _of(steps, sizes, step, 'peak_mb')):.1f}",
        )
        for step in ("start", *TIMED)
    ]
    return (
        "## Memory\n\n"
        + table(("largest, MB, of scenes", *map(str, sizes), "KB a scene"), rows)
        + "\nImages, crops and shards are held one at a time; what grows are rows: those of "
        "scenes.parquet and of the manifest, what was decided of each crop, and in `release` the "
        "points of every scene that near-duplicates are found by.\n"
    )


def _reading(sizes: Sequence[int], steps: Mapping[int, Any]) -> str:
    rows = [
        (
            f"{name}, {unit}",
            *(f"{steps[size][step][key] / steps[size][step]['count'] * f:.2f}" for size in sizes),
        )
        for step, name in (("open", "open a release"), ("read", "open it and read a random crop"))
        for key, f, unit in (("cpu_s", 1000, "CPU ms"), ("bytes_read", 1e-3, "KB read"))
    ]
    crops = [str(steps[size]["open"]["crops"]) for size in sizes]
    return (
        "## Opening and reading\n\n"
        + table(("of a split with crops", *crops), rows)
        + "\nA release states its counts, so opening it reads no shard. A random crop costs the "
        "end of one shard and one row group; a shard has at most 4096 rows, and is smaller where "
        "the split is.\n"
    )


def _small(records: Mapping[str, Any]) -> str:
    rows = [
        (f"`{step}`", number(records[step]["cpu_s"]), number(records[step]["wall_s"]))
        for step in COMMANDS
    ]
    return (
        f"## Full-size records\n\n{records['scenes']} scenes whose alignments are those of frames "
        "of 5796x3870, 435 KB a scene in receipts and tables. Whole commands, the start of Python "
        f"included:\n\n{table(('', 'CPU s', 'wall-clock s'), rows)}\n"
        f"Writing the tables of these scenes, which a build that did something does once, takes "
        f"{records['assemble']['cpu_s']:.0f} CPU s and {records['assemble']['peak_mb']:.0f} MB.\n"
    )


def _checks(
    sizes: Sequence[int], steps: Mapping[int, Any], records: Mapping[str, Any]
) -> list[Check]:
    checks = [
        Check(f"{step}: exponent", exponent(sizes, _of(steps, sizes, step, "cpu_s")), MOST_EXPONENT)
        for step in TIMED
    ]
    checks += [
        Check(
            f"{step}: exponent at the end",
            exponent(sizes[-3:], _of(steps, sizes[-3:], step, "cpu_s")),
            MOST_EXPONENT,
        )
        for step in TIMED
    ]
    checks += [
        Check(
            f"{step}: memory a scene, KB",
            1024 * slope(sizes, _of(steps, sizes, step, "peak_mb")),
            MOST_STATE_KB,
        )
        for step in STREAMED
    ]
    middle = min(sizes, key=lambda size: abs(size - 1000))  # from here on shards are full
    for step in READ:
        for key in ("cpu_s", "bytes_read"):
            times = steps[sizes[-1]][step][key] / max(steps[middle][step][key], 1e-9)
            name = f"{step}: {key} with {sizes[-1]} scenes over {middle}"
            checks.append(Check(name, times, MOST_TIMES))
    checks += [
        Check(
            f"`{step}` with {records['scenes']} full-size scenes, CPU s",
            records[step]["cpu_s"],
            most,
        )
        for step, most in COMMANDS.items()
    ]
    missed = sum(steps[s]["planted"] - steps[s]["release"]["duplicates"] for s in sizes)
    return [*checks, Check("planted near-duplicates missed, all sizes", abs(missed), 0)]


def _paper(
    given: argparse.Namespace,
    sizes: Sequence[int],
    steps: Mapping[int, Any],
    records: Mapping[str, Any],
) -> str:
    last = steps[sizes[-1]]
    held_mb = (records["assemble"]["peak_mb"] - last["start"]["peak_mb"]) / records["scenes"]
    pair_s = sum(last[step]["cpu_s"] for step in STREAMED) / last["crop"]["count"]
    crops = 3 * (5796 // 128) * (3870 // 128)
    crop_s = crops * pair_s
    day, million = (estimate(given, n, crop_s) for n in (305_000, 1_000_000))
    rows = [
        ("scenes", f"{day['scenes']:.0f}", f"{million['scenes']:.0f}"),
        (
            "core-hours, build to verified release",
            *(f"{e['core_hours']:.0f}" for e in (day, million)),
        ),
        ("cores, to be done in a day", *(f"{e['core_hours'] / 24:.0f}" for e in (day, million))),
        *(
            (name, *(f"{e[key]:.1f}" for e in (day, million)))
            for name, key in (
                ("raws, TB", "raw_tb"),
                ("developed images, TB", "image_tb"),
                ("crops, dataset and release, TB", "crop_tb"),
            )
        ),
        ("computing, money", *(f"{e['computing']:.0f}" for e in (day, million))),
        (
            "keeping all of it a month, money",
            *(f"{e['keeping_a_month']:.0f}" for e in (day, million)),
        ),
    ]
    traffic = day["scenes"] * (given.raw_mb + 2 * given.image_mb + 2 * given.crop_mb) / DAY_S
    text = f"""
Full-size scenes, from measured figures and stated assumptions: {given.scene_cpu_s:g} CPU s to build
a scene ([what a build costs](build.md)); {1000 * pair_s:.1f} CPU ms a crop pair for crop, release
and both verifications (above; more than it would be, as the search for near-duplicates is spread
over so few crops a scene), {crops} crops of 128x128 a scene; {given.raw_mb:g} MB of raws,
{given.image_mb:g} MB of images and {given.crop_mb:g} MB of crops a scene. Prices are assumptions,
not anyone's offer: {given.core_hour:g} a core-hour, {given.tb_month:g} a TB and month.

**Which limit comes first.** In one dataset, memory: the tables are written from all records at
once, {held_mb:.2f} MB a full-size scene, so that 16 GB are {16_000 / held_mb:.0f} scenes. Then the
format: `scenes.parquet` may have 200,000 rows and 4 GB, which is {SCENE_LIMIT} small scenes, but
with 435 KB of records a full-size scene only {TABLE_BYTES / RECORD_BYTES:.0f}; and a manifest of
4 GB, at 364 bytes a row, has {TABLE_BYTES / MANIFEST_ROW_BYTES / 1e6:.1f} million crops of a level,
those of
{TABLE_BYTES / MANIFEST_ROW_BYTES * 3 / crops:.0f} such scenes. A million scenes are therefore no
single dataset, and need not be: scenes share nothing until the release. With one dataset a shoot
the next limit is moving and keeping: 1,000 shoots a day are {traffic:.0f} MB/s in and out on
average, all day, before anyone reads a crop, and what keeping them costs passes what computing cost
after {30 * million["computing"] / million["keeping_a_month"]:.0f} days. Cores come last: scenes are
built independently, and twice the machines are twice the scenes.

**What would change.** Splits of a collection need near-duplicates found across shoots: the search
compares every scene's words with every other's in half a microsecond a pair and holds 40 KB a
scene, {0.5e-6 * 1e12 / 3600:.0f} core-hours and 40 GB for a million; it would get an index on disk.
Records of alignments would move out of `scenes.parquet` into files of their own, so that nothing
holds those of all scenes. Raws would go to cold storage after the
build, and the developed images, which can be made again from them, after the release.
"""
    first, *rest = (textwrap.fill(part, 100) for part in text.strip().split("\n\n"))
    costs = table(("", "1,000 shoots of 305 scenes a day", "a million scenes"), rows)
    return "\n\n".join(("## On paper", first, costs.rstrip(), *rest)) + "\n"


def _of(steps: Mapping[int, Any], sizes: Sequence[int], step: str, key: str) -> list[float]:
    return [steps[size][step][key] for size in sizes]


def _neighbours(
    sizes: Sequence[int], values: Sequence[float]
) -> list[tuple[tuple[int, float], tuple[int, float]]]:
    points = list(zip(sizes, values, strict=True))
    return list(zip(points, points[1:], strict=False))
