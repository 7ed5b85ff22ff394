"""Training: how fast against what the machine can do, and a toy run that must help.

    python benchmarks/training.py                                     # the published network here
    python benchmarks/training.py --device cuda --steps 500
    python benchmarks/training.py --toy PHOTOGRAPHS KODAK --work DIR  # also the toy run

Crops/s of the bare step, of the batches alone and of the whole loop (see train_throughput.py)
stand against two bounds: the arithmetic of forward and backward at the speed of a large matrix
product, and the traffic of the activations at the speed of a large copy, both measured here.

The toy run trains ``toy-l1`` and then ``toy-q`` on a folder of photographs (BSD500 train and val,
say) and benchmarks both on the 24 Kodak crops under the honest protocol.  It must beat the blurred
input by 3 dB after the first stage, and raise the reported Q in the second; else this exits with 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from defocus_ds.measure.metrics import metrics
from defocus_ds_train.benchmark.methods import parse_methods
from defocus_ds_train.benchmark.page import write_pictures
from defocus_ds_train.benchmark.run import bench
from defocus_ds_train.benchmark.sets import released_set
from defocus_ds_train.data.source import open_training_data
from defocus_ds_train.device import choose_compile, choose_device, choose_precision
from defocus_ds_train.loop import fit
from defocus_ds_train.losses import l1_q_loss
from defocus_ds_train.recipe import Recipe, load_recipe
from defocus_ds_train.records import EpochReport, StepReport
from defocus_ds_train.unet import UNet

sys.path.insert(0, str(Path(__file__).parent))
from results import Check, check_lines, machine, note, table, write_json, write_text
from train_throughput import Stopwatch, data_alone, floor, noise_data, whole_loop

GAIN_DB = 3.0
TOY_CPU_S = 480.0
# activations of the published network for one crop of 128 px, MiB at 2 bytes a value: every
# layer's input and output once (unfused), or normalisation and GELU inside the convolution (fused)
TRAFFIC_MIB = {"unfused": 198, "fused": 86}
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def step_flop(recipe: Recipe) -> float:
    """Floating-point operations of one crop, forward and backward."""
    model = UNet(recipe.filters)
    batch = torch.rand(1, 1, recipe.size, recipe.size)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(l1_q_loss(model(batch), batch).total)
    return float(counter.get_total_flops())


def product_speed(device: torch.device, precision: str, clock: Stopwatch) -> float:
    """FLOP/s of a large matrix product: the best of five.

    In fp32 on CUDA it may round to TF32, as the convolutions of training do by default.
    """
    side = 8192 if device.type == "cuda" else 1536
    a = torch.rand(side, side, device=device).to(DTYPES[precision])
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        return max(2 * side**3 / _seconds(lambda: a @ a, clock) for _ in range(5))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def copy_speed(device: torch.device, clock: Stopwatch) -> float:
    """Bytes/s read and written by a large copy: the best of five."""
    count = 2**28 if device.type == "cuda" else 2**25
    a = torch.rand(count, device=device)
    b = torch.empty_like(a)
    return max(2 * 4 * count / _seconds(lambda: b.copy_(a), clock) for _ in range(5))


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Crops/s of step, batches and loop, and of the bounds."""
    steps = arguments.steps
    fixed = ["start=scratch", "epochs=1", "hold_epochs=0", f"log_every={max(steps // 4, 1)}"]
    recipe = load_recipe(arguments.recipe, [*fixed, *arguments.set])
    device = choose_device(arguments.device)
    precision = choose_precision(recipe.precision, device)
    clock = Stopwatch(device, arguments.clock)
    data = noise_data(recipe, steps)
    bare, batches = floor(recipe, device, precision, clock), data_alone(recipe, data, device, clock)
    found: dict[str, list[float]] = {"step": [], "batches": [], "loop": []}
    for number in range(arguments.rounds):
        found["step"].append(bare(steps))
        found["batches"].append(batches(steps))
        found["loop"].append(whole_loop(recipe, data, arguments.device, clock))
        note(f"speed: round {number + 1} of {arguments.rounds}")
    crops_per_s = {name: statistics.median(values) for name, values in found.items()}
    flop = step_flop(recipe)
    product, copy = product_speed(device, precision, clock), copy_speed(device, clock)
    bounds = {"arithmetic": product / flop}
    if recipe.filters == (16, 32, 64, 128):
        scale = 2**20 * (BYTES[precision] / 2) * (recipe.size / 128) ** 2
        bounds |= {f"memory, {k}": copy / (mib * scale) for k, mib in TRAFFIC_MIB.items()}
    return {
        "recipe": recipe.name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": precision,
        "compile": choose_compile(recipe.compile, device),
        "batch": recipe.batch,
        "size": recipe.size,
        "threads": arguments.threads,
        "clock": arguments.clock,
        "gflop_per_crop": flop / 1e9,
        "gflop_per_s": product / 1e9,
        "gb_per_s": copy / 1e9,
        "crops_per_s": crops_per_s,
        "bounds": bounds,
        # a kernel cannot beat the slower of the two, whatever is fused
        "share_of_bound": crops_per_s["loop"] / min(bounds["arithmetic"], *_fused(bounds)),
        "batches_of_step": crops_per_s["step"] / crops_per_s["batches"],
    }


def toy(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train both toy recipes and benchmark them on Kodak."""
    photographs, kodak = arguments.toy
    work: Path = arguments.work
    runs: dict[str, Path] = {}
    kept = work / "costs.json"  # a run that was stopped goes on, and its costs add up
    costs = json.loads(kept.read_text()) if kept.is_file() else {}
    for name, before in (("toy-l1", None), ("toy-q", "toy-l1")):
        recipe = load_recipe(name, [f"seed={arguments.seed}"])
        data = open_training_data(recipe, photographs, cache=work / "cache")
        began, cpu = time.perf_counter(), time.process_time()
        result = fit(
            recipe,
            data,
            work / name,
            start=None if before is None else work / before,
            device=arguments.device,
            watch=_told(name),
        )
        runs[name] = work / name
        spent = costs.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0})
        spent["wall_s"] += time.perf_counter() - began
        spent["cpu_s"] += time.process_time() - cpu
        spent["crops"] = result.steps * recipe.batch
        write_json(kept, costs)
        if not result.finished:
            sys.exit(130)
    of = released_set("kodak24", kodak)
    methods = parse_methods(
        ["sharp", "blurred", *map(str, runs.values())], device=choose_device(arguments.device)
    )
    report = bench([of], methods, metrics=metrics(["psnr", "ssim", "q"]), output=work / "bench")
    write_pictures(report, work / "bench")
    return {"costs": costs, "means": {s.method: dict(s.means) for s in report.scores}}


def toy_checks(found: dict[str, Any]) -> list[Check]:
    """What the toy run must show."""
    means, costs = found["means"], found["costs"]
    gain = means["toy-l1"]["psnr"] - means["blurred"]["psnr"]
    rise = means["toy-q"]["q"] - means["toy-l1"]["q"]
    return [
        Check("toy-l1, Kodak24, honest: dB above the blurred input", gain, GAIN_DB, least=True),
        Check("toy-l1: CPU s", costs["toy-l1"]["cpu_s"], TOY_CPU_S),
        Check("toy-q, Kodak24, honest: rise of the reported Q", rise, 0.001, least=True),
    ]


def report_text(speeds: dict[str, Any], toys: dict[str, Any] | None, about: dict[str, str]) -> str:
    """What was measured, as Markdown."""
    settings = ["recipe", "device", "precision", "compile", "batch", "size", "threads", "clock"]
    parts = [
        "# Training\n",
        ", ".join(f"{key} {speeds[key]}" for key in settings) + "\n",
        ", ".join(f"{key} {value}" for key, value in about.items()) + "\n",
    ]
    step = speeds["crops_per_s"]["step"]
    rows = [(k, f"{v:,.1f}", f"{v / step:.3f}") for k, v in speeds["crops_per_s"].items()]
    rows += [(f"bound: {k}", f"{v:,.1f}", f"{v / step:.3f}") for k, v in speeds["bounds"].items()]
    parts.append(table(("", "crops/s", "of the bare step"), rows))
    parts.append(
        f"A crop is {speeds['gflop_per_crop']:.2f} GFLOP; measured here: "
        f"{speeds['gflop_per_s']:,.0f} GFLOP/s (matrix product), {speeds['gb_per_s']:,.1f} GB/s "
        f"(copy). The loop reaches {speeds['share_of_bound']:.1%} of the bound; batches take "
        f"{speeds['batches_of_step']:.2%} of the time of the bare step.\n"
    )
    if toys is None:
        parts.append("The toy run was not measured.\n")
        return "\n".join(parts)
    rows = [
        (name, f"{m['psnr']:.3f}", f"{m['ssim']:.4f}", f"{m['q']:.4f}", *_cost(toys, name))
        for name, m in toys["means"].items()
    ]
    parts.append(table(("Kodak24, honest", "PSNR", "SSIM", "Q", "CPU s", "crops"), rows))
    parts.append(check_lines(toy_checks(toys)))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="synthetic-l1")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=8, help="steps of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--toy", nargs=2, type=Path, metavar=("PHOTOGRAPHS", "KODAK"))
    parser.add_argument("--seed", type=int, default=0, help="of the toy run")
    parser.add_argument("--work", type=Path, default=Path("runs/toy"), help="of the toy run")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write training.md and .json")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    speeds = speed(arguments)
    toys = toy(arguments) if arguments.toy else None
    about = machine(["torch", "numpy"])
    text = report_text(speeds, toys, about)
    whole = {"machine": about, "speed": speeds, "toy": toys}
    if arguments.out is not None:
        write_text(arguments.out / "training.md", text)
        write_json(arguments.out / "training.json", whole)
    print(json.dumps(whole, indent=1) if arguments.json else text)
    if toys is not None and not all(check.passed for check in toy_checks(toys)):
        sys.exit(1)


def _seconds(work: Any, clock: Stopwatch) -> float:
    start = clock()
    work()
    return max(clock() - start, 1e-9)


def _fused(bounds: dict[str, float]) -> list[float]:
    return [value for name, value in bounds.items() if name == "memory, fused"]


def _told(name: str) -> Any:
    def watch(report: StepReport | EpochReport) -> None:
        if isinstance(report, StepReport):
            note(f"{name}: step {report.step} of {report.steps}, {report.psnr:.2f} dB")

    return watch


def _cost(toys: dict[str, Any], name: str) -> tuple[str, str]:
    cost = toys["costs"].get(name)
    return ("", "") if cost is None else (f"{cost['cpu_s']:.0f}", f"{cost['crops']}")


if __name__ == "__main__":
    main()
