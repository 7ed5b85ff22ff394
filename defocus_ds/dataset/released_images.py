"""The images behind a released split: found by name, decoded with care, cropped and blurred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from defocus_ds.dataset.pixels import pixels_sha256
from defocus_ds.errors import CaptureUnreadable, DatasetError
from defocus_ds.frames import UInt8Image
from defocus_ds.stages.ingest.images import ImageHeader
from defocus_ds.stages.pictures import picture_header, read_picture
from defocus_ds.stages.tile import luma
from defocus_ds.store import sha256_file

__all__ = [
    "ImageFolder",
    "Unusable",
    "blurred_crop",
    "centre",
    "decode_rgb",
    "released_test_split",
]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm")


class Unusable(Exception):
    """Why one image cannot be used; collected, never shown by itself."""


class ImageFolder:
    """The images anywhere below a folder, by name without extension.

    Raises:
        DatasetError: no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DatasetError(f"{root}: no such folder of images.")
        self.root = root
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                self._by_stem[path.stem.lower()].append(path)

    def find(
        self, name: str, *, size: tuple[int, int], sha256: str, sha256_file: str
    ) -> UInt8Image:
        """Pixels of the file of this name whose content is right, wherever it lies.

        Args:
            name: of the published file; folder and extension may differ.
            size: (width, height) in pixels.
            sha256: of the decoded RGB pixels.
            sha256_file: of the published file, to tell another decoder from another image.

        Returns:
            (height, width, 3) uint8.

        Raises:
            Unusable: not there, or none of that name has these pixels.
        """
        candidates = self._by_stem.get(PurePosixPath(name).stem.lower(), [])
        problem = Unusable("missing")
        for path in _nearest_first(candidates, name):
            try:
                rgb = decode_rgb(path, size=size)
            except Unusable as error:
                problem = Unusable(f"{path.relative_to(self.root)}: {error}")
                continue
            if (found := pixels_sha256(rgb)) == sha256:
                return rgb
            problem = Unusable(self._different(path, found, sha256, sha256_file))
        raise problem

    def _different(self, path: Path, found: str, sha256: str, published: str) -> str:
        name = path.relative_to(self.root)
        if sha256_file(path) == published:
            return (
                f"{name} is the published file but decodes to other pixels here: its JPEG decoder "
                "is not libjpeg-turbo's default; install Pillow from PyPI"
            )
        return f"{name} holds other pixels (SHA-256 {found[:12]}..., need {sha256[:12]}...)"


def decode_rgb(path: Path, *, size: tuple[int, int] | None = None) -> UInt8Image:
    """(H, W, 3) uint8 of an 8-bit RGB image; its size is checked before anything is decoded.

    Raises:
        Unusable: unreadable, another size, or not 8-bit RGB.
    """
    try:
        header = picture_header(path)
        if size is not None and (header.width, header.height) != size:
            raise Unusable(
                f"{header.width}x{header.height} px, need {size[0]}x{size[1]}: resized or rotated?"
            )
        if kind := _not_rgb(header):
            raise Unusable(f"{kind}, need 8-bit RGB")
        return np.asarray(read_picture(path).pixels)
    except CaptureUnreadable as error:
        why = str(error).removeprefix(f"{path.name}: ")
        raise Unusable(f"cannot be decoded ({why})") from error


def _not_rgb(header: ImageHeader) -> str | None:
    if header.bits != 8:
        return f"{header.bits} bits a sample"
    if header.grey:
        return "grey"
    if header.indexed:
        return "palette"
    return "with an alpha channel" if header.has_alpha else None


def released_test_split(
    path: Path, size: tuple[int, int], released: Mapping[tuple[int, int], Mapping[str, str]]
) -> str | None:
    """The released test split that an image belongs to, by its file or by its pixels.

    A file that was saved again without loss is the same image; only files of the size of a test
    image are decoded.

    Args:
        path: of the image.
        size: (width, height) in pixels that its header declares.
        released: from `defocus_ds.dataset.released_manifest.released_test_images`.

    Returns:
        "kodak24 test"; None where it belongs to none, also where it cannot be decoded.

    Raises:
        OSError: it cannot be read.
    """
    digests = released.get(size)
    if digests is None:
        return None
    if split := digests.get(sha256_file(path)):
        return split
    try:
        stored = read_picture(path).pixels
    except CaptureUnreadable:
        return None
    return digests.get(pixels_sha256(stored)) if stored.dtype == np.uint8 else None


def centre(width: int, height: int, *, size: int) -> tuple[int, int]:
    """Top-left (x, y) of the centre crop of MMSP 2024.

    >>> centre(768, 512, size=128)
    (320, 192)
    """
    return (width - size) // 2, (height - size) // 2


def blurred_crop(rgb: UInt8Image, *, x: int, y: int, size: int) -> tuple[UInt8Image, UInt8Image]:
    """(sharp, blurred) luma: blurred after the crop by 5x5 averages, mirrored, rounded to 8 bits.

    Args:
        rgb: (H, W, 3) uint8.
        x, y, size: of the crop in pixels.

    Returns:
        Two (size, size) uint8, as the published files of MMSP 2024 have them in every pixel.
    """
    import cv2

    sharp = np.ascontiguousarray(luma(rgb)[y : y + size, x : x + size])
    return sharp, np.asarray(cv2.blur(sharp, (5, 5)), np.uint8)


def _nearest_first(candidates: Sequence[Path], name: str) -> list[Path]:
    """Those whose path ends like the published one come first."""
    wanted = PurePosixPath(name).with_suffix("").parts
    return sorted(candidates, key=lambda path: path.with_suffix("").parts[-len(wanted) :] != wanted)
