"""The classical rows by name, what each was set to, and the two ways they are fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds_train.baselines.blur import BlurOperator, Border, average_kernel
from defocus_ds_train.baselines.defilter import (
    accelerated_landweber,
    modified_levenberg_marquardt,
    modified_richardson_lucy,
)
from defocus_ds_train.baselines.denoisers import denoiser
from defocus_ds_train.baselines.linear import richardson_lucy, wiener
from defocus_ds_train.baselines.noise import noise_to_signal
from defocus_ds_train.baselines.red import fixed_point, steepest_descent

__all__ = [
    "BASELINES",
    "PROTOCOLS",
    "Baseline",
    "Problem",
    "Protocol",
    "float64_device",
    "pose",
    "restore_classical",
]

Setting = float | int | str
Rounding = Literal["floor", "nearest"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How the sharp crops become what a method sees; ``border`` is of the operator it is given."""

    name: str
    full_name: str
    border: Border


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "authors": Protocol(
            "authors",
            "as MMSP 2024: float, unquantised, blurred circularly, same circular operator",
            "circular",
        ),
        "honest": Protocol(
            "honest", "8-bit input blurred with reflection, operator with reflection", "reflect"
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a method is given: (N, H, W) float64 in [0, 1], the operator, (N,) signal variance."""

    observed: Tensor
    blur: BlurOperator
    signal_variance: Tensor


@dataclass(frozen=True, slots=True)
class Baseline:
    """One classical method.

    Attributes:
        name: short, as on the command line.
        full_name: for a table.
        settings: everything that decides the result beside the input.
        method: the function behind it, of a `Problem` and the settings.
        authors_see: what this row was fed under the `authors` protocol: "float" is its rule,
            "8-bit" the one exception (Wiener: the 8-bit reflected input, circular operator).
        authors_rounding: how its output became 8-bit there; `honest` rounds to the nearest.
    """

    name: str
    full_name: str
    settings: Mapping[str, Setting]
    method: Callable[[Problem, Mapping[str, Any]], Tensor]
    authors_see: Literal["float", "8-bit"] = "float"
    authors_rounding: Rounding = "floor"

    def set(self, **settings: Setting) -> Baseline:
        """The same method with some settings replaced.

        Raises:
            InputError: a setting it does not have, or of another type.
        """
        for key, value in settings.items():
            if key not in self.settings:
                raise InputError(
                    f"{self.name}: no setting {key!r}; known: {', '.join(self.settings) or 'none'}."
                )
            if isinstance(value, str) != isinstance(self.settings[key], str):
                raise InputError(f"{self.name}: {key} = {value!r}, now {self.settings[key]!r}.")
        return replace(self, settings=MappingProxyType({**self.settings, **settings}))


def restore_classical(
    baseline: Baseline,
    *,
    sharp: UInt8Image,
    blurred: UInt8Image,
    protocol: Protocol,
    kernel: npt.NDArray[np.float64] | None = None,
    device: str = "cpu",
) -> UInt8Image:
    """Restored 8-bit crops of a batch.

    Args:
        baseline: from `BASELINES`.
        sharp: (N, H, W) uint8; under "honest" no method sees it.
        blurred: (N, H, W) uint8, blurred with reflection and rounded.
        protocol: from `PROTOCOLS`.
        kernel: of the blur; None is the 5x5 average of MMSP 2024.
        device: where to compute, in float64.

    Returns:
        (N, H, W) uint8.

    Raises:
        InputError: shapes or types that do not fit.
    """
    problem = pose(
        baseline, sharp=sharp, blurred=blurred, protocol=protocol, kernel=kernel, device=device
    )
    with torch.no_grad():
        levels = baseline.method(problem, baseline.settings) * 255
    down = protocol.name == "authors" and baseline.authors_rounding == "floor"
    levels = levels.floor() if down else levels.round()
    return levels.clamp(0, 255).to(torch.uint8).cpu().numpy()


def pose(
    baseline: Baseline,
    *,
    sharp: UInt8Image,
    blurred: UInt8Image,
    protocol: Protocol,
    kernel: npt.NDArray[np.float64] | None = None,
    device: str = "cpu",
) -> Problem:
    """What `restore_classical` gives the method; see there for the arguments."""
    for name, images in (("sharp", sharp), ("blurred", blurred)):
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape != sharp.shape:
            raise InputError(
                f"{baseline.name}: {name} is {images.dtype} {images.shape}; give two batches "
                "(N, H, W) uint8 of one shape."
            )
    blur = BlurOperator(average_kernel(5) if kernel is None else kernel, border=protocol.border)
    seen = _unit(blurred, device)
    if protocol.name == "honest":
        return Problem(seen, blur, seen.var(dim=(1, 2)))
    truth = _unit(sharp, device)
    observed = blur(truth) if baseline.authors_see == "float" else seen
    return Problem(observed, blur, truth.var(dim=(1, 2)))


def _unit(images: UInt8Image, device: str) -> Tensor:
    return torch.from_numpy(images.astype(np.float64) / 255).to(float64_device(device))


def float64_device(device: torch.device | str) -> torch.device:
    """Where classical rows are computed: on the device, or on the CPU where it is MPS, which has no
    float64."""
    place = torch.device(device)
    return torch.device("cpu") if place.type == "mps" else place


def _al(problem: Problem, settings: Mapping[str, Any]) -> Tensor:
    return accelerated_landweber(problem.observed, problem.blur, **settings)


def _mrl(problem: Problem, settings: Mapping[str, Any]) -> Tensor:
    return modified_richardson_lucy(problem.observed, problem.blur, **settings)


def _mlm(problem: Problem, settings: Mapping[str, Any]) -> Tensor:
    damping = settings["damping_per_nsr"] * noise_to_signal(problem.observed, zero_border=True)
    return modified_levenberg_marquardt(
        problem.observed, problem.blur, iterations=settings["iterations"], damping=damping
    )


def _wiener(problem: Problem, settings: Mapping[str, Any]) -> Tensor:
    ratio = settings["noise_variance"] / problem.signal_variance.clamp_min(1e-12)
    return wiener(problem.observed, problem.blur, noise_to_signal=ratio)


def _mw(problem: Problem, settings: Mapping[str, Any]) -> Tensor:
    ratio = noise_to_signal(problem.observed, zero_border=True).clamp_min(1e-12)
    return wiener(problem.observed, problem.blur, noise_to_signal=settings["per_nsr"] * ratio)


def _rl(problem: Problem, settings: Mapping[str, Any]) -> Tensor:
    return richardson_lucy(problem.observed, problem.blur, **settings)


def _red(method: Callable[..., Tensor]) -> Callable[[Problem, Mapping[str, Any]], Tensor]:
    def run(problem: Problem, settings: Mapping[str, Any]) -> Tensor:
        return method(
            problem.observed,
            problem.blur,
            denoiser=denoiser(settings["denoiser"], sigma=settings["denoiser_sigma"]),
            weight=settings["weight"],
            iterations=settings["iterations"],
        )

    return run


# sigma sqrt(2) and lambda 0.02 on the scale of 255, as the paper has them for a uniform blur
_RED: dict[str, Setting] = {"denoiser": "nlm", "denoiser_sigma": 3.25 / 255, "weight": 0.04}

BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        baseline.name: baseline
        for baseline in (
            Baseline("al", "aL, accelerated Landweber-like", {"iterations": 250}, _al),
            Baseline("mrl", "mRL, modified Richardson-Lucy", {"iterations": 150}, _mrl),
            Baseline(
                "mlm",
                "mLM, modified Levenberg-Marquardt",
                {"iterations": 100, "damping_per_nsr": 100.0},
                _mlm,
            ),
            Baseline("mw", "Wiener, noise after Immerkaer", {"per_nsr": 1.0}, _mw),
            Baseline(
                "wiener",
                "Wiener, noise variance given",
                {"noise_variance": 0.001},
                _wiener,
                authors_see="8-bit",
                authors_rounding="nearest",
            ),
            Baseline("rl", "Richardson-Lucy", {"iterations": 100}, _rl),
            Baseline("red-fp", "RED, fixed point", {**_RED, "iterations": 200}, _red(fixed_point)),
            Baseline(
                "red-sd",
                "RED, steepest descent",
                {**_RED, "iterations": 300},
                _red(steepest_descent),
            ),
        )
    }
)
