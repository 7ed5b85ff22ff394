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
from defocus_ds_cli.main import cli

CROPS = "`verify`, `diff`, `export` and `train` take it"
SAID = {
    "dataset": "this is a built dataset (dataset.json): `report`, `crop` and `release` take it",
    "release": f"this is a release (release.json): {CROPS}",
    "imported": f"this is an import (import.json): {CROPS}",
    "exported": "this is an export (export.json): `verify` and other training code take it",
    "dataset/crops": f"this is a folder of crops: {CROPS}",
    "dataset/crops/low": f"this is a folder of crops: {CROPS}",
    "run": "this is a run of training (run.json): `train bench`",
}
BUILT = [["report", "IT"], ["crop", "IT"], ["crop", "IT", "--set", "tile.min_std=2"]]
BUILT += [["release", "IT", "-o", "new", "--licence", "CC0-1.0", "--author", "a"]]
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
    if name == "exported" and "real-l1" in command:  # which looks at the export's layout
        said = "this is an export to basicsr (export.json): its PNG files are for other training"
    assert said in done.stderr.splitlines()[-1]
    assert not (place / "new").exists()


def test_a_folder_of_crops_can_be_benchmarked(place: Path) -> None:
    pytest.importorskip("torch")
    from defocus_ds_train.benchmark.sets import dataset_set

    found = dataset_set(place / "dataset/crops", split="train")
    assert [c.name for c in found.crops] == [
        c.name for c in dataset_set(place / "dataset", split="train").crops
    ]
