"""Pairs of a built dataset: which ones can be cropped, and why the others cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defocus_ds.dataset.pixels import read_luma
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Level, Pair, UInt8Image
from defocus_ds.stages.register.radius_map import RadiusMap
from defocus_ds.store import inside

__all__ = ["BuiltPair", "LeftOut", "LocalFigures", "built_pairs", "image_hashes", "kept_scenes"]


@dataclass(frozen=True, slots=True)
class LocalFigures:
    """What the alignment of a pair says of the places in its frame.

    Attributes:
        residual_grid: rows of x, y, dx, dy in pixels and confidence; may be empty.
        unexplained_grid: rows of x, y in pixels and unexplained share; may be empty.
        radius_map: blur radius every 64 px; None in datasets from before it was measured.
        radius_grid: rows of x, y, blur radius in pixels and confidence; may be empty.
    """

    residual_grid: tuple[tuple[float, ...], ...]
    unexplained_grid: tuple[tuple[float, ...], ...]
    radius_map: RadiusMap | None
    radius_grid: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class BuiltPair:
    """A kept pair of a built dataset, as scenes.parquet describes it.

    Attributes:
        pair: scene and level.
        sharp, blurred: image files.
        sharp_sha256, blurred_sha256: of those files.
        size: (width, height) in pixels of both.
        valid_area: (x0, y0, x1, y1) pixels, half-open.
        alignment: JSON of its record, checked; ten times as large when it is parsed.
        has_radius_map: whether that has one.
        residual_px, blur_radius_px: of the pair.
    """

    pair: Pair
    sharp: Path
    blurred: Path
    sharp_sha256: str
    blurred_sha256: str
    size: tuple[int, int]
    valid_area: tuple[int, int, int, int]
    alignment: str
    has_radius_map: bool
    residual_px: float
    blur_radius_px: float

    def figures(self) -> LocalFigures:
        """The alignment's figures by place, parsed anew."""
        return _figures(str(self.pair), self.alignment, self.size)

    def read(self) -> tuple[UInt8Image, UInt8Image]:
        """Luma of the sharp and the blurred image, (H, W) uint8 each; hashes are checked.

        The two are decoded side by side: that is most of the time a crop run takes.
        """
        with ThreadPoolExecutor(1) as pool:
            blurred = pool.submit(
                read_luma, self.blurred, size=self.size, sha256=self.blurred_sha256
            )
            sharp = read_luma(self.sharp, size=self.size, sha256=self.sharp_sha256)
            return sharp, blurred.result()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A pair that is not cropped: "reject", "failed" or "absent", and why."""

    pair: Pair
    verdict: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pair}: {'; '.join(self.reasons)}"


def built_pairs(
    root: Path, rows: Sequence[Mapping[str, Any]], level: Level
) -> tuple[list[BuiltPair], list[LeftOut]]:
    """Every scene of a dataset, sorted by name: its pair at this level, or why there is none.

    Args:
        root: the dataset.
        rows: of scenes.parquet, validated.
        level: a blurred level.

    Raises:
        DatasetError: an image path that leads outside the dataset, an alignment record that is
            not one, or two images of a kept pair that differ in size.
    """
    named = {(row["scene"], row["level"]): row for row in rows}
    pairs, left_out = [], []
    for scene in sorted({row["scene"] for row in rows}):
        pair = Pair(scene, level)
        sharp, blurred = named.get((scene, Level.SHARP.value)), named.get((scene, level.value))
        if obstacle := _obstacle(pair, sharp, blurred):
            left_out.append(obstacle)
        elif sharp and blurred:
            pairs.append(_built(root, pair, sharp, blurred))
    return pairs, left_out


def kept_scenes(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The scenes with a kept pair at any level."""
    named = {(row["scene"], row["level"]): row for row in rows}
    pairs = (
        (Pair(scene, level), named.get((scene, level.value)))
        for scene, _ in named
        for level in BLURRED_LEVELS
    )
    return {
        pair.scene
        for pair, blurred in pairs
        if _obstacle(pair, named.get((pair.scene, Level.SHARP.value)), blurred) is None
    }


def image_hashes(built: BuiltPair) -> dict[str, str]:
    """The columns by which a manifest names a pair's images."""
    return {
        "image_sha256_sharp": built.sharp_sha256,
        "image_sha256_blurred": built.blurred_sha256,
    }


def _obstacle(
    pair: Pair, sharp: Mapping[str, Any] | None, blurred: Mapping[str, Any] | None
) -> LeftOut | None:
    for name, row in (("sharp", sharp), (pair.level.value, blurred)):
        if row is None:
            return LeftOut(pair, "absent", (f"absent: no {name} capture",))
        if row["verdict"] != "keep":
            return LeftOut(pair, row["verdict"], tuple(row["reasons"]))
    return None


def _built(
    root: Path, pair: Pair, sharp: Mapping[str, Any], blurred: Mapping[str, Any]
) -> BuiltPair:
    size = blurred["width"], blurred["height"]
    if size != (sharp["width"], sharp["height"]):
        raise DatasetError(
            f"{root}: {pair}: {size[0]}x{size[1]} pixels, but the sharp image has "
            f"{sharp['width']}x{sharp['height']}. Build the scene again."
        )
    x0, y0, x1, y1 = blurred["valid_area"]
    record = blurred["alignment"] or "{}"
    figures = _figures(f"{root}: {pair}", record, size)
    return BuiltPair(
        pair,
        inside(root, sharp["image"]),
        inside(root, blurred["image"]),
        sharp["image_sha256"],
        blurred["image_sha256"],
        size,
        (x0, y0, x1, y1),
        record,
        figures.radius_map is not None,
        blurred["residual_px"],
        blurred["blur_radius_px"],
    )


def _figures(where: str, text: str, size: tuple[int, int]) -> LocalFigures:
    record = json.loads(text)
    radii = record.get("radius_map")
    return LocalFigures(
        tuple(_grid(where, record, "residual_grid", 5)),
        tuple(_grid(where, record, "unexplained_grid", 3)),
        None if radii is None else _radius_map(where, radii, size),
        tuple(_grid(where, record, "radius_grid", 4)),
    )


def _radius_map(where: str, record: Any, size: tuple[int, int]) -> RadiusMap:
    """The map of an alignment record, which must be one of this frame."""
    try:
        found = RadiusMap.from_record(record)
        found.check_frame(size)
    except DatasetError as error:
        raise DatasetError(f"{where}: alignment: {error}") from error
    return found


def _grid(
    where: str, record: Mapping[str, Any], key: str, length: int
) -> Iterator[tuple[float, ...]]:
    """Nodes of a grid in an alignment record; a node with a null entry was not measured."""
    nodes = record.get(key) or []
    if not isinstance(nodes, list):
        raise DatasetError(f"{where}: alignment: {key} is {str(nodes)[:80]!r}, need a list.")
    for node in nodes:
        numbers = node if isinstance(node, list) else []
        if len(numbers) != length or not all(
            value is None or isinstance(value, int | float) for value in numbers
        ):
            raise DatasetError(f"{where}: alignment: {key} holds {node!r}, need {length} numbers.")
        if None not in numbers:
            try:
                yield tuple(float(value) for value in numbers)
            except OverflowError as error:
                raise DatasetError(f"{where}: alignment: {key}: a number is too large.") from error
