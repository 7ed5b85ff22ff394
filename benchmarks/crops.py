"""Crop pairs a second and core: cut and written, judged too, and read, against PNG decoders.

    python benchmarks/crops.py DATASET [--rounds 5]

DATASET is a built one; its crops are made in a copy.  CPU seconds, medians over the rounds.  The
decoding of the images, which depends on them and not on the crops, is measured beside and taken
off; "from a manifest" does not judge the positions again, it is the writing alone.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from results import Check, check_lines, machine, number, table, write_text

from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.loaders import Crops, load_crops
from defocus_ds.dataset.manifest import SCENES_NAME, read_scenes
from defocus_ds.dataset.pairs import built_pairs
from defocus_ds.dataset.shards import CROP_SCHEMA, MANIFEST_NAME, find_shards
from defocus_ds.dataset.tables import open_table, read_group
from defocus_ds.frames import Level

WRITTEN, READ = 3000, 10_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="write the tables to this file too")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=given.dataset.resolve().parent) as place:
        copy = Path(place) / "copy"
        shutil.copytree(given.dataset, copy, copy_function=os.link)
        text = page(*measured(copy, given.rounds))
    print(text)
    if given.page:
        write_text(given.page, text)


def measured(dataset: Path, rounds: int) -> tuple[int, dict[str, float]]:
    """Number of pairs, and CPU seconds by what was done."""
    shutil.rmtree(dataset / "crops", ignore_errors=True)
    count = sum(crop(dataset, level="low").kept.values())
    manifest = dataset.parent / MANIFEST_NAME
    shutil.copyfile(dataset / "crops/low" / MANIFEST_NAME, manifest)
    pairs = built_pairs(dataset, read_scenes(dataset / SCENES_NAME), Level.LOW)[0]
    crops = [load_crops(dataset, level="low", split=s) for s in present(dataset)]
    files = [data for each in crops for data in png_files(each)]
    work: dict[str, Callable[[], object]] = {
        "images": lambda: [pair.read() for pair in pairs],
        "crop": lambda: crop(dataset, level="low"),
        "manifest": lambda: crop(dataset, level="low", manifest=manifest),
        "read": lambda: exhaust(chain.from_iterable(crops)),
        "bytes": lambda: [png_files(each) for each in crops],
        "Pillow": lambda: exhaust(np.asarray(Image.open(io.BytesIO(data))) for data in files),
        "OpenCV": lambda: exhaust(
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in files
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            start = time.process_time()
            do()
            seconds[name].append(time.process_time() - start)
    return count, {name: statistics.median(found) for name, found in seconds.items()}


def exhaust(images: Iterable[object]) -> None:
    """Take one after the other, as training does; keeping them all would measure the memory."""
    for _ in images:
        pass


def present(dataset: Path) -> list[str]:
    folder = dataset / "crops/low"
    return [s for s in ("train", "val", "test") if list(folder.glob(f"{s}-*.parquet"))]


def png_files(crops: Crops) -> list[bytes]:
    """Both files of every pair, as they lie in the shards."""
    found = []
    for shard in find_shards(Path(crops.folder), crops.split):
        with open_table(shard.path, CROP_SCHEMA) as file:
            for group in range(file.metadata.num_row_groups):
                rows = read_group(file, group, path=shard.path, schema=CROP_SCHEMA)
                for name in ("sharp", "blurred"):
                    found += [row["bytes"] for row in rows.column(name).to_pylist()]
    return found


def page(count: int, seconds: dict[str, float]) -> str:
    """The tables."""
    judged = count / (seconds["crop"] - 2 * seconds["images"])
    written = count / (seconds["manifest"] - seconds["images"])
    read = count / seconds["read"]
    rows = [
        ("judged, cut and written", number(judged)),
        ("cut and written, from a manifest", number(written)),
        ("read as pixels", number(read)),
        ("read as PNG files, not decoded", number(count / seconds["bytes"])),
        ("both files decoded by Pillow", number(count / seconds["Pillow"])),
        ("both files decoded by OpenCV", number(count / seconds["OpenCV"])),
    ]
    checks = [
        Check("pairs written a second", written, WRITTEN, least=True),
        Check("pairs read a second", read, READ, least=True),
    ]
    raw = min(seconds["Pillow"], seconds["OpenCV"])
    versions = machine(["defocus-ds", "numba", "pyarrow", "pillow", "opencv-python-headless"])
    return (
        "# Crops a second\n\n`python benchmarks/crops.py DATASET`: pairs of 128x128 crops a CPU "
        f"second, of {count} pairs. Decoding the images, which depends on them and not on the "
        "crops, is taken off the first two, which hold the target of writing; from a manifest the "
        "places are not judged again. Content decides, too: noise takes longer to decode.\n\n"
        f"{table(('', 'pairs/s'), rows)}\n"
        f"Reading takes {seconds['read'] / raw:.2f} of the time of the faster decoder alone.\n\n"
        f"{check_lines(checks)}\n{', '.join(f'{k} {v}' for k, v in versions.items())}\n"
    )


if __name__ == "__main__":
    main()
