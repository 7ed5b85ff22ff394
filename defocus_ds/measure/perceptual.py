"""Perceptual distance: LPIPS v0.1 with AlexNet or VGG-16, in plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.errors import InputError
from defocus_ds.measure.weights import NETWORKS, cached_weights, read_weights
from defocus_ds.wording import INSTALL_TRAIN

__all__ = ["Lpips"]

# mean and spread of ImageNet's colours on the scale [-1, 1], as LPIPS v0.1 fixes them
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
# below this side a stage has no pixel left
_SMALLEST = {"alex": 31, "vgg": 16}
_TINY = 1e-10


class Lpips:
    """LPIPS v0.1 (linear heads, spatial mean): 0 for equal images, larger is worse.

    Grey images are replicated to three channels.

    Args:
        weights: file that `defocus_ds.measure.weights.read_weights` reads; None takes the
            user's cache.  Nothing is downloaded.
        network: "alex", the usual one, or "vgg".
        device: of torch, e.g. "cpu" or "cuda".

    Raises:
        InputError: an unknown network, torch is not installed, or no weights are in the cache.
        DatasetError: the file does not hold these weights.

    Source:
        Zhang, Isola, Efros, Shechtman & Wang 2018, "The Unreasonable Effectiveness of Deep
        Features as a Perceptual Metric"; Krizhevsky 2014 and
        Simonyan & Zisserman 2015 for the networks.
    """

    def __init__(
        self, weights: Path | None = None, *, network: str = "alex", device: str = "cpu"
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise InputError(f"LPIPS needs torch: {INSTALL_TRAIN}") from error
        path = cached_weights(network) if weights is None else weights
        arrays = read_weights(path, network)
        self._network = network
        self._device = torch.device(device)
        self._stages = _backbone(arrays, network).to(self._device).eval()
        self._heads = [
            torch.tensor(arrays[f"head{i}"], device=self._device)[:, None, None]
            for i in range(len(self._stages))
        ]

    def __call__(
        self, images: npt.NDArray[Any], references: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        """Distance of each image to its reference.

        Args:
            images: (N, H, W) grey or (N, H, W, 3) RGB, uint8 or float in [0, 1], sides of at
                least 31 px (vgg: 16).
            references: the same shape and type.

        Returns:
            (N,) distances >= 0.

        Raises:
            TypeError: no arrays.
            InputError: shapes or types that do not fit.
        """
        import torch

        takes = "(N, H, W) or (N, H, W, 3), uint8 or float in [0, 1]"
        for name, stack in (("images", images), ("references", references)):
            require_array(stack, f"LPIPS: {name}", takes=takes)
        if images.shape != references.shape or images.dtype != references.dtype:
            raise InputError(
                f"LPIPS: images are {images.dtype} {images.shape}, references "
                f"{references.dtype} {references.shape}; they must agree."
            )
        # TF32 would change the third digit on recent GPUs
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            total = torch.zeros(len(images), dtype=torch.float64)  # MPS has no float64
            one, two = self._input(images), self._input(references)
            for stage, head in zip(self._stages, self._heads, strict=True):
                one, two = stage(one), stage(two)
                gap = (_unit(one) - _unit(two)) ** 2
                total += (gap * head).sum(dim=1).mean(dim=(1, 2)).cpu().double()
        return np.asarray(total.numpy())

    def _input(self, images: npt.NDArray[Any]) -> Any:
        """(N, 3, H, W) float32 as the network expects it."""
        import torch

        if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
            raise InputError(f"LPIPS: images of shape {images.shape}; give (N, H, W[, 3]).")
        smallest = _SMALLEST[self._network]
        if min(images.shape[1:3]) < smallest or len(images) == 0:
            raise InputError(f"LPIPS: images of shape {images.shape}; sides of {smallest} px up.")
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            raise InputError(
                f"LPIPS: images of type {images.dtype}; give uint8 or float in [0, 1]."
            )
        # a copy: images opened from a file may be read-only, which torch does not know
        values = torch.tensor(images, dtype=torch.float32, device=self._device)
        values = values / 127.5 - 1 if images.dtype == np.uint8 else values * 2 - 1
        planes = values.permute(0, 3, 1, 2) if images.ndim == 4 else values[:, None]
        shift = torch.tensor(_SHIFT, device=self._device)[:, None, None]
        scale = torch.tensor(_SCALE, device=self._device)[:, None, None]
        return (planes - shift) / scale


def _backbone(arrays: dict[str, npt.NDArray[np.float32]], network: str) -> Any:
    """The features as stages, each ending after a ReLU, as torchvision builds the two networks."""
    import torch
    from torch import nn

    stages = nn.ModuleList()
    number = 0
    for index, convolutions in enumerate(NETWORKS[network].stages):
        layers: list[Any] = []
        if network == "alex" and index in (1, 2):
            layers.append(nn.MaxPool2d(3, stride=2))
        elif network == "vgg" and index > 0:
            layers.append(nn.MaxPool2d(2, stride=2))
        for out, into, side in convolutions:
            stride, padding = (4, 2) if side == 11 else (1, side // 2)
            # on "meta" nothing is drawn from the random generator, which belongs to training
            layer = nn.Conv2d(into, out, side, stride=stride, padding=padding, device="meta")
            layer.weight = nn.Parameter(torch.tensor(arrays[f"conv{number}.weight"]))
            layer.bias = nn.Parameter(torch.tensor(arrays[f"conv{number}.bias"]))
            layers += [layer, nn.ReLU()]
            number += 1
        stages.append(nn.Sequential(*layers))
    return stages


def _unit(features: Any) -> Any:
    """Features scaled to length 1 across the channels."""
    return features / (features.norm(dim=1, keepdim=True) + _TINY)
