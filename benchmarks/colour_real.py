"""Colour matching on real pairs: low-passed difference before and after, and a contact sheet.

Captures without known truth: the authors' published quadruples, their single real pairs, and
public focus stacks.  Every pair is registered first; what is compared are averages over squares
at least three blur radii wide, which defocus hardly changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from real_stacks import STACKS
from results import note

from defocus_ds import match_colour, register
from defocus_ds.config import BuildConfig, ColourConfig
from defocus_ds.errors import DefocusError
from defocus_ds.frames import UInt8Image
from defocus_ds.optics import blur_disk, to_encoded, to_linear
from defocus_ds.resample import resample

__all__ = ["CONTRAST", "METHODS", "measure", "real_pairs"]

METHODS = ("uncorrected", "response", "idt", "paper")
CONTRAST = ("uncorrected", "response", "paper")

_SINGLES = {
    name: (f"{name}_original.png", f"{name}_blurry.png") for name in ("cartridge", "poster5")
}
_RADII = 3.0  # width of the averaged squares in blur radii
_LEAST_PX = 16
_THUMB = (240, 160)  # px; width and height of a picture on the contact sheet
_COLUMNS = 3


def measure(data: Path, out: Path) -> list[dict[str, Any]]:
    """Every pair below ``data``: differences by method; the contact sheet goes to ``out``."""
    rows, sheet = [], []
    for name, sharp_file, blurred_file in real_pairs(data):
        sharp, blurred = _read(sharp_file), _read(blurred_file)
        if sharp is None or blurred is None or sharp.shape != blurred.shape:
            note(f"{name}: missing, or of two sizes")
            continue
        row, pictures = _measure_pair(sharp, blurred)
        rows.append({"pair": name} | row)
        sheet.append(_strip(pictures))
        note(f"{name}: {row['difference']} {row['note']}")
    if sheet:
        out.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(out / "colour_real.png"), _stacked(sheet)[..., ::-1])
    return rows


def real_pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, sharp file and blurred file of every pair that lies below ``data``."""
    for folder, scenes in STACKS.items():
        for scene, (sharp, *blurred) in scenes.items():
            for level, file in zip(("low", "medium", "high"), blurred, strict=False):
                yield f"{scene}/{level}", data / folder / sharp, data / folder / file
    single = data / "mmsp2024" / "RealBlur_Example"
    for scene, (sharp, file) in _SINGLES.items():
        yield scene, single / sharp, single / file


def _measure_pair(
    sharp: UInt8Image, blurred: UInt8Image
) -> tuple[dict[str, Any], list[UInt8Image]]:
    found: dict[str, Any] = {"difference": {}, "contrast": {}, "radius_px": None, "note": ""}
    try:
        alignment = register(sharp, blurred)
    except DefocusError as error:
        return found | {"note": str(error)}, [sharp, blurred]
    if not alignment.verdict:
        found["note"] = "registration rejected: " + "; ".join(alignment.verdict.reasons)
        found["note"] = found["note"][:120]
    radius = found["radius_px"] = float(alignment.blur_radius_px)
    x0, y0, x1, y1 = alignment.valid_area
    area = slice(y0, y1), slice(x0, x1)
    soft = np.clip(to_encoded(blur_disk(to_linear(sharp), radius)), 0, 1)
    side = max(_LEAST_PX, int(np.ceil(_RADII * radius)))
    pictures = [sharp[area]]
    for method in METHODS:
        image = blurred
        if method != "uncorrected":
            is_paper = method == "paper"
            config = BuildConfig.from_preset("paper").colour if is_paper else ColourConfig(method)
            try:
                # the paper's preset matches colours before the registration
                used = None if is_paper else alignment
                image = match_colour(blurred, sharp, alignment=used, config=config).apply(blurred)
            except DefocusError as error:
                found["note"] = f"{found['note']} {method}: {error}".strip()[:160]
                continue
        seen = np.asarray(resample(image, alignment.warp))[area]
        found["difference"][method] = _difference(seen, sharp[area], side)
        found["contrast"][method] = _contrast(seen) / _contrast(soft[area])
        if method != "idt":
            pictures.append(seen)
    return found, pictures


def _difference(image: UInt8Image, reference: UInt8Image, side: int) -> float:
    """Mean CIEDE2000 of the light averaged over squares."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    lab = []
    for pixels in (image, reference):
        height, width = (max(1, length // side) for length in pixels.shape[:2])
        light = cv2.resize(to_linear(pixels), (width, height), interpolation=cv2.INTER_AREA)
        lab.append(rgb2lab(np.clip(to_encoded(light), 0, 1)))
    return float(deltaE_ciede2000(*lab).mean())


def _contrast(image: npt.NDArray[Any]) -> float:
    from skimage.color import rgb2lab

    return float(rgb2lab(image)[..., 0].std())


def _read(path: Path) -> UInt8Image | None:
    if not path.is_file():
        return None
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if image is None else np.asarray(image, np.uint8)


def _strip(pictures: list[UInt8Image]) -> UInt8Image:
    """The middles of four pictures side by side; black for what is missing."""
    width, height = _THUMB
    strip = np.zeros((height, 4 * width, 3), np.uint8)
    for number, picture in enumerate(pictures[:4]):
        h, w = picture.shape[:2]
        part = min(h / height, w / width)
        rows, columns = int(part * height), int(part * width)
        top, left = (h - rows) // 2, (w - columns) // 2
        middle = picture[top : top + rows, left : left + columns]
        how = cv2.INTER_AREA if part > 1 else cv2.INTER_LINEAR
        strip[:, number * width : (number + 1) * width] = cv2.resize(
            middle, _THUMB, interpolation=how
        )
    return strip


def _stacked(strips: list[UInt8Image]) -> UInt8Image:
    """Strips one below the other, in columns."""
    framed = [np.pad(strip, ((2, 2), (4, 4), (0, 0))) for strip in strips]
    framed += [np.zeros_like(framed[0])] * (-len(framed) % _COLUMNS)
    rows = len(framed) // _COLUMNS
    columns = [np.vstack(framed[c * rows : (c + 1) * rows]) for c in range(_COLUMNS)]
    return np.asarray(np.hstack(columns), np.uint8)
