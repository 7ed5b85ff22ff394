"""The restoration network of MMSP 2024: a residual U-Net on luma."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from defocus_ds.errors import InputError

__all__ = ["UNet", "count_parameters"]

CONVOLUTIONS = 5  # per block, in the encoder, the bridge and the decoder alike


class UNet(nn.Module):
    """Adds to its input what a U-Net predicts from it.

    Four encoder levels of ``filters`` with 2x2 max pooling between them, a bridge of twice the
    last, and a decoder that mirrors the encoder: 2x2 transposed convolution, concatenation with
    the encoder's features of that level, block.  A block is five times (3x3 convolution without
    bias, batch normalisation, GELU).  A linear 1x1 convolution ends it.  With the default
    filters it has 4,891,216 trainable parameters.

    Args:
        filters: channels of the encoder's levels, finest first.

    Source:
        MMSP 2024, section "Network"; the residual sum, the missing biases and the decoder's five
        convolutions are deduced from the published outputs and the published parameter count.
    """

    def __init__(self, filters: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        if not filters or min(filters) < 1:
            raise InputError(f"filters = {filters}: give at least one level, each of 1 or more.")
        levels = (*filters, 2 * filters[-1])
        self.stride = 2 ** len(filters)
        self.encoder = nn.ModuleList(
            _block(inputs, outputs) for inputs, outputs in zip((1, *filters), levels, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2)
            for fine, coarse in zip(levels, levels[1:], strict=False)
        )
        self.decoder = nn.ModuleList(_block(2 * fine, fine) for fine in filters)
        self.output = nn.Conv2d(filters[0], 1, kernel_size=1, bias=False)

    def forward(self, blurred: Tensor) -> Tensor:
        """Restore a batch.

        Args:
            blurred: (N, 1, H, W) float in [0, 1], any H and W; the bottom and right edges are
                repeated up to a multiple of 16 inside.

        Returns:
            (N, 1, H, W), not clipped.
        """
        height, width = blurred.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        x = functional.pad(blurred, padding, mode="replicate") if any(padding) else blurred
        features: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(functional.max_pool2d(x, 2) if level else x)
            features.append(x)
        for level in reversed(range(len(self.decoder))):
            x = torch.cat([features[level], self.up[level](x)], dim=1)
            x = self.decoder[level](x)
        residual: Tensor = self.output(x)
        return blurred + residual[..., :height, :width]


def count_parameters(model: nn.Module, *, trainable: bool = True) -> int:
    """Number of values the optimiser moves; with ``trainable=False``, also the running
    statistics of batch normalisation."""
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if trainable:
        return learned
    return learned + sum(b.numel() for b in model.buffers() if b.is_floating_point())


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(CONVOLUTIONS):
        layers += [
            nn.Conv2d(outputs if index else inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.GELU(),
        ]
    return nn.Sequential(*layers)
