"""benchmarks/train_throughput.py: what it measures here, and what it says where it cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from defocus_ds.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import train_throughput as benchmark  # noqa: E402

CPU = torch.device("cpu")


def test_loop_batches_and_floor_are_measured() -> None:
    torch.set_num_threads(1)
    recipe = benchmark.short("smoke", 4, ["width=2", "depth=1", "size=32", "batch=2"])
    clock = benchmark.Stopwatch(CPU, "cpu")
    found = benchmark.measure(recipe, CPU, steps=4, rounds=1, clock=clock)
    assert set(found) == {"floor", "data", "loop"}
    assert all(value > 0 for value in found.values())


def test_without_a_gpu_its_rows_say_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = benchmark.gpu_rows(4, 1)
    assert [(row["precision"], row["compile"]) for row in rows] == list(benchmark.GPU_WAYS)
    text = benchmark.gpu_text(rows)
    assert text.count("| not measured | not measured | not measured |") == len(rows)
    assert "Target of 12,000 crops/s in bf16: not measured." in text
    assert not benchmark.gpu_check(rows).passed


@pytest.mark.parametrize(("loop", "verdict"), [(12_500.0, "met"), (9_000.0, "missed")])
def test_with_a_gpu_every_way_is_measured_and_the_best_is_judged(
    monkeypatch: pytest.MonkeyPatch, loop: float, verdict: str
) -> None:
    seen: list[tuple[str, str, int, float]] = []

    def measured(recipe: Any, device: torch.device, **_options: Any) -> dict[str, float]:
        assert device.type == "cuda"
        seen.append((recipe.precision, recipe.compile, recipe.batch, recipe.blur_px))
        if recipe.precision == "fp16":
            raise InputError("no room")
        return {"floor": 2 * loop, "data": 9 * loop, "loop": loop / len(seen)}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imagined")
    monkeypatch.setattr(benchmark, "measure", measured)
    rows = benchmark.gpu_rows(4, 1)
    assert seen == [(*way, 32, 5.0) for way in benchmark.GPU_WAYS]
    text = benchmark.gpu_text(rows)
    assert "GPU (Imagined)" in text
    assert f"{loop:,.0f}" in text
    assert verdict in text
    assert "fp16, reduce-overhead: no room" in text
