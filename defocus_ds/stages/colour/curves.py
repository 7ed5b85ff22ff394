"""Response curves and a matrix in linear light, applied to 8-bit pixels through small tables."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from defocus_ds.errors import ColourFailed, OpticsError
from defocus_ds.frames import UInt8Image
from defocus_ds.optics import to_encoded, to_linear
from defocus_ds.stages.colour.response import Response

__all__ = ["apply_response"]

_LIGHT_BITS = 15  # resolution of the table that encodes light: 0.1 level at black, finer above


def apply_response(image: UInt8Image, response: Response) -> UInt8Image:
    """Apply curves and matrix to an 8-bit image: faster and more exact than a 3-D LUT.

    Args:
        image: (H, W, 3) uint8.
        response: the map.

    Returns:
        (H, W, 3) uint8, within 1 level of the exact result before rounding.

    Raises:
        OpticsError: wrong shape or type.
        ColourFailed: coefficients that are not finite or not below 1000.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise OpticsError(f"apply_response: {image.dtype} {image.shape}; need (H, W, 3) uint8.")
    for name, values in (("matrix", response.matrix), ("curves", response.curves)):
        if not (np.abs(values) < 1000).all():
            raise ColourFailed(
                f"apply_response: {name} {values.tolist()}; need numbers below 1000. "
                "Are the two captures of one scene?"
            )
    ones = 1 << _LIGHT_BITS
    levels = np.repeat(np.arange(256)[:, None] / 255, 3, axis=1)
    light = to_linear(response.bend(levels), response.transfer).T.astype(np.float64)
    matrix = np.asarray(response.matrix, np.float64)
    # [input channel, value, output channel]
    products = light[:, :, None] * matrix.T[:3, None, :] * (ones << 8)
    products[0] += matrix[:, 3] * (ones << 8) + 128
    stored = to_encoded(np.arange(ones + 1) / ones, response.transfer)
    out = np.empty(image.shape, np.uint8)
    _apply(
        np.ascontiguousarray(image),
        np.rint(products).astype(np.int64),
        np.rint(stored * 255).astype(np.uint8),
        out,
    )
    return out


@numba.njit(cache=True, nogil=True)
def _apply(image: Any, products: Any, encoded: Any, out: Any) -> None:
    last = encoded.size - 1
    from_r, from_g, from_b = products[0], products[1], products[2]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            for c in range(3):
                light = (from_r[r, c] + from_g[g, c] + from_b[b, c]) >> 8
                # unsigned, so that no code for negative indices is made
                out[y, x, c] = encoded[np.uint64(min(max(light, 0), last))]
