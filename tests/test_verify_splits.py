"""Verify: a release's splits.csv and its crops say the same, and a group is in one split."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from built_dataset import make_dataset

from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.findings import Finding
from defocus_ds.dataset.frozen import read_splits
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.dataset.verify import verify

Table = list[dict[str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of four scenes, of which scene00 is the first in train."""
    folder = tmp_path_factory.mktemp("made")
    crop(make_dataset(folder / "dataset", scenes=4))
    about = About("Toy brackets", "CC-BY-4.0", ("Doe, Jane",))
    release(folder / "dataset", folder / "release", about=about, test_share=0.25)
    return folder / "release"


@pytest.fixture
def released(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "release"))


def scene_in(root: Path, split: str) -> str:
    return min(scene for scene, own in read_splits(root).items() if own == split)


def after(root: Path, change: Callable[[Table], object]) -> tuple[Finding, ...]:
    """What is found when splits.csv was changed and signed again: nothing else can tell."""
    path = root / "splits.csv"
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    change(table)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("scene", "split", "group"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    write_sums(root)
    return verify(root).findings


def line_of(table: Table, scene: str) -> dict[str, str]:
    return next(line for line in table if line["scene"] == scene)


def test_a_table_that_is_written_again_as_it_was_is_clean(released: Path) -> None:
    assert after(released, list) == ()


def test_another_split_than_that_of_the_crops_is_found(released: Path) -> None:
    scene = scene_in(released, "test")
    (finding,) = after(released, lambda table: line_of(table, scene).update(split="train"))
    assert finding.file == "splits.csv"
    shard = "crops/low/test-00000-of-00001.parquet"
    assert finding.expected == f"{scene} in test, as in {shard}"
    assert finding.found == f"{scene} in train"


def test_a_scene_without_a_line_is_found(released: Path) -> None:
    scene = scene_in(released, "train")
    (finding,) = after(released, lambda table: table.remove(line_of(table, scene)))
    assert finding.expected.startswith(f"a line for {scene}, as in crops/low/train-")
    assert finding.found == "none"


def test_a_scene_without_crops_is_found(released: Path) -> None:
    line = {"scene": "scene99", "split": "val", "group": "scene99"}
    (finding,) = after(released, lambda table: table.append(line))
    assert (finding.expected, finding.found) == ("crops of scene99, val", "none")


def test_a_damaged_shard_is_not_called_a_missing_scene(released: Path) -> None:
    shard = released / "crops/low/test-00000-of-00001.parquet"
    shard.write_bytes(b"")
    write_sums(released)
    assert {finding.file for finding in verify(released).findings} == {f"crops/low/{shard.name}"}


def test_a_group_in_two_splits_is_found(released: Path) -> None:
    one, other = scene_in(released, "train"), scene_in(released, "test")

    def join(table: Table) -> None:
        for scene in (one, other):
            line_of(table, scene)["group"] = "twins"

    (finding,) = after(released, join)
    first, second = sorted((one, other))
    splits = read_splits(released)
    assert finding.expected == f"group twins in one split: {first} is in {splits[first]}"
    assert finding.found == f"{second} in {splits[second]}"


@pytest.mark.parametrize("text", ["", "scene,split\n", "scene,split,group\na,b,c\n", "\0"])
def test_a_table_that_cannot_be_read_is_one_finding(released: Path, text: str) -> None:
    (released / "splits.csv").write_text(text)
    write_sums(released)
    (finding,) = verify(released).findings
    assert finding.file == "splits.csv"
    assert finding.expected == "a table of scene, split and group"


@pytest.mark.parametrize("name", ["splits.csv", "SHA256SUMS", "release.json", "README.md"])
def test_a_release_without_one_of_its_files_is_not_clean(released: Path, name: str) -> None:
    (released / name).unlink()
    assert {finding.file for finding in verify(released).findings} == {name}


def test_a_release_signed_again_without_its_table_is_not_clean(released: Path) -> None:
    (released / "splits.csv").unlink()
    write_sums(released)
    (finding,) = verify(released).findings
    assert finding.file == "splits.csv"
    assert finding.found.endswith("no splits.csv; is this a folder that release made?")


def test_a_release_without_any_crops_is_looked_at(released: Path) -> None:
    shutil.rmtree(released / "crops")
    for name in ("SHA256SUMS", "splits.csv"):
        (released / name).unlink()
    files = {finding.file for finding in verify(released).findings}
    assert files == {"SHA256SUMS", "splits.csv"}


def test_the_crops_of_a_release_alone_need_no_table(released: Path) -> None:
    assert verify(released / "crops").clean
    assert pq.read_table(released / "crops/low/manifest.parquet").num_rows > 0


def test_repairs_are_such_as_a_release_takes(released: Path) -> None:
    shard = "crops/low/test-00000-of-00001.parquet"
    damaged = (shard, "crops/low/manifest.parquet", "README.md", "splits.csv")
    for name in damaged:
        (released / name).write_bytes(b"")
    (released / "note.txt").write_text("x")
    advice: dict[str, set[str]] = {}
    for finding in verify(released).findings:
        advice.setdefault(finding.file, set()).add(finding.repair)
    again = "Copy the file again, or make the release again."
    assert {name: advice[name] for name in damaged[1:]} == dict.fromkeys(damaged[1:], {again})
    (repair,) = advice[shard]
    assert "`defocus-ds verify --repair --images DATASET`" in repair
    assert advice["note.txt"] == {"Remove the file, or make the release again."}
    (released / "SHA256SUMS").unlink()
    assert {f.repair for f in verify(released).findings if f.file == "SHA256SUMS"} == {again}
