"""The crops of one imported pair: read, checked, placed, blurred where there is no blurred file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.dataset.importers.degradation import Degradation
from defocus_ds.dataset.importers.images import Luma, read_image
from defocus_ds.dataset.importers.listing import ImportOptions, PairFiles
from defocus_ds.dataset.pixels import encode_png, pixels_sha256
from defocus_ds.dataset.released_images import Unusable
from defocus_ds.frames import UInt8Image, recordable_px
from defocus_ds.stages.bit_depth import few_bits
from defocus_ds.stages.tile import positions

__all__ = ["PairPixels", "PairReader", "Refused", "crop_rows"]


class Refused(Exception):
    """Why one file cannot be imported; collected, never shown by itself."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


@dataclass(frozen=True, slots=True)
class PairPixels:
    """A pair in memory.

    Attributes:
        sharp: (H, W) uint8 luma.
        blurred: the same shape, or what blurs the crops of ``sharp``.
        xy: (N, 2) top-left pixels of the crops, row by row.
        sha256_sharp, sha256_blurred: of the files; of a synthetic pair both are the sharp file's.
    """

    sharp: UInt8Image
    blurred: UInt8Image | Degradation
    xy: npt.NDArray[np.int32]
    sha256_sharp: str
    sha256_blurred: str


class PairReader:
    """Reads pairs one after another; the sharp image of a scene's levels is decoded once.

    Args:
        root: what the places of random crops know an image by.
        options: size, stride, number and seed.
    """

    def __init__(self, root: Path, options: ImportOptions) -> None:
        self._root = root
        self._options = options
        self._last: tuple[Path, Luma] | None = None

    def read(self, pair: PairFiles) -> PairPixels:
        """The pixels of a pair and where its crops are.

        Raises:
            Refused: a file that cannot be decoded, too small for its crops, of another size than
                its partner, or equal to it.
        """
        image = self._sharp(pair.sharp)
        sharp, sharp_digest = image.pixels, image.sha256
        size = self._options.size
        height, width = sharp.shape
        if min(width, height) < size:
            raise Refused(pair.sharp, f"{width}x{height} px is smaller than a crop of {size}")
        if isinstance(pair.blurred, Degradation):
            self._refuse_few_bits(pair.sharp, image)
            xy = self._random_places(pair.sharp, width, height)
            return PairPixels(sharp, pair.blurred, xy, sharp_digest, sharp_digest)
        try:
            other = read_image(pair.blurred)
        except Unusable as problem:
            raise Refused(pair.blurred, str(problem)) from problem
        blurred, digest = other.pixels, other.sha256
        self._refuse_few_bits(pair.sharp, image, other)
        if blurred.shape != sharp.shape:
            found = f"{blurred.shape[1]}x{blurred.shape[0]}"
            raise Refused(pair.blurred, f"{found} px, its sharp image has {width}x{height}")
        if np.array_equal(blurred, sharp):
            raise Refused(pair.blurred, f"the same pixels as the sharp image {pair.sharp.name}")
        xy = positions((width, height), size=size, stride=self._options.stride or size)
        return PairPixels(sharp, blurred, xy, sharp_digest, digest)

    def _sharp(self, path: Path) -> Luma:
        if self._last is None or self._last[0] != path:
            try:
                self._last = path, read_image(path)
            except Unusable as problem:
                raise Refused(path, str(problem)) from problem
        return self._last[1]

    @staticmethod
    def _refuse_few_bits(path: Path, *images: Luma) -> None:
        found = few_bits([image.highest for image in images])
        if found is not None and found.certain:
            raise Refused(path, f"{found.finding} Scale the samples to 16 bits first")

    def _random_places(self, path: Path, width: int, height: int) -> npt.NDArray[np.int32]:
        """Different places, uniformly; they depend on the image's name and the seed alone."""
        options = self._options
        columns, rows = width - options.size + 1, height - options.size + 1
        count = options.per_image
        if columns * rows < count:
            raise Refused(
                path, f"{width}x{height} px has {columns * rows} places for {count} crops"
            )
        name = path.relative_to(self._root).as_posix()
        owner = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        rng = np.random.default_rng([options.seed, owner])
        places = np.sort(rng.choice(columns * rows, count, replace=False, shuffle=False))
        return np.stack([places % columns, places // columns], axis=1).astype(np.int32)


def crop_rows(pair: PairFiles, pixels: PairPixels, *, size: int) -> Iterator[dict[str, Any]]:
    """Rows of `defocus_ds.dataset.shards.CROP_SCHEMA`, in the order of the places.

    A synthetic crop has the radius of its blur and is not displaced.  Of a real pair neither is
    known: both columns say so as records do, see `defocus_ds.frames.known_px`, and the radius has
    confidence 0.
    """
    from defocus_ds.measure.sharpness import sharpness_q

    blur = pixels.blurred
    synthetic = isinstance(blur, Degradation)
    radius_px = blur.radius_px if isinstance(blur, Degradation) else math.nan
    for x, y in pixels.xy.tolist():
        window = np.s_[y : y + size, x : x + size]
        sharp = np.ascontiguousarray(pixels.sharp[window])
        blurred = (
            blur.apply(sharp)
            if isinstance(blur, Degradation)
            else np.ascontiguousarray(blur[window])
        )
        row: dict[str, Any] = {
            "scene": pair.scene,
            "level": pair.level,
            "split": pair.split,
            "x": x,
            "y": y,
            "size": size,
            "blur_radius_px": recordable_px(radius_px),
            "blur_radius_confidence": None if synthetic else 0.0,
            "blur_radius_spread_px": None,
            "residual_px": 0.0 if synthetic else recordable_px(math.nan),
        }
        for name, crop in (("sharp", sharp), ("blurred", blurred)):
            row[f"q_{name}"] = sharpness_q(crop, kind="reported")
            row[f"sha256_{name}"] = pixels_sha256(crop)
            path = f"{pair.scene}_{pair.level}_{x}_{y}_{name}.png"
            row[name] = {"bytes": encode_png(crop), "path": path}
        yield row
