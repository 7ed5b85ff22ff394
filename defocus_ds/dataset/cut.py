"""One crop, cut from the images of its pair: its columns and its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from defocus_ds.dataset.pairs import BuiltPair
from defocus_ds.dataset.pixels import encode_png, pixels_sha256
from defocus_ds.dataset.shards import MANIFEST_SCHEMA
from defocus_ds.errors import DatasetError
from defocus_ds.frames import UInt8Image

__all__ = ["cut_crop"]


def cut_crop(
    row: dict[str, Any], sharp: UInt8Image, blurred: UInt8Image, built: BuiltPair
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(columns without pixels, columns with them) of one crop.

    A row from a manifest already has its measurements: they are kept, and the pixels must have
    the hashes it states.
    """
    from defocus_ds.measure.sharpness import sharpness_q

    x, y, size = row["x"], row["y"], row["size"]
    whole = {name: row[name] for name in MANIFEST_SCHEMA.names if name in row}
    for name in ("image_sha256_sharp", "image_sha256_blurred"):
        whole.pop(name, None)
    images = {}
    for name, image in (("sharp", sharp), ("blurred", blurred)):
        pixels = np.ascontiguousarray(image[y : y + size, x : x + size])
        digest = pixels_sha256(pixels)
        if whole.setdefault(f"sha256_{name}", digest) != digest:
            raise DatasetError(
                f"{built.pair} at ({x}, {y}): the {name} crop is {digest[:12]}..., the manifest "
                f"has {whole[f'sha256_{name}'][:12]}.... The manifest is damaged."
            )
        if f"q_{name}" not in whole:
            whole[f"q_{name}"] = sharpness_q(pixels, kind="reported")
        path = f"{row['scene']}_{row['level']}_{x}_{y}_{name}.png"
        images[name] = {"bytes": encode_png(pixels), "path": path}
    return whole, images
