"""Crops in training loops: torch's DataLoader, webdataset's pipelines, any number of workers."""

from __future__ import annotations

import gc
import gzip
import json
import math
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import webdataset as wds
from built_dataset import make_dataset
from torch.utils.data import DataLoader, Dataset

from defocus_ds import as_torch, as_webdataset, load_crops
from defocus_ds.dataset import shards
from defocus_ds.dataset.adapters import _torch_class
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export import export, webdataset
from defocus_ds.dataset.loaders import Crops
from defocus_ds.errors import DatasetError, InputError

TAR_CROPS = 30


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("cropped") / "dataset", scenes=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 50)
        crop(root, level="low", size=32, stride=24)
    return root


@pytest.fixture(scope="module")
def exported(cropped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At least three training tars."""
    # a hash and a question mark, which have a meaning in URLs
    out = tmp_path_factory.mktemp("exported") / "tars #1?"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webdataset, "TAR_CROPS", TAR_CROPS)
        export(cropped, out, to="webdataset")
    assert len(list((out / "low").glob("train-*"))) >= 3
    return out


@pytest.fixture
def crops(cropped: Path) -> Crops:
    return load_crops(cropped, level="low", split="train", check=True)


def first(batch: list[Any]) -> Any:
    """Collation that keeps items as they are; a spawned worker finds it by name."""
    return batch[0]


def assert_is(item: dict[str, Any], index: int, crops: Crops) -> None:
    expected = crops[index]
    for kind in ("sharp", "blurred"):
        pixels = np.asarray(item[kind])
        assert pixels.shape == (1, 32, 32)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels[0], getattr(expected, kind))
    lacking = {name for name, value in expected.row.items() if value is None}
    assert item["row"].keys() == expected.row.keys()
    for name, value in item["row"].items():
        assert math.isnan(value) if name in lacking else value == expected.row[name]


def test_items_are_tensors_and_rows(crops: Crops) -> None:
    dataset = as_torch(crops, dtype="uint8")
    assert isinstance(dataset, Dataset)
    assert len(dataset) == len(crops) > 2 * TAR_CROPS  # type: ignore[arg-type]
    for index in range(len(crops)):
        assert isinstance(dataset[index]["sharp"], torch.Tensor)
        assert_is(dataset[index], index, crops)


def test_float_is_from_0_to_1(crops: Crops) -> None:
    item = as_torch(crops)[3]
    for kind in ("sharp", "blurred"):
        assert item[kind].dtype == torch.float32
        expected = torch.tensor(getattr(crops[3], kind)[None].astype(np.float32) / 255)
        assert torch.equal(item[kind], expected)
        assert 0 <= item[kind].min() < item[kind].max() <= 1


def test_tensors_own_their_memory(crops: Crops) -> None:
    dataset = as_torch(crops, dtype="uint8")
    dataset[0]["sharp"].fill_(7)
    assert_is(dataset[0], 0, crops)


def test_other_dtypes_are_refused(crops: Crops, exported: Path) -> None:
    with pytest.raises(InputError, match="'float16': one of float32, uint8"):
        as_torch(crops, dtype="float16")
    with pytest.raises(InputError, match="'float64': one of float32, uint8"):
        as_webdataset(exported, level="low", split="train", dtype="float64")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_torch_loads_with_two_workers(crops: Crops, method: str) -> None:
    dataset = as_torch(crops, dtype="uint8")
    dataset[5]  # the parent has files open
    order = np.random.default_rng(1).permutation(len(crops)).tolist()
    loader = DataLoader(
        dataset,
        sampler=order,
        num_workers=2,
        multiprocessing_context=method,
        batch_size=1,
        collate_fn=first,
    )
    seen = 0
    for index, item in zip(order, loader, strict=True):
        assert_is(item, index, crops)
        seen += 1
    assert seen == len(crops)


def test_default_collation_makes_batches(crops: Crops) -> None:
    batch = next(iter(DataLoader(as_torch(crops), batch_size=8)))
    assert batch["sharp"].shape == batch["blurred"].shape == (8, 1, 32, 32)
    assert batch["row"]["scene"] == [crops[i].row["scene"] for i in range(8)]
    assert batch["row"]["x"].tolist() == [crops[i].row["x"] for i in range(8)]


def test_numbers_that_a_row_lacks_are_nan(cropped: Path, tmp_path: Path) -> None:
    later = ["blur_radius_confidence", "blur_radius_spread_px"]
    shutil.copytree(cropped / "crops", tmp_path / "crops")
    for shard in (tmp_path / "crops/low").glob("*-of-*"):
        pq.write_table(pq.read_table(shard).drop_columns(later), shard)
    crops = load_crops(tmp_path, level="low", split="train")
    assert crops[0].row[later[0]] is None
    batch = next(iter(DataLoader(as_torch(crops), batch_size=4)))
    assert torch.isnan(batch["row"][later[0]]).all()
    out = tmp_path.parent / f"{tmp_path.name}-out"
    export(tmp_path, out, to="webdataset")
    item = next(iter(as_webdataset(out, level="low", split="train")))
    assert math.isnan(item["row"][later[1]])


def test_a_torch_dataset_pickles_small(crops: Crops) -> None:
    dataset = as_torch(crops, dtype="uint8")
    dataset[0]
    data = pickle.dumps(dataset)
    assert len(data) < 5_000
    assert_is(pickle.loads(data)[1], 1, crops)


def test_a_damaged_crop_is_named_in_the_parent_of_workers(cropped: Path, tmp_path: Path) -> None:
    shutil.copytree(cropped / "crops", tmp_path / "crops")
    shard = sorted((tmp_path / "crops/low").glob("train-*"))[0]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[3]["sha256_blurred"] = "0" * 64
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), shard)
    crops = load_crops(tmp_path, level="low", split="train", check=True)
    loader = DataLoader(as_torch(crops), num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(DatasetError, match=rf"{shard.name}: row 3: blurred"):
        list(loader)


@pytest.mark.parametrize("name", ["torch", "webdataset"])
def test_what_to_install_is_said(
    name: str, crops: Crops, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    _torch_class.cache_clear()
    with pytest.raises(InputError, match=rf"needs {name}: .*pip install"):
        if name == "torch":
            as_torch(crops)
        else:
            as_webdataset(exported, level="low", split="train")
    _torch_class.cache_clear()


def test_the_pipeline_gives_every_crop_in_order(exported: Path, crops: Crops) -> None:
    pipeline = as_webdataset(exported, level="low", split="train", dtype="uint8", check=True)
    assert isinstance(pipeline, wds.DataPipeline)
    for _ in range(2):
        items = list(pipeline)
        assert [item.pop("__key__") for item in items] == [f"{i:08}" for i in range(len(crops))]
        for index, item in enumerate(items):
            assert_is(item, index, crops)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_library_alone_reads_the_tars(exported: Path, crops: Crops, tmp_path: Path) -> None:
    # the library does not open a folder with a hash or a question mark in its name
    shutil.copytree(exported / "low", tmp_path / "low")
    tars = sorted(map(str, (tmp_path / "low").glob("train-*")))
    urls = f"{tmp_path}/low/train-{{00000..{len(tars) - 1:05}}}.tar"
    count = 0
    # its decoder calls grey images "l8", and numbers from 0 to 255 uint8
    for index, item in enumerate(wds.WebDataset(urls, shardshuffle=False).decode("l8")):
        assert_is(
            {
                "sharp": item["sharp.png"][None],
                "blurred": item["blurred.png"][None],
                "row": {k: math.nan if v is None else v for k, v in item["json"].items()},
            },
            index,
            crops,
        )
        count += 1
    gc.collect()  # the library leaves its last file open
    assert count == len(crops)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 2), ("fork", 9)])
def test_workers_share_the_tars(exported: Path, crops: Crops, method: str, workers: int) -> None:
    pipeline = as_webdataset(exported, level="low", split="train", dtype="uint8")
    loader = DataLoader(
        pipeline,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=method,
    )
    found = {item.pop("__key__"): item for item in loader}
    assert sorted(found) == [f"{i:08}" for i in range(len(crops))]
    for key, item in found.items():
        assert_is(item, int(key), crops)


def test_the_pipeline_goes_on_in_the_librarys_way(exported: Path, crops: Crops) -> None:
    pipeline = as_webdataset(exported, level="low", split="train", dtype="uint8")
    batches = list(pipeline.shuffle(1000).to_tuple("blurred", "sharp").batched(16))
    blurred = np.concatenate([batch[0] for batch in batches])
    sharp = np.concatenate([batch[1] for batch in batches])
    ours = crops.arrays()
    assert blurred.shape == (len(crops), 1, 32, 32)
    assert not np.array_equal(blurred[:, 0], ours[0])
    pairs = {a.tobytes() + b.tobytes() for a, b in zip(blurred, sharp, strict=True)}
    assert pairs == {a.tobytes() + b.tobytes() for a, b in zip(*ours, strict=True)}


def test_both_ways_give_the_same_batches(exported: Path, crops: Crops) -> None:
    one = next(iter(DataLoader(as_torch(crops), batch_size=8)))
    pipeline = as_webdataset(exported, level="low", split="train")
    other = next(iter(DataLoader(pipeline, batch_size=8)))
    for kind in ("sharp", "blurred"):
        assert torch.equal(one[kind], other[kind])
    assert one["row"].keys() == other["row"].keys()
    assert one["row"]["scene"] == other["row"]["scene"]
    assert torch.equal(one["row"]["q_sharp"], other["row"]["q_sharp"])


def test_absent_levels_and_splits_are_said(exported: Path, cropped: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no crops of low val; there: low train, low test"):
        as_webdataset(exported, level="low", split="val")
    with pytest.raises(DatasetError, match="so not an export; this is a built dataset"):
        as_webdataset(cropped, level="low", split="train")
    export(cropped, tmp_path / "out", to="dpdd")
    with pytest.raises(DatasetError, match="an export to dpdd; .* --to webdataset"):
        as_webdataset(tmp_path / "out", level="low", split="train")


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def second_tar(out: Path) -> Path:
    return sorted((out / "low").glob("train-*"))[1]


def test_a_missing_or_shorter_tar_is_named_before_reading(copy: Path) -> None:
    tar = second_tar(copy)
    data = tar.read_bytes()
    tar.write_bytes(data[:-20_480])
    message = rf"{tar.name}: {len(data) - 20_480} bytes, export.json says {len(data)}"
    with pytest.raises(DatasetError, match=message):
        as_webdataset(copy, level="low", split="train")
    tar.unlink()
    with pytest.raises(DatasetError, match=rf"{tar.name}: missing"):
        as_webdataset(copy, level="low", split="train")


def test_a_header_broken_inside_a_tar_loses_nothing_in_silence(copy: Path) -> None:
    tar = second_tar(copy)
    data = bytearray(tar.read_bytes())
    name = f"{TAR_CROPS + 11:08}.blurred.png".encode()
    data[data.index(name) + 100] ^= 0xFF  # the file's mode, which the header's checksum covers
    tar.write_bytes(data)
    message = rf"{tar.name}: 11 crops can be read, export.json says {TAR_CROPS}"
    with pytest.raises(DatasetError, match=message):
        list(as_webdataset(copy, level="low", split="train"))
    tar.write_bytes(b"\xff" * len(data))
    with pytest.raises(DatasetError, match=rf"{tar.name}: not a plain tar"):
        list(as_webdataset(copy, level="low", split="train"))


def test_a_broken_png_names_tar_and_crop(copy: Path) -> None:
    tar = second_tar(copy)
    data = bytearray(tar.read_bytes())
    key = f"{TAR_CROPS + 11:08}"
    data[data.index(f"{key}.sharp.png".encode()) + 512 + 300] ^= 0xFF
    tar.write_bytes(data)
    with pytest.raises(DatasetError, match=rf"{tar.name}: {key}: sharp: "):
        list(as_webdataset(copy, level="low", split="train", check=True))


@pytest.mark.parametrize("text", [b"[]", b'{"size": "x"}', b"{", b'{"size": 32}'])
def test_a_false_row_names_tar_and_crop(copy: Path, text: bytes) -> None:
    tar = second_tar(copy)
    data = tar.read_bytes()
    key = f"{TAR_CROPS + 11:08}"
    start = data.index(f"{key}.json".encode()) + 512
    length = int(data[start - 512 + 124 : start - 512 + 135], 8)
    tar.write_bytes(data[:start] + text.ljust(length) + data[start + length :])
    with pytest.raises(DatasetError, match=rf"{tar.name}: {key}: not a crop of an export"):
        list(as_webdataset(copy, level="low", split="train"))


def test_a_compressed_tar_is_refused(copy: Path) -> None:
    """A small file must not fill the memory."""
    tar = second_tar(copy)
    tar.write_bytes(gzip.compress(tar.read_bytes()))
    record = json.loads((copy / "export.json").read_text())
    next(t for s in record["streams"] for t in s["tars"] if t["file"] == f"low/{tar.name}")[
        "bytes"
    ] = tar.stat().st_size
    (copy / "export.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match=rf"{tar.name}: not a plain tar"):
        list(as_webdataset(copy, level="low", split="train"))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"streams": [{"level": "low"}]},
        {"streams": 3},
        {"versions": 3},
    ],
)
def test_a_false_record_is_refused(copy: Path, change: dict[str, Any]) -> None:
    record = json.loads((copy / "export.json").read_text()) | change
    (copy / "export.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match=r"export.json: (not the record|format 2)"):
        as_webdataset(copy, level="low", split="train")


def test_a_record_cannot_lead_outside(copy: Path) -> None:
    text = (copy / "export.json").read_text().replace("low/train-00000.tar", "../secret.tar")
    (copy / "export.json").write_text(text)
    with pytest.raises(DatasetError, match="leads outside"):
        as_webdataset(copy, level="low", split="train")
