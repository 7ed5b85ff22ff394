"""The sensor: light to raw numbers, with the colour response and noise of a 5D Mark III."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import InputError
from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import Transfer, to_encoded
from defocus_ds.simulate.cr2 import BORDER_LEFT, BORDER_RIGHT, BORDER_TOP

__all__ = ["DAYLIGHT", "Light", "Noise", "Sensor", "expose", "preview", "read_out"]

DAYLIGHT = (1956, 1024, 1626)  # white balance of the camera's daylight setting, R, G, B

# CIE XYZ to camera (ColorMatrix2 of Adobe's DNG profile, illuminant D65), and sRGB to XYZ
_CAMERA_FROM_XYZ = np.array(
    [[0.6722, -0.0635, -0.0963], [-0.4287, 1.2460, 0.2028], [-0.0908, 0.2162, 0.5668]]
)
_XYZ_FROM_SRGB = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)


@dataclass(frozen=True, slots=True)
class Noise:
    """Shot noise by the number of electrons a raw level stands for, read noise in raw levels."""

    electrons_per_level: float = 2.5
    read_levels: float = 6.3


@dataclass(frozen=True, slots=True)
class Sensor:
    """Raw levels: ``black`` without light, ``white`` where the sensor saturates."""

    black: int = 2048
    white: int = 15488
    noise: Noise = Noise()


@dataclass(frozen=True, slots=True)
class Light:
    """The light of one capture.

    ``exposure`` scales scene light so that 1 fills the green pixels; ``gains`` (r, g, b) is the
    change of light in linear raw; ``vignetting`` v darkens by ``1 - v * d^2``, d the distance
    from the centre in half diagonals.
    """

    exposure: float = 0.8
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignetting: float = 0.0


def expose(linear: FloatImage, *, light: Light, sensor: Sensor) -> FloatImage:
    """Noise-free raw levels above black behind the Bayer filter.

    LibRaw's development with the `DAYLIGHT` white balance gives back the sRGB light that went
    in, times the exposure and the gains.

    Args:
        linear: ``(H, W, 3)`` float32 linear sRGB light, H and W even.
        light: exposure, gains and vignetting.
        sensor: raw levels.

    Returns:
        ``(H, W)`` float32, RGGB, not yet clipped at the white level.

    Raises:
        InputError: wrong shape.
    """
    if linear.ndim != 3 or linear.shape[2] != 3 or linear.shape[0] % 2 or linear.shape[1] % 2:
        raise InputError(f"sensor: got {linear.shape}; need (H, W, 3) with H and W even.")
    camera = _CAMERA_FROM_XYZ @ _XYZ_FROM_SRGB
    camera /= camera.sum(axis=1, keepdims=True)  # white is (1, 1, 1) after white balance
    camera *= DAYLIGHT[1] / np.array(DAYLIGHT)[:, None]
    camera *= np.array(light.gains)[:, None] * light.exposure * (sensor.white - sensor.black)
    response = camera.astype(np.float32)
    out = np.empty(linear.shape[:2], np.float32)
    for row in (0, 1):
        for column in (0, 1):
            site = (slice(row, None, 2), slice(column, None, 2))
            out[site] = linear[site] @ response[row + column]
    out *= _vignette(linear.shape[:2], light.vignetting)
    return out


def read_out(
    signal: FloatImage, rng: np.random.Generator, *, sensor: Sensor
) -> npt.NDArray[np.uint16]:
    """Add shot and read noise and the masked border, clip, quantise.

    Args:
        signal: ``(H, W)`` float32 raw levels above black, from `expose`.
        rng: source of the noise; the same stream gives the same noise in other light.
        sensor: raw levels and noise.

    Returns:
        ``(H + 80, W + 124)`` uint16, the whole sensor.
    """
    height, width = signal.shape
    noise = sensor.noise
    shape = (height + BORDER_TOP, width + BORDER_LEFT + BORDER_RIGHT)
    raw = np.empty(shape, np.uint16)
    step = 512
    for top in range(0, shape[0], step):
        rows = slice(top, min(top + step, shape[0]))
        levels = rng.standard_normal((rows.stop - top, shape[1]), np.float32)
        variance = np.full(levels.shape, noise.read_levels**2, np.float32)
        lit = np.zeros(levels.shape, np.float32)
        first = max(top, BORDER_TOP)
        if first < rows.stop:
            part = signal[first - BORDER_TOP : rows.stop - BORDER_TOP]
            lit[first - top :, BORDER_LEFT : BORDER_LEFT + width] = part
            variance += lit / np.float32(noise.electrons_per_level)
        levels *= np.sqrt(variance)
        levels += lit + np.float32(sensor.black)
        raw[rows] = np.clip(np.round(levels), 0, sensor.white)
    return raw


def preview(linear: FloatImage, *, light: Light) -> UInt8Image:
    """The picture the camera would show: half size, sRGB.

    Args:
        linear: ``(H, W, 3)`` float32 linear sRGB light.
        light: exposure, gains and vignetting.

    Returns:
        ``(H // 2, W // 2, 3)`` uint8.
    """
    import cv2

    height, width = linear.shape[0] // 2, linear.shape[1] // 2
    small: npt.NDArray[Any] = np.asarray(
        cv2.resize(linear, (width, height), interpolation=cv2.INTER_AREA)
    )
    small = small * (np.array(light.gains, np.float32) * np.float32(light.exposure))
    small *= _vignette((height, width), light.vignetting)[..., None]
    encoded = to_encoded(np.clip(small, 0, 1), Transfer.SRGB)
    return np.asarray(np.round(encoded * 255), np.uint8)


def _vignette(shape: tuple[int, ...], strength: float) -> FloatImage:
    height, width = shape
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, :]
    return (1 - strength * (x * x + y * y) / np.float32((height**2 + width**2) / 4)).astype(
        np.float32
    )
