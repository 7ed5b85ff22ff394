"""Which capture is how sharp: the check that a bracket's roles are what someone thinks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.config import LimitsConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.decoding import run_decoder
from defocus_ds.stages.ingest.header import Header
from defocus_ds.stages.ingest.images import read_image
from defocus_ds.stages.ingest.source import open_source

__all__ = ["FALLS", "RISES", "focus_measure", "load_luma", "relative_sharpness"]

# ratio of a capture's sharpness to that of the one before it: at most FALLS confirms an
# order, at least RISES contradicts it
FALLS = 0.98
RISES = 1.05

_PIXELS = 2_000_000
_MIN_STD = 1.0
_MAX_PREVIEW_MP = 200.0


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


def load_luma(captures: Sequence[tuple[Path, Header]], *, limits: LimitsConfig) -> list[UInt8Image]:
    """``(H, W)`` uint8 of each capture, as cheaply as its file allows.

    JPEG files and the previews of CR2 files are decoded at reduced size; where there is no
    preview worth the name, and for all other kinds, the pixels are decoded in a worker.

    Raises:
        CaptureUnreadable: a file is damaged.
        WorkerDied: the decoding process hit a limit.
    """
    import cv2

    images = [_reduced_jpeg(path, header) for path, header in captures]
    useful = [image is not None and float(image.std()) >= _MIN_STD for image in images]
    slow = [capture for capture, quick in zip(captures, useful, strict=True) if not quick]
    decoded: list[UInt8Image] = []
    if slow:
        with tempfile.TemporaryDirectory(prefix="defocus-ds-") as folder:
            targets = [Path(folder) / f"{at}.npy" for at in range(len(slow))]
            run_decoder(
                "preview",
                slow[0][0],
                limits=limits,
                paths=[str(path.absolute()) for path, _ in slow],
                kinds=[header.info.kind for _, header in slow],
                targets=[str(target) for target in targets],
            )
            for target in targets:
                rgb = np.load(target, allow_pickle=False)
                decoded.append(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8))
    queue = iter(decoded)
    return [
        image if image is not None and quick else next(queue)
        for image, quick in zip(images, useful, strict=True)
    ]


def _reduced_jpeg(path: Path, header: Header) -> UInt8Image | None:
    """A JPEG file, or the preview of a CR2, decoded to a few MP; None if there is no use."""
    import cv2

    if header.preview is None and path.suffix.lower() not in (".jpg", ".jpeg"):
        return None
    with open_source(path) as source:
        start, size = header.preview or (0, source.size)
        try:
            jpeg = source.window(start, size, "the preview")
            found = read_image(jpeg, max_megapixels=_MAX_PREVIEW_MP)
        except CaptureUnreadable:
            return None
    pixels = found.width * found.height
    if pixels < min(header.info.width * header.info.height, _PIXELS) / 4:
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
        data = np.frombuffer(file.read(size), np.uint8)
    image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if image is None else np.asarray(image, np.uint8)
