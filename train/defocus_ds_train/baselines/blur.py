"""The known blur as an operator on batches, with the border it was made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from defocus_ds.errors import InputError

__all__ = ["BlurOperator", "Border", "average_kernel"]

Border = Literal["circular", "reflect"]


class BlurOperator:
    """Convolution with a kernel, the image continued periodically or by reflection.

    "circular" wraps around, as a product of Fourier transforms does.  "reflect" mirrors about the
    centre of the border pixel (OpenCV's BORDER_REFLECT_101); the kernel must then be symmetric,
    and the operator is a product of cosine transforms: the Fourier transforms of the image
    continued to its even period.

    Args:
        kernel: (K, K) with K odd, finite, of sum 1.
        border: how the image continues beyond its edge.

    Raises:
        InputError: another shape or sum, or an asymmetric kernel with reflection.
    """

    def __init__(self, kernel: npt.NDArray[Any], *, border: Border) -> None:
        values = np.asarray(kernel, np.float64)
        if values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] % 2 == 0:
            raise InputError(f"blur: a kernel of shape {values.shape}; give (K, K) with K odd.")
        if not np.isfinite(values).all() or abs(values.sum() - 1) > 1e-6:
            raise InputError(f"blur: the kernel sums to {values.sum():.6g}; it must sum to 1.")
        if border not in ("circular", "reflect"):
            raise InputError(f"blur: border {border!r}; known: circular, reflect.")
        symmetric = all(np.allclose(values, np.flip(values, axis), atol=1e-9) for axis in (0, 1))
        if border == "reflect" and not symmetric:
            raise InputError("blur: a kernel that is not symmetric cannot go with reflection.")
        self.kernel = np.ascontiguousarray(values)
        self.border = border
        self._made: dict[tuple[object, ...], Tensor] = {}  # by what each was made for

    def __call__(self, images: Tensor) -> Tensor:
        """The blurred images.

        Args:
            images: (N, H, W) float, H and W larger than half the kernel.

        Returns:
            The same shape, type and device.

        Raises:
            InputError: an image too small for the kernel.
        """
        reach = self._reach(images)
        if self.border == "circular":
            return _filtered(images, self._transfer(images))
        weights = self._once(
            ("kernel", images.dtype, images.device),
            lambda: torch.as_tensor(self.kernel, dtype=images.dtype, device=images.device),
        )
        padded = functional.pad(images[:, None], (reach,) * 4, mode="reflect")
        return functional.conv2d(padded, weights[None, None])[:, 0]

    def divide(self, images: Tensor, *, over: Tensor, weight: Tensor | float) -> Tensor:
        """Solve ``(H* H + weight) x = H* images + over`` exactly, in frequency.

        Args:
            images: (N, H, W) float, multiplied by the adjoint H*.
            over: (N, H, W), added as it is.
            weight: > 0, a number or (N, 1, 1).

        Returns:
            (N, H, W).  With reflection H* is the adjoint for the inner product in which border
            pixels count half, under which the operator is symmetric.
        """
        self._reach(images)
        height, width = images.shape[-2:]
        whole, extra = self._extended(images), self._extended(over)
        transfer = self._transfer(whole)
        top = transfer.conj() * torch.fft.fft2(whole) + torch.fft.fft2(extra)
        solved: Tensor = torch.fft.ifft2(top / (transfer.abs() ** 2 + weight)).real
        return solved[..., :height, :width].to(images.dtype)

    def _reach(self, images: Tensor) -> int:
        reach = len(self.kernel) // 2
        if images.ndim != 3 or min(images.shape[-2:]) <= 2 * reach:
            raise InputError(
                f"blur: images of shape {tuple(images.shape)}; give (N, H, W) with sides of more "
                f"than {2 * reach} px."
            )
        return reach

    def _extended(self, images: Tensor) -> Tensor:
        """One period of the image as the border continues it."""
        if self.border == "circular":
            return images
        wide = torch.cat([images, images[..., 1:-1].flip(-1)], dim=-1)
        return torch.cat([wide, wide[..., 1:-1, :].flip(-2)], dim=-2)

    def _transfer(self, images: Tensor) -> Tensor:
        """(H, W) transfer function on the period of these images."""
        height, width = images.shape[-2:]
        return self._once(
            ("transfer", height, width, images.device),
            lambda: torch.as_tensor(self._spectrum(height, width), device=images.device),
        )

    def _spectrum(self, height: int, width: int) -> npt.NDArray[np.complex128]:
        size = self.kernel.shape[0]
        spread = np.zeros((height, width))
        spread[:size, :size] = self.kernel
        spread = np.roll(spread, (-(size // 2),) * 2, (0, 1))
        return np.fft.fft2(spread)

    def _once(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        """Made at the first call: an iteration must not wait for a copy to its device."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def average_kernel(size: int) -> npt.NDArray[np.float64]:
    """(size, size) of equal weights that sum to 1; size odd."""
    return np.full((size, size), 1 / size**2)


def _filtered(images: Tensor, transfer: Tensor) -> Tensor:
    blurred: Tensor = torch.fft.ifft2(torch.fft.fft2(images) * transfer).real
    return blurred.to(images.dtype)
