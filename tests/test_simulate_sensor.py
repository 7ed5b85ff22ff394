"""The sensor: colours that LibRaw gives back, noise and light as stated."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rawpy

from defocus_ds.errors import InputError
from defocus_ds.optics import Transfer, to_encoded, to_linear
from defocus_ds.simulate.cr2 import CaptureTags, write_cr2
from defocus_ds.simulate.sensor import (
    DAYLIGHT,
    Light,
    Noise,
    Sensor,
    expose,
    preview,
    read_out,
)

QUIET = Sensor(noise=Noise(electrons_per_level=1e9, read_levels=1.0))
PATCHES = [(0.18, 0.18, 0.18), (0.7, 0.7, 0.7), (0.4, 0.1, 0.05), (0.05, 0.3, 0.1), (0.1, 0.2, 0.6)]


def flat(colour: tuple[float, float, float], size: tuple[int, int] = (240, 160)) -> np.ndarray:
    return np.full((size[1], size[0], 3), colour, np.float32)


def test_libraw_gives_back_the_light(tmp_path: Path) -> None:
    """Developed with the stored white balance and the fixed recipe, colours are those put in."""
    picture = np.concatenate([flat(c, (240, 40)) for c in PATCHES])
    light = Light(exposure=0.8)
    raw = read_out(
        expose(picture, light=light, sensor=QUIET), np.random.default_rng(0), sensor=QUIET
    )
    red, green, blue = DAYLIGHT
    tags = CaptureTags(taken=datetime(2024, 5, 1), white_balance=(red, green, green, blue))
    path = tmp_path / "IMG_0001.CR2"
    write_cr2(path, raw, info=tags)
    with rawpy.imread(str(path)) as file:
        developed = file.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            adjust_maximum_thr=0,
            user_black=2048,
            user_sat=15488 - 2048,
            gamma=(2.222, 4.5),
            output_bps=16,
        )
    linear = to_linear(developed, Transfer.BT709)
    for index, colour in enumerate(PATCHES):
        middle = linear[40 * index + 10 : 40 * index + 30, 20:-20].mean(axis=(0, 1))
        assert middle == pytest.approx(0.8 * np.array(colour), abs=0.004)


def test_noise_is_shot_plus_read() -> None:
    sensor = Sensor(noise=Noise(electrons_per_level=2.0, read_levels=5.0))
    for level in (0.0, 400.0, 5000.0):
        signal = np.full((400, 500), level, np.float32)
        raw = read_out(signal, np.random.default_rng(1), sensor=sensor)[80:, 122:-2].astype(float)
        assert raw.mean() == pytest.approx(2048 + level, abs=0.8)
        # rounding to whole levels adds a twelfth
        assert raw.var() == pytest.approx(level / 2 + 25 + 1 / 12, rel=0.03)


def test_the_border_is_masked() -> None:
    raw = read_out(np.full((160, 240), 9000, np.float32), np.random.default_rng(2), sensor=Sensor())
    assert raw.shape == (240, 364)
    for border in (raw[:80], raw[:, :122], raw[:, -2:]):
        assert border.mean() == pytest.approx(2048, abs=1)
    assert raw[80:, 122:-2].min() > 10000


def test_saturation_is_at_the_white_level() -> None:
    raw = read_out(
        np.full((160, 240), 14000, np.float32), np.random.default_rng(2), sensor=Sensor()
    )
    assert (raw[80:, 122:-2] == 15488).mean() > 0.99


def test_gains_scale_the_raw_channels_and_nothing_else() -> None:
    picture = np.random.default_rng(3).uniform(0, 0.8, (160, 240, 3)).astype(np.float32)
    plain = expose(picture, light=Light(), sensor=Sensor())
    cast = expose(picture, light=Light(gains=(1.1, 0.95, 0.9)), sensor=Sensor())
    for site, gain in (((0, 0), 1.1), ((0, 1), 0.95), ((1, 0), 0.95), ((1, 1), 0.9)):
        ratio = cast[site[0] :: 2, site[1] :: 2] / plain[site[0] :: 2, site[1] :: 2]
        assert ratio == pytest.approx(np.full_like(ratio, gain), rel=1e-5)


def test_vignetting_darkens_the_corner_by_its_strength() -> None:
    level = expose(flat((0.5, 0.5, 0.5)), light=Light(vignetting=0.2), sensor=Sensor())
    assert level[0, 1] / level[80, 121] == pytest.approx(0.8, abs=0.005)
    assert level[80, 1] / level[80, 121] == pytest.approx(1 - 0.2 * 9 / 13, abs=0.005)


def test_the_same_stream_gives_the_same_noise() -> None:
    signal = np.full((160, 240), 1000, np.float32)
    one = read_out(signal, np.random.default_rng(7), sensor=Sensor())
    assert np.array_equal(one, read_out(signal, np.random.default_rng(7), sensor=Sensor()))
    assert not np.array_equal(one, read_out(signal, np.random.default_rng(8), sensor=Sensor()))


def test_the_preview_is_the_picture_in_srgb() -> None:
    small = preview(flat((0.3, 0.2, 0.1)), light=Light(exposure=1.0, gains=(1.0, 1.1, 1.0)))
    expected = to_encoded(np.array([0.3, 0.22, 0.1]), Transfer.SRGB) * 255
    assert small.shape == (80, 120, 3)
    assert small[40, 60] == pytest.approx(expected, abs=1)


def test_an_odd_frame_has_no_bayer_pattern() -> None:
    with pytest.raises(InputError, match="even"):
        expose(np.zeros((161, 240, 3), np.float32), light=Light(), sensor=Sensor())
