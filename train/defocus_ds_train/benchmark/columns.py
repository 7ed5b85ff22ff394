"""Which metrics a table has: those asked for, or the paper's as far as they can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from defocus_ds.errors import InputError
from defocus_ds.measure.metrics import LPIPS_NETWORKS, Metric, metrics
from defocus_ds.measure.weights import cached_weights, network_of_file

__all__ = ["ABSENT", "choose_metrics"]

ABSENT = "not measured, weights absent"
_PLAIN = ("psnr", "ssim", "q")


def choose_metrics(
    names: Sequence[str] = (),
    *,
    expected: Sequence[str] = (),
    lpips_weights: Path | None = None,
    device: str = "cpu",
) -> tuple[tuple[Metric, ...], Mapping[str, str]]:
    """The metrics of a benchmark.

    Args:
        names: as for `defocus_ds.measure.metrics.metrics`; none takes the paper's four, LPIPS with
            both networks.
        expected: what stored results have; without names these are taken, and with a file of
            weights those of the paper beside them.
        lpips_weights: a file for "lpips" or "lpips-vgg", whichever it holds; the other, and both
            where it is None, are looked for in the user's cache.
        device: where LPIPS computes.

    Returns:
        The metrics, and of the paper's those that stay empty: name -> why.

    Raises:
        InputError: an unknown name, one that was asked for and has no weights, or weights that
            no metric takes.
        DatasetError: the file holds no such weights.
    """
    if names or (expected and lpips_weights is None):
        return metrics(names or expected, lpips_weights=lpips_weights, device=device), {}
    plain = dict.fromkeys((*_PLAIN, *expected))
    found, absent = list(metrics(name for name in plain if name not in LPIPS_NETWORKS)), {}
    held = network_of_file(lpips_weights) if lpips_weights is not None else None
    for name, network in LPIPS_NETWORKS.items():
        try:
            weights = lpips_weights if network == held else cached_weights(network)
        except InputError:
            if name in expected:
                raise
            absent[name] = ABSENT
        else:
            found += metrics([name], lpips_weights=weights, device=device)
    return tuple(found), absent
