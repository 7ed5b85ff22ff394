"""Which capture is how sharp: the check that a bracket's roles are what someone thinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.decoding import Decoder
from defocus_ds.stages.ingest.header import Header
from defocus_ds.stages.ingest.images import read_image
from defocus_ds.stages.ingest.source import open_source

__all__ = [
    "FALLS",
    "RISES",
    "Measured",
    "focus_measure",
    "has_texture",
    "measure_captures",
    "reduced_jpeg",
    "relative_sharpness",
]

# ratio of a capture's sharpness to that of the one before it: at most FALLS confirms an
# order, at least RISES contradicts it
FALLS = 0.98
RISES = 1.05

_PIXELS = 2_000_000
_MIN_STD = 1.0


def focus_measure(luma: npt.NDArray[Any]) -> float | None:
    """Mean squared gradient over variance: falls with blur, the same at any exposure or gain.

    Args:
        luma: ``(H, W)``, any numeric type, values proportional to any power of light.

    Returns:
        Px^-2, above 0; None when the image has no texture to judge (standard deviation below
        1/255 of the range of 8 bits).

    Source: the ratio of spectral moments m2 / m0, the squared mean frequency of the image.
    """
    import cv2

    # a little smoothing first: noise has gradients too, and blur does not lower them
    values = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), 0.7)
    variance = float(values.var(dtype=np.float64))
    if min(values.shape) < 3 or variance < _MIN_STD**2:
        return None
    across = (values[1:-1, 2:] - values[1:-1, :-2]) / 2
    down = (values[2:, 1:-1] - values[:-2, 1:-1]) / 2
    energy = float(np.mean(across**2, dtype=np.float64) + np.mean(down**2, dtype=np.float64))
    return energy / variance


def relative_sharpness(images: Sequence[UInt8Image]) -> tuple[float | None, ...]:
    """`focus_measure` of each image at one common scale, relative to the largest of them.

    Args:
        images: ``(H, W)`` uint8 luma each, of one scene; sizes may differ.

    Returns:
        A value in (0, 1] per image, None for one without texture.
    """
    import cv2

    width = min(image.shape[1] for image in images)
    height = min(image.shape[0] for image in images)
    scale = min(1.0, (_PIXELS / (width * height)) ** 0.5)
    size = max(3, round(width * scale)), max(3, round(height * scale))
    found = [
        focus_measure(cv2.resize(image, size, interpolation=cv2.INTER_AREA)) for image in images
    ]
    most = max((v for v in found if v is not None), default=1.0)
    return tuple(None if v is None else v / most for v in found)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the pixels of a scene's captures say, a value a capture.

    Attributes:
        sharpness: as `relative_sharpness`.
        highest: largest stored sample of an image of 16 bits; None for other files.
    """

    sharpness: tuple[float | None, ...]
    highest: tuple[int | None, ...]


def measure_captures(
    captures: Sequence[tuple[Path, Header]], *, decoder: Decoder, white: int = 0
) -> Measured:
    """Sharpness of the captures of one scene, and more, as cheaply as their files allow.

    JPEG files and the previews of CR2 files are decoded at reduced size; where there is no
    preview worth the name, and for all other kinds, the pixels are decoded.  All of it happens
    in the decoding process.

    Args:
        captures: files and their headers.
        decoder: the process.
        white: ``develop.white``, of images of 16 bits.

    Raises:
        CaptureUnreadable: a file is damaged.
        WorkerDied: the decoding process hit a limit; the file it was at is named.
    """
    result = decoder.run(
        "sharpness",
        captures[0][0],
        captures=[
            {
                "path": str(path.absolute()),
                "kind": header.info.kind,
                "size": (header.info.width, header.info.height),
                "preview": _jpeg_window(path, header),
            }
            for path, header in captures
        ],
        white=white,
    )
    return Measured(tuple(result["values"]), tuple(result["highest"]))


def reduced_jpeg(
    path: Path,
    *,
    window: Sequence[int | None] | None,
    size: Sequence[int],
    max_megapixels: float,
) -> UInt8Image | None:
    """A JPEG file, or a JPEG inside a file, decoded to a few megapixels.

    For the decoding process: the bytes are not to be trusted.

    Args:
        path: the file.
        window: (offset, bytes) of the JPEG, bytes None up to the end; None: there is none.
        size: (width, height) of the whole picture in pixels.
        max_megapixels: the largest JPEG to decode.

    Returns:
        ``(H, W)`` luma, orientation not applied; None if the JPEG is damaged or too small to
        judge sharpness by.
    """
    import cv2

    if window is None:
        return None
    with open_source(path) as source:
        start, count = window[0] or 0, window[1]
        try:
            jpeg = source.window(start, source.size - start if count is None else count, "a JPEG")
            found = read_image(jpeg, max_megapixels=max_megapixels)
        except CaptureUnreadable:
            return None
    pixels = found.width * found.height
    if pixels < min(size[0] * size[1], _PIXELS) / 4:
        return None
    flag = cv2.IMREAD_GRAYSCALE
    for factor, reduced in (
        (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
        (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    ):
        if pixels >= _PIXELS * factor**2:
            flag = reduced
    with path.open("rb") as file:
        file.seek(start)
        data = np.frombuffer(file.read(jpeg.size), np.uint8)
    try:
        image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def has_texture(luma: npt.NDArray[Any]) -> bool:
    """Whether 8-bit luma varies enough to judge its sharpness."""
    return float(luma.std()) >= _MIN_STD


def _jpeg_window(path: Path, header: Header) -> tuple[int, int | None] | None:
    if header.preview is not None:
        return header.preview
    return (0, None) if path.suffix.lower() in (".jpg", ".jpeg") else None
