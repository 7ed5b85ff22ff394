"""The dataset's own files are written when what they say has changed, and only then."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from signed_dataset import make_signed

from defocus_ds import build
from defocus_ds.pipeline import status
from defocus_ds.store import JsonObject

TABLES = ("scenes.parquet", "dataset.json", "SHA256SUMS")


@pytest.fixture
def built(tmp_path: Path) -> tuple[Path, Path]:
    shoot, dataset = make_signed(tmp_path, scenes=2)
    assert build(shoot, dataset).stages_run == 0
    return shoot, dataset


def stamps(dataset: Path) -> dict[str, tuple[int, int]]:
    """Every writing makes a new file."""
    found = {name: (dataset / name).stat() for name in TABLES}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def test_nothing_to_do_writes_no_table_and_says_the_same(built: tuple[Path, Path]) -> None:
    shoot, dataset = built
    before = stamps(dataset)
    first, second = build(shoot, dataset), build(shoot, dataset)
    assert stamps(dataset) == before
    assert first == second
    assert len(first.kept) == 6


def test_nothing_to_do_parses_no_alignment(
    built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shoot, dataset = built
    parsed: Counter[bool] = Counter()
    parse = JsonObject._parsed

    def counted(self: JsonObject) -> dict[str, object]:
        parsed[b"alignments" in self.text] += 1
        return parse(self)

    monkeypatch.setattr(JsonObject, "_parsed", counted)
    build(shoot, dataset)
    assert status(dataset).complete
    assert parsed == {False: 3}  # the rows of the report, and what two scenes ingested


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_was_changed_is_written_again(built: tuple[Path, Path], name: str) -> None:
    shoot, dataset = built
    whole = (dataset / name).read_bytes()
    (dataset / name).write_bytes(whole[:-1] + b"x")
    build(shoot, dataset)
    assert (dataset / name).read_bytes() == whole


def test_a_file_that_came_or_went_is_noticed(built: tuple[Path, Path]) -> None:
    shoot, dataset = built
    sums = (dataset / "SHA256SUMS").read_bytes()
    stray = dataset / "images/scene000001/stray.png"
    stray.write_bytes(b"stray")
    build(shoot, dataset)
    assert not stray.exists()
    crops = dataset / "crops/low/a.parquet"
    crops.parent.mkdir(parents=True)
    crops.write_bytes(b"crops")
    build(shoot, dataset)
    assert b"crops/low/a.parquet" in (dataset / "SHA256SUMS").read_bytes()
    crops.unlink()
    build(shoot, dataset)
    assert (dataset / "SHA256SUMS").read_bytes() == sums


def test_an_option_that_changes_rows_is_noticed(built: tuple[Path, Path]) -> None:
    shoot, dataset = built
    left = build(shoot, dataset, skip=["scene000001"])
    assert [pair.scene for pair in left.kept] == ["scene000002"] * 3
    assert {pair.scene for pair, _ in left.rejected} == {"scene000001"}
