"""Make the manifest of a released split from the published images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from defocus_ds.dataset.pixels import pixels_sha256
from defocus_ds.dataset.released_images import (
    EXTENSIONS,
    Unusable,
    blurred_crop,
    centre,
    decode_rgb,
)
from defocus_ds.dataset.released_manifest import (
    LEVEL,
    RELEASED_SCHEMA,
    Released,
    read_released,
)
from defocus_ds.dataset.shards import CROP_FORMAT, manifest_metadata
from defocus_ds.dataset.split import SPLITS
from defocus_ds.dataset.tables import table_writer, with_metadata
from defocus_ds.errors import DatasetError
from defocus_ds.store import atomic_path, sha256_file

__all__ = ["make_released"]


def make_released(
    name: str,
    images: Path | str,
    output: Path | str,
    *,
    origin: str,
    size: int = 128,
    progress: Callable[[int, int, str], None] | None = None,
) -> Released:
    """Write the manifest of the centre crops of a folder of images.

    Args:
        name: of the split.
        images: folder with ``train``, ``val`` or ``test`` below it, or else all is test.
        output: the Parquet file to write.
        origin: where a person gets the images, for complaints and the manifest's record.
        size: of the crops in pixels.
        progress: called with (done, total, label).

    Returns:
        What was written, read back.

    Raises:
        DatasetError: no images, one that cannot be decoded or is smaller than a crop.
    """
    import PIL
    from PIL import features

    root = Path(images)
    files = _files(root)
    rows = []
    for done, (split, path) in enumerate(files, 1):
        rows.append(_row(root, split, path, size))
        if progress is not None:
            progress(done, len(files), path.name)
    record = {
        "format": CROP_FORMAT,
        "released": name,
        "level": LEVEL,
        "images": origin,
        "crop": f"centre {size}x{size} of Pillow's YCbCr Y: x = (W - {size}) // 2, y likewise",
        "blur": "5x5 average of the 8-bit crop, BORDER_REFLECT_101, rounded to 8 bits",
        "decoder": f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}",
    }
    schema = with_metadata(RELEASED_SCHEMA, manifest_metadata(record))
    with atomic_path(Path(output)) as temporary, table_writer(temporary, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return read_released(Path(output))


def _files(root: Path) -> list[tuple[str, Path]]:
    """(split, file), by split and name."""
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
    found = [
        (split, path)
        for split, folder in (folders or {"test": root}).items()
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in EXTENSIONS
    ]
    if not found:
        raise DatasetError(f"{root}: no images here, nor in {', '.join(SPLITS)} below it.")
    return found


def _row(root: Path, split: str, path: Path, size: int) -> dict[str, Any]:
    from defocus_ds.measure.sharpness import sharpness_q

    try:
        rgb = decode_rgb(path)
    except Unusable as problem:
        raise DatasetError(f"{path}: {problem}.") from problem
    height, width = rgb.shape[:2]
    if min(width, height) < size:
        raise DatasetError(f"{path}: {width}x{height} px is smaller than a crop of {size} px.")
    x, y = centre(width, height, size=size)
    sharp, blurred = blurred_crop(rgb, x=x, y=y, size=size)
    return {
        "scene": path.stem,
        "split": split,
        "file": path.relative_to(root).as_posix(),
        "width": width,
        "height": height,
        "x": x,
        "y": y,
        "size": size,
        "q_sharp": sharpness_q(sharp),
        "q_blurred": sharpness_q(blurred),
        "sha256_file": sha256_file(path),
        "sha256_image": pixels_sha256(rgb),
        "sha256_sharp": pixels_sha256(sharp),
        "sha256_blurred": pixels_sha256(blurred),
    }
