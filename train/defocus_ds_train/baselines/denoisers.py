"""Denoisers for RED, by name: each a function of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from defocus_ds.errors import InputError

__all__ = ["DENOISERS", "Denoiser", "denoiser"]

Denoiser = Callable[[Tensor], Tensor]
_Image = npt.NDArray[np.float64]


def denoiser(name: str, *, sigma: float) -> Denoiser:
    """A denoiser of (N, H, W) float images in [0, 1].

    "median" is a 3x3 median and runs where the images are, on a GPU too.  "tv" (Chambolle's total
    variation) and "nlm" (non-local means) are scikit-image's, "bm3d" is the package of that name;
    these three work image by image on the CPU, and the last digits of bm3d vary between runs.

    Args:
        name: one of `DENOISERS`.
        sigma: standard deviation of the noise to remove, > 0; "median" does not use it.

    Raises:
        InputError: another name, a sigma out of range, or bm3d is not installed.
    """
    if name not in DENOISERS:
        raise InputError(f"denoiser {name!r}; known: {', '.join(DENOISERS)}.")
    if not 0 < sigma < 1:
        raise InputError(f"denoiser: sigma = {sigma}; it must be between 0 and 1.")
    if name == "median":
        return _median
    if name == "bm3d" and find_spec("bm3d") is None:
        raise InputError(
            "denoiser 'bm3d' needs the package bm3d (free for research only): pip install bm3d, "
            "or choose median, tv or nlm."
        )
    single = {"tv": _total_variation, "nlm": _non_local_means, "bm3d": _bm3d}[name]
    return partial(_one_by_one, partial(single, sigma=sigma))


DENOISERS = ("median", "tv", "nlm", "bm3d")


def _median(images: Tensor) -> Tensor:
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    height, width = images.shape[-2:]
    shifted = [padded[:, j : j + height, i : i + width] for j in range(3) for i in range(3)]
    return torch.stack(shifted).median(dim=0).values


def _one_by_one(single: Callable[[_Image], _Image], images: Tensor) -> Tensor:
    arrays = images.detach().cpu().double().numpy()
    done = np.stack([single(image) for image in arrays])
    return torch.as_tensor(done, dtype=images.dtype, device=images.device)


def _total_variation(image: _Image, *, sigma: float) -> _Image:
    return np.asarray(_package("skimage.restoration").denoise_tv_chambolle(image, weight=sigma))


def _non_local_means(image: _Image, *, sigma: float) -> _Image:
    # scikit-image's advice for the fast mode with a known sigma
    options = {"patch_size": 5, "patch_distance": 6, "h": 0.8 * sigma, "fast_mode": True}
    return np.asarray(
        _package("skimage.restoration").denoise_nl_means(image, sigma=sigma, **options)
    )


def _bm3d(image: _Image, *, sigma: float) -> _Image:
    return np.asarray(_package("bm3d").bm3d(image, sigma))


def _package(name: str) -> Any:
    """Without type stubs, and slow to import."""
    return import_module(name)
