"""Device and precision are what the machine has, and asking for more is an error."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from typing import Any

import pytest
import torch

from defocus_ds.errors import InputError
from defocus_ds_train.device import (
    autocast,
    choose_compile,
    choose_device,
    choose_precision,
    full_fp32,
)
from defocus_ds_train.restore_network import ResidualNet
from defocus_ds_train.unet import UNet

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def has(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    # torch says yes also where it only emulates bf16, unless it is asked not to
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: bf16 or including_emulation,
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda:1"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_best_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    has(monkeypatch, cuda=cuda, mps=mps)
    assert str(choose_device("auto", index=1)) == expected
    assert choose_device("cpu") == CPU


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cuda=False, mps=False)
    for name in ("cuda", "mps"):
        with pytest.raises(InputError, match=f"device {name}.*--device cpu"):
            choose_device(name)
    with pytest.raises(InputError, match="one of auto"):
        choose_device("gpu")


def test_precision_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cuda=True, mps=False)
    assert choose_precision("auto", CUDA) == "bf16"
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("fp16", CUDA) == "fp16"
    has(monkeypatch, cuda=True, mps=False, bf16=False)
    assert choose_precision("auto", CUDA) == "fp32"
    with pytest.raises(InputError, match="this GPU has none"):
        choose_precision("bf16", CUDA)
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        choose_precision("fp16", CPU)


def can_compile(monkeypatch: pytest.MonkeyPatch, *, triton: bool, capability: int = 8) -> None:
    found = ModuleSpec("triton", None) if triton else None
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (capability, 0))


def test_graphs_are_for_one_gpu_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    can_compile(monkeypatch, triton=True)
    assert choose_compile("auto", CUDA) == "reduce-overhead"
    assert choose_compile("auto", CUDA, processes=2) == "default"
    assert choose_compile("reduce-overhead", CUDA, processes=2) == "reduce-overhead"
    assert choose_compile("auto", CPU) == "off"
    assert choose_compile("default", CPU) == "default"


def test_a_gpu_that_torch_cannot_compile_for_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    can_compile(monkeypatch, triton=False)
    assert choose_compile("auto", CUDA) == "off"
    can_compile(monkeypatch, triton=True, capability=6)
    assert choose_compile("auto", CUDA) == "off"
    assert choose_compile("default", CUDA) == "default"


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("bf16", True)])
def test_figures_in_fp32_are_not_of_tf32(precision: str, allowed: bool) -> None:
    assert torch.backends.cudnn.allow_tf32  # torch's default, for which the context is there
    with full_fp32(precision):
        assert torch.backends.cudnn.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32


def test_restoration_in_fp32_runs_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = torch.nn.functional.conv2d

    def watched(*values: Any, **options: Any) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return original(*values, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    ResidualNet(UNet((2,)))(torch.rand(1, 1, 8, 8))
    assert seen
    assert not any(seen)


def test_autocast_computes_in_what_it_says() -> None:
    layer, x = torch.nn.Conv2d(1, 1, 3), torch.rand(1, 1, 8, 8)
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert layer(x).dtype == expected
