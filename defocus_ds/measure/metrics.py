"""The metrics of a table by name, each with all that decides its value in its full name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.measure.fidelity import peak_signal_to_noise_ratio, structural_similarity
from defocus_ds.measure.sharpness import SharpnessKind, sharpness_q
from defocus_ds.measure.weights import network_of_file

__all__ = ["DEFAULT_METRICS", "LPIPS_NETWORKS", "METRIC_NAMES", "Metric", "metrics"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a restored image.

    Attributes:
        name: short, as on the command line and in a column's name.
        full_name: channel, range, border and variant.
        function: of (image, reference), both (H, W) uint8 luma; Q ignores the reference.
        higher_is_better: how to rank.
        digits: how many to print after the point.
    """

    name: str
    full_name: str
    function: Callable[[UInt8Image, UInt8Image], float]
    higher_is_better: bool
    digits: int = 3

    def __call__(self, image: UInt8Image, reference: UInt8Image) -> float:
        return self.function(image, reference)


def metrics(
    names: Iterable[str] | None = None,
    *,
    lpips_weights: Path | None = None,
    device: str = "cpu",
) -> tuple[Metric, ...]:
    """Metrics by name, in the order given.

    Args:
        names: of `METRIC_NAMES`; None takes `DEFAULT_METRICS`, the columns of MMSP 2024.
        lpips_weights: file for "lpips" or "lpips-vgg", see `defocus_ds.measure.perceptual.Lpips`.
            Where both are named it is of the one whose weights it holds; the other, and both
            where it is None, are those of the user's cache.
        device: where those two run.

    Raises:
        InputError: an unknown name, weights and no metric that takes them, or what `Lpips`
            raises when it is among them.
        DatasetError: the file holds no such weights.

    >>> [metric.name for metric in metrics(["psnr", "q"])]
    ['psnr', 'q']
    """
    chosen = DEFAULT_METRICS if names is None else tuple(names)
    for name in chosen:
        if name not in METRIC_NAMES:
            raise InputError(f"metric {name!r}; known: {', '.join(METRIC_NAMES)}.")
    files = _files(chosen, lpips_weights)
    return tuple(
        _lpips(name, files[name], device) if name in LPIPS_NETWORKS else _PLAIN[name]
        for name in chosen
    )


def _files(names: Sequence[str], weights: Path | None) -> dict[str, Path | None]:
    """The file for each LPIPS metric among the names; None is the cache."""
    takers = [name for name in names if name in LPIPS_NETWORKS]
    if weights is None:
        return dict.fromkeys(takers)
    if not takers:
        raise InputError(
            f"{weights}: weights of LPIPS, and none of {', '.join(names)} takes them. Leave them "
            "out, or add --metric lpips."
        )
    if len(set(takers)) == 1:  # a file of the other network is then an error, not left aside
        return dict.fromkeys(takers, weights)
    network = network_of_file(weights)
    return {name: weights if LPIPS_NETWORKS[name] == network else None for name in takers}


def _q(image: UInt8Image, _reference: UInt8Image, *, kind: SharpnessKind) -> float:
    return sharpness_q(image, kind=kind)


def _q_metric(name: str, kind: SharpnessKind, variant: str) -> Metric:
    full_name = f"Q {variant}, luma scaled to [0, 1], mean over all whole 8x8 patches"
    return Metric(name, full_name, partial(_q, kind=kind), higher_is_better=True)


def _lpips(name: str, weights: Path | None, device: str) -> Metric:
    from defocus_ds.measure.perceptual import Lpips

    network = Lpips(weights, network=LPIPS_NETWORKS[name], device=device)

    def distance(image: UInt8Image, reference: UInt8Image) -> float:
        return float(network(np.asarray(image)[None], np.asarray(reference)[None])[0])

    backbone = {"alex": "AlexNet", "vgg": "VGG-16"}[LPIPS_NETWORKS[name]]
    return Metric(
        name,
        f"LPIPS v0.1, {backbone} with linear heads, luma replicated to 3 channels and scaled to "
        "[-1, 1], whole image with zero padding",
        distance,
        higher_is_better=False,
    )


LPIPS_NETWORKS = {"lpips": "alex", "lpips-vgg": "vgg"}
_PLAIN: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                "psnr",
                "PSNR in dB, luma, 8 bits (peak 255), whole image",
                peak_signal_to_noise_ratio,
                higher_is_better=True,
            ),
            Metric(
                "ssim",
                "SSIM, luma, 8 bits (peak 255), 7x7 uniform window, sample covariance, border of "
                "3 px left out",
                partial(structural_similarity, window="uniform-7"),
                higher_is_better=True,
            ),
            Metric(
                "ssim-gaussian",
                "SSIM, luma, 8 bits (peak 255), 11x11 Gaussian window of sigma 1.5, population "
                "covariance, border of 5 px left out",
                partial(structural_similarity, window="gaussian-11"),
                higher_is_better=True,
            ),
            _q_metric(
                "q",
                "reported",
                "as MMSP 2024 reports it (central differences in the patch, coherence tested on "
                "eigenvalues, scored on singular values)",
            ),
            _q_metric(
                "q-training",
                "training",
                "as MMSP 2024 trains on it (Sobel/8 with reflection in the patch, eigenvalues)",
            ),
            _q_metric(
                "q-zhu-milanfar",
                "zhu-milanfar",
                "of Zhu & Milanfar 2010 (central differences in the patch, singular values)",
            ),
        )
    }
)
METRIC_NAMES = (*_PLAIN, *LPIPS_NETWORKS)
DEFAULT_METRICS = ("psnr", "ssim", "q", "lpips")
