"""Which crops to cut: decided from the images, or read from a manifest.  Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from defocus_ds.config import TileConfig, config_from_dict
from defocus_ds.dataset.pairs import BuiltPair, LeftOut
from defocus_ds.dataset.shards import CROP_FORMAT, MANIFEST_SCHEMA, crop_record
from defocus_ds.dataset.split import SPLITS, Splits, choose
from defocus_ds.dataset.tables import distinct, read_table
from defocus_ds.errors import ConfigError, DatasetError, TooFewCrops
from defocus_ds.frames import Level
from defocus_ds.stages.tile import Tiles, judge, local_value
from defocus_ds.wording import first_names

__all__ = ["CropPlan", "PlannedPair", "plan_from_images", "plan_from_manifest"]

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PlannedPair:
    """The crops to cut from one pair: an Arrow table of rows, and the verdicts behind it."""

    built: BuiltPair
    rows: Any
    tiles: Tiles | None = None


@dataclass(frozen=True, slots=True)
class CropPlan:
    """Everything a level's folder will hold, but for the pixels.

    Attributes:
        level: of the blurred images.
        pairs: sorted by scene; rows of each by y, then x.
        passed: split -> crops that passed every test.
        record: what the files say of how they were made.
    """

    level: Level
    pairs: tuple[PlannedPair, ...]
    passed: dict[str, int]
    record: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Split -> crops to cut; empty splits are left out."""
        total: Counter[str] = Counter()
        for pair in self.pairs:
            total.update(pair.rows.column("split").to_pylist())
        return {split: total[split] for split in SPLITS if total[split]}

    @property
    def rejected(self) -> dict[str, int]:
        """Reason -> rejected crops."""
        total: Counter[str] = Counter()
        for pair in self.pairs:
            total.update(pair.tiles.counts() if pair.tiles else {})
        return dict(sorted(total.items()))


def plan_from_images(
    pairs: Sequence[BuiltPair],
    *,
    level: Level,
    config: TileConfig,
    splits: Splits,
    wanted: dict[str, int | None],
    seed: int,
    dataset_digest: str,
    review_digest: str | None = None,
    step: Step,
) -> CropPlan:
    """Judge every crop of every pair, then choose.

    Args:
        pairs: kept pairs, sorted by scene; one is read at a time.
        level: theirs.
        config: size, stride and limits.
        splits: split of every scene.
        wanted: split -> exact number of crops, or None for all that pass.
        seed: of the choice.
        dataset_digest: recorded.
        review_digest: SHA-256 of the review.csv that chose the pairs; recorded.
        step: called with the name of each pair after it was judged.

    Raises:
        TooFewCrops: some split has fewer crops than wanted.
        DatasetError: no crop passes at all, or an image is not what scenes.parquet says.
    """
    judged: list[tuple[BuiltPair, Tiles]] = []
    for built in pairs:
        sharp, blurred = built.read()
        figures = built.figures()
        tiles = judge(
            sharp,
            blurred,
            valid_area=built.valid_area,
            residual_grid=np.array(figures.residual_grid, np.float64).reshape(-1, 5),
            unexplained_grid=np.array(figures.unexplained_grid, np.float64).reshape(-1, 3),
            residual_px=built.residual_px,
            config=config,
        )
        judged.append((built, tiles))
        step(f"judged {built.pair}")
    passing = {
        split: {
            built.pair.scene: tiles.xy[tiles.kept]
            for built, tiles in judged
            if splits.by_scene[built.pair.scene] == split
        }
        for split in SPLITS
    }
    passed = {split: sum(map(len, scenes.values())) for split, scenes in passing.items()}
    _check_enough(passed, wanted, judged, config)
    planned = []
    chosen = {
        split: choose(scenes, _count(wanted.get(split), passed[split]), seed=seed)
        for split, scenes in passing.items()
    }
    for built, tiles in judged:
        split = splits.by_scene[built.pair.scene]
        indices = np.flatnonzero(tiles.kept)[chosen[split][built.pair.scene]]
        planned.append(PlannedPair(built, _rows(built, tiles, indices, split), tiles))
    record = {
        "format": CROP_FORMAT,
        "level": level.value,
        "dataset_digest": dataset_digest,
        "tile": asdict(config),
        "seed": seed,
        "wanted": wanted,
    }
    if review_digest is not None:
        record["review"] = review_digest
    return CropPlan(level, tuple(planned), passed, record)


def plan_from_manifest(
    path: Path,
    pairs: Sequence[BuiltPair],
    left_out: Sequence[LeftOut],
    *,
    level: Level,
    part: tuple[str, int, int] | None = None,
) -> CropPlan:
    """Exactly the rows of a manifest.

    Args:
        path: a manifest.parquet.
        pairs: kept pairs of the dataset that holds the images.
        left_out: its other pairs.
        level: which must be the manifest's.
        part: (split, start, stop) of the only rows to plan, counted within the split.

    Raises:
        DatasetError: damaged manifest, another level, a scene that the dataset lacks, an image
            of another hash, or a crop beyond its image; every scene concerned is named.
    """
    table = read_table(path, MANIFEST_SCHEMA)
    record = _record(path, table.schema.metadata)
    levels = {name for (name,) in distinct(table, "level")}
    if levels - {level.value} or record.get("level") != level.value:
        raise DatasetError(f"{path}: rows of level {record.get('level')}; use --level with it.")
    if part is not None:
        split, start, stop = part
        table = table.filter(pc.equal(table.column("split"), split)).slice(start, stop - start)
    by_scene = {built.pair.scene: built for built in pairs}
    why = {item.pair.scene: "; ".join(item.reasons) for item in left_out}
    planned, problems = [], []
    for scene, rows in _by_scene(table):
        built = by_scene.get(scene)
        if built is None:
            problems.append(f"{scene} ({why.get(scene, 'not in the dataset')})")
        elif problem := _mismatch(built, rows):
            problems.append(f"{scene} ({problem})")
        else:
            planned.append(PlannedPair(built, rows))
    if problems:
        raise DatasetError(
            f"{path}: {len(problems)} of {len(problems) + len(planned)} scenes cannot be rebuilt: "
            f"{first_names(problems)}. The images must be those that the manifest was made from."
        )
    for (split,) in distinct(table, "split"):
        if split not in SPLITS:
            raise DatasetError(f"{path}: unknown split {split!r}.")
    return CropPlan(level, tuple(planned), {}, record)


def _by_scene(table: Any) -> Iterator[tuple[str, Any]]:
    """Scene after scene by name, with its rows in their order; every row is looked at once."""
    table = table.take(pc.sort_indices(table, sort_keys=[("scene", "ascending")]))
    runs = pc.run_end_encode(table.column("scene").combine_chunks())
    start = 0
    for scene, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield scene, table.slice(start, end - start)
        start = end


def _count(wanted: int | None, passed: int) -> int:
    return passed if wanted is None else wanted


def _check_enough(
    passed: dict[str, int],
    wanted: dict[str, int | None],
    judged: list[tuple[BuiltPair, Tiles]],
    config: TileConfig,
) -> None:
    missing = [
        f"{split}: {count} asked for, {passed[split]} pass, {count - passed[split]} missing"
        for split, count in wanted.items()
        if count is not None and count > passed[split]
    ]
    if missing:
        raise TooFewCrops(
            f"too few crops from {len(judged)} pairs: {'; '.join(missing)}. "
            f"A smaller --stride (now {config.stride}), more scenes, or wider limits "
            "(--set tile.min_std, tile.max_clipped, tile.max_residual_px) give more."
        )
    if not any(passed.values()):
        counts: Counter[str] = Counter()
        for _, tiles in judged:
            counts.update(tiles.counts())
        reasons = ", ".join(f"{n} {code}" for code, n in sorted(counts.items()))
        raise DatasetError(
            f"no crop of size {config.size} passes in {len(judged)} pairs ({reasons or 'no place'})"
            ". Give a smaller --size or other limits with --set tile.KEY=VALUE."
        )


def _rows(built: BuiltPair, tiles: Tiles, indices: Any, split: str) -> Any:
    """Arrow table of the chosen crops: place, blur radius and residual there."""
    n = len(indices)
    xy = tiles.xy[indices]
    radius, confidence, spread = _radii(built, xy, tiles.size)
    return pa.table(
        {
            "scene": pa.array([built.pair.scene] * n, pa.string()),
            "level": pa.array([built.pair.level.value] * n, pa.string()),
            "split": pa.array([split] * n, pa.string()),
            "x": pa.array(xy[:, 0], pa.int32()),
            "y": pa.array(xy[:, 1], pa.int32()),
            "size": pa.array([tiles.size] * n, pa.int32()),
            "blur_radius_px": pa.array(radius, pa.float64()),
            "blur_radius_confidence": pa.array(confidence, pa.float64(), from_pandas=True),
            "blur_radius_spread_px": pa.array(spread, pa.float64(), from_pandas=True),
            "residual_px": pa.array(tiles.residual_px[indices], pa.float64()),
        }
    )


def _radii(built: BuiltPair, xy: Any, size: int) -> tuple[Any, Any, Any]:
    """(N,) blur radius, confidence and spread of crops; NaN where the dataset does not say.

    Without a map, as in datasets of earlier versions, the coarse grid of the local checks gives
    the radius.  Where neither knows, it is the pair's.
    """
    figures = built.figures()
    if figures.radius_map is not None:
        found = figures.radius_map.over(xy, size)
        known = found.confidence > 0
        radius = np.where(known, found.radius_px, built.blur_radius_px)
        return radius, found.confidence, found.spread_px
    nodes = np.array(figures.radius_grid, np.float64).reshape(-1, 4)
    radius = local_value(nodes, xy + (size - 1) / 2, fallback=built.blur_radius_px)
    unknown = np.full(len(xy), np.nan)
    return radius, unknown, unknown


def _record(path: Path, metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What a manifest says of how it was made, checked."""
    record = crop_record(path, metadata)
    try:
        tile = config_from_dict({"tile": record["tile"]}).tile
        whole = {"size": tile.size, "stride": tile.stride}.items() <= record["tile"].items()
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DatasetError(f"{path}: its metadata does not say how it was made.") from error
    if not whole:
        raise DatasetError(f"{path}: its metadata does not say size and stride.")
    return record


def _mismatch(built: BuiltPair, rows: Any) -> str | None:
    """Why the rows of one scene cannot come from these images."""
    for name, digest in (("sharp", built.sharp_sha256), ("blurred", built.blurred_sha256)):
        for (needed,) in distinct(rows, f"image_sha256_{name}"):
            if needed != digest:
                return f"the {name} image is {digest[:12]}..., need {needed[:12]}..."
    # the sum of two 32-bit numbers can wrap around
    size = rows.column("size").to_numpy().astype(np.int64)
    for axis, extent in zip("xy", built.size, strict=True):
        start = rows.column(axis).to_numpy().astype(np.int64)
        if (start < 0).any() or (size < 1).any() or (start + size > extent).any():
            return f"a crop lies beyond its {built.size[0]}x{built.size[1]} image"
    return None
