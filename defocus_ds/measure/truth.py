"""The known truth of a simulated shoot: per scene and plane, the exact map and blur."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level, UInt8Image
from defocus_ds.optics import Warp
from defocus_ds.store import inside, read_json

__all__ = ["TRUTH_FORMAT", "TrueCapture", "TrueScene", "read_truth"]

TRUTH_FORMAT = 1


@dataclass(frozen=True, slots=True)
class TrueCapture:
    """One capture as it was made.

    Attributes:
        warps: sharp -> blurred map of each depth plane, farthest first.
        blur_radii_px: disk radius of each plane in developed pixels.
        reference: the same capture without the change of light, relative to the shoot, or None.
    """

    level: Level
    file: str
    warps: tuple[Warp, ...]
    blur_radii_px: tuple[float, ...]
    reference: str | None


@dataclass(frozen=True, slots=True)
class TrueScene:
    """One scene; ``planes`` is (H, W) uint8, the index of the plane visible in the sharp frame."""

    scene: str
    size: tuple[int, int]
    planes: UInt8Image
    captures: Mapping[Level, TrueCapture]

    def map_points(self, level: Level, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, 2) sharp-frame points to (N, 2) blurred-frame points, each by its own plane."""
        capture, visible = self.captures[level], self._visible(xy)
        mapped = np.stack([warp.map_points(xy) for warp in capture.warps])
        return np.asarray(mapped[visible, np.arange(len(xy))])

    def blur_radii_px(self, level: Level, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N,) disk radius in px of the plane visible at each of (N, 2) sharp-frame points."""
        return np.asarray(self.captures[level].blur_radii_px)[self._visible(xy)]

    def _visible(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        column, row = np.rint(xy).astype(np.intp).T
        return np.asarray(self.planes[row, column], np.intp)


def read_truth(shoot: Path) -> dict[str, TrueScene]:
    """Every scene of a simulated shoot, by name.

    Raises:
        DatasetError: no truth.json, another format, or a field that cannot be.
    """
    path = shoot / "truth.json"
    if not path.is_file():
        raise DatasetError(
            f"{path}: missing, so nothing is known of this shoot. "
            "Only a shoot made by `defocus-ds simulate` can be scored."
        )
    table = read_json(path)
    if not isinstance(table, dict) or table.get("format") != TRUTH_FORMAT:
        raise DatasetError(f"{path}: not a truth file of format {TRUTH_FORMAT}; simulate again.")
    try:
        size = (int(table["size"][0]), int(table["size"][1]))
        scenes = [_scene(shoot, entry, size) for entry in table["scenes"]]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: {type(error).__name__} {error}; simulate again.") from error
    return {scene.scene: scene for scene in scenes}


def _scene(shoot: Path, entry: Mapping[str, Any], size: tuple[int, int]) -> TrueScene:
    captures = [_capture(capture, size) for capture in entry["captures"]]
    planes = _labels(inside(shoot, entry["planes_file"]))
    count = min(len(capture.warps) for capture in captures)
    if planes.shape != (size[1], size[0]) or planes.max(initial=0) >= count:
        raise DatasetError(
            f"{shoot / entry['planes_file']}: {planes.shape[1]}x{planes.shape[0]} px with labels "
            f"up to {planes.max(initial=0)}; truth.json says {size[0]}x{size[1]} px and {count} "
            "planes. Simulate again."
        )
    return TrueScene(str(entry["scene"]), size, planes, {c.level: c for c in captures})


def _capture(entry: Mapping[str, Any], size: tuple[int, int]) -> TrueCapture:
    return TrueCapture(
        level=Level(entry["level"]),
        file=str(entry["file"]),
        warps=tuple(_warp(plane, size) for plane in entry["planes"]),
        blur_radii_px=tuple(float(plane["blur_radius_px"]) for plane in entry["planes"]),
        reference=entry.get("reference"),
    )


def _warp(plane: Mapping[str, Any], size: tuple[int, int]) -> Warp:
    (a, b, c), (d, e, f) = ((float(v) for v in row) for row in plane["matrix"])
    return Warp(((a, b, c), (d, e, f)), float(plane["radial"]), size)


def _labels(path: Path) -> UInt8Image:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if image is None or image.ndim != 2 or image.dtype != np.uint8:
        raise DatasetError(f"{path}: missing, or not an 8-bit label image; simulate again.")
    return np.asarray(image, np.uint8)
