"""Damaged and hostile files through the commands: an exit code and one line, nothing outside."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_dataset import make_dataset
from click.testing import CliRunner, Result

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.crop import crop
from defocus_ds.pipeline.journal import Journal, write_journal
from defocus_ds_cli.main import cli

HOSTILE = ("../secret.png", "ABSOLUTE/secret.png", "images/../../secret.png", "images/link/low.png")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset with crops; do not write to it."""
    root = make_dataset(tmp_path_factory.mktemp("built") / "dataset", scenes=2)
    crop(root, level="low", size=64, stride=64)
    scenes = ("scene00", "scene01")
    write_journal(root, Journal("shoot", BuildConfig(), scenes, (), (), "0" * 64))
    return root


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy, with an image outside of it and a link to its folder inside."""
    root = tmp_path / "dataset"
    shutil.copytree(built, root)
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in (tmp_path / "secret.png", outside / "low.png"):
        shutil.copy(root / "images/scene00/low.png", place)
    (root / "images/link").symlink_to(outside)
    return root


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def refused(done: Result, *names: str) -> str:
    """One line on stderr that names one of these, and an exit code that is not 0."""
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("defocus-ds: ")]
    assert len(said) == 1
    assert any(name in said[0] for name in names), said
    return said[0]


SIGNED = ("--licence", "CC-BY-4.0", "--author", "A. Person")
COMMANDS: list[tuple[str, list[str]]] = [
    ("scenes.parquet", ["crop", "DATASET", "--level", "low"]),
    ("scenes.parquet", ["report", "DATASET"]),
    ("dataset.json", ["crop", "DATASET", "--level", "low"]),
    ("receipts/shoot.json", ["status", "DATASET"]),
    ("crops/low/manifest.parquet", ["crop", "DATASET", "--manifest", "FILE"]),
    (
        "crops/low/train-00000-of-00001.parquet",
        ["release", "DATASET", "-o", "OUT", *SIGNED],
    ),
    ("build.toml", ["build", "SHOOT", "-o", "OUT", "--config", "FILE"]),
    ("review.csv", ["crop", "DATASET", "--level", "low", "--review", "FILE"]),
]


@pytest.mark.parametrize(("file", "words"), COMMANDS, ids=lambda value: value[0][:8] + value[-1])
@pytest.mark.parametrize("damage", ["empty", "half", "noise"])
def test_a_damaged_file_ends_a_command_in_one_line(
    dataset: Path, tmp_path: Path, file: str, words: list[str], damage: str
) -> None:
    path = dataset / file
    whole = path.read_bytes() if path.is_file() else b"scene,level\n[tile]\nsize = 64\n" * 3
    noise = bytes((7 * i * i + 13) % 256 for i in range(300))
    path.write_bytes(
        {"empty": b"", "half": whole[: len(whole) // 2] + b"\x80", "noise": noise}[damage]
    )
    names = {"DATASET": dataset, "FILE": path, "OUT": tmp_path / "out", "SHOOT": tmp_path}
    done = run(*(names.get(word, word) for word in words))
    refused(done, path.name, str(path.parent), *([str(tmp_path)] if file == "build.toml" else []))


@pytest.mark.parametrize("file", ["a.CR2", "a.png", "a.jpg", "a.tif", "a.CRW", "shoot.csv"])
def test_a_damaged_capture_or_table_ends_a_scan_in_one_line_each(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(bytes((7 * i * i + 13) % 256 for i in range(300)))
    done = run("scan", tmp_path)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.output
    assert [line for line in done.output.splitlines() if line.startswith(f"error: {file}: ")]


@pytest.mark.parametrize("image", HOSTILE)
@pytest.mark.parametrize(
    "words",
    [
        ["crop", "DATASET", "--level", "low"],
        ["report", "DATASET"],
        ["verify", "DATASET"],
    ],
    ids=lambda words: words[0],
)
def test_an_image_outside_the_dataset_is_not_taken(
    dataset: Path, tmp_path: Path, image: str, words: list[str]
) -> None:
    """The image there is the very one that the row describes: taken, it would pass for it."""
    image = image.replace("ABSOLUTE", str(tmp_path))
    name_image(dataset, image)
    done = run(*(dataset if word == "DATASET" else word for word in words))
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.output
    said = [line for line in done.output.splitlines() if image in line and "outside" in line]
    assert said, done.output


def name_image(dataset: Path, image: str) -> None:
    """Name another image in the second row of scenes.parquet, and leave all else as it was."""
    path = dataset / "scenes.parquet"
    table = pq.read_table(path)
    names = table.column("image").to_pylist()
    assert names[1] == "images/scene00/low.png"
    names[1] = image
    at = table.schema.get_field_index("image")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(names, pa.string())), path)
