"""Pairs that must not be accepted, of every kind, from seeds or from photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
from real_stacks import STACKS
from wrong_captures import CAPTURE_KINDS
from wrong_scenes import SCENE_KINDS
from wrong_stage import Stage

from defocus_ds.frames import UInt8Image

__all__ = ["CROSSED", "KINDS", "WrongPair", "crossed_pairs", "wrong_pairs"]

KINDS = SCENE_KINDS | CAPTURE_KINDS
CROSSED = "another photographed scene"


@dataclass(frozen=True, slots=True)
class WrongPair:
    """``kind`` is one of `KINDS`; both captures are ``(H, W, 3)`` uint8."""

    kind: str
    number: int
    sharp: UInt8Image
    blurred: UInt8Image


def wrong_pairs(
    size: tuple[int, int], *, count: int, seed: int = 0, only: str = ""
) -> Iterator[WrongPair]:
    """Pairs of every kind.

    Args:
        size: (width, height) of the frames in px; the sizes of all disturbances follow it.
        count: rounds; a round has one pair of each kind, with scenes of its own.
        seed: of everything.
        only: kinds whose name contains this.
    """
    for number in range(count):
        stage = Stage(size, number, seed)
        for kind, make in KINDS.items():
            if only in kind:
                rng = np.random.default_rng([seed, number, *kind.encode()])
                sharp, blurred = make(stage, rng)
                yield WrongPair(kind, number, sharp, blurred)


def crossed_pairs(data: Path, size: tuple[int, int]) -> Iterator[WrongPair]:
    """The sharp capture of each real stack with the first blurred one of each other stack.

    Args:
        data: the folder that `real_stacks` reads.
        size: (width, height) in px; larger photographs are reduced and cropped, smaller ones
            are only paired with photographs of their own size.
    """
    scenes: dict[str, tuple[UInt8Image, UInt8Image]] = {}
    for folder, stacks in STACKS.items():
        for scene, (first, second, *_) in stacks.items():
            images = [_fitted(data / folder / name, size) for name in (first, second)]
            scenes[scene] = (images[0], images[1])
    number = 0
    for one, two in permutations(scenes, 2):
        sharp, blurred = scenes[one][0], scenes[two][1]
        if sharp.shape == blurred.shape:
            yield WrongPair(CROSSED, number, sharp, blurred)
            number += 1


def _fitted(path: Path, size: tuple[int, int]) -> UInt8Image:
    """The middle of a photograph, reduced to cover the size."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise FileNotFoundError(f"{path}: cannot be read; is the data folder the right one?")
    scale = max(size[0] / image.shape[1], size[1] / image.shape[0])
    if scale > 1:
        return np.asarray(image, np.uint8)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (image.shape[0] - size[1]) // 2, (image.shape[1] - size[0]) // 2
    return np.ascontiguousarray(image[top : top + size[1], left : left + size[0]], np.uint8)
