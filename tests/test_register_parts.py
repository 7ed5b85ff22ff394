"""The parts of registration that have a closed form: valid area, parameters, spline."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from defocus_ds.optics import Warp
from defocus_ds.stages.register.coverage import overlap_share, valid_area
from defocus_ds.stages.register.multimodal import interrupts_noted
from defocus_ds.stages.register.normal import warp_of, warp_parameters
from defocus_ds.stages.register.spline import spline_coefficients, spline_value


@pytest.mark.parametrize(
    "warp",
    [
        Warp.identity((40, 30)),
        Warp.similarity((40, 30), scale=1.05, rotation_deg=2, shift_px=(3.2, -2.7)),
        Warp.similarity((30, 40), scale=0.9, rotation_deg=-5, shift_px=(-4.4, 1.0), radial=0.05),
        Warp.similarity((33, 21), scale=1.3, rotation_deg=12, radial=-0.1),
        Warp.similarity((20, 20), shift_px=(100, 0)),
    ],
)
def test_valid_area_is_the_largest_rectangle(warp: Warp) -> None:
    width, height = warp.size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2)
    source = np.floor(warp.map_points(grid))
    ok = (source >= 1).all(1) & (source[:, 0] + 2 < width) & (source[:, 1] + 2 < height)
    valid = ok.reshape(height, width)
    table = np.zeros((height + 1, width + 1), int)
    table[1:, 1:] = valid.cumsum(0).cumsum(1)
    best = 0
    for y0 in range(height):
        for y1 in range(y0 + 1, height + 1):
            for x0 in range(width):
                inside = table[y1, x0 + 1 :] - table[y0, x0 + 1 :] - table[y1, x0] + table[y0, x0]
                area = (y1 - y0) * np.arange(1, width - x0 + 1)
                best = max(best, int(area[inside == area].max(initial=0)))
    x0, y0, x1, y1 = valid_area(warp)
    assert valid[y0:y1, x0:x1].all()
    assert (x1 - x0) * (y1 - y0) == best


def test_overlap_share() -> None:
    assert overlap_share(Warp.identity((100, 80))) == 1
    assert overlap_share(Warp.similarity((100, 80), shift_px=(49.5, 0))) == pytest.approx(
        0.5, abs=0.02
    )


def test_warp_parameters_round_trip() -> None:
    warp = Warp.similarity((300, 200), scale=1.03, rotation_deg=1, shift_px=(4, 5), radial=2e-3)
    again = warp_of(warp_parameters(warp), warp.size)
    assert warp.mean_difference_px(again) < 1e-9


def test_spline_passes_through_the_pixels_and_reproduces_parabolas() -> None:
    y, x = np.mgrid[0:40, 0:50].astype(np.float32)
    plane = 0.5 + 0.01 * x - 0.003 * y + 2e-4 * (x - 20) ** 2 - 1e-4 * x * y
    c = spline_coefficients(plane)
    assert spline_value(c, 20.0, 17.0) == pytest.approx(plane[17, 20], abs=1e-6)
    sx, sy = 21.37, 18.81
    exact = 0.5 + 0.01 * sx - 0.003 * sy + 2e-4 * (sx - 20) ** 2 - 1e-4 * sx * sy
    assert spline_value(c, sx, sy) == pytest.approx(exact, abs=1e-5)


def test_interrupt_inside_the_metric_is_raised_after_it() -> None:
    """ITK takes an exception in its callback for a failing metric, so Ctrl-C must wait."""
    with pytest.raises(KeyboardInterrupt), interrupts_noted() as noted:
        os.kill(os.getpid(), signal.SIGINT)
        while not noted:
            time.sleep(0.001)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
