"""Which metrics a table has: those asked for, or the paper's as far as they can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from defocus_ds.errors import InputError
from defocus_ds.measure.metrics import Metric, metrics
from defocus_ds.measure.weights import cached_weights

__all__ = ["ABSENT", "choose_metrics"]

ABSENT = "not measured, weights absent"
_PLAIN = ("psnr", "ssim", "q")
_LPIPS = {"lpips": "alex", "lpips-vgg": "vgg"}


def choose_metrics(
    names: Sequence[str] = (), *, lpips_weights: Path | None = None, device: str = "cpu"
) -> tuple[tuple[Metric, ...], Mapping[str, str]]:
    """The metrics of a benchmark.

    Args:
        names: as for `defocus_ds.measure.metrics.metrics`; none takes the paper's four, LPIPS with
            both networks.
        lpips_weights: a file for "lpips"; None looks into the user's cache.
        device: where LPIPS computes.

    Returns:
        The metrics, and of the paper's those that stay empty: name -> why.

    Raises:
        InputError: an unknown name, or one that was asked for and has no weights.
    """
    if names:
        return metrics(names, lpips_weights=lpips_weights, device=device), {}
    found, absent = list(metrics(_PLAIN)), {}
    for name, network in _LPIPS.items():
        given = lpips_weights if name == "lpips" else None
        try:
            weights = given or cached_weights(network)
        except InputError:
            absent[name] = ABSENT
        else:
            found += metrics([name], lpips_weights=weights, device=device)
    return tuple(found), absent
