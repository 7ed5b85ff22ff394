"""What registration looks at: the green plane in linear light, its pyramid, its clipped areas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.errors import InputError, RegistrationFailed
from defocus_ds.frames import FloatImage
from defocus_ds.optics import Transfer, to_linear

__all__ = ["MIN_SIDE_PX", "Octave", "Pyramid", "check_pair", "pyramid"]

MIN_SIDE_PX = 64
_CLIPPED = 0.965  # encoded value from which a pixel says only "at least this bright"


@dataclass(frozen=True, slots=True)
class Octave:
    """A plane averaged over ``factor`` x ``factor`` pixels.

    Pixel (x', y') of it is centred on ``((x' + 0.5) * factor - 0.5, ...)`` of the full frame;
    rows and columns that do not fill a whole block are left out.  ``clipped`` is the share of
    clipped pixels in each block.
    """

    factor: int
    linear: FloatImage
    clipped: FloatImage

    @property
    def size(self) -> tuple[int, int]:
        return self.linear.shape[1], self.linear.shape[0]


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Levels of falling resolution, factors 1, 2, 4, ... of one image.

    ``blurs`` keeps what `radius.fit_radius` once computed of this image alone, by level and
    radius: a sharp image has several blurred partners.
    """

    size: tuple[int, int]
    levels: tuple[Octave, ...]
    transfer: Transfer
    blurs: dict[tuple[int, float], FloatImage] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __getitem__(self, factor: int) -> Octave:
        return self.levels[factor.bit_length() - 1]

    @property
    def coarsest(self) -> int:
        return self.levels[-1].factor


def check_pair(sharp: npt.NDArray[Any], blurred: npt.NDArray[Any]) -> None:
    """Refuse what cannot be registered at all.

    Args:
        sharp, blurred: (H, W) or (H, W, 3), uint8, or float in [0, 1].

    Raises:
        TypeError: no arrays.
        InputError: wrong type, shape, range or two different sizes.
        RegistrationFailed: too small, or a frame without any contrast.
    """
    for name, image in (("sharp", sharp), ("blurred", blurred)):
        _check_image(name, image)
    if sharp.shape[:2] != blurred.shape[:2]:
        raise InputError(
            f"register: the sharp image is {_by(sharp)} and the blurred one {_by(blurred)}; "
            "both must come from one camera and one development, with equal sizes."
        )


def pyramid(image: npt.NDArray[Any], transfer: Transfer) -> Pyramid:
    """Green plane (or the only plane) in linear light, halved until a side would fall below 48 px.

    Args:
        image: (H, W) or (H, W, 3), uint8 or float in [0, 1].
        transfer: curve that the values were encoded with.

    Returns:
        Levels from factor 1 on.
    """
    import cv2

    plane = _green(image)
    top = 255 * _CLIPPED if plane.dtype == np.uint8 else _CLIPPED
    linear = to_linear(plane, transfer)
    clipped = (plane >= top).astype(np.float32)
    levels = [Octave(1, linear, clipped)]
    while min(levels[-1].linear.shape) // 2 >= 48:
        even = tuple(n // 2 * 2 for n in linear.shape)
        size = (even[1] // 2, even[0] // 2)
        linear, clipped = (
            np.asarray(
                cv2.resize(plane[: even[0], : even[1]], size, interpolation=cv2.INTER_AREA),
                np.float32,
            )
            for plane in (linear, clipped)
        )
        levels.append(Octave(levels[-1].factor * 2, linear, clipped))
    return Pyramid((plane.shape[1], plane.shape[0]), tuple(levels), transfer)


def _green(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The green plane, or the only one, contiguous."""
    return np.ascontiguousarray(image[..., 1] if image.ndim == 3 else image)


def _check_image(name: str, image: npt.NDArray[Any]) -> None:
    takes = "(H, W) or (H, W, 3), uint8 or float in [0, 1]"
    require_array(image, f"register: {name}", takes=takes)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(f"register: the {name} image has shape {image.shape}; need (H, W[, 3]).")
    floating = np.issubdtype(image.dtype, np.floating)
    if image.dtype != np.uint8 and not floating:
        raise InputError(
            f"register: the {name} image is {image.dtype}; need uint8, or float in [0, 1]. "
            "Divide 16-bit values by 65535."
        )
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise RegistrationFailed(
            f"register: the {name} image is {width}x{height}; "
            f"need at least {MIN_SIDE_PX} px on each side."
        )
    plane = _green(image)
    low, high = float(plane.min()), float(plane.max())
    if floating and not (np.isfinite(low) and np.isfinite(high) and low >= -0.01 and high <= 1.01):
        raise InputError(
            f"register: the {name} image spans {low:g} to {high:g}; "
            "float values must lie in [0, 1]."
        )
    spread = (high - low) * (1 if floating else 1 / 255)
    if spread < 0.02:
        raise RegistrationFailed(
            f"register: the {name} frame is empty: its values span {spread:.3f} of the range "
            "(need 0.02). Was the lens cap on? Leave this capture out."
        )


def _by(image: npt.NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
