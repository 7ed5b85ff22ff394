"""A built dataset made by hand: images, scenes.parquet, dataset.json, SHA256SUMS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scenes import textured

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.manifest import FORMAT, VERDICTS, read_scenes, write_scenes
from defocus_ds.frames import Level
from defocus_ds.optics import blur_disk, to_encoded
from defocus_ds.store import sha256_bytes, sha256_file, write_json

SIZE = (320, 256)
BORDER = (8, 6)  # px at each side that the valid area leaves out


def image_row(root: Path, scene: str, level: Level, **changes: Any) -> dict[str, Any]:
    """A row of scenes.parquet for an image that is already in its place."""
    name = f"images/{scene}/{level}.png"
    with Image.open(root / name) as image:
        width, height = image.size
    row: dict[str, Any] = {
        "scene": scene,
        "level": level.value,
        "offset": level.offset,
        "image": name,
        "image_sha256": sha256_file(root / name),
        "width": width,
        "height": height,
        "source": f"{scene}_{level}.CR2",
        "source_sha256": sha256_bytes(f"{scene}/{level}".encode()),
        "kind": "raw",
        "iso": 100,
        "verdict": "keep",
        "reasons": [],
    }
    if level is not Level.SHARP:
        row |= {
            "alignment": json.dumps({"residual_grid": []}),
            "matrix": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            "radial": 0.0,
            "blur_radius_px": float(level.offset),
            "residual_px": 0.05,
            "valid_area": [*BORDER, width - BORDER[0], height - BORDER[1]],
        }
    return row | changes


def save_image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_dataset(
    root: Path,
    *,
    scenes: int = 3,
    levels: tuple[Level, ...] = (Level.LOW,),
    size: tuple[int, int] = SIZE,
    tile: dict[str, Any] | None = None,
) -> Path:
    """Textured scenes, blurred by a disk of as many px as the ring offset; tiles of 64 px."""
    rows = []
    for index in range(scenes):
        scene = f"scene{index:02}"
        linear = textured(size, seed=index)
        for level in (Level.SHARP, *levels):
            encoded = to_encoded(blur_disk(linear, level.offset))
            pixels = np.asarray(np.round(encoded * 255).clip(0, 255), np.uint8)
            save_image(root / f"images/{scene}/{level}.png", pixels)
            rows.append(image_row(root, scene, level))
    write_dataset(root, rows, tile=tile)
    return root


def write_dataset(
    root: Path, rows: list[dict[str, Any]], *, tile: dict[str, Any] | None = None
) -> None:
    """scenes.parquet, dataset.json and SHA256SUMS around these rows."""
    write_scenes(root / "scenes.parquet", rows)
    config = BuildConfig().as_dict()
    config["tile"] |= {"size": 64, "stride": 64, "test_share": 0.3} | (tile or {})
    pairs = [row["verdict"] for row in rows if row["level"] != Level.SHARP]
    write_json(
        root / "dataset.json",
        {
            "format": FORMAT,
            "preset": "accurate",
            "config": config,
            "config_digest": BuildConfig().digest(),
            "versions": {},
            "scenes": len({row["scene"] for row in rows}),
            "images": sum(row["image"] is not None for row in rows),
            "pairs": {verdict: pairs.count(verdict) for verdict in VERDICTS},
            "digest": sha256_file(root / "scenes.parquet"),
        },
    )
    write_sums(root)


def change_rows(root: Path, scene: str, level: Level, **changes: Any) -> None:
    """Rewrite one row of scenes.parquet, and everything that depends on it."""
    rows = read_scenes(root / "scenes.parquet")
    tile = json.loads((root / "dataset.json").read_text())["config"]["tile"]
    for row in rows:
        if (row["scene"], row["level"]) == (scene, level.value):
            row.update(changes)
    write_dataset(root, rows, tile=tile)
