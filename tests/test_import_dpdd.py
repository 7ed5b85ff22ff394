"""DPDD and its kin under the names they are published with; no two names of a pair agree."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from test_decode_image import png

from defocus_ds.dataset.importers import ImportOptions, import_images
from defocus_ds.dataset.importers.dpdd import list_dpdd
from defocus_ds.errors import DatasetError, InputError
from defocus_ds_train.benchmark.sets import folder_set

NAMES = Path(__file__).parent / "fixtures/dpdd_names.tsv"
OPTIONS = ImportOptions(size=64)
Rows = list[tuple[str, str, str]]


def true_names(path: Path = NAMES) -> Rows:
    """(split, blurred, sharp) of each pair."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = csv.DictReader(lines, delimiter="\t")
    return [(row["split"], row["source"], row["target"]) for row in rows]


def picture(name: str, *, blurred: bool) -> bytes:
    """16-bit PNG of 64x64 px whose texture is the pair's own."""
    light = np.random.default_rng(crc32(name.encode())).uniform(0.2, 1, (64, 64, 3))
    if blurred:
        light = (light + np.roll(light, 1, 0) + np.roll(light, 1, 1)) / 3
    return png(np.asarray(np.round(65535 * light), np.uint16))


def tree(root: Path, rows: Rows, folders: Mapping[str, tuple[str, str]]) -> Path:
    """The pairs under the folders of each split, (blurred, sharp)."""
    for split, blurred, sharp in rows:
        for folder, name, soft in zip(folders[split], (blurred, sharp), (True, False), strict=True):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(blurred, blurred=soft))
    return root


SPLITS = ("train", "val", "test")
PUBLISHED = {split: (f"{split}_c/source", f"{split}_c/target") for split in SPLITS}


def paired(root: Path) -> dict[str, tuple[str, str]]:
    return {
        pair.scene: (pair.split, pair.sharp.name)
        for pair in list_dpdd(root, OPTIONS).pairs
        if isinstance(pair.blurred, Path)
    }


def expected(rows: Rows) -> dict[str, tuple[str, str]]:
    return {Path(blurred).stem: (split, sharp) for split, blurred, sharp in rows}


def test_names_of_pairs_never_agree_in_the_fixture() -> None:
    rows = true_names()
    assert not {blurred for _, blurred, _ in rows} & {sharp for _, _, sharp in rows}


def test_dpdd_is_imported_by_order_and_says_so(tmp_path: Path) -> None:
    rows = true_names()
    root = tree(tmp_path / "dd_dp_dataset_canon", rows, PUBLISHED)
    for split in SPLITS:
        for view in "lr":
            (root / f"{split}_{view}/source").mkdir(parents=True)
            name = f"{rows[0][1][:8]}_{view.upper()}.png"
            (root / f"{split}_{view}/source" / name).write_bytes(picture("x", blurred=True))
    report = import_images("dpdd", root, tmp_path / "out", options=OPTIONS)
    assert report.crops == {"defocus": {"train": 8, "val": 9, "test": 9}}
    assert not report.refused
    assert json.loads((tmp_path / "out/import.json").read_text())["paired_by"] == dict.fromkeys(
        SPLITS, "order"
    )
    assert any("paired by their order" in note for note in report.notes)
    assert paired(root) == expected(rows)


def test_all_500_pairs_are_those_of_the_published_lists(real_data: Path, tmp_path: Path) -> None:
    rows = true_names(real_data / "dpdd_lists/dpdd_names.tsv")
    for split, blurred, sharp in rows:
        for folder, name in zip(PUBLISHED[split], (blurred, sharp), strict=True):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(name.encode())  # no two files alike
    assert paired(tmp_path) == expected(rows)
    assert len(rows) == 500


LAYOUTS: dict[str, Mapping[str, tuple[str, str]]] = {
    "Restormer": {
        "train": ("train/inputC", "train/target"),
        "val": ("val/inputC", "val/target"),
        "test": ("test/DPDD/inputC", "test/DPDD/target"),
    },
    "LFDOF": {
        "train": ("train_data/input", "train_data/ground_truth"),
        "test": ("test_data/input", "test_data/ground_truth"),
    },
    "RTF": {"test": ("image/0", "GT")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("given", ["its root", "the folder around it"])
def test_other_published_trees_keep_their_splits(tmp_path: Path, layout: str, given: str) -> None:
    folders = LAYOUTS[layout]
    rows = [row for row in true_names() if row[0] in folders]
    root = tree(tmp_path / "around/tree", rows, folders)
    assert paired(root if given == "its root" else root.parent) == expected(rows)


@pytest.mark.parametrize(
    ("layout", "named", "split"),
    [("DPDD", "val_c", "val"), ("Restormer", "test/DPDD", "test"), ("Restormer", "test", "test")],
)
def test_the_folder_of_one_split_gives_that_split(
    tmp_path: Path, layout: str, named: str, split: str
) -> None:
    folders = PUBLISHED if layout == "DPDD" else LAYOUTS[layout]
    rows = true_names()
    root = tree(tmp_path / "tree", rows, folders)
    assert paired(root / named) == expected([row for row in rows if row[0] == split])
    report = import_images("dpdd", root / named, tmp_path / "out", options=OPTIONS)
    assert list(report.crops["defocus"]) == [split]


def test_several_blurred_images_of_one_sharp_one(tmp_path: Path) -> None:
    rows = [("test", f"a{n}_{k}.png", f"a{n}.png") for n in (1, 2) for k in (0, 1, 2)]
    root = tree(tmp_path, rows, LAYOUTS["LFDOF"])
    assert paired(root) == expected(rows)


def test_an_order_that_does_not_pair_is_refused(tmp_path: Path) -> None:
    rows = [row for row in true_names() if row[0] == "test"]
    root = tree(tmp_path / "one", rows, PUBLISHED)
    (root / "test_c/target" / rows[3][2]).unlink()
    with pytest.raises(DatasetError, match=r"no name .* 9 blurred and 8 sharp images"):
        list_dpdd(root, OPTIONS)
    (root / "test_c/source" / rows[0][1]).unlink()
    with pytest.raises(DatasetError, match=r"'1P0A\d+' would be paired with '1P0A\d+'"):
        list_dpdd(root, OPTIONS)


def test_equal_names_still_pair_and_others_are_refused(tmp_path: Path) -> None:
    rows = [("test", f"{n}.png", f"{n}.png") for n in (1, 2)]
    root = tree(tmp_path, [*rows, ("test", "3.png", "4.png")], PUBLISHED)
    found = list_dpdd(root, OPTIONS)
    assert [pair.scene for pair in found.pairs] == ["1", "2"]
    assert set(found.refused) == {"test_c/source/3.png", "test_c/target/4.png"}
    assert found.paired == {"test": "name"}


def test_realdof_is_paired_by_order(tmp_path: Path) -> None:
    rows = [row for row in true_names() if row[0] == "test"]
    root = tree(tmp_path / "tree/RealDOF", rows, {"test": ("source", "target")})
    for given in (root, root.parent):
        out = tmp_path / f"out-{given.name}"
        report = import_images("realdof", given, out, options=OPTIONS)
        assert report.crops == {"defocus": {"test": 9}}
        assert not report.refused


def test_a_benchmark_pairs_by_order_when_told(tmp_path: Path) -> None:
    from PIL import Image

    rows = [row for row in true_names() if row[0] == "test"]
    for _, blurred, sharp in rows:
        for side, name in (("b", blurred), ("s", sharp)):
            (tmp_path / side).mkdir(exist_ok=True)
            level = int(blurred[4:8]) % 256
            Image.new("L", (8, 8), level).save(tmp_path / side / name)
    with pytest.raises(InputError, match="18 images have no partner.*--by order pairs them"):
        folder_set(tmp_path / "s", tmp_path / "b")
    found = folder_set(tmp_path / "s", tmp_path / "b", by="order")
    assert all(np.array_equal(crop.sharp, crop.blurred) for crop in found.crops)
    (tmp_path / "s" / rows[0][2]).unlink()
    with pytest.raises(InputError, match="9 blurred and 8 sharp images"):
        folder_set(tmp_path / "s", tmp_path / "b", by="order")
