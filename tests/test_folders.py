"""Whole folders replaced: what a live run, a dead run and a person left are told apart."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from defocus_ds.dataset import folders
from defocus_ds.dataset.folders import replaced_folder

_KILLED = """
import os, signal, sys
from pathlib import Path
from defocus_ds.dataset import folders

def die(*names):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "between":
    folders._exchange = lambda one, other: False
    folders.Path.rename, rename = lambda one, other: (rename(one, other), die()), Path.rename
with folders.replaced_folder(Path(sys.argv[1])) as fresh:
    (fresh / "half").write_text("half")
    if sys.argv[2] == "writing":
        die()
"""


def killed(target: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(target), when], check=False)
    assert done.returncode == -signal.SIGKILL


def make(target: Path, text: str) -> None:
    with replaced_folder(target) as fresh:
        (fresh / "file").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[True, False], ids=["exchange", "two-renames"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    return bool(request.param)


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("other", ["pairs-dpdd", "pairs"])
def test_two_writers_side_by_side(tmp_path: Path, other: str) -> None:
    with replaced_folder(tmp_path / other) as long:
        (long / "file").write_text("long")
        with replaced_folder(tmp_path / "pairs") as short:
            assert (long / "file").read_text() == "long"
            (short / "file").write_text("short")
        assert (tmp_path / "pairs/file").read_text() == "short"
    assert (tmp_path / other / "file").read_text() == "long"
    assert names(tmp_path) == sorted({"pairs", other})


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("name", ["pairs", "pairs[1]", "p*", "-"])
def test_what_a_killed_run_left_is_removed(tmp_path: Path, name: str) -> None:
    make(tmp_path / name, "old")
    killed(tmp_path / name, "writing")
    assert len(names(tmp_path)) == 2
    assert (tmp_path / name / "file").read_text() == "old"
    make(tmp_path / name, "new")
    assert names(tmp_path) == [name]
    assert (tmp_path / name / "file").read_text() == "new"


@pytest.mark.parametrize("name", ["p*", "pairs[-d]", "pairs.d"])
def test_a_name_is_no_pattern(tmp_path: Path, name: str) -> None:
    kept = [
        ".tmp-pairs-mine",
        ".tmp-pairs-abcdefgh",
        ".tmp-pairs--abcdefgh",
        ".tmp-pairs-d-abcdefgh",
    ]
    for folder in kept:
        (tmp_path / folder).mkdir()
    make(tmp_path / name, "new")
    assert names(tmp_path) == sorted([*kept, name])


def test_dead_between_the_two_renames(tmp_path: Path) -> None:
    make(tmp_path / "pairs", "old")
    killed(tmp_path / "pairs", "between")
    assert not (tmp_path / "pairs").exists()
    with pytest.raises(KeyboardInterrupt), replaced_folder(tmp_path / "pairs"):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["pairs"]
    assert (tmp_path / "pairs/file").read_text() == "old"


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("before", [True, False])
def test_a_folder_of_the_user_stays(tmp_path: Path, before: bool) -> None:
    (tmp_path / ".old-pairs").mkdir()
    (tmp_path / ".old-pairs/mine").write_text("mine")
    (tmp_path / ".tmp-pairs-abcdefgh").mkdir()  # of a run that died
    if before:
        make(tmp_path / "pairs", "old")
    make(tmp_path / "pairs", "new")
    assert names(tmp_path) == [".old-pairs", "pairs"]
    assert (tmp_path / ".old-pairs/mine").read_text() == "mine"
    assert names(tmp_path / "pairs") == ["file"]


def test_a_second_rename_that_fails_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "pairs", "old")
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    rename = Path.rename

    def full(one: Path, other: Path) -> Path:
        if one.name.startswith(".tmp-"):
            raise OSError("no space")
        return rename(one, other)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        make(tmp_path / "pairs", "new")
    assert names(tmp_path) == ["pairs"]
    assert (tmp_path / "pairs/file").read_text() == "old"


def test_without_locks_a_folder_is_written_and_nothing_is_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(9, os.strerror(9))

    (tmp_path / ".tmp-pairs-abcdefgh").mkdir()
    monkeypatch.setattr(fcntl, "flock", unsupported)
    make(tmp_path / "pairs", "new")
    assert names(tmp_path) == [".tmp-pairs-abcdefgh", "pairs"]
