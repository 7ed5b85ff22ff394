"""What a colour map did, and how sure it is: the measured half of its record."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.lut import apply_lut
from defocus_ds.optics import Transfer, to_encoded, to_linear
from defocus_ds.stages.colour.samples import Samples

__all__ = ["assess", "correlation"]

_COMPARED = 20_000  # pairs on which colour differences are computed
_DIFFERENCES = 4_000  # averages of which the difference is computed
_POOLED = 16  # neighbouring pairs averaged before, so that noise is not counted as colour
_BANDS = 16  # parts of the frame, from top to bottom, whose agreement says how sure a gain is


def correlation(pairs: Samples, transfer: Transfer) -> float:
    """Correlation of the mean stored value over corresponding places; 0 for a flat scene."""
    a = to_encoded(pairs.blurred, transfer).mean(axis=1, dtype=np.float64)
    b = to_encoded(pairs.target, transfer).mean(axis=1, dtype=np.float64)
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-12))


def assess(pairs: Samples, lut: FloatImage, transfer: Transfer) -> dict[str, Any]:
    """Measure a map on corresponding low-passed colours; regraining is not part of it.

    Args:
        pairs: paired colours in linear light.
        lut: (N, N, N, 3) float32, the map of stored values, indexed [r, g, b].
        transfer: curve of the stored values.

    Returns:
        JSON-ready: ``samples``, ``averaged_px``, ``clipped_share``, ``correlation``, ``gains``
        (ratio of mean light per channel), ``gains_error`` (their standard error, from how `_BANDS`
        bands of the frame differ), ``matrix`` (3x4 in linear light, least-squares
        approximation of the map), ``displacement_levels`` (mean and max of 255, over the
        colours sampled), ``ciede2000`` (mean before and after, of averages over `_POOLED`
        neighbouring pairs) and ``contrast`` (standard deviation of L* over that of the target,
        before and after).
    """
    from skimage.color import rgb2lab

    step = max(1, len(pairs.blurred) // _COMPARED)
    before = np.clip(to_encoded(pairs.blurred[::step], transfer), 0, 1)
    target = np.clip(to_encoded(pairs.target[::step], transfer), 0, 1)
    after = apply_lut(before[None], lut)[0]
    moved = np.abs(after - before) * 255
    light = to_linear(before, transfer)
    rows = np.column_stack([light, np.ones(len(light))])
    matrix = np.linalg.lstsq(rows, to_linear(after, transfer).astype(np.float64), rcond=None)[0].T

    # L*a*b* of the stored values as sRGB: the curves differ too little to change a difference
    lab = [rgb2lab(colours[None])[0] for colours in (before, after, target)]
    spread = [max(float(image[:, 0].std()), 1e-6) for image in lab]
    means = (
        pairs.blurred.mean(axis=0, dtype=np.float64),
        pairs.target.mean(axis=0, dtype=np.float64),
    )
    return {
        "samples": len(pairs.blurred),
        "averaged_px": pairs.averaged,
        "clipped_share": _short(pairs.clipped_share),
        "correlation": _short(correlation(pairs, transfer)),
        "gains": _short(means[1] / np.maximum(means[0], 1e-6)),
        "gains_error": _short(_gains_error(pairs)),
        "matrix": _short(matrix),
        "displacement_levels": {"mean": _short(moved.mean()), "max": _short(moved.max())},
        "ciede2000": _pooled_differences(pairs, lut, transfer),
        "contrast": {
            "before": _short(spread[0] / spread[2]),
            "after": _short(spread[1] / spread[2]),
        },
    }


def _gains_error(pairs: Samples) -> npt.NDArray[np.float64]:
    """Standard error of the gains; samples are in reading order, so a run of them is a band."""
    count = min(_BANDS, len(pairs.blurred))
    edges = np.linspace(0, len(pairs.blurred), count + 1).astype(np.int64)[:-1]
    before, target = (
        np.add.reduceat(light.astype(np.float64), edges) for light in (pairs.blurred, pairs.target)
    )
    gains = target.sum(axis=0) / np.maximum(before.sum(axis=0), 1e-6)
    left = target - gains * before  # a band weighs by its light: the ratio estimator's error
    error = np.sqrt((left**2).sum(axis=0) * count / max(count - 1, 1))
    return np.asarray(error / np.maximum(before.sum(axis=0), 1e-6))


def _pooled_differences(pairs: Samples, lut: FloatImage, transfer: Transfer) -> dict[str, float]:
    """Mean CIEDE2000 to the target before and after the map, of locally averaged light.

    Samples are in reading order, so neighbours in the list are neighbours in a row.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    def lab(light: FloatImage) -> npt.NDArray[Any]:
        whole = light[: len(light) // run * run].reshape(-1, run, 3).mean(axis=1)[::step]
        return np.asarray(rgb2lab(np.clip(to_encoded(whole, transfer), 0, 1)[None])[0])

    run = min(_POOLED, len(pairs.blurred))
    step = max(1, len(pairs.blurred) // run // _DIFFERENCES)
    stored = np.clip(to_encoded(pairs.blurred, transfer), 0, 1)
    mapped = to_linear(np.clip(apply_lut(stored[None], lut)[0], 0, 1), transfer)
    target = lab(pairs.target)
    return {
        "before": _short(deltaE_ciede2000(lab(pairs.blurred), target).mean()),  # type: ignore[no-untyped-call]
        "after": _short(deltaE_ciede2000(lab(mapped), target).mean()),  # type: ignore[no-untyped-call]
    }


def _short(value: npt.ArrayLike) -> Any:
    """Five decimals: enough to judge by, and free of the last digits that machines differ in."""
    return np.round(np.asarray(value, np.float64), 5).tolist()
