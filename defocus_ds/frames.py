"""The nouns: level, capture, bracket, shoot, pair, crop, and the verdict on each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BLURRED_LEVELS",
    "Bracket",
    "Capture",
    "CaptureInfo",
    "Complaint",
    "Crop",
    "FloatImage",
    "Keep",
    "Level",
    "Pair",
    "Reject",
    "Shoot",
    "UInt8Image",
    "Verdict",
    "known_px",
    "recordable_px",
]

_UNKNOWN_PX = 1e6

UInt8Image = npt.NDArray[np.uint8]
FloatImage = npt.NDArray[np.float32]


class Level(StrEnum):
    """Position of the focus ring, by name; ``offset`` is the ring offset in marks of 1 mm."""

    SHARP = "sharp"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def offset(self) -> int:
        return {"sharp": 0, "low": 2, "medium": 4, "high": 6}[self.value]


BLURRED_LEVELS = (Level.LOW, Level.MEDIUM, Level.HIGH)


@dataclass(frozen=True, slots=True)
class Keep:
    """Passed every check."""

    def __bool__(self) -> bool:
        return True

    @property
    def reasons(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Reject:
    """Failed; each reason is ``"code: measured value, limit"`` with a short stable code."""

    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return False


Verdict = Keep | Reject


@dataclass(frozen=True, slots=True)
class CaptureInfo:
    """What a file says of itself before its pixels are decoded; None where it is silent.

    ``width`` and ``height`` are of the developed image in pixels.  ``taken`` is local time,
    ISO 8601 without zone.  ``focus_distance_m`` is (upper, lower) in metres as the lens
    reports it.  ``white_balance`` is the camera's (R, G, B) multipliers with G = 1.
    ``black`` and ``white`` are raw levels.  ``colour_space`` is the space that an image declares
    where it is not sRGB; its pixels are converted.
    """

    kind: str  # "raw" or "image"
    width: int
    height: int
    bits: int
    make: str | None = None
    model: str | None = None
    serial: str | None = None
    lens: str | None = None
    focal_length_mm: float | None = None
    iso: int | None = None
    exposure_s: float | None = None
    f_number: float | None = None
    taken: str | None = None
    file_number: int | None = None
    focus_distance_m: tuple[float, float] | None = None
    white_balance: tuple[float, float, float] | None = None
    black: int | None = None
    white: int | None = None
    colour_space: str | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """One file of a bracket."""

    path: Path
    level: Level
    offset: int
    info: CaptureInfo


@dataclass(frozen=True, slots=True)
class Pair:
    """A blurred capture and the sharp one of its scene, by name."""

    scene: str
    level: Level

    def __str__(self) -> str:
        return f"{self.scene}/{self.level}"


@dataclass(frozen=True, slots=True)
class Bracket:
    """The captures of one scene: exactly one sharp, at least one blurred."""

    scene: str
    captures: tuple[Capture, ...]

    def __getitem__(self, level: Level) -> Capture:
        return next(c for c in self.captures if c.level is level)

    def __iter__(self) -> Iterator[Capture]:
        return iter(self.captures)

    @property
    def sharp(self) -> Capture:
        return self[Level.SHARP]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair(self.scene, c.level) for c in self.captures if c.level is not Level.SHARP)


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something a person should know: an ``error`` keeps ``where`` out, a ``warning`` does not."""

    severity: str  # "error" or "warning"
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Shoot:
    """The brackets found in a folder, and every complaint at once."""

    root: Path
    brackets: tuple[Bracket, ...]
    complaints: tuple[Complaint, ...] = ()
    draft_csv: str | None = None

    @property
    def errors(self) -> tuple[Complaint, ...]:
        return tuple(c for c in self.complaints if c.severity == "error")


@dataclass(frozen=True, slots=True)
class Crop:
    """One training example: ``blurred`` and ``sharp`` are (size, size) uint8 luma."""

    blurred: UInt8Image
    sharp: UInt8Image
    row: dict[str, Any] = field(default_factory=dict)


def recordable_px(length_px: float) -> float:
    """A length as records hold it, finite; 1e6 px stand for what could not be measured.

    >>> recordable_px(0.25), recordable_px(float("nan")), recordable_px(float("inf"))
    (0.25, 1000000.0, 1000000.0)
    """
    return _UNKNOWN_PX if math.isnan(length_px) else min(float(length_px), _UNKNOWN_PX)


def known_px(length_px: float | None) -> float | None:
    """A length of a record; None where it could not be measured.

    >>> known_px(0.25), known_px(1e6)
    (0.25, None)
    """
    return length_px if length_px is not None and length_px < _UNKNOWN_PX else None
