"""A shoot and a dataset whose stages are signed and whose tables are not yet written."""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from scale_scenes import make_scenes, sign_scenes  # noqa: E402

__all__ = ["make_signed"]


def make_signed(root: Path, *, scenes: int) -> tuple[Path, Path]:
    """The shoot and the dataset; see `benchmarks/scale_scenes.py`."""
    make_scenes(root / "shoot", scenes)
    sign_scenes(root / "shoot", root / "dataset")
    return root / "shoot", root / "dataset"
