"""What a folder is: every command that needs another one says so, and which take it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from built_dataset import make_dataset
from click.testing import CliRunner

from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export import export
from defocus_ds.dataset.importers import ImportOptions, import_images
from defocus_ds.dataset.kinds import folder_kind, what_it_is
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.dataset.verify import verify
from defocus_ds.errors import DatasetError
from defocus_ds_cli.main import cli

CROPS = "`verify`, `diff`, `export` and `train` take it"
SAID = {
    "dataset": "this is a built dataset (dataset.json): `report`, `crop` and `release` take it",
    "release": f"this is a release (release.json): {CROPS}",
    "imported": f"this is an import (import.json): {CROPS}",
    "exported": "this is an export (export.json): `verify` and other training code take it",
    "dataset/crops": f"this is a folder of crops: {CROPS}",
    "dataset/crops/low": "these are the crops of one level. Name ",
    "run": "this is a run of training (run.json): `train bench`",
}
BUILT = [["report", "IT"], ["crop", "IT"], ["crop", "IT", "--set", "tile.min_std=2"]]
BUILT += [["release", "IT", "-o", "new", "--licence", "CC0-1.0", "--author", "a"]]
BUILT += [["score", "IT", "empty"]]
BUILT += [["status", "IT"], ["build", "empty", "-o", "IT"]]
SHOOT = [["scan", "IT"], ["build", "IT", "-o", "new"]]
IMAGES = [["train", "fit", "synthetic-l1", "--data", "IT", "-o", "new"]]
HOLDS_CROPS = [["export", "IT", "-o", "new", "--to", "dpdd"]]
HOLDS_CROPS += [["train", "fit", "real-l1", "--data", "IT", "-o", "new"]]
HOLDS_CROPS += [["train", "bench", "--data", "IT", "-o", "new"], ["diff", "IT", "dataset"]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of every kind."""
    root = tmp_path_factory.mktemp("kinds")
    make_dataset(root / "dataset", scenes=2)
    crop(root / "dataset")
    release(root / "dataset", root / "release", about=About("x", "CC0-1.0", ("a",)))
    export(root / "dataset", root / "exported", to="basicsr")
    (root / "sharp").mkdir()
    for scene in ("scene00", "scene01"):
        shutil.copy(root / f"dataset/images/{scene}/sharp.png", root / f"sharp/{scene}.png")
    import_images("sharp", root / "sharp", root / "imported", options=ImportOptions(per_image=2))
    (root / "empty").mkdir()
    (root / "run").mkdir()
    for name in ("run.json", "recipe.toml"):
        (root / "run" / name).touch()
    return root


@pytest.mark.parametrize("name", SAID)
def test_every_folder_that_we_make_is_known(place: Path, name: str) -> None:
    assert what_it_is(place / name).startswith(SAID[name])


@pytest.mark.parametrize("name", ["release.json", "export.json", "run.json", "import.json"])
def test_a_file_of_such_a_name_does_not_make_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert folder_kind(tmp_path) is None
    assert what_it_is(tmp_path, unknown="no idea") == "no idea"


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, c) for name in ("release", "imported", "exported", "dataset/crops") for c in BUILT]
    + [(name, c) for name in ("dataset", "release", "imported", "exported") for c in SHOOT]
    + [(name, c) for name in ("release", "exported", "imported") for c in IMAGES]
    + [(name, c) for name in ("exported", "run") for c in HOLDS_CROPS]
    + [("dataset/crops/low", c) for c in (*BUILT, *SHOOT)]
    + [("run", ["verify", "IT"]), ("run", ["report", "IT"])],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_a_command_says_what_it_was_given(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: list[str]
) -> None:
    monkeypatch.chdir(place)
    done = CliRunner().invoke(cli, [name if word == "IT" else word for word in command])
    assert done.exit_code == 2, done.output
    said = SAID[name]
    # what reads the crops of one level looks at the export's layout
    if name == "exported" and ("real-l1" in command or command[0] == "export"):
        said = "this is an export to basicsr (export.json): its PNG files are for other training"
    assert said in done.stderr.splitlines()[-1]
    assert not (place / "new").exists()


def test_the_folder_above_one_level_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = place / "dataset/crops/low"
    said = f"the crops of one level. Name {place / 'dataset'}, and the level beside it"
    assert what_it_is(level) == f"these are {said}"
    with pytest.raises(DatasetError) as caught:
        export(level, tmp_path / "new", to="dpdd")
    assert str(caught.value) == f"{level}: {said}."
    monkeypatch.chdir(level)
    assert what_it_is(Path()) == f"these are {said}"


def test_shards_of_others_are_no_crops_of_ours(place: Path, tmp_path: Path) -> None:
    shards = sorted((place / "dataset/crops/low").glob("train-*-of-*.parquet"))
    for folder in (tmp_path / "data", tmp_path / "crops/low"):
        folder.mkdir(parents=True)
        shutil.copy(shards[0], folder)
        assert folder_kind(tmp_path) is folder_kind(folder) is None
    shutil.copy(place / "dataset/crops/low/manifest.parquet", tmp_path / "crops/low")
    assert folder_kind(tmp_path) == "folder of crops"


def test_a_folder_without_crops_is_sent_where_some_are_made(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "dataset", tmp_path / "set", ignore=shutil.ignore_patterns("low"))
    shutil.copytree(place / "release", tmp_path / "released", ignore=lambda *_: {"crops"})
    with pytest.raises(DatasetError, match=f"defocus-ds crop {tmp_path / 'set'} --level low"):
        export(tmp_path / "set/crops", tmp_path / "new", to="dpdd")
    with pytest.raises(DatasetError, match="no crops of level 'low'; there: none") as caught:
        export(tmp_path / "released", tmp_path / "new", to="dpdd")
    assert "defocus-ds crop" not in str(caught.value)


def test_a_damaged_export_is_made_again(place: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(place / "exported", tmp_path / "exported"))
    assert verify(root).clean
    (root / "note.txt").touch()
    picture = next(root.rglob("*.png"))
    picture.write_bytes(b"")
    again = "export again with `defocus-ds export` into a new folder."
    assert {finding.file: finding.repair for finding in verify(root).findings} == {
        "note.txt": f"Remove the file, or {again}",
        picture.relative_to(root).as_posix(): f"Copy the file again, or {again}",
    }


def test_a_folder_of_crops_can_be_benchmarked(place: Path) -> None:
    pytest.importorskip("torch")
    from defocus_ds_train.benchmark.sets import dataset_set

    found = dataset_set(place / "dataset/crops", split="train")
    assert [c.name for c in found.crops] == [
        c.name for c in dataset_set(place / "dataset", split="train").crops
    ]
