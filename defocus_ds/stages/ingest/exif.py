"""What EXIF 2.32 and Canon's makernote say of a capture (tag names are exiftool's)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.stages.ingest.tiff import Ifd

__all__ = ["Exif", "ExifColour", "SensorArea", "read_exif"]

T = TypeVar("T")

# first word of WB_RGGBLevelsAsShot by the length of ColorData
_WHITE_BALANCE_AT = {
    582: 0x19,
    653: 0x22,
    **dict.fromkeys((674, 692, 702, 796, 1227, 1250, 1251, 1337, 1338, 1346), 0x3F),
    **dict.fromkeys((1312, 1313, 1316, 1353, 1506, 1560, 1592, 1602), 0x3F),
    **dict.fromkeys((1816, 1820, 1824), 0x47),
}
_LEVELS_AT = {(1312, 10): (0x1F8, 0x1FD), (1313, 10): (0x1F8, 0x1FD)}


@dataclass(frozen=True, slots=True)
class SensorArea:
    """Canon's SensorInfo: raw size and the borders of the picture in raw pixels."""

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class ExifColour:
    """The colour tags of EXIF and TIFF, each empty where it is absent.

    ``space`` is ColorSpace: 1 for sRGB, 65535 for none of those listed.  ``interoperability`` is
    "R03" for Adobe RGB (DCF 2.0).  ``white`` is (x, y), ``primaries`` (x, y) of R, G and B,
    ``gamma`` the exponent from values to light.
    """

    space: int | None = None
    interoperability: str | None = None
    white: tuple[float, ...] = ()
    primaries: tuple[float, ...] = ()
    gamma: float | None = None


@dataclass(frozen=True, slots=True)
class Exif:
    """Fields of `CaptureInfo` by name, and what is needed beside them.

    ``orientation`` is EXIF's 1 to 8; ``colour`` is what the colour tags declare; ``model_id`` is
    Canon's number for the camera.  ``remarks`` say which parts were damaged and left out.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    orientation: int = 1
    sensor: SensorArea | None = None
    colour: ExifColour = ExifColour()
    model_id: int | None = None
    remarks: tuple[str, ...] = ()


def read_exif(ifd0: Ifd) -> Exif:
    """Gather the fields of a first directory, its EXIF directory and Canon's makernote.

    Args:
        ifd0: the first directory of a TIFF file, or of the EXIF segment of a JPEG or PNG.

    Returns:
        What is there; a damaged part is a remark, not an error.
    """
    remarks: list[str] = []
    nothing: dict[str, Any] = {}
    prefix = f"{ifd0.tiff.source.name}: "

    def read(what: str, get: Callable[[], T], otherwise: T) -> T:
        try:
            return get()
        except CaptureUnreadable as error:
            remarks.append(f"{what} left out ({str(error).removeprefix(prefix)})")
            return otherwise

    found: dict[str, Any] = {}  # the first source to know a field has it

    def add(fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            if value is not None:
                found.setdefault(name, value)

    sensor: SensorArea | None = None
    model_id = None
    exif = read("EXIF", lambda: ifd0.child(0x8769), None)
    if exif is not None:
        add(read("EXIF", lambda: _exif_fields(ifd0, exif), nothing))
    colour = read("colour space", lambda: _colour(ifd0, exif), ExifColour())
    add(read("EXIF basics", lambda: _basic_fields(ifd0), nothing))
    if exif is not None and 0x927C in exif and str(found.get("make")).startswith("Canon"):
        at = exif.entries[0x927C].offset
        note = read("Canon's makernote", lambda: ifd0.tiff.directory(at), None)
        if note is not None:
            for name, get in _CANON.items():
                add({name: read(f"Canon's {name}", partial(get, note), None)})
            add(read("Canon's ColorData", lambda: _color_data(note), nothing))
            model_id = read("Canon's model number", lambda: note.integer(0x0010), None)
            sensor = read("Canon's SensorInfo", lambda: _sensor(note), None)
    orientation = read("orientation", lambda: ifd0.integer(0x0112), None) or 1
    return Exif(
        found,
        orientation if 1 <= orientation <= 8 else 1,
        sensor,
        colour,
        model_id,
        tuple(remarks),
    )


def _colour(ifd0: Ifd, exif: Ifd | None) -> ExifColour:
    white = tuple(v for v in ifd0.numbers(0x013E) if v is not None)
    primaries = tuple(v for v in ifd0.numbers(0x013F) if v is not None)
    space = interoperability = gamma = None
    if exif is not None:
        space, gamma = exif.integer(0xA001), _positive(exif.number(0xA500))
        if (child := exif.child(0xA005)) is not None:
            interoperability = child.text(0x0001)
    return ExifColour(
        space,
        interoperability,
        white if len(white) == 2 else (),
        primaries if len(primaries) == 6 else (),
        gamma,
    )


def _basic_fields(ifd0: Ifd) -> dict[str, Any]:
    return {
        "make": ifd0.text(0x010F),
        "model": ifd0.text(0x0110),
        "taken": _stamp(ifd0.text(0x0132), None),
    }


def _exif_fields(ifd0: Ifd, exif: Ifd) -> dict[str, Any]:
    iso = exif.integer(0x8827)
    if iso in (None, 0, 65535):
        iso = exif.integer(0x8832) or iso
    original = exif.text(0x9003)
    return {
        "exposure_s": _positive(exif.number(0x829A)),
        "f_number": _positive(exif.number(0x829D)),
        "iso": iso or None,
        "focal_length_mm": _positive(exif.number(0x920A)),
        "taken": _stamp(original, exif.text(0x9291))
        or _stamp(ifd0.text(0x0132), exif.text(0x9290)),
        "serial": exif.text(0xA431),
        "lens": exif.text(0xA434),
    }


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _stamp(text: str | None, part: str | None) -> str | None:
    """EXIF's ``YYYY:MM:DD HH:MM:SS`` and its parts of a second as ISO 8601."""
    match = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d)", text or "")
    if match is None:
        return None
    try:
        datetime.fromisoformat(f"{match[1]}-{match[2]}-{match[3]}T{match[4]}")
    except ValueError:  # cameras without a set clock write zeros
        return None
    second = f".{part}" if part and part.isascii() and part.isdigit() and int(part) else ""
    return f"{match[1]}-{match[2]}-{match[3]}T{match[4]}{second}"


def _canon_serial(note: Ifd) -> str | None:
    value = note.integer(0x000C)
    return str(value) if value else None


def _canon_lens(note: Ifd) -> str | None:
    if name := note.text(0x0095):
        return name
    settings = note.integers(0x0001)
    if len(settings) < 26 or not (settings[23] and settings[25]):
        return None
    longest, shortest = settings[23] / settings[25], settings[24] / settings[25]
    return f"{longest:g} mm" if longest == shortest else f"{shortest:g}-{longest:g} mm"


def _focus_distance(note: Ifd) -> tuple[float, float] | None:
    """FileInfo before ShotInfo; centimetres, 65535 (655.35 m) being infinity."""
    for tag, at in ((0x0093, 20), (0x0004, 19)):
        words = [w & 0xFFFF for w in note.integers(tag)]
        if len(words) > at + 1 and words[at]:
            return words[at] / 100, words[at + 1] / 100
    return None


def _color_data(note: Ifd) -> dict[str, Any]:
    entry = note.entries.get(0x4001)
    if entry is None or entry.count not in _WHITE_BALANCE_AT:
        return {}
    words = [w & 0xFFFF for w in note.integers(0x4001)]
    found: dict[str, Any] = {}
    at = _WHITE_BALANCE_AT[len(words)]
    red, green, _, blue = words[at : at + 4]
    if min(red, green, blue) > 0:
        found["white_balance"] = (red / green, 1.0, blue / green)
    if levels := _LEVELS_AT.get((len(words), words[0])):
        black_at, white_at = levels
        found["black"] = round(sum(words[black_at : black_at + 4]) / 4)
        found["white"] = words[white_at]
    return found


def _sensor(note: Ifd) -> SensorArea | None:
    words = note.integers(0x00E0)
    return SensorArea(words[1], words[2], *words[5:9]) if len(words) >= 9 else None


_CANON: dict[str, Callable[[Ifd], Any]] = {
    "file_number": lambda note: note.integer(0x0008),
    "serial": _canon_serial,
    "lens": _canon_lens,
    "focus_distance_m": _focus_distance,
}
