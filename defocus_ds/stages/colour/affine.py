"""A 3x4 matrix in linear light, applied to 8-bit pixels through small tables."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from defocus_ds.errors import ColourFailed
from defocus_ds.frames import UInt8Image
from defocus_ds.optics import Transfer, to_encoded, to_linear

__all__ = ["apply_affine"]

_LIGHT_BITS = 15  # resolution of the table that encodes light: 0.1 level at black, finer above


def apply_affine(
    image: UInt8Image, matrix: npt.NDArray[Any], *, transfer: Transfer = Transfer.SRGB
) -> UInt8Image:
    """Apply a matrix in linear light to an 8-bit image; faster than a 3-D LUT.

    Args:
        image: (H, W, 3) uint8.
        matrix: (3, 4), linear light -> linear light: ``light @ m[:, :3].T + m[:, 3]``.
        transfer: curve of the stored values.

    Returns:
        (H, W, 3) uint8, within 1 level of the exact result.

    Raises:
        ColourFailed: wrong shape or type, or a matrix that is not finite or beyond 1000.
    """
    m = np.asarray(matrix, np.float64)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ColourFailed(f"apply_affine: got {image.dtype} {image.shape}; need (H, W, 3) uint8.")
    if m.shape != (3, 4) or not (np.abs(m) < 1000).all():
        raise ColourFailed(f"apply_affine: {m.tolist()}; need 3 x 4 numbers below 1000.")
    ones = 1 << _LIGHT_BITS
    light = to_linear(np.arange(256, dtype=np.uint8), transfer).astype(np.float64)
    products = light[:, None] * m.T[:3, None, :] * (ones << 8)  # [input channel, value, output]
    products[0] += m[:, 3] * (ones << 8) + 128
    encoded = np.rint(to_encoded(np.arange(ones + 1) / ones, transfer) * 255).astype(np.uint8)
    out = np.empty(image.shape, np.uint8)
    _apply(np.ascontiguousarray(image), np.rint(products).astype(np.int64), encoded, out)
    return out


@numba.njit(cache=True, nogil=True)
def _apply(image: Any, products: Any, encoded: Any, out: Any) -> None:
    last = encoded.size - 1
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            for c in range(3):
                light = (products[0, r, c] + products[1, g, c] + products[2, b, c]) >> 8
                out[y, x, c] = encoded[min(max(light, 0), last)]
