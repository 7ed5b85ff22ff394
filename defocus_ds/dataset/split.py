"""Splits by scene, and exact counts of crops, from hashes: no state, no order, no chance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import TooFewCrops

__all__ = ["SPLITS", "Splits", "assign_splits", "choose", "hash_fraction"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Splits:
    """Split of every scene; ``forced`` is the scene that was made test because none was."""

    by_scene: dict[str, str]
    forced: str | None = None


def hash_fraction(seed: int, *names: object) -> float:
    """A number in [0, 1) that depends on the seed and the names alone: SHA-256 as a fraction.

    >>> hash_fraction(0, "scene01") == hash_fraction(0, "scene01")
    True
    """
    text = "\n".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2.0**48


def assign_splits(
    scenes: Iterable[str], *, seed: int, test_share: float, val_share: float
) -> Splits:
    """Split of every scene from its own name, so that it stays when the dataset grows.

    If there are two scenes or more, ``test_share`` is positive and no scene falls into test, the
    scene with the lowest hash is made test.  That one choice is provisional: a scene added later
    may fall into test by itself, and then the forced one returns to train.

    Args:
        scenes: names; order and repetition do not matter.
        seed: of the hash.
        test_share: expected share of the scenes in test, in [0, 1].
        val_share: the same for val; the sum is at most 1.
    """
    hashes = {scene: hash_fraction(seed, scene) for scene in sorted(set(scenes))}
    splits = {
        scene: "test" if h < test_share else "val" if h < test_share + val_share else "train"
        for scene, h in hashes.items()
    }
    if len(splits) < 2 or test_share <= 0 or "test" in splits.values():
        return Splits(splits)
    forced = min(hashes, key=lambda scene: (hashes[scene], scene))
    return Splits(splits | {forced: "test"}, forced)


def choose(
    crops: Mapping[str, npt.NDArray[np.int32]], count: int, *, seed: int
) -> dict[str, npt.NDArray[np.intp]]:
    """Choose exactly ``count`` crops, as evenly over the scenes as their numbers allow.

    A scene with fewer crops than its share gives all it has.  Inside a scene the crops with the
    lowest hash of (seed, scene, x, y) are taken, so a crop's rank does not depend on the others.

    Args:
        crops: scene -> (N, 2) top-left pixels.
        count: how many to take; at most the sum of all N.
        seed: of the hashes.

    Returns:
        scene -> indices of the chosen rows, rising.

    Raises:
        TooFewCrops: fewer crops than ``count``.
    """
    available = {scene: len(xy) for scene, xy in crops.items()}
    if sum(available.values()) < count:
        raise TooFewCrops(f"{count} crops asked for, {sum(available.values())} pass.")
    quota = _quotas(available, count, seed)
    chosen = {}
    for scene, xy in crops.items():
        if quota[scene] == len(xy):
            chosen[scene] = np.arange(len(xy))
            continue
        ranks = [(hash_fraction(seed, scene, x, y), i) for i, (x, y) in enumerate(xy.tolist())]
        chosen[scene] = np.array(sorted(i for _, i in sorted(ranks)[: quota[scene]]), np.intp)
    return chosen


def _quotas(available: Mapping[str, int], count: int, seed: int) -> dict[str, int]:
    """Level the scenes: everyone gets the same or all it has; the rest goes by hash."""
    quota = dict.fromkeys(available, 0)
    left = count
    while left:
        hungry = [scene for scene in quota if quota[scene] < available[scene]]
        step = min(min(available[s] - quota[s] for s in hungry), left // len(hungry))
        if step == 0:
            for scene in sorted(hungry, key=lambda s: (hash_fraction(seed, s), s))[:left]:
                quota[scene] += 1
            break
        for scene in hungry:
            quota[scene] += step
        left -= step * len(hungry)
    return quota
