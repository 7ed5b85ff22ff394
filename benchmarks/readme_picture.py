"""The picture of the README: one simulated pair before and after the build.

python benchmarks/readme_picture.py demo/shoot demo/dataset docs/images/pair.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.manifest import read_scenes
from defocus_ds.pipeline.pair import load_pair, red_cyan

CROP, ZOOM, LEVEL = 240, 1.5, "medium"


def main(shoot: Path, dataset: Path, target: Path) -> None:
    """Write the picture of the first scene's medium pair."""
    rows = {(r["scene"], r["level"]): r for r in read_scenes(dataset / "scenes.parquet")}
    scene = min(scene for scene, _ in rows)
    row = rows[scene, LEVEL]
    sharp_source = shoot / rows[scene, "sharp"]["source"]
    pair = load_pair(sharp_source, shoot / row["source"], config=BuildConfig())
    built = cv2.imread(str(dataset / row["image"]))[..., ::-1]
    height, width = built.shape[:2]
    x, y = int(width * 0.62), int(height * 0.55)  # off centre, where breathing shifts most
    overlay = red_cyan(pair.sharp, pair.blurred, built)
    panels = [
        ("sharp", pair.sharp),
        (f"{LEVEL} blur, as shot", pair.blurred),
        (f"{LEVEL} blur, built", built),
        ("sharp red, as shot cyan", overlay[:, :width]),
        ("sharp red, built cyan", overlay[:, width:]),
    ]
    size = int(CROP * ZOOM)
    sheet = Image.new("RGB", (size * len(panels) + 8 * (len(panels) - 1), size + 26), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for index, (title, image) in enumerate(panels):
        crop = np.ascontiguousarray(image[y : y + CROP, x : x + CROP])
        tile = Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC)
        left = index * (size + 8)
        draw.text((left + 4, 3), title, fill="black", font=font)
        sheet.paste(tile, (left, 26))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
