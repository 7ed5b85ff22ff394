"""Device and precision are what the machine has, and asking for more is an error."""

from __future__ import annotations

import pytest
import torch

from defocus_ds.errors import InputError
from defocus_ds_train.device import autocast, choose_compile, choose_device, choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def has(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
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


def test_graphs_are_for_cuda_unless_asked_for() -> None:
    assert choose_compile("auto", CUDA) == "reduce-overhead"
    assert choose_compile("auto", CPU) == "off"
    assert choose_compile("default", CPU) == "default"


def test_autocast_computes_in_what_it_says() -> None:
    layer, x = torch.nn.Conv2d(1, 1, 3), torch.rand(1, 1, 8, 8)
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert layer(x).dtype == expected
