"""Progress: plain lines with counts and time left, or bars where there is a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from defocus_ds_cli import progress
from defocus_ds_cli.progress import Progress, StageProgress


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_say_counts_label_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("crop", 4) as bar:
        clock.now += 600  # until the first is begun, which says nothing about the others
        for scene in ("a", "b", "c", "d"):
            clock.now += 1200
            bar.advance(scene)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "crop: 1/4 a",
        "crop: 2/4 b",
        "crop: 3/4 c (0:20:00 left)",
        "crop: 4/4 d",
    ]


def test_the_first_items_of_jobs_side_by_side_are_no_measure(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("develop", 305) as bar:
        for wave in range(3):
            clock.now += 60
            for job in range(8):
                clock.now += 0.3
                bar.advance(f"{wave}-{job}")
    lines = capsys.readouterr().err.splitlines()
    assert not any("left" in line for line in lines if "0-" in line)
    (early, *_) = [line for line in lines if "left" in line]
    assert "develop: 9/305" in early
    assert "(0:38:" in early  # 37 waves of a minute are to come


def test_what_was_done_before_is_no_measure_of_the_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("develop") as bar:
        bar(300, 305, "found")
        clock.now += 60
        bar(301, 305, "developed")
    assert "develop: 301/305 developed (0:04:00 left)" in capsys.readouterr().err


def test_plain_lines_are_few_when_steps_are_fast(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("verify") as bar:
        for done in range(1, 1001):
            clock.now += 0.01
            bar(done, 1000, "x")
    lines = capsys.readouterr().err.splitlines()
    assert 5 <= len(lines) <= 8
    assert lines[0].startswith("verify: 1/1000 x")
    assert lines[-1] == "verify: 1000/1000 x"


def test_an_unknown_total_is_left_out(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scan") as bar:
        bar.advance("a.CR2")
    assert capsys.readouterr().err == "scan: 1 a.CR2\n"


def test_stages_count_on_their_own(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress({"develop": 2, "register": 1}) as bars:
        bars.advance("develop", "one")
        bars.advance("register", "one")
        bars.say("FAILED two: truncated")
        bars.advance("develop", "two")
    assert capsys.readouterr().err.splitlines() == [
        "develop: 1/2 one",
        "register: 1/1 one",
        "FAILED two: truncated",
        "develop: 2/2 two",
    ]


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with StageProgress({"develop": 2, "register": 2}) as bars:
        bars.advance("develop", "[one]")
        bars.advance("develop", "[two]")
        bars.say("FAILED [one]")
        bars.update("late", 1, 3, "three")
    shown = terminal.getvalue()
    for text in ("develop", "2/2", "[two]", "register", "0/2", "FAILED [one]", "late", "1/3"):
        assert text in shown
