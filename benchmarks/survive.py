"""Kill `build`, `crop` and `release` at random moments; what comes out must not show it.

    python benchmarks/survive.py --kills 100 -o docs/benchmarks/survive.md

What is done and what is compared is told in `_ABOUT`, which the page begins with.  Interrupted,
it tells what it has found so far.  Exits with 1 when anything differs, or ran twice, or is left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import machine, note, table, write_text
from same_bytes import VARYING, contents, signed

__all__ = ["Tally", "Trial", "torment"]

KINDS = ("all processes", "main process", "one worker")
_GRACE_S = 15.0
_ABOUT = """\
A simulated shoot of {scenes} scenes of {size} is built by {jobs} workers (one pair a scene, 50
iterations of the first guess), cropped (32x32) and released once without interruption. Then each
command is started, killed with SIGKILL at a moment drawn uniformly over the seconds that it takes
alone, and started again at once on the same folder, until a run ends before its moment comes;
that result is compared with the uninterrupted one and the next folder begins, until the kills are
used up. Of three kills of `build` one hits all its processes, one the main process alone, and one
a single worker, after which it has to go on by itself; `crop` and `release` have one process.

Compared is every file, to the byte, and that no other file or folder is there. There are two
exceptions: `.lock`, which names the process that wrote last, and in `receipts/` the fields
{varying}: what a stage cost, and when its files were written, is measured and cannot be the same
twice. A stage counts as done twice if its receipt was there when a signal was sent, and was
written again by the end. A process counts as left if it runs {grace:.0f} s after the last run on
its folder.
"""
_COMMAND = (sys.executable, "-m", "defocus_ds_cli")


@dataclass(frozen=True, slots=True)
class Trial:
    """One command to be killed.

    Attributes:
        name: for the table.
        arguments: folder that is written to -> of `defocus-ds`.
        prepare: makes what has to be there before, given that folder.
        expected: `contents` of the folder of an uninterrupted run.
        seconds: that an uninterrupted run takes.
        kinds: of kills, in turn.
        complete: whether a killed run had finished all the same, and must not be repeated.
    """

    name: str
    arguments: Callable[[Path], Sequence[str]]
    prepare: Callable[[Path], object]
    expected: dict[str, str]
    seconds: float
    kinds: tuple[str, ...]
    complete: Callable[[Path], bool] = lambda target: False


@dataclass(slots=True)
class Tally:
    """What was counted over all folders of one trial; ``folders`` ran to their end."""

    kills: Counter[str] = field(default_factory=Counter)
    folders: int = 0
    files: int = 0
    differing: list[str] = field(default_factory=list)
    done_twice: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_running: int = 0


def torment(trial: Trial, kills: int, *, folder: Path, seed: int) -> Tally:
    """Kill the command as often as asked, over as many folders as that takes.

    Args:
        trial: the command.
        kills: signals that hit a process.
        folder: for the folders that are written to; each is removed once it was compared.
        seed: of the moments, and of the worker that is hit.
    """
    tally, draw = Tally(), random.Random(f"{seed}/{trial.name}")
    log = folder / f"{trial.name}.log"
    while tally.kills.total() < kills or not tally.folders:
        target = folder / f"{trial.name}-{tally.folders:03}"
        trial.prepare(target)
        before: dict[str, tuple[int, int]] = {}
        leaders: list[int] = []
        ended = False
        while not ended:
            process = _start([*_COMMAND, *trial.arguments(target)], log)
            leaders.append(process.pid)
            try:
                if tally.kills.total() < kills:
                    before = _kill(process, trial, target, tally, draw) | before
                status = process.wait()
            except KeyboardInterrupt:  # tell what was found so far
                os.killpg(process.pid, signal.SIGKILL)
                return tally
            if status not in (0, -signal.SIGKILL):
                said = " ".join(log.read_text().split())[-300:]
                tally.failed.append(f"{target.name}: exit status {status}: {said}")
            ended = status != -signal.SIGKILL or trial.complete(target)
        tally.left_running += _still_running(leaders)
        after = signed(target)
        tally.done_twice += [f"{target.name}/{r}" for r in before if after.get(r) != before[r]]
        found = contents(target)
        names = sorted(found.keys() | trial.expected.keys())
        wrong = [name for name in names if found.get(name) != trial.expected.get(name)]
        tally.differing += [f"{target.name}/{name}" for name in wrong]
        tally.files += len(names)
        tally.folders += 1
        _note(trial, tally)
        shutil.rmtree(target)
    return tally


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


def _kill(
    process: subprocess.Popen[bytes], trial: Trial, target: Path, tally: Tally, draw: random.Random
) -> dict[str, tuple[int, int]]:
    """Wait for a moment and kill, unless the run ends first; the receipts there at that moment."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0, trial.seconds))
    kind = trial.kinds[tally.kills.total() % len(trial.kinds)]
    victims = _workers(process.pid) if kind == "one worker" else [process.pid]
    if process.poll() is not None or not victims:
        return {}
    there = signed(target)
    with suppress(ProcessLookupError):
        if kind == "all processes":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(draw.choice(victims), signal.SIGKILL)
        tally.kills[kind] += 1
    return there


def _still_running(leaders: Sequence[int]) -> int:
    """Processes of these sessions that do not end by themselves."""
    deadline = time.monotonic() + _GRACE_S
    while left := sum(len(_session(leader)) for leader in leaders):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return left


def _session(leader: int) -> dict[int, str]:
    """Process -> command line of what still runs of a session, without its leader."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(entry.name)
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if pid != leader and os.getsid(pid) == leader and state != "Z":
                found[pid] = (entry / "cmdline").read_text()
    return found


def _workers(leader: int) -> list[int]:
    return sorted(pid for pid, line in _session(leader).items() if "spawn_main" in line)


def _note(trial: Trial, tally: Tally) -> None:
    bad = len(tally.differing) + len(tally.done_twice) + len(tally.failed)
    note(
        f"{trial.name}: {tally.kills.total()} kills, {tally.folders} folders, {bad} faults, "
        f"{tally.left_running} processes left"
    )
    for kind in ("differing", "done_twice", "failed"):
        for fault in getattr(tally, kind):
            note(f"  {kind}: {fault}")


def _defocus_ds(*arguments: str | Path) -> float:
    """Run a command to its end; seconds it took."""
    start = time.perf_counter()
    done = subprocess.run([*_COMMAND, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return time.perf_counter() - start


def _trials(work: Path, *, scenes: int, size: str, seed: int, jobs: int) -> list[Trial]:
    """Make the shoot and everything once without interruption."""
    shoot, whole, released = work / "shoot", work / "dataset", work / "release"
    _defocus_ds("simulate", shoot, "--scenes", str(scenes), "--size", size, "--seed", str(seed))

    def build(target: Path) -> list[str]:
        few = ["--set", "register.iterations=50"]
        for scene in range(1, scenes + 1):
            for level in ("medium", "high"):
                few += ["--skip", f"scene{scene:02}/{level}"]
        return ["build", str(shoot), "-o", str(target), "--jobs", str(jobs), *few]

    def crop(target: Path) -> list[str]:
        small = ["--set", "tile.size=32", "--set", "tile.stride=16"]
        return ["crop", str(target), "--level", "low", *small]

    def release(target: Path) -> list[str]:
        about = ["--licence", "CC0-1.0", "--author", "Nobody", "--name", "survive"]
        return ["release", str(whole), "-o", str(target / "release"), *about]

    _defocus_ds(*build(whole))  # compiles what is compiled once
    shutil.rmtree(whole)
    seconds = [_defocus_ds(*build(whole))]
    built = work / "built"
    shutil.copytree(whole, built)
    seconds.append(_defocus_ds(*crop(whole)))
    released.mkdir()
    seconds.append(_defocus_ds(*release(released)))
    return [
        Trial(
            "crop",
            crop,
            lambda target: shutil.copytree(built, target),
            contents(whole),
            seconds[1],
            KINDS[:1],
        ),
        Trial(
            "release",
            release,
            Path.mkdir,
            contents(released),
            seconds[2],
            KINDS[:1],
            lambda target: (target / "release").is_dir(),
        ),
        Trial("build", build, lambda target: None, contents(built), seconds[0], KINDS),
    ]


def _page(
    trials: Sequence[Trial], tallies: Sequence[Tally], command: str, shoot: dict[str, Any]
) -> str:
    rows = [
        (
            f"`{trial.name}`",
            f"{trial.seconds:.1f}",
            *(str(tally.kills[kind]) if kind in trial.kinds else "–" for kind in KINDS),
            str(tally.folders),
            str(tally.files),
            str(len(tally.differing)),
            str(len(tally.done_twice)),
            str(len(tally.failed)),
            str(tally.left_running),
        )
        for trial, tally in zip(trials, tallies, strict=True)
    ]
    header = (
        "command",
        "seconds alone",
        *(f"kills: {kind}" for kind in KINDS),
        "results compared",
        "files compared",
        "differing or stray",
        "stages done twice",
        "runs that failed",
        "processes left",
    )
    varying = ", ".join(f"`{name}`" for name in VARYING)
    measured = machine(["defocus-ds", "numpy", "pyarrow"])
    return (
        f"# Killed and started again\n\n{_ABOUT.format(varying=varying, grace=_GRACE_S, **shoot)}\n"
        f"Made by\n\n    {command}\n\n"
        f"on {'; '.join(f'{k} {v}' for k, v in measured.items())}.\n\n{table(header, rows)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="of the build [100]")
    parser.add_argument("--few", type=int, default=30, help="kills of crop, and of release [30]")
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--size", type=str, default="240x160")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="page to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        options = {"size": args.size, "seed": args.seed, "jobs": args.jobs}
        trials = _trials(work, scenes=args.scenes, **options)
        kills = [args.few, args.few, args.kills]
        tallies = [
            torment(trial, count, folder=work, seed=args.seed)
            for trial, count in zip(trials, kills, strict=True)
        ]
    command = "python benchmarks/survive.py" + "".join(
        f" --{name} {value}"
        for name, value in vars(args).items()
        if name != "output" and value != parser.get_default(name)
    )
    if any(t.kills.total() < count for t, count in zip(tallies, kills, strict=True)):
        command += "  # interrupted before the last kill"
    page = _page(trials, tallies, command, {**options, "scenes": args.scenes})
    print(page)
    if args.output:
        write_text(args.output, page)
    return int(any(t.differing or t.done_twice or t.failed or t.left_running for t in tallies))


if __name__ == "__main__":
    sys.exit(main())
