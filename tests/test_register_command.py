"""``defocus-ds register``: what it prints of a pair."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from built_dataset import save_image
from click.testing import CliRunner
from scenes import textured

from defocus_ds.optics import to_encoded
from defocus_ds.stages import register as stage
from defocus_ds_cli.main import cli


def test_an_unknown_residual_and_a_file_given_twice_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = stage.register

    def unmeasured(*data: Any, **options: Any) -> Any:
        return dataclasses.replace(measured(*data, **options), residual_px=1e6)

    monkeypatch.setattr(stage, "register", unmeasured)
    path = tmp_path / "a.png"
    encoded = to_encoded(textured((480, 320)))
    save_image(path, np.asarray(np.round(encoded * 255).clip(0, 255), np.uint8))
    done = CliRunner().invoke(cli, ["register", str(path), str(path)])
    assert "are the same bytes" in done.stderr
    assert "residual     unknown\n" in done.stdout
