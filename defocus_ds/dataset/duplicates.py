"""Near-duplicates: scenes that show the same place, which must not straddle two splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import UInt8Image

__all__ = [
    "Duplicate",
    "Features",
    "equal_images",
    "find_duplicates",
    "scene_features",
    "scene_groups",
]

_LONG_SIDE_PX = 640
_FEATURES = 800
_WORD_BITS = 10  # of a descriptor that make a word; near ones share it
_TABLES = 8
_BLOCK = 256  # scenes compared with as many others at once
_LENGTH = 4000.0  # of the vector of a scene's words
_NEIGHBOURS = 8  # scenes of most alike words that are compared feature by feature
_BITS = 256  # of a descriptor
_MAX_BITS = 64  # that two descriptors of one point may differ in
_REACH_PX = 4.0
_MIN_MATCHES = 24
_MIN_SHARE = 0.1

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Features:
    """Points of an image: ``xy`` (N, 2) float32 px, ``descriptors`` (N, 32) uint8 (ORB)."""

    xy: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two scenes, by name, of which ``matched`` points lie alike: ``share`` of the fewer.

    The same image twice has a share of 1, and no points where none were compared.
    """

    one: str
    other: str
    matched: int
    share: float


def scene_features(image: UInt8Image) -> Features:
    """Corners of an image reduced to 640 px, with rotation-aware binary descriptors.

    Args:
        image: (H, W) uint8 luma.

    Returns:
        At most 800 points, strongest first; a flat image has none.

    Source: Rublee et al., ORB: an efficient alternative to SIFT or SURF, ICCV 2011.
    """
    import cv2

    factor = _LONG_SIDE_PX / max(image.shape)
    if factor < 1:
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    # a low threshold: a scene seldom has strong corners everywhere
    points, found = cv2.ORB.create(_FEATURES, fastThreshold=7).detectAndCompute(image, None)
    if found is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))
    xy = np.array([point.pt for point in points], np.float32)
    return Features(xy, np.asarray(found, np.uint8))


def find_duplicates(
    scenes: Mapping[str, Features], *, progress: Progress | None = None
) -> list[Duplicate]:
    """Pairs of scenes that show the same place: one similarity maps many points on each other.

    Which pairs are looked at is decided by visual words, a few for each scene, so that the time
    grows with the number of scenes and hardly with that of pairs.  A place that was shot often
    would use up the few of its own: what was joined is compared with those most alike outside,
    until that joins nothing more.

    Args:
        scenes: name -> features.
        progress: called with (done, total, scene).

    Returns:
        Sorted by name; a pair is there once, and not every pair of what is joined through others.
    """
    names = sorted(scenes)
    features = [scenes[name] for name in names]
    words = _Words.of(features)
    number = {name: index for index, name in enumerate(names)}
    found: list[Duplicate] = []
    compared: set[tuple[int, int]] = set()
    asked = place = np.arange(len(names))
    while len(asked):
        joined: set[int] = set()
        for index, alike in zip(asked.tolist(), words.most_alike(asked, place), strict=True):
            # a pair may be found from either side, and is compared once
            pairs = {(min(index, other), max(index, other)) for other in alike.tolist()}
            for one, other in sorted(pairs - compared):
                match = _compare(features[one], features[other])
                if match is not None:
                    found.append(Duplicate(names[one], names[other], *match))
                    joined.add(index)
            compared |= pairs
            if progress is not None and len(asked) == len(names):
                progress(index + 1, len(names), names[index])
        groups = scene_groups(names, found)
        place = np.array([number[groups[name]] for name in names])
        asked = np.flatnonzero(np.isin(place, place[sorted(joined)]))
    return sorted(found, key=lambda pair: (pair.one, pair.other))


def equal_images(digests: Mapping[str, str]) -> list[Duplicate]:
    """Scenes whose sharp images are the same bytes, however little there is to see in them.

    Args:
        digests: scene -> SHA-256 of its sharp image.
    """
    first: dict[str, str] = {}
    found = []
    for scene in sorted(digests):
        twin = first.setdefault(digests[scene], scene)
        if twin != scene:
            found.append(Duplicate(twin, scene, 0, 1.0))
    return found


def scene_groups(scenes: Iterable[str], duplicates: Sequence[Duplicate]) -> dict[str, str]:
    """Scene -> the first name of its group: scenes joined by duplicates, directly or not."""
    first = {scene: scene for scene in scenes}

    def root(scene: str) -> str:
        while first[scene] != scene:
            scene = first[scene]
        return scene

    for pair in duplicates:
        one, other = sorted((root(pair.one), root(pair.other)))
        first[other] = one
    return {scene: root(scene) for scene in sorted(first)}


@dataclass(frozen=True, slots=True)
class _Words:
    """``counts`` (N, words) uint8 of scenes, and the weight of each word: what most scenes have
    says little."""

    counts: npt.NDArray[np.uint8]
    rarity: npt.NDArray[np.float64]

    @classmethod
    def of(cls, features: Sequence[Features]) -> Self:
        """Of so many scenes."""
        counts = np.zeros((len(features), _TABLES << _WORD_BITS), np.uint8)
        for index, one in enumerate(features):
            found = np.bincount(_words(one.descriptors).ravel(), minlength=counts.shape[1])
            counts[index] = np.minimum(found, 255)
        seen = np.zeros(counts.shape[1], np.int64)
        for block in _blocks(len(counts)):
            seen += np.count_nonzero(counts[block], axis=0)
        return cls(counts, np.maximum(np.log((1 + len(counts)) / (1 + seen)), 0.05))

    def most_alike(
        self, asked: npt.NDArray[np.intp], place: npt.NDArray[np.intp]
    ) -> Iterator[npt.NDArray[np.intp]]:
        """For each scene asked for, the most alike of those with another number as ``place``.

        All scenes are compared, a block with a block, in half a microsecond a pair: up to 50,000
        scenes, the most that a dataset has, the points of the few chosen pairs take longer.
        Vectors of whole numbers have products without rounding: the same on every machine.
        """
        for block in _blocks(len(asked)):
            rows = asked[block]
            own = self._directions(rows)
            scores = np.hstack(
                [own @ self._directions(other).T for other in _blocks(len(self.counts))]
            )
            scores[place[rows][:, None] == place] = -1
            wanted = min(_NEIGHBOURS, scores.shape[1])
            for row in scores:
                best = np.flatnonzero(row >= max(np.partition(row, -wanted)[-wanted], 0))
                yield best[np.argsort(-row[best], kind="stable")][:wanted]

    def _directions(self, rows: slice | npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Vectors of whole numbers whose products stay below 2^24."""
        words = np.sqrt(self.counts[rows], dtype=np.float32) * self.rarity.astype(np.float32)
        words *= _LENGTH / np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-9)
        return np.asarray(np.round(words), np.float32)


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]


def _words(descriptors: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(N, tables) indices of the words of binary descriptors."""
    bits = np.unpackbits(descriptors, axis=1)
    chosen = np.random.default_rng(0).permutation(bits.shape[1])[: _TABLES * _WORD_BITS]
    parts = bits[:, chosen].reshape(len(bits), _TABLES, _WORD_BITS).astype(np.int64)
    words: npt.NDArray[np.int64] = parts @ (1 << np.arange(_WORD_BITS))
    return words + (np.arange(_TABLES) << _WORD_BITS)


def _compare(one: Features, other: Features) -> tuple[int, float] | None:
    """(points that one similarity maps on each other, their share); None where they are few."""
    import cv2

    fewer = min(len(one.xy), len(other.xy))
    if fewer < _MIN_MATCHES:
        return None
    # of vectors of 1 and -1: the number of equal bits less that of unequal ones
    alike = _signs(one.descriptors) @ _signs(other.descriptors).T
    there = alike.argmax(axis=1)
    here = np.flatnonzero(
        (alike.argmax(axis=0)[there] == np.arange(len(there)))
        & (alike.max(axis=1) >= _BITS - 2 * _MAX_BITS)
    )
    if len(here) < _MIN_MATCHES:
        return None
    _, agree = cv2.estimateAffinePartial2D(
        one.xy[here], other.xy[there[here]], ransacReprojThreshold=_REACH_PX, maxIters=2000
    )
    matched = 0 if agree is None else int(agree.sum())
    share = matched / fewer
    return (matched, share) if matched >= _MIN_MATCHES and share >= _MIN_SHARE else None


def _signs(descriptors: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.unpackbits(descriptors, axis=1).astype(np.float32) * 2 - 1
