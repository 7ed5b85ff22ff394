"""The trained network as restoration runs it: normalisation folded, features freed early."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from defocus_ds.errors import InputError
from defocus_ds_train.device import full_fp32, has_bf16
from defocus_ds_train.unet import CONVOLUTIONS, UNet

__all__ = ["PRECISIONS", "ResidualNet", "fold_block", "receptive_radius"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# what oneDNN's convolutions were seen to need beside the tensors counted in `bytes_per_pixel`, by
# the bytes of a value
_WORK, _WORK_BYTES = {4: 1.4, 2: 1.5}, 40

Weights = tuple[Tensor, Tensor | None]


class ResidualNet:
    """What a `UNet` adds to its input, for inference only.

    Each batch normalisation is folded into its convolution, activations are computed in place
    and the encoder's features are freed as the decoder takes them: two thirds of the memory of
    the network that was trained, and less time.

    Args:
        model: trained; left as it is.
        device: where to compute.
        precision: "fp32", "bf16" or "fp16" of weights and activations; the sum with the input
            is the caller's and stays in float32.

    Raises:
        InputError: the weights are not finite once folded, or the device lacks the precision.
    """

    def __init__(
        self, model: UNet, *, device: torch.device | str = "cpu", precision: str = "fp32"
    ) -> None:
        self.device = torch.device(device)
        self.precision = precision
        self.dtype = PRECISIONS[precision]
        _check_precision(precision, self.device)
        self.stride = model.stride
        self.depth = len(model.up)
        self._encoder = [self._placed(fold_block(block)) for block in model.encoder]
        self._decoder = [self._placed(fold_block(block)) for block in model.decoder]
        self._up = self._placed(
            [(up.weight, up.bias) for up in model.up if isinstance(up, nn.ConvTranspose2d)]
        )
        ((self._output, _),) = self._placed([(model.output.weight, None)])

    @property
    def radius(self) -> int:
        """Of the receptive field, see `receptive_radius`."""
        return receptive_radius(self.depth)

    @property
    def bytes_per_pixel(self) -> float:
        """Largest memory a call needs for each pixel of its tile, on the device."""
        filters = [block[0][0].shape[0] for block in self._encoder]
        held, most = 0.0, 0.0
        for level, (fine, coarse) in enumerate(zip(filters, filters[1:], strict=False)):
            # features of this level, what comes up, both concatenated; what it comes up from
            most = max(most, held + (4 * fine + coarse / 4) / 4**level)
            held += fine / 4**level
        itemsize = torch.finfo(self.dtype).bits // 8
        return _WORK[itemsize] * itemsize * most + _WORK_BYTES

    def __call__(self, blurred: Tensor) -> Tensor:
        """What is to be added to a batch of tiles.

        Args:
            blurred: (N, 1, H, W) float32 in [0, 1], H and W multiples of ``stride``.

        Returns:
            (N, 1, H, W) float32, where ``blurred`` is.
        """
        with torch.inference_mode(), full_fp32(self.precision):
            x = blurred.to(self.device, self.dtype)
            features: list[Tensor] = []
            for level, block in enumerate(self._encoder):
                x = _run(block, functional.max_pool2d(x, 2) if level else x)
                features.append(x)
            features.pop()
            for level in reversed(range(self.depth)):
                weight, bias = self._up[level]
                x = functional.conv_transpose2d(x, weight, bias, stride=2)
                x = _run(self._decoder[level], torch.cat([features.pop(), x], dim=1))
            return functional.conv2d(x, self._output).to(blurred.device, torch.float32)

    def free_cache(self) -> None:
        """Give memory back that torch keeps for later."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def _placed(self, layers: Sequence[Weights]) -> list[Weights]:
        """Weights on the device, in the precision and layout in which it is fastest."""
        layout = torch.preserve_format if self.device.type == "mps" else torch.channels_last
        placed: list[Weights] = []
        for weight, bias in layers:
            tensors = [weight.detach()] if bias is None else [weight.detach(), bias.detach()]
            if not all(bool(t.to(self.dtype).isfinite().all()) for t in tensors):
                raise InputError(f"the weights exceed what {self.dtype} holds; give fp32.")
            moved = [t.to(self.device, self.dtype) for t in tensors]
            placed.append(
                (moved[0].contiguous(memory_format=layout), moved[1] if bias is not None else None)
            )
        return placed


def fold_block(block: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Convolutions that equal a block's convolutions with their normalisations.

    Args:
        block: (3x3 convolution without bias, batch normalisation, GELU), five times.

    Returns:
        Weights (C, B, 3, 3) and biases (C,) of the five, float32, computed in float64.

    Raises:
        InputError: they are not finite: a damaged checkpoint.
    """
    layers = list(block.children())
    folded = []
    for convolution, norm in zip(layers[0::3], layers[1::3], strict=True):
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        weight = convolution.weight.double() * scale[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * scale
        folded.append((weight.float().detach(), bias.float().detach()))
    if not all(bool(t.isfinite().all()) for pair in folded for t in pair):
        raise InputError(
            "the weights are not finite once batch normalisation is folded into them; the "
            "checkpoint is damaged, use another."
        )
    return folded


def receptive_radius(depth: int) -> int:
    """How far from a pixel of the output a pixel of the input can be that it depends on.

    Args:
        depth: levels of the encoder, >= 1.

    Returns:
        Pixels, the most over all positions in the pooling grid: 245 for the published four.
    """
    farthest = 0
    for centre in range(2**depth):
        first = last = centre
        for _ in range(depth):  # back through the decoder
            first, last = (first - CONVOLUTIONS) // 2, (last + CONVOLUTIONS) // 2
        first, last = first - CONVOLUTIONS, last + CONVOLUTIONS
        for _ in range(depth):  # back through the encoder
            first, last = 2 * first - CONVOLUTIONS, 2 * last + 1 + CONVOLUTIONS
        farthest = max(farthest, centre - first, last - centre)
    return farthest


def _check_precision(precision: str, device: torch.device) -> None:
    if precision == "fp16" and device.type == "cpu":
        raise InputError("--precision fp16 needs a GPU; on the CPU give bf16 or fp32.")
    if precision == "bf16" and device.type == "cpu" and not has_bf16(device):
        raise InputError("--precision bf16: this processor has none; give fp32.")
    if precision == "bf16" and device.type == "cuda" and not has_bf16(device):
        raise InputError("--precision bf16: this GPU has none; give fp16 or fp32.")


def _run(block: list[Weights], x: Tensor) -> Tensor:
    for weight, bias in block:
        x = torch.ops.aten.gelu_(functional.conv2d(x, weight, bias, padding=1))
    return x
