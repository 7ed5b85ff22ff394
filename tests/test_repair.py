"""A damaged shard is cut again to the very same bytes, and nothing else is touched."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_dataset import change_rows, make_dataset, save_image
from click.testing import CliRunner
from PIL import Image
from scenes import textured

from defocus_ds.dataset import shards
from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.importers import ImportOptions, import_images
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.dataset.released import build_released
from defocus_ds.dataset.released_make import make_released
from defocus_ds.dataset.repair import repair_shards
from defocus_ds.dataset.shards import MANIFEST_NAME, MANIFEST_SCHEMA
from defocus_ds.dataset.tables import read_table
from defocus_ds.dataset.verify import verify
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level
from defocus_ds.store import sha256_file
from defocus_ds_cli.main import cli

DIES_IN_REPAIR = """
import os, signal, sys
from pathlib import Path
from defocus_ds.dataset import repair, shards
from defocus_ds.dataset.verify import verify

shards.SHARD_ROWS = 16
shards.ShardWriter.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
root, images = map(Path, sys.argv[1:])
repair.repair_shards(verify(root), images=images)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with several shards a split, and a release of it."""
    root = tmp_path_factory.mktemp("made")
    dataset = make_dataset(root / "dataset", scenes=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 16)
        crop(dataset)
        about = About("Toy", "CC0-1.0", ("Doe, Jane",))
        release(dataset, root / "release", about=about, test_share=0.3)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shards, "SHARD_ROWS", 16)
    return Path(shutil.copytree(made, tmp_path / "copy"))


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["flip", "remove", "truncate", "replace"])
@pytest.mark.parametrize("kind", ["dataset", "release"])
def test_a_damaged_shard_is_found_and_repaired(copy: Path, kind: str, harm: str) -> None:
    root = copy / kind
    before = contents(root)
    shard = sorted((root / "crops" / "low").glob("train-*.parquet"))[1]
    if harm == "flip":
        flip(shard)
    elif harm == "remove":
        shard.unlink()
    elif harm == "truncate":
        shard.write_bytes(shard.read_bytes()[:1000])
    else:
        shutil.copyfile(shard.with_name(shard.name.replace("00001-of", "00000-of")), shard)
    report = verify(root)
    assert not report.clean
    images = None if kind == "dataset" else copy / "dataset"
    done = repair_shards(report, images=images)
    assert done.repaired == (f"crops/low/{shard.name}",)
    assert done.failed == {}
    assert contents(root) == before
    assert verify(root).clean


def test_a_clean_dataset_is_left_alone(copy: Path) -> None:
    before = contents(copy / "release")
    assert repair_shards(verify(copy / "release")).repaired == ()
    assert contents(copy / "release") == before


def test_images_of_another_build_do_not_repair(copy: Path, tmp_path: Path) -> None:
    shard = next((copy / "release" / "crops" / "low").glob("train-*.parquet"))
    flip(shard)
    broken = shard.read_bytes()
    other = make_dataset(tmp_path / "other", scenes=4, size=(400, 300))
    done = repair_shards(verify(copy / "release"), images=other)
    assert done.repaired == ()
    assert "The images must be those" in done.failed[f"crops/low/{shard.name}"]
    assert shard.read_bytes() == broken


def test_a_shard_is_repaired_although_another_scene_was_built_anew(copy: Path) -> None:
    root = copy / "release"
    rows = read_table(root / "crops" / "low" / MANIFEST_NAME, MANIFEST_SCHEMA).to_pylist()
    other = next(row["scene"] for row in rows if row["split"] == "test")
    image = copy / "dataset" / "images" / other / "low.png"
    pixels = np.asarray(Image.open(image)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    change_rows(copy / "dataset", other, Level.LOW, image_sha256=sha256_file(image))
    shard = next((root / "crops" / "low").glob("train-*.parquet"))
    flip(shard)
    done = repair_shards(verify(root), images=copy / "dataset")
    assert done.repaired == (f"crops/low/{shard.name}",)
    flip(next((root / "crops" / "low").glob("test-*.parquet")))
    done = repair_shards(verify(root), images=copy / "dataset")
    assert other in str(done.failed)


def test_a_release_alone_has_no_images(copy: Path) -> None:
    flip(next((copy / "release" / "crops" / "low").glob("train-*.parquet")))
    with pytest.raises(DatasetError, match=r"no images to cut .* with --images"):
        repair_shards(verify(copy / "release"))


def test_what_is_no_shard_is_not_repaired(copy: Path) -> None:
    root = copy / "dataset"
    flip(root / "crops" / "low" / "rejected.parquet")
    (root / "crops" / "low" / "train-00007-of-00099.parquet").write_bytes(b"stray")
    done = repair_shards(verify(root))
    assert done.repaired == ()
    assert set(done.failed) == {name for name in done.failed if name.startswith("crops/low/train-")}
    assert "no line for it" in done.failed["crops/low/train-00007-of-00099.parquet"]
    assert not verify(root).clean


def test_command_repairs_and_checks_again(copy: Path) -> None:
    root = copy / "release"
    shard = next((root / "crops" / "low").glob("test-*.parquet"))
    flip(shard)
    assert CliRunner().invoke(cli, ["verify", str(root)]).exit_code == 1
    arguments = ["verify", str(root), "--repair", "--images", str(copy / "dataset")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert f"crops/low/{shard.name}: cut again, the same bytes" in done.stdout
    assert "clean" in done.stdout
    assert CliRunner().invoke(cli, ["verify", str(root), "--images", str(root)]).exit_code == 2


def test_json_says_what_was_repaired_and_what_not(copy: Path) -> None:
    root = copy / "release"
    arguments = ["verify", str(root), "--repair", "--images", str(copy / "dataset"), "--json"]
    told = json.loads(CliRunner().invoke(cli, arguments).stdout)
    assert (told["clean"], told["repaired"], told["failed"]) == (True, [], {})
    assert not {"repaired", "failed"} & set(
        json.loads(CliRunner().invoke(cli, ["verify", str(root), "--json"]).stdout)
    )
    level = root / "crops" / "low"
    shard = next(level.glob("test-*.parquet"))
    flip(shard)
    stray = level / "train-00007-of-00099.parquet"
    stray.write_bytes(b"stray")
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["repaired"] == [f"crops/low/{shard.name}"]
    assert "no line for it" in told["failed"][f"crops/low/{stray.name}"]
    assert {finding["file"] for finding in told["findings"]} >= {f"crops/low/{stray.name}"}


def test_findings_are_shown_where_nothing_can_be_repaired(copy: Path) -> None:
    root = copy / "release"
    shard = next((root / "crops" / "low").glob("test-*.parquet"))
    flip(shard)
    plain = CliRunner().invoke(cli, ["verify", str(root), "--repair"])
    assert plain.exit_code == 2
    assert plain.stdout.startswith(f"crops/low/{shard.name}\n  expected")
    assert "--images" in plain.stderr
    machine = CliRunner().invoke(cli, ["verify", str(root), "--repair", "--json"])
    assert machine.exit_code == 2
    told = json.loads(machine.stdout)
    assert (told["clean"], told["repaired"], told["failed"]) == (False, [], {})
    assert {finding["file"] for finding in told["findings"]} == {f"crops/low/{shard.name}"}
    assert "--images" in machine.stderr


@pytest.mark.parametrize("kind", ["dataset", "release"])
def test_what_a_killed_repair_left_is_removed(copy: Path, kind: str) -> None:
    root = copy / kind
    before = contents(root)
    shard = next((root / "crops" / "low").glob("train-*.parquet"))
    flip(shard)
    folders = [str(root), str(copy / "dataset")]
    killed = subprocess.run([sys.executable, "-c", DIES_IN_REPAIR, *folders], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    (left,) = shard.parent.glob(".*")
    assert left.name.startswith(".tmp-")
    # another shard: that of the killed repair was copied from elsewhere
    shard.write_bytes(before[f"crops/low/{shard.name}"])
    flip(next(shard.parent.glob("test-*.parquet")))
    done = repair_shards(verify(root), images=copy / "dataset")
    assert len(done.repaired) == 1, done.failed
    assert not left.exists()
    assert contents(root) == before


def test_a_shard_that_cannot_be_written_is_named_and_findings_are_shown(copy: Path) -> None:
    root = copy / "dataset"
    shard = next((root / "crops" / "low").glob("train-*.parquet"))
    flip(shard)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        done = CliRunner().invoke(cli, ["verify", str(root), "--repair", "--json"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    assert told["repaired"] == []
    (why,) = told["failed"].values()
    assert f"{shard}: could not be written (" in why
    assert "Make room or give permission" in why
    assert {finding["file"] for finding in told["findings"]} == {f"crops/low/{shard.name}"}
    assert not list(shard.parent.glob(".*"))


def test_findings_are_shown_where_the_images_cannot_be_locked(copy: Path) -> None:
    shard = next((copy / "release" / "crops" / "low").glob("train-*.parquet"))
    flip(shard)
    (copy / "dataset" / ".lock").unlink()
    (copy / "dataset" / ".lock").mkdir()
    command = ["verify", str(copy / "release"), "--repair", "--images", str(copy / "dataset")]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2
    assert done.stdout.startswith(f"crops/low/{shard.name}\n  expected")
    assert ".lock" in done.stderr


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of crops that no dataset was built for: two imports and a rebuilt released split."""
    root = tmp_path_factory.mktemp("others")
    for index in range(2):
        pixels = np.asarray(np.round(textured((96, 80), seed=index) * 255), np.uint8)
        for name in (f"trees/authors/a{index}_original.png", f"trees/test/{index}.png"):
            save_image(root / name, pixels)
        save_image(root / f"trees/authors/a{index}_lbc.png", pixels // 2)
    chosen = ImportOptions(size=32, test_share=0, val_share=0)
    import_images("authors", root / "trees/authors", root / "authors", options=chosen)
    import_images("sharp", root / "trees/test", root / "sharp", options=replace(chosen, images=2))
    manifest = root / "own.parquet"
    make_released("own", root / "trees/test", manifest, origin="https://example.org", size=32)
    build_released(manifest, root / "trees/test", root / "split")
    return root


@pytest.mark.parametrize("kind", ["authors", "sharp", "split"])
def test_what_no_dataset_was_built_for_is_made_again(
    others: Path, tmp_path: Path, kind: str
) -> None:
    root = Path(shutil.copytree(others / kind, tmp_path / kind))
    how = {"split": "build the split again with `defocus-ds split build`"}
    again = how.get(kind, "import it again with `defocus-ds import`") + " into a new folder"
    shard = next(root.glob("crops/*/*-of-*.parquet"))
    name = shard.relative_to(root).as_posix()
    flip(shard)
    assert {f.repair for f in verify(root).findings} == {f"Copy the file again, or {again}."}
    for arguments in ([], ["--images", str(root)]):
        done = CliRunner().invoke(cli, ["verify", str(root), "--repair", "--json", *arguments])
        assert done.exit_code == 1, done.output
        told = json.loads(done.stdout)
        assert told["repaired"] == []
        assert set(told["failed"]) == {name}
        assert told["failed"][name].endswith(f"Copy the file again, or {again}.")
        assert f"{name}: not repaired: " in done.stderr


@pytest.mark.parametrize("kind", ["authors", "sharp", "split"])
def test_every_advice_is_one_that_the_folder_takes(others: Path, tmp_path: Path, kind: str) -> None:
    root = Path(shutil.copytree(others / kind, tmp_path / kind))
    again = "build the split again" if kind == "split" else "import it again"
    (root / "note.txt").write_text("stray")
    (stray,) = verify(root).findings
    assert stray.repair.startswith(f"Remove the file, or {again} with")
    manifest = next(root.glob("crops/*/manifest.parquet"))
    manifest.write_bytes(b"")
    (root / "SHA256SUMS").write_text("damaged")
    (root / "import.json").unlink(missing_ok=True)
    found = verify(root).findings
    assert {finding.file for finding in found} == {
        manifest.relative_to(root).as_posix(),
        "SHA256SUMS",
    }
    assert all(f"Copy the file again, or {again} with" in finding.repair for finding in found)


def test_a_scene_in_two_splits_of_an_import_is_imported_again(others: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(others / "authors", tmp_path / "import"))
    shard = next(root.glob("crops/low/train-*.parquet"))
    table = pq.read_table(shard)
    column = table.column_names.index("split")
    held = pa.array(["test"] * table.num_rows)
    moved = table.set_column(column, table.schema.field("split"), held)
    pq.write_table(moved, shard.with_name("test-00000-of-00001.parquet"))
    advice = {f.repair for f in verify(root).findings if f.expected.startswith("a0 in test only")}
    again = "import it again with `defocus-ds import` into a new folder"
    assert advice == {f"Copy the file again, or {again}."}


def test_a_level_that_no_dataset_has_is_not_repaired(copy: Path) -> None:
    root = copy / "dataset"
    shard = next(root.glob("crops/low/train-*.parquet"))
    (root / "crops/mine").mkdir()
    stray = Path(shutil.copyfile(shard, root / "crops/mine" / shard.name))
    shutil.copyfile(root / "crops/low/manifest.parquet", stray.with_name("manifest.parquet"))
    write_sums(root)
    flip(stray)
    done = repair_shards(verify(root))
    assert "'mine' is none of low, medium, high" in done.failed[f"crops/mine/{stray.name}"]
