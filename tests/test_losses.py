"""The differentiable Q against the measured one, its gradient, and the sum with L1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_sharpness import patches, q_by_svd
from torch import Tensor

from defocus_ds.errors import InputError
from defocus_ds.measure.sharpness import sharpness_q
from defocus_ds_train.losses import l1_q_loss, training_q


def textured(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1).to(dtype)


def test_equals_the_measured_training_q() -> None:
    batch = textured(3, 1, 43, 70, dtype=torch.float64)
    expected = [sharpness_q(image[0].numpy(), kind="training") for image in batch]
    assert min(expected) > 1e-4
    assert training_q(batch).numpy() == pytest.approx(np.array(expected), rel=1e-6)
    assert training_q(batch.float()).numpy() == pytest.approx(np.array(expected), rel=1e-4)


def test_gradient_is_the_numerical_one() -> None:
    # a ramp under the texture keeps every patch well above the coherence threshold
    ramp = torch.linspace(0, 0.8, 16, dtype=torch.float64).expand(1, 1, 16, 16)
    image = (ramp + 0.1 * textured(1, 1, 16, 16, dtype=torch.float64)).requires_grad_()
    assert (training_q(image) > 0).all()
    assert torch.autograd.gradcheck(training_q, (image,))


@pytest.mark.parametrize("name", patches())
def test_special_patches_equal_the_svd(name: str) -> None:
    patch = patches()[name]
    expected = q_by_svd(patch, "training")
    found = training_q(torch.tensor(patch)[None, None])
    # the guard against 0 / 0 takes up to 1e-10 of the energy away
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    single = training_q(torch.tensor(patch, dtype=torch.float32)[None, None])
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", patches())
def test_gradient_on_special_patches_is_the_numerical_one(name: str) -> None:
    image = torch.tensor(patches()[name])[None, None].requires_grad_()
    assert torch.autograd.gradcheck(training_q, (image,), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_gradient_is_finite_on_flat_patches(value: float) -> None:
    image = torch.full((2, 1, 32, 32), value)
    image[1, 0, 8:16, 8:12] += 0.2  # one patch with an edge among flat ones
    image.requires_grad_()
    q = training_q(image)
    q.sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    flat, edged = q.detach().tolist()
    assert flat == 0
    assert edged > 0
    assert (image.grad[1] != 0).any()


def test_is_float32_whatever_comes_in_and_under_autocast() -> None:
    image = textured(1, 1, 64, 64)
    expected = training_q(image)
    for dtype in (torch.bfloat16, torch.float16):
        assert training_q(image.to(dtype)).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(training_q(image), expected)


def test_more_q_means_a_lower_loss_by_exactly_beta() -> None:
    restored, sharp = textured(2, 1, 32, 32, seed=1), textured(2, 1, 32, 32, seed=2)
    terms = l1_q_loss(restored, sharp, beta=0.1)
    assert float(terms.l1) == pytest.approx(float((restored - sharp).abs().mean()), rel=1e-6)
    assert float(terms.q) == pytest.approx(float(training_q(restored).mean()), rel=1e-6)
    assert float(terms.total) == pytest.approx(float(terms.l1 - 0.1 * terms.q), abs=1e-7)


def test_without_beta_the_gradient_is_that_of_l1_alone() -> None:
    restored = textured(2, 1, 32, 32, seed=1).requires_grad_()
    sharp = textured(2, 1, 32, 32, seed=2)
    terms = l1_q_loss(restored, sharp)
    (gradient,) = torch.autograd.grad(terms.total, restored)
    (expected,) = torch.autograd.grad((restored - sharp).abs().mean(), restored)
    assert torch.equal(gradient, expected)
    assert float(terms.q) > 0


def test_descending_the_loss_sharpens() -> None:
    sharp = torch.zeros(1, 1, 32, 32)
    sharp[..., 12:22] = 0.6
    blurred = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2)
    image = blurred.clone().requires_grad_()
    optimiser = torch.optim.Adam([image], lr=0.01)
    for _ in range(30):
        optimiser.zero_grad()
        l1_q_loss(image, blurred, beta=10.0).total.backward()
        optimiser.step()
    before = sharpness_q(blurred[0, 0].numpy(), kind="training")
    assert sharpness_q(image.detach()[0, 0].numpy(), kind="training") > 1.5 * before


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 1, 7, 16), (1, 16, 16)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="training_q"):
        training_q(torch.zeros(shape))


def test_loss_refuses_a_negative_beta_and_unequal_shapes() -> None:
    with pytest.raises(InputError, match="beta"):
        l1_q_loss(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), beta=-1)
    with pytest.raises(InputError, match="differ"):
        l1_q_loss(torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 8, 8))
