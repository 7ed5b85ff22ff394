"""croissant.json is valid, and the library that reads it finds every row and pixel."""

from __future__ import annotations

import json
from pathlib import Path

import mlcroissant
import numpy as np
import pytest
from built_dataset import make_dataset

import defocus_ds
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.frames import Level
from defocus_ds.store import sha256_file

# of the library's own dependencies
pytestmark = pytest.mark.filterwarnings(
    "ignore:ConjunctiveGraph is deprecated:DeprecationWarning",
    "ignore:The inplace keyword in DataFrame.reset_index is deprecated",
)

LEVELS = {"low": 2, "high": 6}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    dataset = make_dataset(root / "dataset", scenes=3, levels=(Level.LOW, Level.HIGH))
    for level in LEVELS:
        crop(dataset, level=level)
    about = About("Toy", "CC-BY-4.0", ("Doe, Jane",), date="2026-11-22", url="https://example.org")
    release(dataset, root / "release", about=about)
    return root / "release"


def test_the_library_validates_it_without_a_warning(
    released: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = mlcroissant.Dataset(jsonld=str(released / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    assert not found.metadata.ctx.issues.warnings
    assert found.metadata.name == "Toy"
    assert found.metadata.license == ["https://spdx.org/licenses/CC-BY-4.0.html"]


@pytest.mark.parametrize("level", LEVELS)
def test_the_library_reads_every_row_and_pixel(released: Path, level: str) -> None:
    found = mlcroissant.Dataset(jsonld=str(released / "croissant.json"))
    read = {}
    for record in found.records(level):
        pixels = [np.asarray(record[f"{level}/{name}"]) for name in ("sharp", "blurred")]
        place = (record[f"{level}/scene"].decode(), *(record[f"{level}/{k}"] for k in "xy"))
        read[place] = (record[f"{level}/split"].decode(), record[f"{level}/q_sharp"], pixels)
    wanted = [
        item
        for split in ("train", "test")
        for item in defocus_ds.load_crops(released, level=level, split=split)
    ]
    assert len(read) == len(wanted) > 0
    for item in wanted:
        split, q, (sharp, blurred) = read[item.row["scene"], item.row["x"], item.row["y"]]
        assert (split, q) == (item.row["split"], item.row["q_sharp"])
        assert np.array_equal(sharp, item.sharp)
        assert np.array_equal(blurred, item.blurred)


def test_every_shard_is_listed_with_its_hash(released: Path) -> None:
    record = json.loads((released / "croissant.json").read_text())
    files = {
        entry["contentUrl"]: entry["sha256"]
        for entry in record["distribution"]
        if entry["@type"] == "cr:FileObject"
    }
    shards = [p for p in released.rglob("*.parquet") if "-of-" in p.name]
    assert files == {p.relative_to(released).as_posix(): sha256_file(p) for p in shards}
