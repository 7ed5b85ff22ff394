"""Undamaged captures to damage: simulated raws, real captures, and images of the other kinds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from defocus_ds.frames import UInt8Image
from defocus_ds.simulate import simulate
from defocus_ds.simulate.cr2 import CaptureTags, cr2_bytes
from defocus_ds.simulate.sensor import Light, Sensor, expose, preview, read_out

__all__ = ["Seed", "full_size_cr2", "seeds"]

FULL_SIZE = (5796, 3870)
_TAKEN = datetime(2024, 5, 1, 10, 0, 0)


@dataclass(frozen=True, slots=True)
class Seed:
    """A sound capture, one that goes with it in a bracket, and its share of the corpus."""

    path: Path
    partner: Path
    weight: float
    full_size: bool = False


def seeds(data: Path, folder: Path, *, full_size: bool) -> list[Seed]:
    """Make and gather the seeds; ``folder`` keeps those that are made, for the next run."""
    folder.mkdir(parents=True, exist_ok=True)
    simulate(folder / "shoot", scenes=1, size=(240, 160), seed=11)
    raws = sorted((folder / "shoot" / "scene01").glob("*.CR2"))
    found = [Seed(raws[0], raws[1], 10), Seed(raws[3], raws[1], 10)]
    found += [_encoded(folder, suffix, bits) for suffix, bits in _IMAGES]
    real = data / "canon"
    jpegs = sorted(real.glob("*.JPG"), key=lambda path: path.stat().st_size)
    # the smallest most often; the largest, of 22 megapixels, now and then
    for index, path in enumerate(jpegs):
        found.append(Seed(path, _blurred_jpeg(path, folder), 3 if index == 0 else 0.3))
    crws = sorted(real.glob("*.CRW"))
    found += [Seed(path, path, 0.7) for path in crws]
    # cut short by whoever published them: refused as they are, and damaged further
    found += [Seed(path, raws[1], 1) for path in sorted(real.glob("*.cr2"))]
    if full_size:
        whole = folder / "full.CR2"
        if not whole.is_file():
            whole.write_bytes(full_size_cr2())
        found.append(Seed(whole, whole, 0, full_size=True))
    return found


_IMAGES = ((".png", 8), (".png", 16), (".tif", 8), (".tif", 16))


def full_size_cr2(size: tuple[int, int] = FULL_SIZE) -> bytes:
    """A raw of 22 megapixels with texture everywhere."""
    rng = np.random.default_rng(7)
    light = cv2.resize(
        rng.uniform(0.05, 0.6, (size[1] // 24, size[0] // 24, 3)).astype(np.float32), size
    )
    sensor = Sensor()
    raw = read_out(expose(light, light=Light(), sensor=sensor), rng, sensor=sensor)
    return cr2_bytes(raw, info=CaptureTags(taken=_TAKEN), preview=preview(light, light=Light()))


def _encoded(folder: Path, suffix: str, bits: int) -> Seed:
    """A textured picture and its blurred partner, as PNG or as TIFF in strips."""
    rng = np.random.default_rng(bits)
    coarse = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    sharp = cv2.resize(coarse, (240, 160), interpolation=cv2.INTER_NEAREST)
    paths = []
    for name, pixels in (("sharp", sharp), ("low", cv2.blur(sharp, (5, 5)))):
        path = folder / f"{name}{bits}{suffix}"
        values = pixels if bits == 8 else pixels.astype(np.uint16) * 257
        options = [cv2.IMWRITE_TIFF_ROWSPERSTRIP, 32] if suffix == ".tif" else []
        assert cv2.imwrite(str(path), values, options)
        paths.append(path)
    return Seed(paths[0], paths[1], 3)


def _blurred_jpeg(path: Path, folder: Path) -> Path:
    """The same picture out of focus, with the same EXIF."""
    target = folder / f"low_{path.stem}.jpg"
    if not target.is_file():
        with Image.open(path) as image:
            pixels: UInt8Image = np.asarray(image.convert("RGB"))
            blurred = Image.fromarray(cv2.blur(pixels, (7, 7)))
            blurred.save(target, exif=image.info["exif"])
    return target
