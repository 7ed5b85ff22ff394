"""Exports: the same crops in other layouts, whole or not at all, the same bytes every time."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from built_dataset import make_dataset
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from defocus_ds import load_crops
from defocus_ds.dataset import shards
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export import export, make, webdataset
from defocus_ds.dataset.export.names import crop_name
from defocus_ds.dataset.export.record import read_record
from defocus_ds.dataset.export.source import StoredCrop
from defocus_ds.dataset.export.target import Target
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import Crop, Level
from defocus_ds_cli.main import cli
from defocus_ds_train.data.pairs import rows_digest

FORMATS = ("webdataset", "basicsr", "dpdd")
Example = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], dict[str, Any]]


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two levels; three training shards of 32-row groups; splits train and test."""
    levels = (Level.LOW, Level.HIGH)
    root = make_dataset(tmp_path_factory.mktemp("cropped") / "dataset", scenes=3, levels=levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 70)
        for level in levels:
            crop(root, level=level, size=32, stride=24)
    return root


@pytest.fixture
def copy(cropped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cropped / "crops", tmp_path / "copy/crops"))


def read_png(data: bytes | Path) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        assert image.mode == "L"
        return np.asarray(image)


def read_rows(out: Path, level: str, split: str) -> list[dict[str, Any]]:
    text = (out / f"rows_{level}_{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read_webdataset(out: Path, level: str, split: str) -> list[Example]:
    found: list[Example] = []
    for path in sorted((out / level).glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            files = {}
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                files[member.name] = content.read()
        for key in sorted({name.split(".")[0] for name in files}):
            assert key == f"{len(found):08}"
            images = [read_png(files[f"{key}.{kind}.png"]) for kind in ("blurred", "sharp")]
            found.append((*images, json.loads(files[f"{key}.json"])))
    return found


def read_basicsr(out: Path, level: str, split: str) -> list[Example]:
    """As BasicSR pairs by a list: the first word of a line is the name in both folders."""
    folder, found = out / level / split, []
    lines = (out / f"meta_info_{level}_{split}.txt").read_text(encoding="ascii").splitlines()
    for line, row in zip(lines, read_rows(out, level, split), strict=True):
        name = line.split(" ")[0]
        assert row.pop("name") == name
        blurred, sharp = read_png(folder / "lq" / name), read_png(folder / "gt" / name)
        assert line == f"{name} ({sharp.shape[0]},{sharp.shape[1]},1)"
        found.append((blurred, sharp, row))
    names = [line.split(" ")[0] for line in lines]
    for kind in ("gt", "lq"):
        assert sorted(path.name for path in (folder / kind).iterdir()) == sorted(names)
    return found


def read_dpdd(out: Path, level: str, split: str) -> list[Example]:
    """As loaders of DPDD pair: the n-th file of one folder with the n-th of the other."""
    folder = out / level / f"{split}_c"
    rows = {row.pop("name"): row for row in read_rows(out, level, split)}
    pairs = zip(
        sorted((folder / "source").iterdir()), sorted((folder / "target").iterdir()), strict=True
    )
    by_name = {}
    for source, target in pairs:
        assert source.name == target.name
        by_name[source.name] = read_png(source), read_png(target), rows[source.name]
    return [by_name[name] for name in rows]


READERS = {"webdataset": read_webdataset, "basicsr": read_basicsr, "dpdd": read_dpdd}


def assert_same(found: list[Example], crops: list[Crop]) -> None:
    assert len(found) == len(crops) > 0
    for (blurred, sharp, row), expected in zip(found, crops, strict=True):
        assert np.array_equal(blurred, expected.blurred)
        assert np.array_equal(sharp, expected.sharp)
        assert row == expected.row


def files_of(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
    }


def stored_pngs(root: Path, level: str, split: str) -> list[bytes]:
    rows = [
        row
        for path in sorted((root / "crops" / level).glob(f"{split}-*"))
        for row in pq.read_table(path).to_pylist()
    ]
    return [row[kind]["bytes"] for row in rows for kind in ("blurred", "sharp")]


@pytest.mark.parametrize("to", FORMATS)
def test_round_trip(
    cropped: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "TAR_CROPS", 90)
    out = tmp_path / "out"
    report = export(cropped, out, to=to)
    assert set(report.crops) == {"low", "high"}
    for level, splits in report.crops.items():
        assert set(splits) == {"train", "test"}
        for split, count in splits.items():
            crops = list(load_crops(cropped, level=level, split=split, check=True))
            assert count == len(crops)
            assert_same(READERS[to](out, level, split), crops)
    files = files_of(out)
    assert report.files == len(files) - 1
    assert report.bytes == sum(map(len, files.values())) - len(files["SHA256SUMS"])


@pytest.mark.parametrize("to", FORMATS)
def test_two_exports_are_the_same_bytes(cropped: Path, copy: Path, tmp_path: Path, to: str) -> None:
    export(cropped, tmp_path / "one", to=to)
    export(copy, tmp_path / "two", to=to)
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one == two
    assert len(one) > 4


@pytest.mark.parametrize("to", FORMATS)
def test_png_files_are_those_of_the_shards(cropped: Path, tmp_path: Path, to: str) -> None:
    export(cropped, tmp_path / "out", to=to, levels=["low"])
    stored = stored_pngs(cropped, "low", "train") + stored_pngs(cropped, "low", "test")
    if to == "webdataset":
        written = []
        for path in (tmp_path / "out/low").glob("*.tar"):
            with tarfile.open(path) as tar:
                pngs = [tar.extractfile(m) for m in tar if m.name.endswith(".png")]
                written += [file.read() for file in pngs if file is not None]
    else:
        written = [path.read_bytes() for path in (tmp_path / "out/low").rglob("*.png")]
    assert sorted(written) == sorted(stored)


@pytest.mark.parametrize("to", FORMATS)
def test_coreutils_check_every_file(cropped: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    report = export(cropped, out, to=to, levels=["high"])
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=out, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK\n") == report.files
    named = [line.rpartition(":")[0] for line in done.stdout.splitlines()]
    assert named == sorted(set(files_of(out)) - {"SHA256SUMS"})
    assert report.crops.keys() == {"high"}


def test_the_record_says_where_the_crops_come_from(cropped: Path, tmp_path: Path) -> None:
    export(cropped, tmp_path / "out", to="dpdd")
    record = read_record(tmp_path / "out")
    assert record.to == "dpdd"
    scenes = json.loads((cropped / "dataset.json").read_text())["digest"]
    assert [(s.level, s.split) for s in record.streams] == [
        ("low", "train"), ("low", "test"), ("high", "train"), ("high", "test"),
    ]  # fmt: skip
    for stream in record.streams:
        assert stream.crops == len(load_crops(cropped, level=stream.level, split=stream.split))
        assert stream.dataset_digest == scenes
        assert stream.rows_sha256 == rows_digest(cropped, level=stream.level, split=stream.split)


def test_tars_are_cut_by_crops_and_by_bytes(
    cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(load_crops(cropped, level="low", split="train"))
    monkeypatch.setattr(webdataset, "TAR_CROPS", 100)
    export(cropped, tmp_path / "crops", to="webdataset", levels=["low"])
    tars = read_record(tmp_path / "crops").streams[0].tars
    assert [tar.crops for tar in tars] == [100] * (count // 100) + [count % 100]
    assert [tar.file for tar in tars][:2] == ["low/train-00000.tar", "low/train-00001.tar"]
    monkeypatch.setattr(webdataset, "TAR_BYTES", 100_000)
    export(cropped, tmp_path / "bytes", to="webdataset", levels=["low"])
    tars = read_record(tmp_path / "bytes").streams[0].tars
    assert sum(tar.crops for tar in tars) == count
    for tar in tars:
        assert (tmp_path / "bytes" / tar.file).stat().st_size == tar.bytes <= 100_000
    assert min(tar.bytes for tar in tars[:-1]) > 90_000
    assert_same(
        read_webdataset(tmp_path / "bytes", "low", "train"),
        list(load_crops(cropped, level="low", split="train")),
    )


def test_tar_headers_tell_nothing_of_who_and_when(cropped: Path, tmp_path: Path) -> None:
    export(cropped, tmp_path / "out", to="webdataset", levels=["low"])
    with tarfile.open(tmp_path / "out/low/test-00000.tar") as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    assert names[:3] == ["00000000.blurred.png", "00000000.json", "00000000.sharp.png"]
    about = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members}
    assert about == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("to", FORMATS)
def test_a_flipped_byte_is_named_and_leaves_nothing(copy: Path, tmp_path: Path, to: str) -> None:
    shard = sorted((copy / "low").glob("train-*"))[1]
    group = pq.read_metadata(shard).row_group(1)
    flip(shard, group.column(6).data_page_offset + 5_000)  # among the PNG files
    rows = rf"{shard.name}: rows 32 to {31 + group.num_rows} are damaged"
    with pytest.raises(DatasetError, match=rows):
        export(copy.parent, tmp_path / "out/low-pairs", to=to)
    assert list((tmp_path / "out").iterdir()) == []


def rewrite(shard: Path, number: int, **changes: Any) -> None:
    """Another row in the place of one, in a Parquet file that is sound by itself."""
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[number] |= changes
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), shard)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256_sharp": "0" * 64}, r"train-00001-of-0000\d.parquet: row 40: sharp: pixels have"),
        ({"split": "test"}, r"train-00001-of-0000\d.parquet: row 40: split 'test' in a shard of"),
        ({"level": "high"}, r"train-00001-of-0000\d.parquet: row 40: level 'high' in a shard of"),
        ({"x": -1}, r"train-00001-of-0000\d.parquet: row 40: at \(-1, "),
        ({"sharp": None}, r"train-00001-of-0000\d.parquet: row 40: no sharp image"),
        ({"q_sharp": float("nan")}, r"crop \d+ of train: a number that is not finite"),
    ],
)
def test_a_false_row_is_named(
    copy: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite(sorted((copy / "low").glob("train-*"))[1], 40, **changes)
    with pytest.raises(DatasetError, match=message):
        export(copy, tmp_path / "out", to="basicsr")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["basicsr", "dpdd"])
def test_a_crop_that_is_there_twice_is_refused(copy: Path, tmp_path: Path, to: str) -> None:
    shard = sorted((copy / "low").glob("train-*"))[0]
    rewrite(shard, 7, **pq.read_table(shard).to_pylist()[6])
    with pytest.raises(DatasetError, match="two crops would be low/train"):
        export(copy, tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()


def test_crops_are_read_as_they_are_written(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before a damaged row group is written before the damage is met."""
    shard = sorted((copy / "low").glob("train-*"))[2]
    before = sum(pq.read_metadata(p).num_rows for p in sorted((copy / "low").glob("train-*"))[:2])
    group = pq.read_metadata(shard).row_group(1)
    flip(shard, group.column(6).data_page_offset + 5_000)
    written: list[int] = []

    def write(target: Target, level: str, split: str, crops: Iterable[StoredCrop]) -> tuple[()]:
        written.extend(crop.index for crop in crops)
        return ()

    monkeypatch.setitem(make.FORMATS, "dpdd", write)
    with pytest.raises(DatasetError, match=rf"{shard.name}: rows 32 to"):
        export(copy, tmp_path / "out", to="dpdd")
    assert written == list(range(before + 32))


def test_an_interruption_leaves_nothing(cropped: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, label: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(cropped, tmp_path / "out", to="basicsr", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_shard_stops_before_anything_is_written(copy: Path, tmp_path: Path) -> None:
    missing = sorted((copy / "high").glob("train-*"))[-1]
    missing.unlink()
    with pytest.raises(DatasetError, match=missing.name):
        export(copy, tmp_path / "out", to="dpdd")
    assert not (tmp_path / "out").exists()


def test_shards_of_two_builds_are_refused(copy: Path, tmp_path: Path) -> None:
    shard = sorted((copy / "low").glob("train-*"))[0]
    table = pq.read_table(shard)
    metadata = table.schema.metadata
    record = json.loads(metadata[b"defocus_ds"]) | {"dataset_digest": "1" * 64}
    changed = table.replace_schema_metadata({**metadata, b"defocus_ds": json.dumps(record)})
    pq.write_table(changed, shard)
    with pytest.raises(DatasetError, match="train shards were cut from 2 different builds"):
        export(copy, tmp_path / "out", to="dpdd")


def test_an_earlier_export_is_replaced_as_a_whole(cropped: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(cropped, out, to="dpdd")
    export(cropped, out, to="webdataset", levels=["low"], replace=True)
    assert sorted(path.name for path in out.iterdir()) == ["SHA256SUMS", "export.json", "low"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_export_of_another_kind_is_kept_until_it_may_go(tmp_path: Path) -> None:
    one, other, out = (tmp_path / name for name in ("one", "other", "out"))
    for source, scenes in ((one, 2), (other, 3)):
        make_dataset(source, scenes=scenes, levels=(Level.LOW, Level.HIGH))
        for level in ("low", "high"):
            crop(source, level=level)
    export(one, out, to="dpdd")
    before = files_of(out)
    with pytest.raises(InputError, match=r"holds a dpdd export of low, high; this one is webdatas"):
        export(one, out, to="webdataset")
    with pytest.raises(
        InputError, match=r"this one is dpdd, of low\. Choose another -o, or give --"
    ):
        export(one, out, to="dpdd", levels=["low"])
    with pytest.raises(InputError, match=r"of low, high, of another dataset or build; this one is"):
        export(other, out, to="dpdd")
    export(one, out, to="dpdd")  # the same again is no loss
    assert files_of(out) == before
    asked = ["export", str(other), "-o", str(out), "--to", "dpdd"]
    refused = CliRunner().invoke(cli, asked)
    assert refused.exit_code == 2
    assert "--replace to let it go" in refused.stderr
    assert files_of(out) == before
    assert CliRunner().invoke(cli, [*asked, "--replace"]).exit_code == 0
    assert files_of(out) != before


def test_other_crops_of_the_same_images_do_not_replace_an_export(tmp_path: Path) -> None:
    root, out = make_dataset(tmp_path / "dataset", scenes=3), tmp_path / "out"
    crop(root, level="low", size=64)
    export(root, out, to="dpdd")
    before = files_of(out)
    crop(root, level="low", size=64, seed=1)
    with pytest.raises(InputError, match=r"out: holds an export of other crops, or of these in"):
        export(root, out, to="dpdd")
    assert files_of(out) == before
    export(root, out, to="dpdd", replace=True)
    assert files_of(out) != before


def test_a_failed_export_keeps_the_earlier_one(cropped: Path, copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(cropped, out, to="webdataset")
    before = files_of(out)
    rewrite(sorted((copy / "low").glob("train-*"))[1], 40, sha256_blurred="0" * 64)
    with pytest.raises(DatasetError, match="row 40: blurred"):
        export(copy, out, to="webdataset", replace=True)
    assert files_of(out) == before


@pytest.mark.parametrize("kind", ["file", "notes", "added", "linked", "unlisted"])
def test_a_folder_with_other_files_is_refused_and_kept(
    cropped: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("thesis")
    elif kind == "notes":
        out.mkdir()
        (out / "export.json").write_text("{}")
        (out / "notes.txt").write_text("thesis")
    else:
        export(cropped, out, to="webdataset", levels=["low"])
        if kind == "added":
            (out / "low/notes.txt").write_text("thesis")
        elif kind == "linked":
            (out / "low/more").symlink_to(cropped, target_is_directory=True)
        else:
            (out / "SHA256SUMS").unlink()
    before = files_of(out) if out.is_dir() else out.read_text()
    with pytest.raises(InputError, match=r"Move it away|give another -o"):
        export(cropped, out, to="dpdd")
    assert (files_of(out) if out.is_dir() else out.read_text()) == before


def test_an_empty_folder_is_taken(cropped: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export(cropped, tmp_path / "out", to="dpdd").files > 100


@pytest.mark.parametrize("place", ["export", "crops/low/export", "."])
def test_the_source_is_not_written_to(cropped: Path, place: str) -> None:
    before = set(files_of(cropped))
    with pytest.raises(InputError, match="lies in the dataset"):
        export(cropped / "crops", cropped / place, to="dpdd")
    assert set(files_of(cropped)) == before


def test_beside_a_lone_crops_folder_there_is_room(copy: Path) -> None:
    export(copy, copy.parent / "tars", to="webdataset", levels=["low"])
    assert (copy.parent / "tars/export.json").is_file()


def test_a_linked_folder_is_replaced_where_it_lies(cropped: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    for _ in range(2):
        export(cropped, tmp_path / "out", to="webdataset", levels=["low"])
        assert (tmp_path / "out").is_symlink()
        assert (tmp_path / "disk/export.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "out"]


def test_absent_levels_and_formats_are_said(cropped: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no crops of level 'medium'; there: low, high"):
        export(cropped, tmp_path / "out", to="dpdd", levels=["low", "medium"])
    with pytest.raises(InputError, match="'lmdb': one of webdataset, basicsr, dpdd"):
        export(cropped, tmp_path / "out", to="lmdb")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: is neither a dataset nor a release"):
        export(tmp_path / "empty", tmp_path / "out", to="dpdd")
    (tmp_path / "empty" / "dataset.json").touch()
    with pytest.raises(DatasetError, match="defocus-ds crop .*empty --level low"):
        export(tmp_path / "empty", tmp_path / "out", to="dpdd")
    assert not (tmp_path / "out").exists()


def test_shards_rewritten_by_another_program_are_exported(copy: Path, tmp_path: Path) -> None:
    for shard in (copy / "low").glob("train-*"):
        pq.write_table(pq.read_table(shard).replace_schema_metadata(None), shard)
    export(copy, tmp_path / "out", to="dpdd", levels=["low"])
    digests = {s.split: s.dataset_digest for s in read_record(tmp_path / "out").streams}
    assert digests["train"] is None
    assert digests["test"] is not None


def test_progress_counts_to_the_end(cropped: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    report = export(cropped, tmp_path / "out", to="webdataset", progress=lambda *c: calls.append(c))
    total = sum(sum(splits.values()) for splits in report.crops.values())
    assert [done for done, _, _ in calls] == sorted({*range(64, total, 64), total})
    assert {n for _, n, _ in calls} == {total}
    assert calls[0][2] == "low train"
    assert calls[-1][2] == "high test"


places = st.tuples(st.text(max_size=300), st.integers(0, 9999), st.integers(0, 9999))


@given(places, places)
def test_names_are_safe_and_of_one_place_each(
    one: tuple[str, int, int], other: tuple[str, int, int]
) -> None:
    rows = [dict(zip(("scene", "x", "y"), place, strict=True)) for place in (one, other)]
    names = [crop_name(row) for row in rows]
    for name in names:
        assert name.isascii()
        assert len(name) < 200
        assert not set(name) & set(' /\\:*?"<>|\n\t\0')
        assert name[0] not in ".-"
    assert (names[0] == names[1]) == (one == other)


def test_names_that_could_meet_do_not() -> None:
    scenes = ["a", "a-1", "a 1", "a%201", "a%1", "ä", "a" * 400, "a" * 399 + "b", "", "~", "."]
    names = {crop_name({"scene": s, "x": x, "y": 3}) for s in scenes for x in (1, 11)}
    assert len(names) == 2 * len(scenes)
