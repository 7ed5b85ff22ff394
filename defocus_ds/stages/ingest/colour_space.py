"""The colour space that a picture declares: ICC profile, PNG chunks, or EXIF tags."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from defocus_ds.stages.ingest.exif import ExifColour
from defocus_ds.stages.srgb import to_srgb
from defocus_ds.wording import printable

__all__ = [
    "ColourSpace",
    "UnusableProfile",
    "exif_space",
    "icc_space",
    "is_srgb",
    "tones_like_srgb",
    "values_space",
]

_SRGB_WHITE = (0.3127, 0.3290)
_SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_ADOBE_PRIMARIES = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_NAMED_PRIMARIES = {
    _SRGB_PRIMARIES: "sRGB",
    _ADOBE_PRIMARIES: "Adobe RGB (1998)",
    (0.68, 0.32, 0.265, 0.69, 0.15, 0.06): "Display P3",
    (0.708, 0.292, 0.17, 0.797, 0.131, 0.046): "BT.2020",
}
_UNCALIBRATED = 65535
_SAME_CHROMATICITY = 0.005
# a file gamma of 1/2.2 has long stood for sRGB's curve (PNG, third edition, 11.3.2.5)
_SAME_GAMMA = 0.05
_SAME_LEVELS = 1.0  # of 255: a profile nearer to sRGB than this is sRGB
_LIKE_LEVELS = 255 / 20
_MAX_PROFILE = 16 * 2**20


class UnusableProfile(ValueError):
    """A profile that no picture can be converted by; the text says why."""


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """A declared space other than sRGB.

    Attributes:
        name: for people, with where it was declared.
        profile: an ICC profile of the stored values, embedded or made from what was declared.
        embedded: whether the file itself holds the profile.
    """

    name: str
    profile: bytes
    embedded: bool = False


def icc_space(profile: bytes, *, grey: bool) -> ColourSpace | None:
    """The space of an embedded ICC profile.

    Args:
        profile: its bytes.
        grey: whether the picture has one channel.

    Returns:
        None where the profile is sRGB to within a level of 255.

    Raises:
        UnusableProfile: damaged, or of other channels than the picture.
    """
    if len(profile) > _MAX_PROFILE:
        raise UnusableProfile(f"{len(profile)} bytes, limit {_MAX_PROFILE}")
    channels = profile[16:20]
    if channels not in (b"RGB ", b"GRAY") or (channels == b"GRAY" and not grey):
        held = printable(channels.decode("latin-1")).strip() or "nothing"
        raise UnusableProfile(f"it is of {held}, the picture of {'grey' if grey else 'RGB'} values")
    if is_srgb(profile):
        return None
    return ColourSpace(f"{_description(profile)} (ICC profile)", profile, embedded=True)


def values_space(
    *, source: str, gamma: float | None, white: Sequence[float], primaries: Sequence[float]
) -> ColourSpace | None:
    """The space of a gamma and chromaticities.

    Args:
        source: where they were declared.
        gamma: exponent from values in [0, 1] to light; None: sRGB's curve.
        white: (x, y); empty: D65.
        primaries: (x, y) of R, G and B; empty: those of sRGB.

    Returns:
        None where they are those of sRGB, or say nothing.

    Raises:
        UnusableProfile: no colours have them.
    """
    white, primaries = tuple(white) or _SRGB_WHITE, tuple(primaries) or _SRGB_PRIMARIES
    like_srgb = gamma is None or abs(gamma / 2.2 - 1) <= _SAME_GAMMA
    if like_srgb and _near((*white, *primaries), (*_SRGB_WHITE, *_SRGB_PRIMARIES)):
        return None
    if not (gamma is None or 0.1 <= gamma <= 10):
        raise UnusableProfile(f"its gamma is {gamma:g}")
    import imagecodecs

    curve = {"gamma": gamma} if gamma is not None else {"transferfunction": _srgb_curve()}
    spread = [v for at in (0, 2, 4) for v in (*primaries[at : at + 2], 1.0)]
    try:
        profile = bytes(
            imagecodecs.cms_profile("rgb", whitepoint=(*white, 1.0), primaries=spread, **curve)
        )
        is_srgb(profile)
    except (ValueError, RuntimeError, UnusableProfile) as error:
        raise UnusableProfile(f"its chromaticities are {(*white, *primaries)}") from error
    named = (name for known, name in _NAMED_PRIMARIES.items() if _near(primaries, known))
    name = next(named, "its own primaries")
    curved = "" if gamma is None else " linear" if gamma == 1 else f" of gamma {gamma:.3g}"
    return ColourSpace(f"{name}{curved} ({source})", profile)


def exif_space(colour: ExifColour) -> ColourSpace | None:
    """The space of EXIF's tags, for a file without an ICC profile.

    Returns:
        None where it is sRGB or not declared.

    Raises:
        UnusableProfile: declared to be another space than sRGB, and not which.
    """
    if colour.space in (None, 1) and colour.interoperability != "R03":
        return None
    adobe = colour.space == 2 or colour.interoperability == "R03"
    primaries = colour.primaries or (_ADOBE_PRIMARIES if adobe else ())
    if not primaries and colour.gamma is None:
        raise UnusableProfile("EXIF says that its colours are not sRGB, but not which they are")
    return values_space(
        source="EXIF", gamma=colour.gamma or 2.2, white=colour.white, primaries=primaries
    )


@lru_cache(maxsize=64)
def is_srgb(profile: bytes) -> bool:
    """Whether a profile gives sRGB's values to within a level of 255.

    Raises:
        UnusableProfile: nothing can be converted by it.
    """
    steps = np.linspace(0, 65535, 16).round().astype(np.uint16)
    if profile[16:20] == b"GRAY":
        return _change(steps[None], profile) <= _SAME_LEVELS
    return _change(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3), profile) <= (
        _SAME_LEVELS
    )


@lru_cache(maxsize=64)
def tones_like_srgb(profile: bytes) -> bool:
    """Whether a profile's greys are within a twentieth of the range of those of sRGB.

    Networks that were trained on sRGB see such pictures much as they are; linear ones they do not.
    """
    steps = np.linspace(0, 65535, 256).round().astype(np.uint16)[None]
    grey = profile[16:20] == b"GRAY"
    return _change(steps if grey else np.repeat(steps[..., None], 3, 2), profile) <= _LIKE_LEVELS


def _change(values: npt.NDArray[np.uint16], profile: bytes) -> float:
    """Largest change of any channel on conversion to sRGB, in levels of 255."""
    try:
        found = to_srgb(values, profile)
    except (ValueError, RuntimeError) as error:
        raise UnusableProfile(f"nothing can be converted by it: {error}") from error
    stored = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    return float(np.abs(found - stored.astype(np.float64)).max()) / 257


def _description(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        text = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description
    except (OSError, ValueError) as error:
        raise UnusableProfile(str(error)) from error
    return printable((text or "").strip())[:100] or "unnamed space"


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) <= _SAME_CHROMATICITY for a, b in zip(one, other, strict=True))


def _srgb_curve() -> npt.NDArray[np.float32]:
    from defocus_ds.optics import Transfer, to_linear

    return np.asarray(to_linear(np.linspace(0, 1, 4096), Transfer.SRGB), np.float32)
