"""What makes the blurred crop of a synthetic pair, from the 8-bit luma of the sharp one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from defocus_ds.dataset.released_manifest import LEVEL
from defocus_ds.errors import ConfigError
from defocus_ds.frames import UInt8Image
from defocus_ds.optics import blur_disk, disk_psf, to_encoded, to_linear

__all__ = ["Degradation", "parse_degradation"]

_AVERAGE = "average5"
_MAX_RADIUS_PX = 64.0


@dataclass(frozen=True, slots=True)
class Degradation:
    """A blur applied after the crop, which is mirrored at its borders without repeating the edge.

    Attributes:
        kind: "average5", the 5x5 average of the stored values; or "disk", a disk in linear light.
        radius_px: of the disk; for the average, of the disk of the same variance.
    """

    kind: str
    radius_px: float

    @property
    def level(self) -> str:
        """Name of the level: ``average-5x5`` as in the released splits, or ``disk-3``."""
        return LEVEL if self.kind == _AVERAGE else f"disk-{self.radius_px:g}"

    @property
    def reach_px(self) -> int:
        """Pixels that the blur reads beyond each one; a crop must be larger."""
        return 2 if self.kind == _AVERAGE else len(disk_psf(self.radius_px)) // 2

    def __str__(self) -> str:
        return self.kind if self.kind == _AVERAGE else f"disk:{self.radius_px:g}"

    def apply(self, sharp: UInt8Image) -> UInt8Image:
        """The blurred crop.

        Args:
            sharp: (size, size) uint8 luma, contiguous, larger than ``reach_px``.

        Returns:
            (size, size) uint8.  The average equals ``cv2.blur(sharp, (5, 5))`` in every pixel,
            which is how the published crops of MMSP 2024 were blurred.
        """
        if self.kind == _AVERAGE:
            import cv2

            return np.asarray(cv2.blur(sharp, (5, 5)), np.uint8)
        values = to_encoded(blur_disk(to_linear(sharp), self.radius_px))
        return np.asarray(np.round(values * 255).clip(0, 255), np.uint8)


def parse_degradation(text: str) -> Degradation:
    """A degradation by name: ``average5`` or ``disk:RADIUS``.

    Raises:
        ConfigError: another name, or a radius that is not in (0, 64] px.

    >>> parse_degradation("disk:3.0").level
    'disk-3'
    """
    kind, _, number = text.partition(":")
    if kind == _AVERAGE and not number:
        # the disk of the same variance: (5^2 - 1) / 12 = r^2 / 4 along each axis
        return Degradation(kind, math.sqrt(8))
    if kind != "disk":
        raise ConfigError(f"blur {text!r}: give {_AVERAGE}, or disk:RADIUS such as disk:3.0.")
    try:
        radius_px = float(number)
    except ValueError:
        radius_px = math.nan
    if not 0 < radius_px <= _MAX_RADIUS_PX:
        raise ConfigError(
            f"blur {text!r}: the radius must be a number of pixels, above 0 and at most "
            f"{_MAX_RADIUS_PX:g}."
        )
    return Degradation(kind, radius_px)
