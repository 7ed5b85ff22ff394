"""A built dataset as `report` reads it, made by hand from one pair with known truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scenes import TruePair

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.manifest import write_scenes
from defocus_ds.dataset.shards import (
    CROP_FORMAT,
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    manifest_metadata,
)
from defocus_ds.dataset.tables import table_writer, with_metadata
from defocus_ds.resample import resample
from defocus_ds.stages.register.radius_map import RadiusMap
from defocus_ds.store import sha256_file, write_json

Bytes = npt.NDArray[np.uint8]
HOSTILE = "<img src=x onerror=alert(1)> \"& '%2e"
LEVELS = ("low", "medium", "high")
CAST = {
    "method": "response",
    "ciede2000": {"before": 3.0, "after": 0.4},
    "matrix": [[1.1, 0.0, 0.0, 0.0], [0.02, 0.9, 0.0, 0.0], [0.0, 0.0, 1.05, 0.001]],
    "gains": [1.02, 0.94, 1.03],
    "gains_error": [0.001, 0.0004, 0.002],
    "contrast": {"before": 1.02, "after": 1.001},
}


def save(path: Path, image: Bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return sha256_file(path)


def row_of(dataset: Path, scene: str, level: str, image: Bytes, **more: Any) -> dict[str, Any]:
    name = f"images/{scene}/{level}.png"
    base = {
        "scene": scene,
        "level": level,
        "offset": {"sharp": 0, "low": 2, "medium": 4, "high": 6}[level],
        "image": name,
        "image_sha256": save(dataset / name, image),
        "width": image.shape[1],
        "height": image.shape[0],
        "transfer": "srgb",
        "verdict": "keep",
        "reasons": [],
    }
    return base | more


def radius_map(radius_px: float) -> RadiusMap:
    """A frame of 320 x 240: half a pixel more in the last column, the first node unknown."""
    radius = np.full((4, 5), radius_px)
    radius[:, -1] += 0.5
    deviation = np.full((4, 5), 0.03)
    deviation[2, 2] = 3.0
    radius[0, 0] = deviation[0, 0] = np.nan
    return RadiusMap(radius, deviation, 0 * radius)


def make_dataset(
    dataset: Path,
    pair: TruePair,
    scenes: tuple[str, ...],
    *,
    rejected: Mapping[tuple[str, str], str] | None = None,
) -> Path:
    """Scenes of one sharp and three registered images; the last scene's high pair failed.

    ``rejected``: (scene, level) -> the reason that the build gave.
    """
    rejected = rejected or {}
    registered = resample(pair.blurred, pair.warp)
    rows = []
    for scene in scenes:
        rows.append(row_of(dataset, scene, "sharp", pair.sharp))
        for index, level in enumerate(LEVELS):
            if scene == scenes[-1] and level == "high":
                rows.append(
                    {
                        **rows[-1],
                        **dict.fromkeys(("image", "image_sha256", "matrix", "alignment")),
                        **dict.fromkeys(("residual_px", "blur_radius_px", "colour")),
                        "level": level,
                        "offset": 6,
                        "verdict": "failed",
                        "reasons": ["no texture: <b>0.1</b> %, 1 % needed"],
                    }
                )
                continue
            alignment = {
                "ncc": 0.99 - index / 100,
                "residual_grid": [[x, y, 0.02, -0.01, 0.9] for x in (40, 160) for y in (40, 160)],
                "unexplained_grid": [[40, 40, 0.02], [160, 40, 0.9], [160, 160, 0.0]],
                "radius_map": radius_map(3.0 + index).to_record(),
                "trace": {"1/4": [-0.2, -0.5, -0.6], "1/2": [-0.6, -0.65]},
            }
            reason = rejected.get((scene, level))
            rows.append(
                row_of(
                    dataset,
                    scene,
                    level,
                    registered,
                    verdict="reject" if reason else "keep",
                    reasons=[reason] if reason else [],
                    matrix=[float(v) for line in pair.warp.matrix for v in line],
                    radial=0.0,
                    blur_radius_px=3.0 + index,
                    residual_px=0.05 / (index + 1),
                    valid_area=[4, 4, 310, 230],
                    alignment=json.dumps(alignment),
                    colour=json.dumps(CAST),
                )
            )
    write_scenes(dataset / "scenes.parquet", rows)
    config = BuildConfig.from_preset("accurate")
    write_json(
        dataset / "dataset.json",
        {
            "format": 1,
            "preset": "accurate",
            "config": config.as_dict(),
            "config_digest": config.digest(),
            "versions": {"numpy": "2"},
            "pairs": {"keep": len(rows)},
            "digest": sha256_file(dataset / "scenes.parquet"),
        },
    )
    return dataset


def write_crops(dataset: Path, level: str, q: Mapping[str, list[tuple[float, float]]]) -> Path:
    """The manifest of a level: a crop for every (sharp, blurred) Q of every scene."""
    rows = [
        {
            "scene": scene,
            "level": level,
            "split": "train",
            "x": 0,
            "y": 0,
            "size": 128,
            "blur_radius_px": 3.0,
            "q_sharp": sharp,
            "q_blurred": blurred,
            "residual_px": 0.05,
            **dict.fromkeys(("sha256_sharp", "sha256_blurred"), "0" * 64),
            **dict.fromkeys(("image_sha256_sharp", "image_sha256_blurred"), "0" * 64),
        }
        for scene, values in q.items()
        for sharp, blurred in values
    ]
    path = dataset / "crops" / level / MANIFEST_NAME
    path.parent.mkdir(parents=True)
    record = {"format": CROP_FORMAT, "dataset_digest": sha256_file(dataset / "scenes.parquet")}
    schema = with_metadata(MANIFEST_SCHEMA, manifest_metadata(record))
    with table_writer(path, schema) as writer:
        for row in rows:  # a row group each, as large manifests have many
            writer.write_table(pa.Table.from_pylist([row], schema=schema))
    return path
