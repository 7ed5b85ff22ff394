"""What a certificate claims against what is true, one pair a process.

`isolated` calls `run` with a kind of pair.  Beside the `KINDS` of pairs there are two kinds of
maps that the refinement has not touched: that of the `paper` preset, and true maps with a known
displacement added, which are certified as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from certificate_pairs import KINDS, TruePair, draw_pair
from isolated import Stopwatch

from defocus_ds import register
from defocus_ds.config import RegisterConfig
from defocus_ds.optics import Warp
from defocus_ds.stages.register import ResidualGrid
from defocus_ds.stages.register.coverage import valid_area
from defocus_ds.stages.register.planes import pyramid
from defocus_ds.stages.register.refine import certify_map
from defocus_ds.stages.register.residual import check_locally

__all__ = ["ALL_KINDS", "displaced", "run", "within_two_deviations"]

ALL_KINDS = (*KINDS, "paper", "displaced")
_PAPER = RegisterConfig(iterations=500, start_scale=0.25, sampling=0.05, refine=False)
_PURE_PX = 0.02  # spread of the truth in a cell above which it holds more than one displacement


def run(method: str, task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """Draw a pair of the kind ``method``, claim its error, and compare.

    Args:
        method: one of `ALL_KINDS`.
        task: ``number`` of the pair among its kind, and ``seed`` of the population.
        watch: counts the claim as "all".
    """
    number, seed = task["number"], task["seed"]
    drawn = {"paper": "plain", "displaced": "plain"}.get(method, method)
    # pairs of their own: a number apart from those of the plain kind
    pair = draw_pair(drawn, number + (1000 if drawn != method else 0), seed=seed)
    options = {"transfer": pair.transfer, "seed": 0}
    with watch("all"):
        if method == "displaced":
            found = _certified(pair, displaced(pair.maps[0], [seed, number]))
        else:
            given = {"preset": "paper", "config": _PAPER} if method == "paper" else {}
            found = _of_alignment(pair, register(pair.sharp, pair.blurred, **options, **given))
    return found | {
        "size": "x".join(str(n) for n in pair.maps[0].size),
        "true_radius_px": pair.radius_px,
    }


def displaced(warp: Warp, seed: list[int]) -> Warp:
    """A map with a similarity added that moves its points by 0.03 to 1 px in the mean."""
    rng = np.random.default_rng(seed)
    matrix = np.asarray(warp.matrix)
    centre = np.asarray(warp.centre)
    angle, h = rng.uniform(0, 2 * np.pi), warp.half_diagonal_px
    grow, turn = rng.normal(0, 1 / h, 2)
    extra = np.array([[grow, -turn], [turn, grow]])
    shift = np.array([np.cos(angle), np.sin(angle)]) - extra @ centre

    def moved(amount: float) -> Warp:
        (a, b, c), (d, e, f) = (matrix + amount * np.column_stack([extra, shift])).tolist()
        return Warp(((a, b, c), (d, e, f)), warp.radial, warp.size)

    return moved(float(10 ** rng.uniform(-1.5, 0)) / moved(1.0).mean_difference_px(warp))


def within_two_deviations(grid: ResidualGrid, warp: Warp, pair: TruePair) -> float | None:
    """Share of the measured cells whose shift is right to two of the deviations it states.

    Only cells count in which the truth is one displacement.  A plane Gaussian vector whose
    components have that deviation is so near in 86 % of the cases.
    """
    half = (np.array([grid.x[0, 0], grid.y[0, 0]]) + 0.5) * 0.9
    offset = np.stack(np.meshgrid(*(np.linspace(-1, 1, 7),) * 2), axis=-1).reshape(-1, 2) * half
    centre = np.stack([grid.x.ravel(), grid.y.ravel()], axis=-1)
    points = (centre[:, None] + offset).reshape(-1, 2)
    true = (pair.there(points) - warp.map_points(points)).reshape(len(centre), -1, 2)
    sure = grid.confidence.ravel()
    counted = (sure > 0) & (true.std(axis=1).max(axis=1) < _PURE_PX)
    if not counted.any():
        return None
    shift = np.stack([grid.dx.ravel(), grid.dy.ravel()], axis=-1)
    error: npt.NDArray[np.float64] = np.linalg.norm(shift - true.mean(axis=1), axis=1)[counted]
    deviation = 0.25 * np.sqrt(1 / sure[counted] - 1)
    return float((error <= 2 * deviation).mean())


def _of_alignment(pair: TruePair, alignment: Any) -> dict[str, Any]:
    return {
        "residual_px": alignment.residual_px,
        "error_px": pair.error_px(alignment.warp, alignment.valid_area),
        "within_two_deviations": within_two_deviations(
            alignment.residual_grid, alignment.warp, pair
        ),
        "verdict": "keep" if alignment.verdict else "; ".join(alignment.verdict.reasons),
    }


def _certified(pair: TruePair, warp: Warp) -> dict[str, Any]:
    sharp, blurred = (pyramid(image, pair.transfer) for image in (pair.sharp, pair.blurred))
    fit = certify_map(sharp, blurred, warp, samples=RegisterConfig().samples, seed=0)
    area = valid_area(warp)
    checks = check_locally(fit, blurred, tolerance_px=1.0, area=area, fitted=False)
    return {
        "residual_px": checks.certificate.residual_px,
        "error_px": pair.error_px(warp, area),
        "within_two_deviations": within_two_deviations(checks.grid, warp, pair),
        "verdict": "keep",
    }
