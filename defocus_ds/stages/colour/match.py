"""Match the colours of a blurred capture to those of the sharp one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from defocus_ds.arrays import require_array
from defocus_ds.config import BuildConfig, ColourConfig
from defocus_ds.errors import ColourFailed
from defocus_ds.frames import FloatImage, Keep, Verdict
from defocus_ds.optics import Transfer, Warp, to_encoded
from defocus_ds.stages.colour.cube import bake_lut, read_cube, save_cube
from defocus_ds.stages.colour.curves import apply_response
from defocus_ds.stages.colour.quality import assess, correlation
from defocus_ds.stages.colour.radius import estimate_radius
from defocus_ds.stages.colour.response import Response, fit_affine, fit_response
from defocus_ds.stages.colour.samples import (
    Draw,
    Samples,
    as_integers,
    blur_matched_samples,
    plain_samples,
)
from defocus_ds.stages.colour.transfer import fit_idt, fit_mkl

__all__ = ["Aligned", "ColourMap", "match_colour"]

Area = tuple[int, int, int, int]
Recolour = Callable[[FloatImage], npt.NDArray[Any]]

_LEAST_CORRELATION = 0.75  # of corresponding colours; below it rows cannot be trusted as pairs
_MOST_LEFT = 1.5  # mean difference that a paired fit may leave, as a share of what mkl leaves
_MOST_FLAT = 0.1  # loss of contrast of a paired fit; noise and misalignment flatten it
_FIT_PAIRS = 15_000  # a parametric fit gains nothing from more
_FIT_CLOUD = 100_000  # nor does a distribution of 160 quantiles
_UNALIGNED = "no alignment: differences before and after include the misalignment"
_BAND = 256  # rows of a 16-bit image in work at a time, for memory
_COARSE = 16  # px averaged where pairs are compared without a matching blur


class Aligned(Protocol):
    """What is needed of an alignment: `defocus_ds.stages.register.Alignment` has it.

    A ``verdict``, where there is one, is read as well: a rejection is noted in the record.
    """

    @property
    def warp(self) -> Warp: ...
    @property
    def blur_radius_px(self) -> float: ...
    @property
    def valid_area(self) -> Area: ...


@dataclass(frozen=True, slots=True, eq=False)
class ColourMap:
    """Takes the colours of a blurred capture to those of its sharp partner.

    Attributes:
        lut: (N, N, N, 3) float32 indexed [r, g, b], stored values -> stored values.
        record: JSON-ready account of what was done and how sure it is.
        regrain: whether `apply` restores the gradients of the image after the map.
        response: the map that the LUT tabulates, if it is curves and a matrix; 8-bit images then
            go through it, which is faster and exact to the rounding.
    """

    lut: FloatImage = field(repr=False)
    record: dict[str, Any] = field(default_factory=dict)
    regrain: bool = False
    response: Response | None = field(default=None, repr=False)

    def apply(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Recolour an image in the blurred frame.

        Args:
            image: (H, W, 3) uint8, uint16, or float32 in [0, 1].

        Returns:
            The same shape and type, rounded once.

        Raises:
            TypeError: no array.
            OpticsError: wrong shape or type.
            ColourFailed: the map holds numbers that are not finite or not below 1000.
        """
        from defocus_ds.lut import apply_lut
        from defocus_ds.stages.colour.regrain import regrain

        takes = "(H, W, 3), uint8, uint16 or float32 in [0, 1]"
        require_array(image, "ColourMap.apply: image", takes=takes)
        if image.dtype == np.uint16:
            unit, out = np.float32(65535), np.empty_like(image)
            band = len(image) if self.regrain else _BAND  # regraining needs the whole image
            for top in range(0, len(image), band):
                rows = self.apply(np.asarray(image[top : top + band] / unit, np.float32))
                out[top : top + band] = np.rint(rows * unit)
            return out
        if self.response is not None and image.dtype == np.uint8:
            graded: npt.NDArray[Any] = apply_response(image, self.response)
        else:
            graded = apply_lut(image, self.lut)
        return regrain(image, graded) if self.regrain else graded

    def save_cube(self, path: str | Path) -> None:
        """Write the LUT as a ``.cube`` file, atomically.

        The file holds the LUT alone: not the record, not the regrain step, and not the
        `response` that 8-bit images go through, which it tabulates.
        """
        save_cube(Path(path), self.lut)

    @classmethod
    def load_cube(
        cls, path: str | Path, *, record: dict[str, Any] | None = None, regrain: bool = False
    ) -> ColourMap:
        """Read a ``.cube`` file; the LUT of `save_cube` comes back bit for bit.

        The map that is read has no `response`: of a map that had one, 8-bit images come out up
        to 2 levels different, as interpolated in the LUT; other types are unchanged.

        Raises:
            DatasetError: missing, damaged, or not a 3-D LUT.
        """
        return cls(read_cube(Path(path)), dict(record or {}), regrain)


def match_colour(
    blurred: npt.NDArray[Any],
    sharp: npt.NDArray[Any],
    *,
    alignment: Aligned | None = None,
    preset: str = "accurate",
    config: ColourConfig | None = None,
    transfer: Transfer = Transfer.SRGB,
    seed: int = 0,
) -> ColourMap:
    """Estimate the map from the blurred capture's colours to the sharp one's.

    Defocus alone narrows the distribution of colours, so a blur-matched comparison takes the
    sharp image blurred by the matching disk in linear light as its target.

    Args:
        blurred: (H, W, 3) uint8, uint16 or float in [0, 1].
        sharp: (H, W, 3), the same.
        alignment: where the sharp frame's points lie in the blurred one, and the blur radius;
            without it the two images count as aligned and the radius is estimated.
        preset: where ``config`` comes from if it is not given.
        config: method and its settings.
        transfer: curve of the stored values.
        seed: of the places sampled and of the rotations.

    Returns:
        The map, with its record.

    Raises:
        TypeError: no arrays.
        ColourFailed: wrong shapes, an alignment of images of another size, too small a common
            area, or nothing unclipped to compare.
    """
    config = config or BuildConfig.from_preset(preset).colour
    pixels = as_integers(blurred, "the blurred image")
    reference = as_integers(sharp, "the sharp image")
    notes = _doubts(alignment)
    warp, area = _geometry(pixels, reference, alignment)
    radius, origin = _radius(pixels, reference, alignment, config, transfer)
    draw = Draw(area, config.samples, transfer, seed)
    if config.blur_matched:
        pairs = blur_matched_samples(pixels, reference, warp=warp, radius_px=radius, draw=draw)
    else:
        pairs = blur_matched_samples(
            pixels, reference, warp=warp, radius_px=0.0, averaged=_coarse(area), draw=draw
        )
    single = config.blur_matched or config.method in ("affine", "response", "none")
    cloud = pairs if single else plain_samples(pixels, reference, draw=draw)
    recolour, method = _fit(config, cloud, transfer, seed, notes)
    response = recolour if isinstance(recolour, Response) else None
    lut = bake_lut(recolour.apply if isinstance(recolour, Response) else recolour, config.lut_size)
    record = {
        "method": method,
        "asked": config.method,
        "target": "sharp blurred by the disk" if config.blur_matched else "sharp",
        "radius_px": radius if config.blur_matched else None,
        "radius_from": origin,
        "regrain": config.regrain,
        "transfer": str(transfer),
        "iterations": config.iterations if method == "idt" else None,
        "marginals": "quantiles" if method == "idt" else None,
        "lut_size": config.lut_size,
        "seed": seed,
        **assess(pairs, lut, transfer),
        "notes": notes,
    }
    return ColourMap(lut, record, config.regrain, response)


def _geometry(
    blurred: npt.NDArray[Any], sharp: npt.NDArray[Any], alignment: Aligned | None
) -> tuple[Warp, Area]:
    size = sharp.shape[1], sharp.shape[0]
    sizes = (
        f"the blurred image is {blurred.shape[1]} x {blurred.shape[0]} px, the sharp "
        f"{size[0]} x {size[1]} px"
    )
    if alignment is None:
        if blurred.shape != sharp.shape:
            raise ColourFailed(
                f"{sizes}: without an alignment they must be equal. Register the pair first."
            )
        return Warp.identity(size), (0, 0, *size)
    width, height = alignment.warp.size
    if not blurred.shape[:2] == sharp.shape[:2] == (height, width):
        raise ColourFailed(
            f"{sizes}; the alignment is of images of {width} x {height} px. Give it the images "
            "that were registered, or register these."
        )
    x0, y0, x1, y1 = (int(v) for v in alignment.valid_area)
    return alignment.warp, (x0, y0, x1, y1)


def _doubts(alignment: Aligned | None) -> list[str]:
    """What the record has to say about the places compared before anything is."""
    if alignment is None:
        return [_UNALIGNED]
    verdict: Verdict = getattr(alignment, "verdict", Keep())
    if verdict:
        return []
    return [
        f"alignment: rejected ({'; '.join(verdict.reasons)}); the colours compared may be of "
        "different places"
    ]


def _coarse(area: Area) -> int:
    """Side of the squares averaged where pairs are compared without a matching blur."""
    return max(1, min(_COARSE, min(area[2] - area[0], area[3] - area[1]) // 32))


def _radius(
    blurred: npt.NDArray[Any],
    sharp: npt.NDArray[Any],
    alignment: Aligned | None,
    config: ColourConfig,
    transfer: Transfer,
) -> tuple[float, str | None]:
    """The radius that the target is blurred with, and where it comes from."""
    if not config.blur_matched:
        return 0.0, None
    if alignment is not None:
        return float(alignment.blur_radius_px), "alignment"
    return estimate_radius(blurred, sharp, transfer=transfer), "gradient energy"


def _fit(
    config: ColourConfig, cloud: Samples, transfer: Transfer, seed: int, notes: list[str]
) -> tuple[Recolour | Response, str]:
    """The map of stored values, and the method that was used in the end."""
    method = config.method
    if method == "none":
        return (lambda colours: colours), method
    source = to_encoded(cloud.blurred, transfer)
    target = to_encoded(cloud.target, transfer)
    if method == "idt":
        step = -(-len(source) // _FIT_CLOUD)
        cloud_a, cloud_b = source[::step], target[::step]
        return fit_idt(cloud_a, cloud_b, iterations=config.iterations, seed=seed).apply, method
    matrix = fit_mkl(source, target)

    def linear(colours: FloatImage) -> npt.NDArray[Any]:
        return colours @ matrix[:, :3].T + matrix[:, 3]

    if method == "mkl":
        return linear, method
    found = correlation(cloud, transfer)
    if found < _LEAST_CORRELATION:
        notes.append(
            f"correspondence: correlation {found:.2f} of the two images' colours, need "
            f"{_LEAST_CORRELATION}; {method} needs corresponding places, mkl was used instead"
        )
        return linear, "mkl"
    step = -(-len(source) // _FIT_PAIRS)
    fit = fit_response if method == "response" else fit_affine
    response = fit(cloud.blurred[::step], cloud.target[::step], transfer=transfer)
    goal = target[::step]
    mapped, moved = (np.clip(f(source[::step]), 0, 1) for f in (response.apply, linear))
    spread = _spread(mapped) / max(_spread(goal), 1e-6)
    if spread < 1 - _MOST_FLAT and _spread(mapped) < _spread(moved):
        notes.append(
            f"flat: {method} leaves {spread:.0%} of the contrast, need {1 - _MOST_FLAT:.0%} "
            "(is the pair aligned?); mkl was used instead"
        )
        return linear, "mkl"
    left, floor = (float(np.abs(colours - goal).mean()) * 255 for colours in (mapped, moved))
    if left > _MOST_LEFT * floor + 0.5:
        notes.append(
            f"unstable: {method} leaves {left:.2f} levels, mkl {floor:.2f}; mkl was used instead"
        )
        return linear, "mkl"
    return response, method


def _spread(colours: npt.NDArray[Any]) -> float:
    """Standard deviation of stored values, mean of the channels."""
    return float(colours.std(axis=0).mean())
