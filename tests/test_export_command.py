"""``defocus-ds export``: parses, calls the function, prints; its page runs as it is written."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from built_dataset import make_dataset
from click.testing import CliRunner, Result

import defocus_ds
from defocus_ds import load_crops
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export.make import FORMATS
from defocus_ds_cli.export import command
from defocus_ds_cli.main import cli

PAGE = Path(__file__).parents[1] / "docs/export.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of that name."""
    folder = tmp_path_factory.mktemp("place")
    make_dataset(folder / "dataset", scenes=3)
    crop(folder / "dataset", level="low", size=64, stride=64)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def run(line: str) -> Result:
    words = shlex.split(line)
    assert words[0] == "defocus-ds"
    return CliRunner().invoke(cli, words[1:])


def blocks(kind: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_text_and_json_say_what_was_written() -> None:
    counts = {s: len(load_crops("dataset", level="low", split=s)) for s in ("train", "test")}
    done = run("defocus-ds export dataset -o one --to basicsr")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    files = 2 * sum(counts.values()) + 2 * 2 + 1
    assert lines[0][:4] == ["one:", "basicsr,", str(files), "files,"]
    assert lines[1:] == [["low", split, str(count)] for split, count in counts.items()]
    done = run("defocus-ds export dataset -o two --to basicsr --level low --json")
    report = json.loads(done.stdout)
    assert report["crops"] == {"low": counts}
    assert (report["out"], report["to"], report["files"]) == ("two", "basicsr", files)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("defocus-ds export dataset -o out --to dpdd --level high", "no crops of level 'high'"),
        ("defocus-ds export dataset -o dataset/out --to dpdd", "lies in the dataset"),
        ("defocus-ds export dataset -o dataset --to dpdd", "lies in the dataset"),
        ("defocus-ds export dataset/images -o out --to dpdd", "is neither a dataset nor a release"),
        ("defocus-ds export dataset -o out --to lmdb", "Invalid value for '--to'"),
        ("defocus-ds export nowhere -o out --to dpdd", "does not exist"),
    ],
)
def test_unusable_options_exit_with_2(line: str, message: str) -> None:
    done = run(line)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert not Path("out").exists()


def test_the_choices_are_the_formats() -> None:
    choice = next(p.type for p in command.params if p.name == "to")
    assert list(choice.choices) == list(FORMATS)  # type: ignore[attr-defined]


def test_help_has_an_example() -> None:
    assert "Example: defocus-ds export" in run("defocus-ds export --help").stdout


def test_the_page_runs() -> None:
    """Every command and every Python example of docs/export.md, in order, in one place."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert sum(line.startswith("defocus-ds export") for line in lines) == len(FORMATS)
    for line in lines:
        if line.startswith("defocus-ds "):
            done = run(line)
            assert done.exit_code == 0, (line, done.output)
        else:
            subprocess.run(line, shell=True, check=True, capture_output=True)
    names: dict[str, object] = {}
    examples = blocks("python")
    assert len(examples) >= 3
    for code in examples:
        exec(compile(code, str(PAGE), "exec"), names)


def test_the_page_names_the_version_of_the_record() -> None:
    run("defocus-ds export dataset -o record --to webdataset")
    ours = json.loads(Path("record/export.json").read_text())
    assert ours["versions"] == {"defocus-ds": defocus_ds.__version__}
    text = PAGE.read_text(encoding="utf-8")
    for name in (*ours, *ours["streams"][0], *ours["streams"][0]["tars"][0]):
        assert f"`{name}`" in text, name
