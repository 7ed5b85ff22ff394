"""Nothing of a step is left on the CPU: run on torch's "meta" device, which refuses to mix."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_weights import made_up
from torch.overrides import TorchFunctionMode
from toy_crops import toy_data, toy_recipe

from defocus_ds.measure import perceptual
from defocus_ds_train.baselines.blur import BlurOperator, Border, average_kernel
from defocus_ds_train.baselines.defilter import (
    accelerated_landweber,
    modified_levenberg_marquardt,
    modified_richardson_lucy,
)
from defocus_ds_train.baselines.linear import richardson_lucy, wiener
from defocus_ds_train.baselines.noise import noise_to_signal
from defocus_ds_train.baselines.protocol import BASELINES, PROTOCOLS, pose
from defocus_ds_train.benchmark.methods import parse_methods
from defocus_ds_train.data.batches import Batches
from defocus_ds_train.degrade import Blur
from defocus_ds_train.loop import fit
from defocus_ds_train.losses import l1_q_loss
from defocus_ds_train.unet import UNet

META = torch.device("meta")


@pytest.fixture(autouse=True)
def meta_has_no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_values: Any, **_options: Any) -> AbstractContextManager[None]:
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", nothing)


@pytest.mark.parametrize("blur", [None, Blur("average", 5), Blur("disk", 2.5), Blur("gaussian", 1)])
@pytest.mark.parametrize("resident", [True, False])
def test_a_step_stays_on_its_device(blur: Blur | None, resident: bool) -> None:
    crops = toy_data(12).train
    crops = crops if blur is None else replace(crops, blur=blur)
    batches = Batches(crops, device=META, batch=4, seed=0, augment=True, resident=resident)
    model = UNet((2, 4)).to(META)
    for pair in batches.epoch(0, first_step=1):
        assert pair.blurred.device == pair.sharp.device == META
        torch.autograd.backward(l1_q_loss(model(pair.blurred), pair.sharp, beta=0.1).total)
    assert all(p.grad is not None and p.grad.device == META for p in model.parameters())


def test_a_tensor_of_the_cpu_among_them_would_be_noticed() -> None:
    images = torch.zeros(2, 1, 16, 16, device=META)
    with pytest.raises(RuntimeError):
        l1_q_loss(images, torch.zeros(2, 1, 16, 16))


@pytest.mark.parametrize("border", ["circular", "reflect"])
def test_classical_rows_stay_on_the_device_of_the_images(border: Border) -> None:
    images = torch.zeros(3, 16, 20, dtype=torch.float64, device=META)
    blur = BlurOperator(average_kernel(5), border=border)
    blur(torch.zeros(3, 16, 20, dtype=torch.float64))  # what it keeps is kept for each device
    ratio = noise_to_signal(images, zero_border=True)
    for restored in (
        accelerated_landweber(images, blur, iterations=2),
        modified_richardson_lucy(images, blur, iterations=2),
        modified_levenberg_marquardt(images, blur, iterations=2, damping=100 * ratio),
        richardson_lucy(images, blur, iterations=2),
        wiener(images, blur, noise_to_signal=ratio),
    ):
        assert (restored.device, restored.shape) == (META, images.shape)


class NoFloat64(TorchFunctionMode):
    """A device without float64, as MPS: only what came over `Tensor.cpu` may become double."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cpu: list[torch.Tensor] = []  # kept, so that no identity is used twice

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        if function is torch.Tensor.double:
            assert any(arguments[0] is tensor for tensor in self.on_cpu), "float64 on the device"
        if options.get("dtype") is torch.float64:
            assert options.get("device") is None, "float64 on the device"
        result = function(*arguments, **options)
        if function is torch.Tensor.cpu:
            result = result.clone()
            self.on_cpu.append(result)
        return result


def test_nothing_is_float64_on_a_device_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="float64"), NoFloat64():
        torch.zeros(2).double()
    with NoFloat64():
        assert fit(toy_recipe(epochs=1), toy_data(), tmp_path, device="cpu").finished
    monkeypatch.setattr(perceptual, "read_weights", lambda _path, network: made_up(network=network))
    images = torch.arange(2 * 40 * 40, dtype=torch.uint8).reshape(2, 40, 40).numpy()
    lpips = perceptual.Lpips(tmp_path / "any")
    with NoFloat64():
        assert (lpips(images, images.transpose(0, 2, 1)) > 0).all()


def test_classical_rows_are_computed_on_the_cpu_where_there_is_no_float64() -> None:
    images = torch.arange(32 * 32, dtype=torch.uint8).reshape(1, 32, 32).numpy()
    problem = pose(
        BASELINES["al"],
        sharp=images,
        blurred=images,
        protocol=PROTOCOLS["honest"],
        device="mps",
    )
    assert problem.observed.device.type == "cpu"
    (method,) = parse_methods(["al"], device=torch.device("mps"))
    assert method.device == torch.device("cpu")  # which its time is of
