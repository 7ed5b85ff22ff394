"""What is said of very many faults is as short as what is said of a few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from built_dataset import make_dataset
from click.testing import CliRunner
from PIL import Image

from defocus_ds.config import BuildConfig, config_from_dict
from defocus_ds.pipeline.claim import changed_options
from defocus_ds_cli.main import cli

LONGEST = 400


def unreadable_shoot(folder: Path) -> list[str]:
    (folder / "shoot").mkdir()
    for number in range(30):
        (folder / f"shoot/IMG_{number:04}.CR2").write_bytes(b"II*\0" + b"x" * 3000)
    return ["build", "shoot", "-o", "out"]


def faulty_review(folder: Path) -> list[str]:
    rows = "".join(f"scene{number:03},low,perhaps,\n" for number in range(40))
    (folder / "review.csv").write_text("scene,level,decision,note\n" + rows)
    return ["crop", "dataset", "--review", "review.csv"]


def review_of_another(folder: Path) -> list[str]:
    rows = "".join(f"another{number:03},low,reject,\n" for number in range(40))
    (folder / "review.csv").write_text("scene,level,decision,note\n" + rows)
    return ["crop", "dataset", "--review", "review.csv"]


def images_of_no_split(folder: Path) -> list[str]:
    return ["split", "build", "kodak24", "--images", ".", "-o", "out"]


def nameless_captures(folder: Path) -> list[str]:
    for number in range(30):
        Image.new("RGB", (64, 48)).save(folder / f"picture-of-something-{number:03}-b.png")
    return ["scan", "."]


@pytest.mark.parametrize(
    ("prepared", "says"),
    [
        (unreadable_shoot, "IMG_0000.CR2: not a CR2 file"),
        (faulty_review, "line 2: decision 'perhaps': accept, reject or empty; line 3"),
        (review_of_another, "not in the dataset: another000, another001"),
        (images_of_no_split, "24 of 24 images of kodak24 cannot be used: kodim01.png: missing"),
        (nameless_captures, "30 captures without capture times"),
    ],
)
def test_the_line_about_many_is_short(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepared: Callable[[Path], list[str]],
    says: str,
) -> None:
    if "review" in prepared.__name__:
        make_dataset(tmp_path / "dataset")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, prepared(tmp_path))
    assert done.exit_code == 2, done.output
    lines = done.output.splitlines()
    (said,) = (line for line in lines if says in line)
    assert max(map(len, lines)) <= LONGEST
    assert "more" in said or "..." in said


def test_of_many_other_options_the_first_are_named() -> None:
    begun, given = BuildConfig.from_preset("accurate"), BuildConfig.from_preset("paper")
    text = changed_options(begun, given)
    assert text.startswith("preset: accurate -> paper, ")
    assert text.count(" -> ") == 8
    table = given.as_dict()
    table["tile"] |= {"size": 64, "stride": 32, "test_share": 0.2, "val_share": 0.3}
    more = changed_options(begun, config_from_dict(table))
    assert more.startswith(text)
    assert more.endswith(" and 2 more")
