"""The forward model: linear light, the disk PSF, and the warp of focus breathing.

Pixel coordinates are (x, y) with pixel centres at integers and the origin at the centre of
the top-left pixel.  A warp maps points of the sharp frame to points of the blurred frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import OpticsError
from defocus_ds.frames import FloatImage

__all__ = ["Transfer", "Warp", "blur_disk", "disk_psf", "to_encoded", "to_linear"]

Points = npt.NDArray[np.float64]


class Transfer(StrEnum):
    """Transfer curve between linear light and stored values.

    ``BT709`` is LibRaw's default output curve (power 2.222, toe slope 4.5; ITU-R BT.709-6,
    section 1.2); ``SRGB`` is IEC 61966-2-1.
    """

    BT709 = "bt709"
    SRGB = "srgb"


# toe slope, end of the toe in linear light, scale, offset, exponent
_CURVES = {
    Transfer.BT709: (4.5, 0.018053968510807, 1.09929682680944, 0.09929682680944, 0.45),
    Transfer.SRGB: (12.92, 0.0031308, 1.055, 0.055, 1 / 2.4),
}


def to_linear(values: npt.NDArray[Any], transfer: Transfer = Transfer.SRGB) -> FloatImage:
    """Decode stored values to linear light.

    Args:
        values: any shape; uint8 or uint16 full range, or float in [0, 1].
        transfer: the curve the values were encoded with.

    Returns:
        float32 of the same shape, in [0, 1] for values in range.
    """
    if values.dtype == np.uint8 and values.size:
        import cv2

        table = _integer_table(1, transfer)
        flat = cv2.LUT(np.ascontiguousarray(values).reshape(-1), table)
        return np.asarray(flat, np.float32).reshape(values.shape)
    if values.dtype in (np.uint8, np.uint16):
        return np.asarray(_integer_table(values.dtype.itemsize, transfer)[values])
    return _decode(values.astype(np.float32, copy=False), transfer)


def to_encoded(linear: npt.NDArray[Any], transfer: Transfer = Transfer.SRGB) -> FloatImage:
    """Encode linear light; the inverse of `to_linear` for float values.

    Args:
        linear: any shape, float; values below 0 follow the toe's straight line.
        transfer: the curve to encode with.

    Returns:
        float32 of the same shape, in [0, 1] for light in [0, 1].
    """
    slope, toe, scale, offset, exponent = _CURVES[transfer]
    x = linear.astype(np.float32, copy=False)
    # in place: most of the time would go into fresh arrays
    encoded = np.maximum(x, np.float32(toe), out=np.empty_like(x))
    np.power(encoded, np.float32(exponent), out=encoded)
    encoded *= np.float32(scale)
    encoded -= np.float32(offset)
    return np.multiply(x, np.float32(slope), out=encoded, where=x <= toe)


def disk_psf(radius_px: float) -> FloatImage:
    """Anti-aliased uniform disk, the blur of an ideal defocused lens.

    Each weight is the exact area that the disk covers of the pixel, so the kernel is a smooth
    function of the radius and its second moment is that of the disk convolved with a pixel.

    Args:
        radius_px: radius in pixels of the developed image, >= 0; 0 is the identity.

    Returns:
        ``(K, K)`` float32, K odd, sums to 1.

    Raises:
        OpticsError: the radius is negative or not finite.
    """
    if not (np.isfinite(radius_px) and radius_px >= 0):
        raise OpticsError(f"blur radius {radius_px} px: it must be finite and >= 0.")
    if radius_px < 1e-6:
        return np.ones((1, 1), np.float32)
    half = int(np.ceil(radius_px + 0.5)) if radius_px > 0.5 else 1
    edges = np.arange(-half, half + 2, dtype=np.float64) - 0.5
    quadrant = _disk_area(edges[:, None], edges[None, :], radius_px)
    area = quadrant[1:, 1:] - quadrant[:-1, 1:] - quadrant[1:, :-1] + quadrant[:-1, :-1]
    area = np.maximum(area, 0)
    return np.asarray(area / area.sum(), np.float32)


def blur_disk(linear: npt.NDArray[Any], radius_px: float) -> FloatImage:
    """Blur linear light by a disk; borders are mirrored without repeating the edge.

    Args:
        linear: (H, W) or (H, W, C) float, linear light.
        radius_px: disk radius in pixels, >= 0.

    Returns:
        float32 of the same shape.

    Raises:
        OpticsError: the radius is negative or not finite.
    """
    import cv2

    source = linear.astype(np.float32, copy=False)
    kernel = disk_psf(radius_px)
    if kernel.size == 1:
        return source.copy()
    return np.asarray(cv2.filter2D(source, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


@dataclass(frozen=True, slots=True)
class Warp:
    """Affine map plus a radial term, from the sharp frame to the blurred frame.

    A point p = (x, y) maps to ``M @ (x, y, 1) + radial * |u|^2 * (p - c)`` with c the centre of
    the frame and u = (p - c) / h, h being half the diagonal in pixels: the radial term moves a
    corner outwards by ``radial * h`` px.

    Attributes:
        matrix: ((m00, m01, m02), (m10, m11, m12)).
        radial: dimensionless.
        size: (width, height) of the sharp frame in pixels.
    """

    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    radial: float
    size: tuple[int, int]

    @classmethod
    def identity(cls, size: tuple[int, int]) -> Warp:
        return cls(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), 0.0, size)

    @classmethod
    def similarity(
        cls,
        size: tuple[int, int],
        *,
        scale: float = 1.0,
        rotation_deg: float = 0.0,
        shift_px: tuple[float, float] = (0.0, 0.0),
        radial: float = 0.0,
    ) -> Warp:
        """Scale and rotation about the centre of the frame, then a shift."""
        angle = np.deg2rad(rotation_deg)
        a, b = scale * np.cos(angle), scale * np.sin(angle)
        cx, cy = (size[0] - 1) / 2, (size[1] - 1) / 2
        tx = cx - a * cx + b * cy + shift_px[0]
        ty = cy - b * cx - a * cy + shift_px[1]
        return cls(
            ((float(a), float(-b), float(tx)), (float(b), float(a), float(ty))), radial, size
        )

    @property
    def centre(self) -> tuple[float, float]:
        return (self.size[0] - 1) / 2, (self.size[1] - 1) / 2

    @property
    def half_diagonal_px(self) -> float:
        return float(np.hypot(*self.size) / 2)

    def map_points(self, xy: npt.ArrayLike) -> Points:
        """Map (N, 2) sharp-frame points to (N, 2) blurred-frame points, float64."""
        p = np.asarray(xy, np.float64)
        m = np.asarray(self.matrix)
        d = p - self.centre
        r2 = (d**2).sum(axis=-1, keepdims=True) / self.half_diagonal_px**2
        return np.asarray(p @ m[:, :2].T + m[:, 2] + self.radial * r2 * d)

    def unmap_points(self, xy: npt.ArrayLike) -> Points:
        """Inverse of `map_points`: (N, 2) blurred-frame to sharp-frame points, to 1e-9 px."""
        target = np.asarray(xy, np.float64)
        m = np.asarray(self.matrix)
        inverse = np.linalg.inv(m[:, :2])
        p = (target - m[:, 2]) @ inverse.T
        for _ in range(30):
            step = (target - self.map_points(p)) @ inverse.T
            p = p + step
            if np.abs(step).max(initial=0.0) < 1e-10:
                break
        return np.asarray(p)

    def at_scale(self, factor: float, size: tuple[int, int]) -> Warp:
        """The same map between frames resized by ``factor`` (0.5 halves), of the given size.

        A resized pixel centre (x', y') lies at ``(x' + 0.5) / factor - 0.5``, the convention of
        area downsampling.
        """
        m = np.asarray(self.matrix)
        half = 0.5 / factor - 0.5
        shift = (m[:, :2] @ np.array([half, half]) + m[:, 2] - half) * factor
        linear = m[:, :2]
        return Warp(
            (
                (float(linear[0, 0]), float(linear[0, 1]), float(shift[0])),
                (float(linear[1, 0]), float(linear[1, 1]), float(shift[1])),
            ),
            self.radial,
            size,
        )

    def mean_difference_px(self, other: Warp, points: int = 21) -> float:
        """Mean distance in px between the two maps on a ``points`` x ``points`` grid."""
        return float(self.differences_px(other, points).mean())

    def differences_px(self, other: Warp, points: int = 21) -> npt.NDArray[np.float64]:
        """(points * points,) distances in px between the two maps on a grid over the frame."""
        xs = np.linspace(0, self.size[0] - 1, points)
        ys = np.linspace(0, self.size[1] - 1, points)
        grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        return np.asarray(np.linalg.norm(self.map_points(grid) - other.map_points(grid), axis=1))


@cache
def _integer_table(itemsize: int, transfer: Transfer) -> FloatImage:
    top = 256**itemsize - 1
    return _decode((np.arange(top + 1) / top).astype(np.float32), transfer)


def _decode(x: FloatImage, transfer: Transfer) -> FloatImage:
    slope, toe, scale, offset, exponent = _CURVES[transfer]
    power = (np.maximum(x, np.float32(slope * toe)) + np.float32(offset)) / np.float32(scale)
    return np.where(
        x <= slope * toe, x / np.float32(slope), power ** np.float32(1 / exponent)
    ).astype(np.float32)


def _disk_area(x: Points, y: Points, radius: float) -> Points:
    """Signed area of the disk inside [0, x] x [0, y] (odd in both)."""
    sign = np.sign(x) * np.sign(y)
    x, y = np.broadcast_arrays(np.minimum(np.abs(x), radius), np.minimum(np.abs(y), radius))
    reach = np.sqrt(np.maximum(radius**2 - y**2, 0))  # where the circle meets height y
    flat = np.minimum(x, reach)

    def under(t: Points) -> Points:
        s = np.clip(t / radius, -1, 1)
        return 0.5 * (t * np.sqrt(np.maximum(radius**2 - t**2, 0)) + radius**2 * np.arcsin(s))

    return np.asarray(sign * (flat * y + under(x) - under(flat)))
