"""``work/SCENE`` of a dataset: arrays that a stage leaves for the later ones of its scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from defocus_ds.frames import Level, UInt8Image
from defocus_ds.store import atomic_path

__all__ = ["developed_name", "load_developed", "lut_name", "matched_name", "save_array"]


def developed_name(scene: str, level: Level) -> str:
    """A developed capture, as shot; relative to the dataset."""
    return f"work/{scene}/{level}.npy"


def matched_name(scene: str, level: Level) -> str:
    """A blurred capture in the sharp one's colours, not yet warped; relative to the dataset."""
    return f"work/{scene}/{level}.matched.npy"


def lut_name(scene: str, level: Level) -> str:
    """The colour map of a pair as a table; relative to the dataset."""
    return f"work/{scene}/{level}.lut.npy"


def load_developed(dataset: Path, scene: str, level: Level) -> UInt8Image:
    """A developed capture, (H, W, 3) uint8.

    Raises:
        OSError, ValueError: it is not there, or damaged.
    """
    path = dataset / developed_name(scene, level)
    return np.asarray(np.load(path, allow_pickle=False))


def save_array(path: Path, array: Any) -> None:
    """Write an array as .npy, whole or not at all.

    Raises:
        NotWritten: no room or no permission.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
