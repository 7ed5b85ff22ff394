"""Damaged files of a training run and of stored weights: refused by name, never run."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import complaint, edited, edits, fuzzed, nothing_runs, with_hostile_value
from toy_crops import toy_recipe

from defocus_ds.errors import DefocusError
from defocus_ds.measure.plain_pickle import load_arrays
from defocus_ds_cli.main import cli
from defocus_ds_train.benchmark.expect import load_expectations
from defocus_ds_train.checkpoint import RunFolder, load_model, save_model, weights_record
from defocus_ds_train.recipe import load_recipe
from defocus_ds_train.records import Reports
from defocus_ds_train.unet import UNet

Edits = tuple[tuple[str, float, bytes], ...]


@dataclass(frozen=True)
class Kind:
    """A file of a run and how it is read."""

    name: str
    file: str
    read: Callable[[Path], Any]


def model(path: Path) -> Any:
    return [tensor.sum().item() for tensor in load_model(path).state_dict().values()]


def reports(path: Path) -> Any:
    """A run that goes on reads its own table, and drops what it does not understand."""
    Reports(path.parent, after_step=100, after_epoch=100)
    return path.read_text().splitlines()[0]


KINDS = [
    Kind("weights", "best.safetensors", model),
    Kind("record", "best.safetensors", weights_record),
    Kind("state", "resume.pt", lambda path: sorted(RunFolder(path.parent).load_state() or ())),
    Kind("info", "run.json", lambda path: RunFolder(path.parent).info()),
    Kind("recipe", "recipe.toml", lambda path: load_recipe(path).as_dict()),
    Kind("metrics", "metrics.csv", reports),
    Kind("expected", "expected.json", lambda path: load_expectations(path).sets),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a file of every kind."""
    from defocus_ds_train.benchmark import expect

    torch.set_num_threads(1)
    folder = RunFolder(tmp_path_factory.mktemp("fuzz") / "run")
    folder.begin(toy_recipe(), {"recipe": "0" * 16})
    network = UNet((2, 4))
    save_model(folder.best, network, {"filters": [2, 4], "epoch": 3})
    folder.save_state({"model": network.state_dict(), "epoch": 3, "order": [3, 1, 2]})
    Reports(folder.path, after_step=0, after_epoch=0)
    with folder.metrics.open("a") as file:
        file.writelines(f"1,{step},0.5,0.5,0.1,0.1,0.001,5,5,,,,\n" for step in range(1, 9))
    packaged = Path(expect.__file__).parent / "expected" / "kodak24-red.json"
    (folder.path / "expected.json").write_bytes(packaged.read_bytes())
    return folder.path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage_is_named_or_harmless(run: Path, kind: Kind) -> None:
    path = run / kind.file
    whole = path.read_bytes()
    intact = kind.read(path)

    @fuzzed(25)
    @example(changes=(("hostile", 0.0, b"\x01\x09"),))
    @given(changes=edits())
    def hurt(changes: Edits) -> None:
        path.write_bytes(edited(whole, changes))
        try:
            with nothing_runs():
                kind.read(path)
        except DefocusError as error:
            assert path.name in complaint(error)

    try:
        hurt()
    finally:
        path.write_bytes(whole)
    assert kind.read(path) == intact


@pytest.mark.parametrize("name", ["info", "expected"])
def test_a_value_that_nobody_expects_is_named_or_harmless(run: Path, name: str) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    path = run / kind.file
    whole = path.read_bytes()

    @fuzzed(60)
    @given(share=st.floats(0, 1, exclude_max=True), which=st.integers(0, 18))
    def hurt(share: float, which: int) -> None:
        path.write_bytes(with_hostile_value(whole, share, which))
        try:
            kind.read(path)
        except DefocusError as error:
            assert path.name in complaint(error)

    try:
        hurt()
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04" + bytes(90), bytes(range(256))])
def test_damaged_weights_end_a_command_in_one_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(damage)
    done = CliRunner().invoke(cli, ["train", "export", str(path), "-o", str(tmp_path / "x.onnx")])
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2
    assert done.stderr.startswith(f"defocus-ds: {path}: ")
    assert done.stderr.count("\n") == 1


@fuzzed(80)
@given(changes=edits())
def test_damaged_pickles_of_weights_are_refused_or_plain_arrays(changes: Edits) -> None:
    kernel = np.arange(30, dtype=np.float32).reshape(3, 2, 5)
    data = pickle.dumps({"one": {"kernel": kernel}, "two": {"bias": kernel[0]}}, 3)
    try:
        with nothing_runs():
            found = load_arrays(edited(data, changes))
    except DefocusError as error:
        complaint(error)
        return
    waiting = list(found.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        else:
            assert isinstance(value, np.ndarray)
            assert value.dtype == np.float32
            assert value.nbytes <= len(data) + 600 * len(changes)
