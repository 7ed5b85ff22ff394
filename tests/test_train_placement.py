"""Nothing of a step is left on the CPU: run on torch's "meta" device, which refuses to mix."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from toy_crops import toy_data

from defocus_ds_train.baselines.blur import BlurOperator, Border, average_kernel
from defocus_ds_train.baselines.defilter import (
    accelerated_landweber,
    modified_levenberg_marquardt,
    modified_richardson_lucy,
)
from defocus_ds_train.baselines.linear import richardson_lucy, wiener
from defocus_ds_train.baselines.noise import noise_to_signal
from defocus_ds_train.data.batches import Batches
from defocus_ds_train.degrade import Blur
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
