"""The forward model at one pyramid level: the sharp plane under a few disk radii, at samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Transfer, blur_disk, to_encoded
from defocus_ds.stages.register.planes import Pyramid

__all__ = ["Samples", "draw_samples", "model_plane", "observed_plane"]

_CLIP_SHARE = 0.02
_FEW = 10_000


@dataclass(frozen=True, slots=True)
class Samples:
    """Pixels of a level and the model's values there, one column a radius node.

    ``x`` and ``y`` are pixel coordinates of the level, (N,) int32; ``value``, ``grad_x`` and
    ``grad_y`` are (N, K) float32, encoded values and their change per pixel of the level.
    Node k has the radius ``first_px + k * step_px``, in full-resolution pixels.
    """

    factor: int
    x: npt.NDArray[np.int32]
    y: npt.NDArray[np.int32]
    value: FloatImage
    grad_x: FloatImage
    grad_y: FloatImage
    first_px: float
    step_px: float

    @property
    def nodes(self) -> npt.NDArray[np.float64]:
        """(K,) radii in full-resolution pixels."""
        return np.asarray(self.first_px + self.step_px * np.arange(self.value.shape[1]))

    def thinned(self, step: int) -> Samples:
        """Every ``step``-th of them, or more of them where that would leave few."""
        step = max(min(step, len(self.x) // _FEW), 1)
        return replace(
            self,
            x=self.x[::step].copy(),
            y=self.y[::step].copy(),
            value=self.value[::step].copy(),
            grad_x=self.grad_x[::step].copy(),
            grad_y=self.grad_y[::step].copy(),
        )


def model_plane(sharp: Pyramid, factor: int, radius_px: float) -> FloatImage:
    """What the blurred capture should show, in the sharp frame, at a level.

    Args:
        sharp: pyramid of the sharp image, linear light.
        factor: the level.
        radius_px: disk radius in full-resolution pixels.

    Returns:
        (h, w) float32, encoded.  A small disk is applied one level finer and then averaged, for
        a disk of about one pixel is badly sampled.
    """
    import cv2

    width, height = sharp[factor].size
    fine = factor // 2 if factor > 1 and radius_px / factor < 3 else factor
    # averaging blocks already blurs: the variance of a block of side f is (f^2 - 1) / 12 above
    # that of a pixel, and a disk has a quarter of its squared radius
    left = max(radius_px**2 - (fine**2 - 1) / 3, 0.0) if radius_px > 0 else 0.0
    plane = blur_disk(sharp[fine].linear, float(np.sqrt(left)) / fine)
    if fine < factor:
        plane = np.asarray(
            cv2.resize(
                plane[: height * 2, : width * 2], (width, height), interpolation=cv2.INTER_AREA
            )
        )
    return _settle(plane, sharp.transfer)


def observed_plane(blurred: Pyramid, factor: int) -> FloatImage:
    """The blurred capture at a level as `model_plane` models it, (h, w) float32, encoded."""
    return _settle(blurred[factor].linear, blurred.transfer)


def draw_samples(
    sharp: Pyramid, factor: int, radii_px: npt.NDArray[np.float64], *, count: int, seed: int
) -> Samples:
    """Draw pixels away from borders and clipped areas, and evaluate the model there.

    Args:
        sharp: pyramid of the sharp image.
        factor: the level.
        radii_px: (K,) evenly spaced radii in full-resolution pixels, K >= 3.
        count: largest number of pixels; all usable ones if there are fewer.
        seed: of the draw.

    Returns:
        The samples in raster order; possibly none.
    """
    usable = _usable(sharp, factor, float(radii_px.max()))
    index = np.flatnonzero(usable)
    if len(index) > count:
        generator = np.random.default_rng([seed, factor])
        index = np.sort(generator.choice(index, count, replace=False, shuffle=False))
    width = usable.shape[1]
    shape = (len(index), len(radii_px))
    value, grad_x, grad_y = (np.empty(shape, np.float32) for _ in range(3))
    for k, radius in enumerate(radii_px):
        plane = model_plane(sharp, factor, float(radius)).ravel()
        value[:, k] = plane[index]
        grad_x[:, k] = (plane[index + 1] - plane[index - 1]) * np.float32(0.5)
        grad_y[:, k] = (plane[index + width] - plane[index - width]) * np.float32(0.5)
    return Samples(
        factor,
        (index % width).astype(np.int32),
        (index // width).astype(np.int32),
        value,
        grad_x,
        grad_y,
        float(radii_px[0]),
        float(radii_px[1] - radii_px[0]),
    )


def _settle(linear: FloatImage, transfer: Transfer) -> FloatImage:
    """Encode, then damp frequencies near Nyquist: there lie aliases and interpolation errors."""
    import cv2

    kernel = np.array([0.25, 0.5, 0.25], np.float32)
    encoded = to_encoded(linear, transfer)
    return np.asarray(
        cv2.sepFilter2D(encoded, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    )


def _usable(sharp: Pyramid, factor: int, radius_px: float) -> npt.NDArray[np.bool_]:
    """Pixels whose disk sees neither the frame's edge nor clipped light."""
    import cv2

    clipped = sharp[factor].clipped
    reach = int(np.ceil(radius_px / factor))
    side = 2 * reach + 1
    seen = cv2.blur(clipped, (side, side), borderType=cv2.BORDER_REFLECT_101)
    usable = np.asarray(seen <= _CLIP_SHARE)
    height, width = usable.shape
    margin = min(reach + 3, height // 4, width // 4)
    usable[:margin] = usable[height - margin :] = False
    usable[:, :margin] = usable[:, width - margin :] = False
    return usable
