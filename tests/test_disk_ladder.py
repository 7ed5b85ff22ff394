"""The ladder of disks is the forward model, seen at a level and through a map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scenes import textured, true_pair

from defocus_ds.optics import Transfer, Warp, blur_disk, to_encoded
from defocus_ds.stages.register.disk_ladder import disk_ladder, overlaid
from defocus_ds.stages.register.planes import Pyramid, pyramid

SIZE = (480, 360)


def planes(linear: npt.NDArray[np.float32]) -> Pyramid:
    return pyramid(to_encoded(linear), Transfer.SRGB)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("radius_px", [0.0, 1.3, 4.0, 9.0])
def test_the_sharp_plane_under_a_disk_is_the_blurred_plane(factor: int, radius_px: float) -> None:
    linear = textured(SIZE)
    blurred = blur_disk(linear, radius_px)
    model = disk_ladder(planes(linear), factor, scale=1.0).plane(radius_px)
    seen = overlaid(planes(blurred), Warp.identity(SIZE), factor)
    inner = np.s_[24:-24, 24:-24] if factor < 4 else np.s_[8:-8, 8:-8]
    contrast = float(np.nanstd(seen[inner]))
    error = float(np.sqrt(np.mean((model - seen)[inner] ** 2)))
    # without the disk the fine texture's aliases are left
    assert error < (0.006 if radius_px >= 4 else 0.04) * contrast


@pytest.mark.parametrize("scale", [0.98, 1.02])
def test_the_captures_own_softness_is_that_of_its_frame(scale: float) -> None:
    pair = true_pair((640, 480), radius_px=2.0, scale=scale, noise=0.0, shift_px=(2.3, -1.4))
    sharp, blurred = (pyramid(image, Transfer.SRGB) for image in (pair.sharp, pair.blurred))
    seen = overlaid(blurred, pair.warp, 4)
    errors = {}
    for given in (scale, 1.0):
        model = disk_ladder(sharp, 4, scale=given).plane(pair.radius_px / scale)
        errors[given] = float(np.nanmean(((model - seen)[10:-10, 10:-10]) ** 2))
    assert errors[scale] < 0.5 * errors[1.0]


def test_points_off_the_capture_are_not_numbers() -> None:
    shifted = Warp.similarity(SIZE, shift_px=(40.0, 0.0))
    seen = overlaid(planes(textured(SIZE)), shifted, 2)
    assert np.isnan(seen[:, -19:]).all()
    assert np.isfinite(seen[2:-2, 2:-23]).all()
