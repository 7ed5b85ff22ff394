"""Networks for tests: one with random weights, one whose output is known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scenes import textured
from torch import nn

from defocus_ds.optics import Transfer, to_encoded
from defocus_ds_train.checkpoint import save_model
from defocus_ds_train.unet import UNet

OFFSET = 10.0  # where GELU is the identity


def random_network(filters: tuple[int, ...] = (4, 8, 8, 8), *, seed: int = 0) -> UNet:
    """Statistics and scales that are neither 0 nor 1; changes an image by tens of levels."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = UNet(filters).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.2, 0.6, generator=generator)
                module.weight.uniform_(0.8, 1.2, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
        model.output.weight.mul_(20)
    return model


def unsharp_network(amount: float = 1.0) -> UNet:
    """Adds ``amount`` times the difference of a pixel from the mean of its 3x3 neighbourhood.

    One channel carries the difference, the other nothing, both raised to where GELU is the
    identity; the output is the difference of the two.  Beyond the edges lie zeros.
    """
    model = UNet((2,)).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.zero_()
                if module.bias is not None:
                    module.bias.zero_()
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_var is not None
                module.running_var.fill_(1 - module.eps)
        encoder, decoder = (list(b.children()) for b in (model.encoder[0], model.decoder[0]))
        encoder[0].weight[0, 0] = -1 / 9
        encoder[0].weight[0, 0, 1, 1] += 1
        encoder[1].bias.fill_(OFFSET)
        for convolution in (*encoder[3::3], *decoder[0::3]):  # pass both channels on
            convolution.weight[0, 0, 1, 1] = convolution.weight[1, 1, 1, 1] = 1
        model.output.weight[0, :, 0, 0] = torch.tensor([amount, -amount])
    return model


def scene_rgb(size: tuple[int, int], *, seed: int = 0) -> npt.NDArray[np.float32]:
    """(H, W, 3) encoded values in [0, 1] of a textured scene; ``size`` is (width, height)."""
    encoded: npt.NDArray[np.float32] = np.float32(to_encoded(textured(size, seed), Transfer.SRGB))
    return encoded


def save_network(path: Path, model: UNet, filters: tuple[int, ...]) -> Path:
    """Weights as a run leaves them."""
    save_model(path, model, {"filters": list(filters), "recipe": "toy", "recipe_digest": "0" * 16})
    return path
