"""The network's shape, size and residual form, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from defocus_ds.errors import InputError
from defocus_ds_train.unet import UNet, count_parameters


def test_has_the_published_number_of_parameters() -> None:
    model = UNet()
    assert count_parameters(model) == 4_891_216
    assert count_parameters(model, trainable=False) == 4_898_576


def test_biases_are_only_in_transposed_convolutions_and_normalisation() -> None:
    for module in UNet().modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
        if isinstance(module, nn.ConvTranspose2d):
            assert module.bias is not None


def test_is_residual() -> None:
    torch.manual_seed(0)
    model = UNet((4, 8)).eval()
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model(image), image)
        model.output.weight.zero_()
        assert torch.equal(model(image), image)


@pytest.mark.parametrize("size", [(128, 128), (1, 1), (33, 47), (16, 250)])
def test_takes_any_height_and_width(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = UNet((4, 8, 8, 8)).eval()
    with torch.no_grad():
        restored = model(torch.rand(1, 1, *size))
    assert restored.shape == (1, 1, *size)
    assert torch.isfinite(restored).all()


def test_padding_leaves_what_lies_far_from_it_alone() -> None:
    torch.manual_seed(0)
    model = UNet((2, 2)).eval()  # receptive field about 2 * (5 + 10 + 20) px
    image = torch.rand(1, 1, 200, 203)
    with torch.no_grad():
        cut = model(image)[..., :96, :96]
        whole = model(image[..., :200])[..., :96, :96]
    assert torch.allclose(cut, whole, atol=1e-6)


def test_reaches_every_parameter_and_learns_an_inverse_blur() -> None:
    torch.manual_seed(0)
    model = UNet((4, 8))
    sharp = torch.rand(4, 1, 32, 32)
    blurred = nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = (model(blurred) - sharp).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_refuses_no_levels() -> None:
    with pytest.raises(InputError, match="at least one level"):
        UNet(())
