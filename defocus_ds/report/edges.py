"""Edges of both images of a pair in one picture: where they part, the pair is shifted."""

from __future__ import annotations

import numpy as np

from defocus_ds.frames import UInt8Image

__all__ = ["BLURRED_EDGE", "BOTH_EDGES", "SHARP_EDGE", "edge_overlay", "encode_png"]

SHARP_EDGE = (255, 140, 40)
BLURRED_EDGE = (60, 150, 255)
BOTH_EDGES = (255, 255, 255)

_GROUND = (16, 18, 22)
_NOISE_SIGMA_PX = 1.0
_STRONG, _WEAK = 0.93, 0.80  # quantiles of the gradient: a line begins at one, ends at the other
_FLOOR = 12.0  # Sobel units of 8-bit values; below it a gradient is noise


def edge_overlay(model: UInt8Image, blurred: UInt8Image) -> UInt8Image:
    """Lines along the edges of a sharp image and of its blurred partner.

    The sharp image is given as the model has it, blurred by the disk that was measured: a disk
    leaves straight edges in their places, so the lines are those of the sharp image at the scale
    that the blur leaves, without the detail that the other image cannot show.

    Args:
        model: (H, W, 3) uint8, the sharp image blurred by the measured disk.
        blurred: (H, W, 3) uint8, in the frame of the sharp image.

    Returns:
        (H, W, 3) uint8 RGB: `SHARP_EDGE`, `BLURRED_EDGE`, `BOTH_EDGES` where they coincide.
    """
    sharp, other = _edges(model), _edges(blurred)
    picture = np.empty((*sharp.shape, 3), np.uint8)
    picture[:] = _GROUND
    picture[sharp] = SHARP_EDGE
    picture[other] = BLURRED_EDGE
    picture[sharp & other] = BOTH_EDGES
    return picture


def encode_png(image: UInt8Image) -> bytes:
    """(H, W, 3) uint8 RGB as PNG; same pixels, same bytes."""
    import cv2

    options = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]), options)
    assert done
    return bytes(data)


def _edges(image: UInt8Image) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(H, W) bool, true on thinned lines of large gradient, relative to the image's own."""
    import cv2

    luma = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(luma, (0, 0), _NOISE_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REFLECT_101)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REFLECT_101)
    size = np.hypot(across, down)
    strong, weak = (max(float(np.quantile(size, q)), _FLOOR) for q in (_STRONG, _WEAK))
    # Canny takes 16-bit gradients; a blurred tile's would lose their directions to rounding
    gain = 8000.0 / max(float(size.max()), 1.0)
    dx, dy = (np.rint(np.asarray(part) * gain).astype(np.int16) for part in (across, down))
    lines = cv2.Canny(dx, dy, weak * gain, strong * gain, L2gradient=True)
    return np.asarray(lines) > 0
