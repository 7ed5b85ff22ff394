"""The command: trains the smoke recipe on a cropped dataset, goes on, and refuses in one line."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from built_dataset import make_dataset
from click.testing import CliRunner, Result

from defocus_ds.dataset.crop import crop
from defocus_ds_cli import fit_display
from defocus_ds_cli.fit_display import FitDisplay
from defocus_ds_cli.main import cli
from defocus_ds_train.checkpoint import load_model
from defocus_ds_train.recipe import recipe_names
from defocus_ds_train.records import EpochReport, Scores, StepReport

TINY = ("size=32", "width=2", "depth=1", "crops=32", "epochs=2", "validation_crops=8")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("fit") / "dataset", scenes=5, size=(256, 192))
    crop(root, level="low", size=32, stride=16)
    return root


@pytest.fixture
def invoke(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, data: Path = dataset, settings: tuple[str, ...] = TINY) -> Result:
        options = [part for setting in settings for part in ("--set", setting)]
        fixed = ["--data", str(data), "--cache", "cache", "--device", "cpu"]
        return CliRunner().invoke(cli, ["train", "fit", *arguments, *fixed, *options])

    return call


def test_smoke_improves_on_the_blurred_input(invoke, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A disk of 2 px in linear light; unseen scenes come back at least 0.5 dB closer."""
    settings = ("size=32", "depth=1", "epochs=6", "first_rate=5e-3", "crops=160")
    result = invoke("smoke", "--json", settings=settings)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["finished"]
    assert report["run"] == "runs/smoke"
    assert report["best"]["psnr"] > report["best"]["input_psnr"] + 0.5
    assert load_model(tmp_path / "runs/smoke").stride == 2
    info = json.loads((tmp_path / "runs/smoke/run.json").read_text())
    assert len(info["data_digest"]) == 64
    assert "epochs = 6\n" in (tmp_path / "runs/smoke/recipe.toml").read_text()
    assert "validation: no val split" in result.stderr
    assert "crops/s" in result.stderr
    assert "left" in result.stderr


def test_the_q_stage_follows_the_l1_stage(invoke) -> None:  # type: ignore[no-untyped-def]
    assert invoke("real-l1", settings=(*TINY, "batch=8")).exit_code == 0
    q = (*TINY, "batch=8", "hold_epochs=1")
    refused = invoke("real-q", settings=q)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines() == [
        "defocus-ds: recipe real-q starts from the best weights of another run; give --from RUN. "
        "If there is none yet: defocus-ds train fit real-l1."
    ]
    result = invoke("real-q", "--from", "runs/real-l1", settings=q)
    assert result.exit_code == 0, result.output
    assert "runs/real-q: best of 2 epochs" in result.stdout


def test_a_snapshot_repeats_the_run(invoke, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert invoke("smoke", "-o", "one").exit_code == 0
    assert invoke("one/recipe.toml", "-o", "two", settings=()).exit_code == 0
    first, second = ((tmp_path / n / "last.safetensors").read_bytes() for n in ("one", "two"))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "settings", "expected"),
    [
        (["smok"], (), "did you mean smoke"),
        (["smoke"], ("epoch=3",), "unknown key 'epoch'; did you mean 'epochs'"),
        (["smoke"], ("level=high", *TINY), "no crops of level 'high'"),
        (["smoke"], (), "crops of 32 px, the recipe trains on 128 px"),
        (["smoke", "--from", "."], TINY, "starts from identity"),
    ],
)
def test_refusals_are_one_line_and_exit_with_2(  # type: ignore[no-untyped-def]
    invoke, arguments: list[str], settings: tuple[str, ...], expected: str
) -> None:
    result = invoke(*arguments, settings=settings)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_ctrl_c_saves_and_says_how_to_go_on(dataset: Path, tmp_path: Path) -> None:
    options = [
        part for setting in (*TINY, "epochs=4000", "log_every=1") for part in ("--set", setting)
    ]
    command = [sys.executable, "-m", "defocus_ds_cli", "train", "fit", "smoke"]
    command += [
        "--data",
        str(dataset),
        "--cache",
        "cache",
        "--device",
        "cpu",
        "-o",
        "run",
        *options,
    ]
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    table = tmp_path / "run/metrics.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if table.is_file() and len(table.read_text().splitlines()) > 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    last = errors.splitlines()[-1]
    assert "Stopped and saved after step" in last
    assert "same command goes on: run" in last
    assert (tmp_path / "run/resume.pt").is_file()


def test_without_torch_the_extra_is_named(invoke, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    result = invoke("smoke")
    assert result.exit_code == 2
    assert "pip install -c constraints.txt -e '.[train]'" in result.stderr


def report(step: int) -> StepReport:
    return StepReport(
        epoch=1,
        step=step,
        steps=100,
        learning_rate=1e-4,
        loss=0.0123456,
        l1=0.0123456,
        q=0.1,
        psnr=27.3456,
        crops_per_s=12345.6,
        seconds_left=3725.2,
    )


def test_plain_lines_hold_loss_psnr_speed_and_time_left_and_are_few(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(fit_display.time, "monotonic", lambda: now)
    with FitDisplay(2) as display:
        for step in range(1, 100):
            now = float(step)
            display.show(report(step))
        scores = Scores(loss=0.01, l1=0.01, q=0.12, psnr=28.0, input_psnr=25.0)
        display.show(EpochReport(1, 2, 100, scores, best=True))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == (
        "epoch 1/2  step 1/100  loss 0.01235  PSNR 27.35 dB  12,346 crops/s  1:02:05 left"
    )
    assert len(lines) == 5
    assert lines[-1].endswith("PSNR 28.000 dB (blurred 25.000)  Q 0.12  best")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    with FitDisplay(2) as display:
        display.say("a note [with brackets]")
        display.show(report(50))
    text = terminal.getvalue()
    assert "a note [with brackets]" in text
    assert "50/100" in text
    assert "12,346 crops/s" in text


def test_only_the_first_process_shows_anything(capsys: pytest.CaptureFixture[str]) -> None:
    with FitDisplay(2, shown=False) as display:
        display.say("hello")
        display.show(report(1))
    assert capsys.readouterr() == ("", "")


def test_help_ends_with_an_example() -> None:
    for arguments in (["train"], ["train", "fit"]):
        result = CliRunner().invoke(cli, [*arguments, "--help"])
        assert result.exit_code == 0
        assert "Example: defocus-ds train fit" in result.stdout.split("\n\n")[-1]


def test_help_names_every_recipe() -> None:
    words = CliRunner().invoke(cli, ["train", "fit", "--help"]).stdout.replace(",", " ").split()
    assert {name.rstrip(".") for name in words} >= set(recipe_names())


def test_a_finished_run_says_that_nothing_is_left(invoke) -> None:  # type: ignore[no-untyped-def]
    settings = (*TINY, "epochs=1")
    first, second = (invoke("smoke", settings=settings) for _ in range(2))
    words = "finished already, and nothing is left to do"
    assert words not in first.stderr
    assert words in second.stderr
    assert second.exit_code == 0
    assert second.stdout == first.stdout
