"""Loaders: every crop as it was cut, from anywhere, in any order, in any process."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from built_dataset import make_dataset
from PIL import Image

from defocus_ds import load_crops
from defocus_ds.dataset import loaders, shards
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export import export
from defocus_ds.dataset.loaders import Crops
from defocus_ds.dataset.tables import open_table
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level
from defocus_ds.store import write_json


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training shards of 32-row groups."""
    root = make_dataset(tmp_path_factory.mktemp("cropped") / "dataset", scenes=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 100)
        crop(root, level="low", size=32, stride=16)
    return root


@pytest.fixture
def crops(cropped: Path) -> Crops:
    return load_crops(cropped, level="low", split="train")


def checksum(crops: Crops, index: int) -> int:
    return int(crops[index].sharp.sum()) * 1_000_003 + int(crops[index].blurred.sum())


def test_every_crop_is_the_luma_it_names(cropped: Path, crops: Crops) -> None:
    assert len(crops) > 200
    lumas = {
        path: np.asarray(Image.open(path).convert("YCbCr"))[..., 0]
        for path in cropped.glob("images/*/*.png")
    }
    for i in range(0, len(crops), 7):
        item = crops[i]
        x, y, scene = item.row["x"], item.row["y"], item.row["scene"]
        for level, pixels in (("sharp", item.sharp), ("low", item.blurred)):
            whole = lumas[cropped / f"images/{scene}/{level}.png"]
            assert pixels.dtype == np.uint8
            assert np.array_equal(pixels, whole[y : y + 32, x : x + 32])
        assert item.row["split"] == "train"
        assert {"sharp", "blurred"}.isdisjoint(item.row)


def test_random_and_negative_access_equal_iteration(crops: Crops) -> None:
    in_order = [item.row for item in crops]
    rows = [(r["scene"], r["y"], r["x"]) for r in in_order]
    assert rows == sorted(rows)
    assert len(set(rows)) == len(crops)
    for i in np.random.default_rng(0).permutation(len(crops))[:60]:
        assert crops[i].row == in_order[i]
        assert crops[int(i) - len(crops)].row == in_order[i]


def test_arrays_hold_everything(crops: Crops) -> None:
    blurred, sharp = crops.arrays()
    assert blurred.shape == sharp.shape == (len(crops), 32, 32)
    for i in (0, 31, 32, 99, 100, len(crops) - 1):
        assert np.array_equal(blurred[i], crops[i].blurred)
        assert np.array_equal(sharp[i], crops[i].sharp)


@pytest.mark.parametrize("index", [10**6, -(10**6)])
def test_out_of_range(crops: Crops, index: int) -> None:
    with pytest.raises(IndexError, match=str(index)):
        crops[index]


@pytest.mark.parametrize("index", [slice(0, 3), 1.0, "1"])
def test_only_integers_index(crops: Crops, index: object) -> None:
    with pytest.raises(TypeError, match="integer"):
        crops[index]  # type: ignore[index]


def test_pickles_small_and_without_its_cache(crops: Crops) -> None:
    expected = checksum(crops, 5)
    data = pickle.dumps(crops)
    assert len(data) < 5_000
    assert checksum(pickle.loads(data), 5) == expected


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_works_in_worker_processes_after_use_in_the_parent(crops: Crops, method: str) -> None:
    indices = list(range(0, len(crops), 20))
    expected = [checksum(crops, i) for i in indices]
    if method == "fork":
        found = forked(crops, indices)
    else:
        with multiprocessing.get_context(method).Pool(1) as pool:
            found = pool.starmap(checksum, [(crops, i) for i in indices])
    assert found == expected


def forked(crops: Crops, indices: list[int]) -> list[int]:
    """Results of a forked child that inherits the open files, while the parent keeps reading."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def work() -> None:
        queue.put([checksum(crops, i) for i in indices])

    child = context.Process(target=work)
    child.start()
    for i in reversed(indices):
        crops[i]
    result: list[int] = queue.get()
    child.join(30)
    assert child.exitcode == 0
    return result


@pytest.mark.parametrize("part", ["crops", "."])
def test_a_crops_folder_is_enough(cropped: Path, part: str) -> None:
    assert len(load_crops(str(cropped / part), level="low", split="test")) > 0


def test_absent_level_or_split_is_said(cropped: Path) -> None:
    with pytest.raises(DatasetError, match="no crops of level 'high'"):
        load_crops(cropped, level="high", split="train")
    with pytest.raises(DatasetError, match="no split 'val'; there: train, test"):
        load_crops(cropped, level="low", split="val")


def test_a_folder_of_something_else_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "shoot").mkdir()
    (tmp_path / "list.txt").touch()
    for name, says in (
        ("nosuch", "does not exist"),
        ("list.txt", "is not a folder"),
        ("shoot", "is neither a dataset nor a release nor a folder of crops"),
    ):
        with pytest.raises(DatasetError, match=rf"{name}: {says}\. Name what"):
            load_crops(tmp_path / name, level="low", split="train")
    (tmp_path / "shoot" / "dataset.json").touch()
    with pytest.raises(DatasetError, match=r"no crops of level 'low'.*defocus-ds crop"):
        load_crops(tmp_path / "shoot", level="low", split="train")


@pytest.mark.parametrize("to", ["webdataset", "basicsr", "dpdd"])
def test_an_export_is_called_that_and_its_reader_named(
    cropped: Path, tmp_path: Path, to: str
) -> None:
    out = tmp_path / "out"
    export(cropped, out, to=to, levels=["low"])
    reader = "as_webdataset` reads it" if to == "webdataset" else "PNG files are for other"
    for root in (out, next(path for path in out.iterdir() if path.is_dir())):
        with pytest.raises(DatasetError, match=rf"out: this is an export to {to} .*{reader}"):
            load_crops(root, level="low", split="train")


def test_a_stray_export_record_hides_no_crops(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    for place in (tmp_path, root):
        (place / "export.json").write_text('{"out": "tars"}')
    assert len(load_crops(root, level="low", split="train")) > 0
    with pytest.raises(DatasetError, match="level 'low/../low': a level is one of"):
        load_crops(root, level="low/../low", split="train")


def test_a_folder_of_one_level_names_the_one_above(cropped: Path, tmp_path: Path) -> None:
    shutil.copytree(cropped / "crops/low", tmp_path / "set/crops/low")
    shutil.copytree(cropped / "crops/low", tmp_path / "bare/low")
    for inner, above in (("set/crops/low", "set"), ("bare/low", "bare")):
        with pytest.raises(DatasetError, match=rf"crops of one level\. Name {tmp_path / above},"):
            load_crops(tmp_path / inner, level="low", split="train")
        assert len(load_crops(tmp_path / above, level="low", split="train")) > 200


@pytest.fixture
def copy(cropped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cropped / "crops", tmp_path / "crops"))


def test_a_missing_shard_is_named(copy: Path) -> None:
    missing = sorted((copy / "low").glob("train-*"))[1]
    missing.unlink()
    with pytest.raises(DatasetError, match=missing.name):
        load_crops(copy, level="low", split="train")


def test_shards_from_before_radius_maps_are_read(copy: Path) -> None:
    later = ["blur_radius_confidence", "blur_radius_spread_px"]
    for shard in (copy / "low").glob("train-*"):
        pq.write_table(pq.read_table(shard).drop_columns(later), shard, row_group_size=32)
    crops = load_crops(copy, level="low", split="train", check=True)
    assert len(crops) > 200
    assert [crops[40].row[name] for name in later] == [None, None]
    assert crops[40].row["blur_radius_px"] == 2.0
    for shard in (copy / "low").glob("train-*"):
        pq.write_table(pq.read_table(shard).drop_columns(["q_sharp"]), shard)
    with pytest.raises(DatasetError, match="column 'q_sharp' is missing"):
        load_crops(copy, level="low", split="train")


def test_shards_of_two_runs_are_refused(copy: Path) -> None:
    shard = sorted((copy / "low").glob("train-*"))[0]
    shutil.copy(shard, copy / "low/train-00000-of-00009.parquet")
    with pytest.raises(DatasetError, match=r"two different runs|missing"):
        load_crops(copy, level="low", split="train")


def test_damage_names_shard_and_rows(copy: Path) -> None:
    shard = sorted((copy / "low").glob("train-*"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 0xFF
    shard.write_bytes(data)
    crops = load_crops(copy, level="low", split="train")
    with pytest.raises(DatasetError, match=shard.name):
        crops.arrays()


def test_a_flipped_byte_names_the_rows_of_its_group(copy: Path) -> None:
    shard = sorted((copy / "low").glob("train-*"))[1]
    group = pq.read_metadata(shard).row_group(2)
    data = bytearray(shard.read_bytes())
    data[group.column(6).data_page_offset + 5_000] ^= 1
    shard.write_bytes(data)
    first = pq.read_metadata(sorted((copy / "low").glob("train-*"))[0]).num_rows
    crops = load_crops(copy, level="low", split="train")
    assert crops[first + 63].row["split"] == "train"
    rows = rf"{shard.name}: rows 64 to {63 + group.num_rows} are damaged \("
    with pytest.raises(DatasetError, match=rows):
        crops[first + 64]


def test_check_compares_the_hash_and_names_shard_and_row(copy: Path) -> None:
    shard = sorted((copy / "low").glob("train-*"))[1]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[40]["blurred"]["bytes"] = rows[41]["blurred"]["bytes"]
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), shard)
    first = pq.read_metadata(sorted((copy / "low").glob("train-*"))[0]).num_rows
    unchecked = load_crops(copy, level="low", split="train")
    assert np.array_equal(unchecked[first + 40].blurred, unchecked[first + 41].blurred)
    checked = load_crops(copy, level="low", split="train", check=True)
    assert checked[first + 39].row["x"] == rows[39]["x"]
    with pytest.raises(DatasetError, match=rf"{shard.name}: row 40: blurred: pixels"):
        checked[first + 40]


def test_an_absent_level_names_the_folder_and_the_levels_there(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "my ds", levels=(Level.LOW,))
    crop(dataset, level="low")
    for root in (dataset, dataset / "crops"):
        with pytest.raises(DatasetError) as caught:
            load_crops(root, level="high", split="train")
        assert "there: low." in str(caught.value)
        assert f"defocus-ds crop '{dataset}' --level high" in str(caught.value)


def released(cropped: Path, tmp_path: Path) -> Path:
    """The same crops with the counts that a release states."""
    root = tmp_path / "release"
    shutil.copytree(cropped / "crops", root / "crops")
    counts = {s: len(load_crops(cropped, level="low", split=s)) for s in ("train", "test")}
    write_json(root / "release.json", {"crops": {"low": counts}})
    return root


def test_a_release_is_opened_without_its_shards(
    cropped: Path, crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def counted(path: Path, schema: Any) -> Any:
        opened.append(path)
        return open_table(path, schema)

    root, last = released(cropped, tmp_path), crops[-1].row
    monkeypatch.setattr(loaders, "open_table", counted)
    again = load_crops(root, level="low", split="train")
    assert len(again) == len(crops)
    assert opened == []
    assert again[-1].row == last
    assert [path.name for path in opened] == [Path(crops._paths[-1]).name]
    everything = list(range(len(crops)))
    assert [checksum(again, i) for i in everything] == [checksum(crops, i) for i in everything]


def test_a_shard_of_another_length_than_stated_is_named(cropped: Path, tmp_path: Path) -> None:
    root = released(cropped, tmp_path)
    folder = root / "crops/low"
    shards = sorted(folder.glob("train-*"))
    shutil.copyfile(next(folder.glob("test-00000-*")), shards[len(shards) // 2])
    crops = load_crops(root, level="low", split="train")
    with pytest.raises(DatasetError, match=r"train-0000\d-of-0000\d.parquet: \d+ rows, need"):
        crops[len(crops) // 2]


@pytest.mark.parametrize("stated", [{}, {"crops": {"low": {"train": "12"}}}])
def test_a_release_that_states_no_counts_is_refused(
    cropped: Path, tmp_path: Path, stated: dict[str, Any]
) -> None:
    root = released(cropped, tmp_path)
    write_json(root / "release.json", stated)
    with pytest.raises(DatasetError, match="does not say how many low crops are in train"):
        load_crops(root, level="low", split="train")


def test_few_files_stay_open(cropped: Path, crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "_OPEN_FILES", 2)
    fresh = load_crops(cropped, level="low", split="train")
    places = [0, len(crops) // 2, len(crops) - 1, 0]
    assert [checksum(fresh, i) for i in places] == [checksum(crops, i) for i in places]
    assert len(fresh._files) == 2
