"""The crops side by side: one row an image, one column a method, captioned with PSNR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from defocus_ds.frames import UInt8Image
from defocus_ds.measure.fidelity import peak_signal_to_noise_ratio
from defocus_ds_train.benchmark.results import Sample

__all__ = ["contact_sheet"]

_GAP = 6
_LINE = 14
_MOST = 256  # of a large frame the middle is shown
_LEAST = 112  # narrower columns have no room for their captions
_INK, _SOFT, _PAPER = 20, 96, 255


def contact_sheet(samples: Sequence[Sample]) -> UInt8Image:
    """Sharp, blurred and every method's crops.

    Args:
        samples: at least one, restored by the same methods in the same order.

    Returns:
        (H, W) uint8; every crop at its own pixels, of frames above 256 px the middle.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = [_columns(sample) for sample in samples]
    width = max(max(image.shape[1] for _, image, _ in row) for row in columns)
    width = max(width, _LEAST)
    heights = [max(image.shape[0] for _, image, _ in row) for row in columns]
    top = 2 * _LINE + _GAP
    size = (
        _GAP + len(columns[0]) * (width + _GAP),
        top + sum(heights) + len(heights) * (_LINE + 2 * _GAP),
    )
    sheet = Image.new("L", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for index, (label, _, _) in enumerate(columns[0]):
        left = _GAP + index * (width + _GAP)
        name, _, protocol = label.partition(", ")
        draw.text((left, _GAP // 2), _fitting(name, draw, font, width), fill=_INK, font=font)
        draw.text((left, _GAP // 2 + _LINE), protocol, fill=_SOFT, font=font)
    y = top
    for row, height in zip(columns, heights, strict=True):
        for index, (_, image, caption) in enumerate(row):
            left = _GAP + index * (width + _GAP)
            sheet.paste(Image.fromarray(image), (left, y))
            text = _fitting(caption, draw, font, width)
            draw.text((left, y + height + 1), text, fill=_SOFT, font=font)
        y += height + _LINE + 2 * _GAP
    return np.asarray(sheet)


def _columns(sample: Sample) -> list[tuple[str, UInt8Image, str]]:
    """(label, what is shown, caption); sharp and blurred come first, whoever asked for them."""
    crop = sample.crop
    others = [pair for pair in sample.restored if pair[0] not in ("sharp", "blurred")]
    found = [("sharp", _middle(crop.sharp), crop.name)]
    for label, image in [("blurred", crop.blurred), *others]:
        psnr = peak_signal_to_noise_ratio(image, crop.sharp)
        found.append((label, _middle(image), f"{psnr:.2f} dB"))
    return found


def _middle(image: UInt8Image) -> UInt8Image:
    height, width = image.shape
    y, x = max(0, (height - _MOST) // 2), max(0, (width - _MOST) // 2)
    return np.ascontiguousarray(image[y : y + _MOST, x : x + _MOST])


def _fitting(text: str, draw: Any, font: Any, width: int) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"
