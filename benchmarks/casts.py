"""Changes of colour between two captures, with their exact inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage, UInt8Image
from defocus_ds.optics import to_encoded, to_linear

__all__ = ["CASTS", "Cast", "make_cast"]

CASTS = ("none", "gains", "gain+gamma+3x3", "tone curve")

Rows = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

_NEUTRAL: Rows = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_NODES = np.linspace(0, 1, 4097)


@dataclass(frozen=True, slots=True)
class Cast:
    """A 3x3 matrix in linear light, then a power and an S-curve of the stored values.

    ``curve`` is the S-curve's strength: x + curve * x (1 - x) (2x - 1), monotone below 1.
    """

    matrix: Rows = _NEUTRAL
    gamma: float = 1.0
    curve: float = 0.0

    def change_light(self, linear: FloatImage) -> FloatImage:
        """Light before the sensor: (..., 3) linear."""
        return np.asarray(linear @ np.asarray(self.matrix, np.float32).T)

    def change_stored(self, stored: FloatImage) -> FloatImage:
        """Stored values in [0, 1]: the power, then the curve."""
        if self.gamma != 1:
            stored = stored ** np.float32(self.gamma)
        if self.curve:
            stored = stored + np.float32(self.curve) * stored * (1 - stored) * (2 * stored - 1)
        return np.asarray(stored, np.float32)

    def undo(self, image: npt.NDArray[Any]) -> UInt8Image:
        """What someone who knew the cast could do at best with the uint8 or uint16 capture."""
        curved = _NODES + self.curve * _NODES * (1 - _NODES) * (2 * _NODES - 1)
        top = np.iinfo(image.dtype).max
        levels = np.interp(np.arange(top + 1) / top, curved, _NODES) ** (1 / self.gamma)
        table = to_linear(levels.astype(np.float32))
        back = np.linalg.inv(np.asarray(self.matrix)).astype(np.float32)
        out = np.empty(image.shape, np.uint8)
        for row in range(0, len(image), 256):
            stored = to_encoded(np.clip(table[image[row : row + 256]] @ back.T, 0, 1))
            out[row : row + 256] = np.round(stored * 255)
        return out


def make_cast(name: str, rng: np.random.Generator) -> Cast:
    """A cast of one of the `CASTS`, drawn at the strength that daylight drifts by.

    Gains leave the highlights unclipped, so that what is lost is not counted as an error.
    """
    gains = 0.94 * np.exp(rng.uniform(-0.10, 0.06, 3))
    mix = rng.uniform(0, 0.05, (3, 3))
    np.fill_diagonal(mix, 0)
    mix += np.diag(1 - mix.sum(axis=1))
    gamma = float(rng.choice([0.94, 1.06]))
    if name == "none":
        return Cast()
    if name == "gains":
        return Cast(_rows(np.diag(gains)))
    if name == "gain+gamma+3x3":
        return Cast(_rows(np.diag(gains) @ mix), gamma=gamma)
    if name == "tone curve":
        return Cast(_rows(np.diag(gains)), curve=0.25)
    raise ValueError(f"cast {name!r}: known casts are {', '.join(CASTS)}.")


def _rows(matrix: np.ndarray) -> Rows:
    a, b, c = ((float(x), float(y), float(z)) for x, y, z in matrix)
    return a, b, c
