"""What every public function of images checks first: that it was given an array."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["require_array"]


def require_array(image: Any, where: str, *, takes: str) -> None:
    """Refuse a path, an open picture, a list or a tensor in the place of an array.

    Args:
        image: what a caller gave.
        where: the function and the image's name, for the error.
        takes: shape and type that it takes.

    Raises:
        TypeError: not a NumPy array; the text says how to read a file.

    >>> require_array("a.png", "sharpness_q: luma", takes="(H, W) uint8")
    Traceback (most recent call last):
    TypeError: sharpness_q: luma is of type str; give a NumPy array, (H, W) uint8. \
Files: defocus_ds.load_pair(sharp, blurred) develops two captures, \
numpy.asarray(PIL.Image.open(name)) reads an 8-bit image.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"{where} is of type {type(image).__name__}; give a NumPy array, {takes}. Files: "
            "defocus_ds.load_pair(sharp, blurred) develops two captures, "
            "numpy.asarray(PIL.Image.open(name)) reads an 8-bit image."
        )
