"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

SMALL = (744, 496)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's background jobs begin with SIGINT ignored; tests and their children get it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real inputs; skips when DEFOCUS_DS_DATA is unset, fails when it is wrong."""
    value = os.environ.get("DEFOCUS_DS_DATA")
    if not value:
        pytest.skip("DEFOCUS_DS_DATA is not set: it names the folder of real inputs")
    folder = Path(value)
    assert folder.is_dir(), f"DEFOCUS_DS_DATA={value} is not a folder"
    return folder


@pytest.fixture(scope="session")
def small_shoot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated scenes of 744x496, eight CR2 files, with references; do not write to it."""
    from defocus_ds.simulate import simulate

    folder = tmp_path_factory.mktemp("simulated") / "shoot"
    simulate(folder, scenes=2, size=SMALL, seed=5, references=True)
    return folder


@pytest.fixture(scope="session")
def small_dataset(small_shoot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shoot, built; do not write to it."""
    from defocus_ds import build

    folder = tmp_path_factory.mktemp("built") / "dataset"
    report = build(small_shoot, folder, jobs=2)
    assert report.clean, report
    return folder
