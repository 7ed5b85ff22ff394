"""Score a build of a simulated shoot against its truth: where the pixels are, and their colour."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import DatasetError
from defocus_ds.frames import Bracket, Level, UInt8Image
from defocus_ds.measure.truth import TrueCapture, TrueScene, read_truth
from defocus_ds.optics import Warp
from defocus_ds.store import inside

__all__ = ["PairScore", "registration_errors_px", "score_build"]

GRID = 21  # points per axis over the whole frame
_COLOUR_PIXELS = 2_000_000  # CIEDE2000 is averaged over about this many pixels at most


@dataclass(frozen=True, slots=True)
class PairScore:
    """One pair against its truth; a figure is None where there is nothing to measure.

    Attributes:
        registration_mean_px, registration_max_px: distance between the estimated map and that of
            the plane visible at each of 21x21 grid points over the frame.
        residual_px: what the build itself says of its alignment.
        blur_radius_px, true_blur_radius_px: estimated, and mean of the visible planes' radii.
        colour_difference: mean CIEDE2000 to the same capture without the change of light,
            developed and resampled alike, over the valid area; None without a reference.
    """

    scene: str
    level: Level
    verdict: str
    reasons: tuple[str, ...] = ()
    registration_mean_px: float | None = None
    registration_max_px: float | None = None
    residual_px: float | None = None
    blur_radius_px: float | None = None
    true_blur_radius_px: float | None = None
    colour_difference: float | None = None

    @property
    def blur_radius_error_px(self) -> float | None:
        if self.blur_radius_px is None or self.true_blur_radius_px is None:
            return None
        return abs(self.blur_radius_px - self.true_blur_radius_px)


def score_build(
    dataset: Path,
    shoot: Path,
    *,
    colour: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PairScore]:
    """Compare every pair of a dataset with the truth of the simulated shoot it was built from.

    Args:
        dataset: folder made by `defocus_ds.build`.
        shoot: folder made by `defocus_ds.simulate`, with its truth.json.
        colour: also develop the reference captures, where there are any.
        progress: called with (done, total, label).

    Returns:
        One score a pair, in the dataset's order; pairs without an alignment have no figures.

    Raises:
        DatasetError: no truth, or the dataset is not a build of this shoot.
    """
    from defocus_ds.dataset.manifest import SCENES_NAME, read_info, read_scenes

    read_info(dataset)  # or it says what the folder is instead
    truth = read_truth(shoot)
    rows = [row for row in read_scenes(dataset / SCENES_NAME) if row["level"] != Level.SHARP]
    for row in rows:
        if row["scene"] not in truth or Level(row["level"]) not in truth[row["scene"]].captures:
            raise DatasetError(
                f"{dataset}: the pair {row['scene']}/{row['level']} is not in "
                f"{shoot / 'truth.json'}. Was it built from another shoot?"
            )
    wanted = colour and any(c.reference for s in truth.values() for c in s.captures.values())
    brackets = _brackets(shoot) if wanted else {}
    scores = []
    for index, row in enumerate(rows):
        if progress:
            progress(index, len(rows), f"{row['scene']}/{row['level']}")
        scores.append(_score(row, truth[row["scene"]], dataset, shoot, brackets))
    if progress:
        progress(len(rows), len(rows), "")
    return scores


def registration_errors_px(warp: Warp, truth: TrueScene, level: Level) -> npt.NDArray[np.float64]:
    """(441,) distances in px between a map and the truth on the 21x21 grid over the frame."""
    grid = _grid(truth.size)
    return np.asarray(np.linalg.norm(warp.map_points(grid) - truth.map_points(level, grid), axis=1))


def _grid(size: tuple[int, int]) -> npt.NDArray[np.float64]:
    xs, ys = (np.linspace(0, length - 1, GRID) for length in size)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _score(
    row: Mapping[str, Any],
    truth: TrueScene,
    dataset: Path,
    shoot: Path,
    brackets: Mapping[str, Bracket],
) -> PairScore:
    level = Level(row["level"])
    score = PairScore(row["scene"], level, row["verdict"], tuple(row["reasons"] or ()))
    if row["matrix"] is None:
        return score
    a, b, c, d, e, f = (float(v) for v in row["matrix"])
    warp = Warp(((a, b, c), (d, e, f)), float(row["radial"] or 0), (row["width"], row["height"]))
    if warp.size != truth.size:
        raise DatasetError(
            f"{dataset}: {score.scene}/{level} is {warp.size[0]}x{warp.size[1]} px, the shoot "
            f"{truth.size[0]}x{truth.size[1]}. Was it built from another shoot?"
        )
    errors = registration_errors_px(warp, truth, level)
    score = replace(
        score,
        registration_mean_px=float(errors.mean()),
        registration_max_px=float(errors.max()),
        residual_px=row["residual_px"],
        blur_radius_px=row["blur_radius_px"],
        true_blur_radius_px=float(truth.blur_radii_px(level, _grid(truth.size)).mean()),
    )
    capture = truth.captures[level]
    if capture.reference is None or row["image"] is None or score.scene not in brackets:
        return score
    reference = _develop_reference(capture, brackets[score.scene], dataset, shoot)
    return replace(score, colour_difference=_colour_difference(row, warp, reference, dataset))


def _brackets(shoot: Path) -> dict[str, Bracket]:
    from defocus_ds.stages.ingest import scan

    return {bracket.scene: bracket for bracket in scan(shoot, confirm=False).brackets}


def _develop_reference(
    capture: TrueCapture, bracket: Bracket, dataset: Path, shoot: Path
) -> UInt8Image:
    """The capture without the change of light, developed as the dataset's config says."""
    from defocus_ds.config import config_from_dict
    from defocus_ds.dataset.manifest import read_info
    from defocus_ds.stages.develop import develop, plan_development

    config = config_from_dict(read_info(dataset)["config"])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "reference.npy"
        develop(
            replace(bracket[capture.level], path=inside(shoot, str(capture.reference))),
            development=plan_development(bracket, config.develop),
            limits=config.limits,
            target=target,
        )
        return np.asarray(np.load(target, allow_pickle=False), np.uint8)


def _colour_difference(
    row: Mapping[str, Any], warp: Warp, reference: UInt8Image, dataset: Path
) -> float | None:
    import cv2

    from defocus_ds.measure.colour import colour_difference
    from defocus_ds.resample import resample

    path = inside(dataset, row["image"])
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DatasetError(f"{path}: cannot be read. Build the dataset again.")
    x0, y0, x1, y1 = (int(v) for v in row["valid_area"])
    if x1 <= x0 or y1 <= y0:
        return None
    step = max(1, int(np.sqrt((x1 - x0) * (y1 - y0) / _COLOUR_PIXELS)))
    return colour_difference(
        np.asarray(image, np.uint8), resample(reference, warp), area=(x0, y0, x1, y1), step=step
    )
