"""The same bytes whatever the number of workers, the order of scenes, and interruptions.

test_build.py compares --jobs 1, killed once, with --jobs 2 on larger frames.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_shoot import QUICK, make_tiny_shoot

import defocus_ds

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from same_bytes import contents  # noqa: E402


@pytest.fixture(scope="module")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_shoot(tmp_path_factory.mktemp("tiny") / "shoot")


@pytest.fixture(scope="module")
def one_by_one(shoot: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Contents of the dataset that one worker builds in one go."""
    folder = tmp_path_factory.mktemp("one") / "dataset"
    assert defocus_ds.build(shoot, folder, config=QUICK, jobs=1).stages_run == 10
    return contents(folder)


class Shuffled:
    """What `os.scandir` gives, in another order each time."""

    def __init__(self, entries: Any, draw: random.Random) -> None:
        with entries:
            self.entries = list(entries)
        draw.shuffle(self.entries)

    def __enter__(self) -> Shuffled:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Shuffled:
        return self

    def __next__(self) -> Any:
        if not self.entries:
            raise StopIteration
        return self.entries.pop()


@pytest.fixture
def shuffled_listings(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    draw = random.Random(1)
    scandir, listdir = os.scandir, os.listdir

    def names(*path: Any) -> list[str]:
        found = listdir(*path)
        draw.shuffle(found)
        return found

    monkeypatch.setattr(os, "scandir", lambda *path: Shuffled(scandir(*path), draw))
    monkeypatch.setattr(os, "listdir", names)
    return draw


def test_more_workers_than_scenes(shoot: Path, one_by_one: dict[str, str], tmp_path: Path) -> None:
    assert defocus_ds.build(shoot, tmp_path / "d", config=QUICK, jobs=3).stages_run == 10
    assert contents(tmp_path / "d") == one_by_one


def test_other_order_of_files_and_scenes_and_a_restart(
    shoot: Path,
    one_by_one: dict[str, str],
    tmp_path: Path,
    shuffled_listings: random.Random,
) -> None:
    class Stop(Exception):
        pass

    def stop_at_render(event: Any) -> None:
        if event.stage == "register":
            raise Stop

    before = shuffled_listings.getstate()
    dataset = tmp_path / "d"
    with pytest.raises(Stop):
        defocus_ds.build(
            shoot, dataset, config=QUICK, jobs=2, skip=["scene01"], on_event=stop_at_render
        )
    assert (dataset / "receipts/scene02/register.json").is_file()
    report = defocus_ds.build(shoot, dataset, config=QUICK, jobs=2)
    assert report.stages_run == 7, "three of the second scene were done before the first began"
    assert contents(dataset) == one_by_one
    assert shuffled_listings.getstate() != before
