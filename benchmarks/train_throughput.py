"""Training speed: the loop, the bare network, and what lies between, measured in one run.

    python benchmarks/train_throughput.py                       # this machine, smoke-sized
    python benchmarks/train_throughput.py --recipe real-l1      # the published network

A second table has the published recipe on a GPU, at every precision, with CUDA graphs and without,
against the target of 12,000 crops/s; where there is no CUDA device its rows say "not measured".

Three figures in crops/s, taken in turns so that a busy machine slows all of them alike:
``floor`` is forward, loss, backward and Adam on one batch that is already in place; ``data`` is
shuffled, augmented, blurred batches alone; ``loop`` is `defocus_ds_train.loop.fit` with its
reports and states, without validation.  The share of the floor that the loop reaches is the
figure to compare between machines.  On a shared machine give ``--clock cpu``: CPU seconds do not
see what others do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from defocus_ds.errors import DefocusError
from defocus_ds_train.data.batches import Batches
from defocus_ds_train.data.cache import CropCache
from defocus_ds_train.data.source import CropSet, TrainingData
from defocus_ds_train.degrade import Blur
from defocus_ds_train.device import autocast, choose_compile, choose_device, choose_precision
from defocus_ds_train.loop import fit
from defocus_ds_train.losses import l1_q_loss
from defocus_ds_train.recipe import Recipe, load_recipe
from defocus_ds_train.records import EpochReport, StepReport
from defocus_ds_train.unet import UNet

sys.path.insert(0, str(Path(__file__).parent))
from results import Check, check_lines, machine, note, table

# of the published recipe, batch 32, on a GPU of the H100 class
GPU_TARGET = 12_000
GPU_WAYS = (
    ("bf16", "reduce-overhead"),
    ("bf16", "default"),
    ("bf16", "off"),
    ("fp16", "reduce-overhead"),
    ("fp32", "reduce-overhead"),
)


def noise_data(recipe: Recipe, steps: int) -> TrainingData:
    """Noise crops enough for ``steps`` steps: speed does not depend on what they show."""
    rng = np.random.default_rng(0)
    count = steps * recipe.batch
    sharp = rng.integers(0, 256, (count + 1, recipe.size, recipe.size), dtype=np.uint8)
    blur = Blur(recipe.blur, recipe.blur_px) if recipe.source == "images" else None
    blurred = None if blur else sharp.copy()
    cache = CropCache("0" * 64, sharp, blurred, np.zeros(count + 1, np.int32), ("noise",))
    index = np.arange(count + 1)
    return TrainingData(
        CropSet(cache, index[:count], blur), CropSet(cache, index[count:], blur), "0" * 64, ()
    )


class Stopwatch:
    """Seconds of the wall or of this process's CPU, once the device has done its work."""

    def __init__(self, device: torch.device, clock: str) -> None:
        self._device = device
        self._read = time.process_time if clock == "cpu" else time.perf_counter

    def __call__(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return self._read()


def floor(
    recipe: Recipe, device: torch.device, precision: str, clock: Stopwatch
) -> Callable[[int], float]:
    """Crops/s of the bare step; the network is warm when this returns."""
    torch.manual_seed(0)
    model = UNet(recipe.filters).to(device)
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-5, fused=device.type == "cuda")
    blurred, sharp = (
        torch.rand(recipe.batch, 1, recipe.size, recipe.size, device=device) for _ in range(2)
    )

    def loss() -> torch.Tensor:
        return l1_q_loss(model(blurred), sharp, beta=recipe.beta).total

    mode = choose_compile(recipe.compile, device)
    compiled = (
        loss if mode == "off" else torch.compile(loss, mode=None if mode == "default" else mode)
    )

    def run(steps: int) -> float:
        start = clock()
        for _ in range(steps):
            with autocast(device, precision):
                value = compiled()
            torch.autograd.backward(value)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return steps * recipe.batch / (clock() - start)

    run(4)
    return run


def data_alone(
    recipe: Recipe, data: TrainingData, device: torch.device, clock: Stopwatch
) -> Callable[[int], float]:
    """Crops/s of the batches without a network."""
    batches = Batches(data.train, device=device, batch=recipe.batch, seed=0, augment=recipe.augment)
    epochs = iter(range(1_000_000))

    def run(steps: int) -> float:
        start, done = clock(), 0
        while done < steps:
            for _ in batches.epoch(next(epochs)):
                done += 1
        return done * recipe.batch / (clock() - start)

    run(1)
    return run


def whole_loop(recipe: Recipe, data: TrainingData, device: str, clock: Stopwatch) -> float:
    """Crops/s of the loop from its first report on, which leaves out what starting costs."""
    marks: list[tuple[int, float]] = []

    def watch(report: StepReport | EpochReport) -> None:
        if isinstance(report, StepReport):
            marks.append((report.step, clock()))

    with tempfile.TemporaryDirectory() as folder:
        fit(recipe, data, Path(folder) / "run", device=device, watch=watch)
    (first, began), (last, ended) = marks[0], marks[-1]
    return (last - first) * recipe.batch / (ended - began)


def measure(
    recipe: Recipe, device: torch.device, *, steps: int, rounds: int, clock: Stopwatch
) -> dict[str, float]:
    """Medians of ``floor``, ``data`` and ``loop`` in crops/s, taken in turns."""
    precision = choose_precision(recipe.precision, device)
    data = noise_data(recipe, steps)
    bare = floor(recipe, device, precision, clock)
    batches = data_alone(recipe, data, device, clock)
    found: dict[str, list[float]] = {"floor": [], "data": [], "loop": []}
    for number in range(rounds):
        found["floor"].append(bare(steps))
        found["data"].append(batches(steps))
        found["loop"].append(whole_loop(recipe, data, device.type, clock))
        note(f"round {number + 1} of {rounds}: " + str({k: v[-1] for k, v in found.items()}))
    return {name: statistics.median(values) for name, values in found.items()}


def short(name: str, steps: int, settings: Sequence[str]) -> Recipe:
    """A recipe for one epoch of ``steps`` steps that needs no other weights."""
    fixed = ["start=scratch", "epochs=1", "hold_epochs=0", f"log_every={max(steps // 4, 1)}"]
    return load_recipe(name, [*fixed, *settings])


def gpu_rows(steps: int, rounds: int) -> list[dict[str, Any]]:
    """The published recipe on a GPU in every way; crops/s is None where none can measure it."""
    rows: list[dict[str, Any]] = []
    for precision, mode in GPU_WAYS:
        row: dict[str, Any] = {"precision": precision, "compile": mode}
        row |= dict.fromkeys(("floor", "data", "loop"))
        rows.append(row)
        if not torch.cuda.is_available():
            continue
        device = choose_device("cuda")
        recipe = short("synthetic-l1", steps, [f"precision={precision}", f"compile={mode}"])
        try:
            row |= measure(
                recipe, device, steps=steps, rounds=rounds, clock=Stopwatch(device, "wall")
            )
        except DefocusError as error:
            row["reason"] = str(error)
    return rows


def gpu_check(rows: Sequence[dict[str, Any]]) -> Check:
    """Whether the loop in bf16 reaches the target."""
    speeds = [row["loop"] for row in rows if row["precision"] == "bf16" and row["loop"]]
    return Check("whole loop, bf16: crops/s", max(speeds, default=None), GPU_TARGET, least=True)


def gpu_text(rows: Sequence[dict[str, Any]]) -> str:
    """The second table; a figure that nothing measured says so."""
    there = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if there else "no CUDA device"
    head = ("precision, compile", "floor", "data", "loop")
    cells = [
        (
            f"{row['precision']}, {row['compile']}",
            *("not measured" if row[key] is None else f"{row[key]:,.0f}" for key in head[1:]),
        )
        for row in rows
    ]
    parts = [f"synthetic-l1, batch 32 of 128 px, GPU ({name}), crops/s:\n", table(head, cells)]
    parts += [
        f"{row['precision']}, {row['compile']}: {row['reason']}\n"
        for row in rows
        if "reason" in row
    ]
    check = gpu_check(rows)
    if check.measured is None:
        parts.append(f"Target of {GPU_TARGET:,} crops/s in bf16: not measured.\n")
    else:
        parts.append(check_lines([check]))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="smoke")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=16, help="steps of one measurement")
    parser.add_argument("--gpu-steps", type=int, default=500, help="the same of the second table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = short(arguments.recipe, arguments.steps, arguments.set)
    device = choose_device(arguments.device)
    clock = Stopwatch(device, arguments.clock)
    middle = measure(recipe, device, steps=arguments.steps, rounds=arguments.rounds, clock=clock)
    gpu = gpu_rows(arguments.gpu_steps, arguments.rounds)
    about = {
        "recipe": recipe.name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": choose_precision(recipe.precision, device),
        "compile": choose_compile(recipe.compile, device),
        "batch": recipe.batch,
        "size": recipe.size,
        "filters": list(recipe.filters),
        "threads": arguments.threads,
        "clock": arguments.clock,
        **machine(["torch"]),
    }
    ratio = middle["loop"] / middle["floor"]
    share = middle["floor"] / middle["data"]
    if arguments.json:
        shares = {"loop_of_floor": ratio, "data_of_floor": share}
        print(json.dumps({**about, **middle, **shares, "gpu": gpu}))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    rows = [
        (name, f"{value:,.1f}", f"{value / middle['floor']:.3f}") for name, value in middle.items()
    ]
    print(table(("", "crops/s", "of the floor"), rows))
    print(f"Batches take {share:.1%} of the time of the bare step.\n")
    print(gpu_text(gpu))


if __name__ == "__main__":
    main()
