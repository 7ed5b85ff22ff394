"""Mattes mutual information with the 1+1 evolution strategy (SimpleITK)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from defocus_ds.errors import RegistrationFailed, is_for_memory
from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp

__all__ = ["MultimodalResult", "interrupts_noted", "multimodal"]

# MATLAB's imregconfig("multimodal"), which MMSP 2024 used with 2300 iterations
_BINS = 50
_GROWTH = 1.05
_EPSILON = 1.5e-6
_INITIAL_RADIUS = 6.25e-3

_global_threads = threading.Lock()


@dataclass(frozen=True, slots=True)
class MultimodalResult:
    """``warp`` between the two planes given; ``trace`` has one list of metric values a level."""

    warp: Warp
    metric: float
    trace: tuple[tuple[float, ...], ...]


def multimodal(
    sharp: FloatImage,
    blurred: FloatImage,
    *,
    start: Warp,
    iterations: int,
    sampling: tuple[float, ...],
    shrink: tuple[int, ...] = (4, 2, 1),
    seed: int = 0,
) -> MultimodalResult:
    """Affine map that maximises Mattes mutual information, by a 1+1 evolution strategy.

    Args:
        sharp, blurred: (H, W) float32, encoded values.
        start: initial map between these planes; its radial term is ignored.
        iterations: limit per level.
        sampling: share of the pixels that the metric reads, per level; all 1 reads every pixel.
        shrink: shrink factor of each level, coarse to fine.
        seed: of the pixel sample and of the strategy; equal seeds give equal bits.

    Returns:
        The map and the metric at every iteration (lower is better).

    Raises:
        RegistrationFailed: the two planes share no pixels under the start.

    Source:
        Mattes et al. 2003 (metric); Styner et al. 2000 (1+1 evolution strategy).
    """
    import SimpleITK as sitk

    height, width = sharp.shape
    centre = start.centre
    matrix = np.asarray(start.matrix)
    transform = sitk.AffineTransform(2)
    transform.SetCenter(centre)
    transform.SetMatrix([float(v) for v in matrix[:, :2].ravel()])
    moved = start.map_points([centre])[0] - centre
    transform.SetTranslation([float(v) for v in moved])

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetInterpolator(sitk.sitkLinear)
    low = 2 * seed % 2_147_483_646  # ITK takes 32 bits, and 0 would seed from the clock
    if min(sampling) < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentagePerLevel(list(sampling), low + 1)
    method.SetOptimizerAsOnePlusOneEvolutionary(
        numberOfIterations=iterations,
        epsilon=_EPSILON,
        initialRadius=_INITIAL_RADIUS,
        growthFactor=_GROWTH,
        shrinkFactor=_GROWTH**-0.25,
        seed=low + 2,
    )
    # a step of one unit moves the frame's edge by about one pixel in every parameter
    reach = float(np.hypot(width, height) / 4)
    method.SetOptimizerScales([reach, reach, reach, reach, 1.0, 1.0])
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([s / 2 if s > 1 else 0.0 for s in shrink])
    method.SetInitialTransform(transform, inPlace=True)
    traces: list[list[float]] = []

    def note() -> None:
        traces[-1].append(float(method.GetMetricValue()))
        if interrupts:
            method.StopRegistration()

    method.AddCommand(sitk.sitkMultiResolutionIterationEvent, lambda: traces.append([]))
    method.AddCommand(sitk.sitkIterationEvent, note)
    try:
        with _one_thread(), interrupts_noted() as interrupts:
            method.Execute(sitk.GetImageFromArray(sharp), sitk.GetImageFromArray(blurred))
    except RuntimeError as error:
        if is_for_memory(error):
            raise
        last = str(error).strip().splitlines()[-1]
        raise RegistrationFailed(
            f"register: mutual information cannot be computed ({last}). "
            "The two frames do not overlap, or one of them is empty."
        ) from error
    a = np.asarray(transform.GetMatrix(), np.float64).reshape(2, 2)
    offset = np.asarray(transform.GetTranslation()) + centre - a @ np.asarray(centre)
    warp = Warp(
        (
            (float(a[0, 0]), float(a[0, 1]), float(offset[0])),
            (float(a[1, 0]), float(a[1, 1]), float(offset[1])),
        ),
        0.0,
        (width, height),
    )
    return MultimodalResult(
        warp, float(method.GetMetricValue()), tuple(tuple(trace) for trace in traces)
    )


@contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Ctrl-C inside ITK's callback would look like a failing metric: note it, raise it after."""
    noted: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return
    signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if noted:
        raise KeyboardInterrupt


@contextmanager
def _one_thread() -> Iterator[None]:
    """The metric takes ITK's global thread count, and other counts change the last digits."""
    import SimpleITK as sitk

    with _global_threads:
        before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
