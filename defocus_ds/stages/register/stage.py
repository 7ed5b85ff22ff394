"""Register one pair: rough start, mutual information, blur-matched refinement, verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from defocus_ds.config import PRESETS, BuildConfig, RegisterConfig
from defocus_ds.errors import ConfigError
from defocus_ds.frames import recordable_px
from defocus_ds.optics import Transfer, Warp, to_encoded
from defocus_ds.stages.register.alignment import Alignment, thin
from defocus_ds.stages.register.coverage import valid_area
from defocus_ds.stages.register.doubts import find_doubts
from defocus_ds.stages.register.local_radius import measure_radii
from defocus_ds.stages.register.multimodal import MultimodalResult, multimodal
from defocus_ds.stages.register.planes import Pyramid, check_pair, pyramid
from defocus_ds.stages.register.radius import matched, max_radius_px, role_ratio
from defocus_ds.stages.register.refine import Fit, certify_map, refine_coarse, refine_fine
from defocus_ds.stages.register.residual import check_locally
from defocus_ds.stages.register.solver import has_fields
from defocus_ds.stages.register.start import rough_candidates
from defocus_ds.stages.register.verdict import judge

__all__ = ["register"]

_START_SAMPLES = 500  # pixels a metric reading of the robust start, whatever the frame's size
_FEWEST_SAMPLES = 250
_GOOD_NCC = 0.9
_SAME_START = 0.02  # of the shorter side: a start so near to one tried, or its end, ends there too
_HOPELESS_NCC = 0.5  # such a start is rejected whatever follows


def register(
    sharp: npt.NDArray[Any],
    blurred: npt.NDArray[Any],
    *,
    preset: str = "accurate",
    config: RegisterConfig | None = None,
    transfer: Transfer = Transfer.SRGB,
    seed: int = 0,
    prepared: Pyramid | None = None,
) -> Alignment:
    """Find where each pixel of the sharp capture lies in the blurred one.

    Args:
        sharp, blurred: (H, W, 3) or (H, W), uint8 or float in [0, 1], of one size; the green
            channel is used.
        preset: "accurate": a scan over scale and rotation, mutual information with a 1+1
            evolution strategy on a coarse pyramid, then blur-matched Gauss-Newton.  "paper":
            mutual information with the settings of MMSP 2024 and nothing after it.
        config: overrides the preset's numbers.
        transfer: curve that the values were encoded with.
        seed: of the pixel samples and of the evolution strategy; same inputs, configuration and
            seed, same bits.
        prepared: `pyramid` of ``sharp`` under ``transfer``, where it serves several captures.

    Returns:
        The alignment with its verdict.  A bad one is returned and rejected, not raised.

    Raises:
        InputError: wrong type, shape or range, or two sizes.
        RegistrationFailed: an empty frame, or one too small to register.
        ConfigError: unknown preset, or ``refine`` with "paper".
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r}: known presets are {', '.join(PRESETS)}.")
    config = config or BuildConfig.from_preset(preset).register
    check_pair(sharp, blurred)
    pair = _Pair(prepared or pyramid(sharp, transfer), pyramid(blurred, transfer), config, seed)
    if preset == "paper":
        if config.refine:
            raise ConfigError(
                "register.refine: true, but preset 'paper' ends with mutual information; "
                "set it to false or use preset 'accurate'."
            )
        result = _multimodal(pair, Warp.identity(pair.size), shrink=(4, 2, 1))
        return _certified(pair, result, preset)
    return _accurate(pair)


@dataclass(frozen=True, slots=True)
class _Pair:
    sharp: Pyramid
    blurred: Pyramid
    config: RegisterConfig
    seed: int

    @property
    def size(self) -> tuple[int, int]:
        return self.sharp.size


def _accurate(pair: _Pair) -> Alignment:
    candidates = rough_candidates(pair.sharp, pair.blurred)
    result = _multimodal(pair, candidates[0], shrink=(2, 1), most=_START_SAMPLES)
    if not pair.config.refine:
        return _certified(pair, result, "accurate")
    best: tuple[float, Fit] | None = None
    tried: list[Warp] = []
    for start in (result.warp, *candidates):
        near = _SAME_START * min(pair.size)
        if any(start.mean_difference_px(other) < near for other in tried):
            continue
        fit = refine_coarse(
            pair.sharp, pair.blurred, start, samples=pair.config.samples, seed=pair.seed
        )
        found = matched(pair.sharp, pair.blurred, fit.warp, fit.radius_px, fit.factor).agreement()
        if best is None or found > best[0]:
            best = found, fit
        if found >= _GOOD_NCC:
            break
        tried += [start, fit.warp]
    assert best is not None
    fit = best[1]
    if best[0] >= _HOPELESS_NCC:
        fit = refine_fine(
            pair.sharp, pair.blurred, fit, samples=pair.config.samples, seed=pair.seed
        )
    return _aligned(pair, fit, "accurate", _metric_trace(result))


def _certified(pair: _Pair, result: MultimodalResult, preset: str) -> Alignment:
    """The map of the mutual information as it is, with radius, checks and verdict."""
    fit = certify_map(
        pair.sharp, pair.blurred, result.warp, samples=pair.config.samples, seed=pair.seed
    )
    return _aligned(pair, fit, preset, _metric_trace(result), fitted=False)


def _aligned(
    pair: _Pair,
    fit: Fit,
    preset: str,
    trace: dict[str, tuple[float, ...]],
    *,
    fitted: bool = True,
) -> Alignment:
    warp, radius = fit.warp, fit.radius_px
    limit = pair.config.max_residual_px
    area = valid_area(warp)
    checks = check_locally(fit, pair.blurred, tolerance_px=limit, area=area, fitted=fitted)
    certificate = checks.certificate
    factor = _check_factor(pair.size)
    overlaid = matched(pair.sharp, pair.blurred, warp, radius, factor)
    ncc = overlaid.agreement()
    unmoved = overlaid.under(pair.blurred, Warp.identity(pair.size), radius, factor)
    verdict = judge(
        warp,
        ncc=ncc,
        residual_px=certificate.residual_px,
        max_residual_px=limit,
        explained=checks.explained,
        textured=checks.textured,
        converged=fit.converged,
        radius_px=radius,
        max_radius_px=max_radius_px(pair.size),
        role_ratio=role_ratio(pair.sharp, pair.blurred, warp, factor),
        doubts=find_doubts(
            pair.sharp,
            pair.blurred,
            warp,
            checks.grid,
            overlaid=overlaid,
            ncc=ncc,
            radius_px=radius,
            factor=factor,
            tolerance_px=limit,
            samples=pair.config.samples,
            seed=pair.seed,
        ),
    )
    return Alignment(
        warp=warp,
        blur_radius_px=radius,
        residual_px=recordable_px(certificate.residual_px),
        ncc=ncc,
        ncc_before=unmoved.agreement(),
        verdict=verdict,
        valid_area=area,
        preset=preset,
        model="affine+radial" if fitted and has_fields(pair.size) else "affine",
        deviation_px=recordable_px(certificate.deviation_px),
        misfit_px=recordable_px(certificate.misfit_px),
        explained=checks.explained,
        residual_grid=checks.grid,
        trace=trace | {f"refine 1/{f}": thin(values) for f, values in fit.trace},
        radius_map=measure_radii(pair.sharp, pair.blurred, warp, radius_px=radius)
        if ncc >= _HOPELESS_NCC
        else None,
    )


def _multimodal(
    pair: _Pair, start: Warp, *, shrink: tuple[int, ...], most: int | None = None
) -> MultimodalResult:
    """Mutual information at ``config.start_scale``, its map brought to full resolution."""
    factor = 1
    wanted = 1 / pair.config.start_scale
    while factor * 2 <= min(wanted, pair.sharp.coarsest) and max(pair.size) >= 512 * factor:
        factor *= 2
    fixed, moving = pair.sharp[factor], pair.blurred[factor]
    result = multimodal(
        to_encoded(fixed.linear, pair.sharp.transfer),
        to_encoded(moving.linear, pair.blurred.transfer),
        start=start.at_scale(1 / factor, fixed.size),
        iterations=pair.config.iterations,
        sampling=tuple(
            _share(fixed.size[0] * fixed.size[1] // s**2, pair.config.sampling, most)
            for s in shrink
        ),
        shrink=shrink,
        seed=pair.seed,
    )
    return MultimodalResult(
        result.warp.at_scale(float(factor), pair.size), result.metric, result.trace
    )


def _share(pixels: int, sampling: float, most: int | None) -> float:
    count = max(sampling * pixels, _FEWEST_SAMPLES)
    return min(1.0, (count if most is None else min(count, most)) / pixels)


def _metric_trace(result: MultimodalResult) -> dict[str, tuple[float, ...]]:
    return {f"multimodal {n}": thin(level) for n, level in enumerate(result.trace, start=1)}


def _check_factor(size: tuple[int, int]) -> int:
    """Level at which agreement is measured: about 1000 px wide."""
    factor = 1
    while factor < 16 and max(size) >= 1500 * factor:
        factor *= 2
    return factor
