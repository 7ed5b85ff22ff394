"""The part of `verify` that reads shards and manifests, and cuts every crop again."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from defocus_ds.dataset.findings import Findings
from defocus_ds.dataset.loaders import decode_crop
from defocus_ds.dataset.manifest import SCENES_NAME
from defocus_ds.dataset.pairs import BuiltPair, LeftOut, built_pairs
from defocus_ds.dataset.shards import (
    CROP_SCHEMA,
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    REJECTED_NAME,
    REJECTED_SCHEMA,
    Shard,
    shard_counts,
)
from defocus_ds.dataset.split import SPLITS
from defocus_ds.dataset.stale import crop_again, earlier_build
from defocus_ds.dataset.tables import distinct, open_table, read_group, read_table
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, UInt8Image

__all__ = ["CropChecker"]

_COLUMNS = [name for name in MANIFEST_SCHEMA.names if name in CROP_SCHEMA.names]
_MEASURED = ("blur_radius_px", "q_sharp", "q_blurred", "residual_px")
_NULLABLE = ("blur_radius_confidence", "blur_radius_spread_px")


class CropChecker:
    """Checks level after level, and remembers in which splits each scene was seen.

    Attributes:
        seen: scene -> split -> the first shard that says so.
        described: scenes with rows in a manifest.

    Args:
        root: what file names are relative to.
        rows: of scenes.parquet; None where there are no images to compare with.
        digest: SHA-256 of scenes.parquet.
        findings: collects what is wrong.
        step: called with a label after each shard.
    """

    def __init__(
        self,
        root: Path,
        rows: Sequence[Mapping[str, Any]] | None,
        digest: str | None,
        findings: Findings,
        step: Callable[[str], None],
    ) -> None:
        self._root = root
        self._rows = rows
        self._digest = digest
        self._findings = findings
        self._step = step
        self.seen: dict[str, dict[str, str]] = {}
        self.described: set[str] = set()
        self._pairs: dict[str, BuiltPair] = {}
        self._left_out: dict[str, LeftOut] = {}
        self._images: tuple[str, UInt8Image, UInt8Image] | None = None
        self._unreadable: set[str] = set()
        self._places = _Places()
        self._stale = False

    def check_level(self, folder: Path, shards: Mapping[str, list[Shard]]) -> None:
        """Check one level's folder: names, schemas, rows and pixels."""
        level = next((level for level in BLURRED_LEVELS if level.value == folder.name), None)
        self._places = _Places()
        self._pairs, self._left_out, self._images = {}, {}, None
        if self._rows is not None and level is not None:
            try:
                pairs, left_out = built_pairs(self._root, self._rows, level)
            except DatasetError as error:
                self._findings.add(SCENES_NAME, f"sound {level} pairs", str(error))
            else:
                self._pairs = {built.pair.scene: built for built in pairs}
                self._left_out = {item.pair.scene: item for item in left_out}
        manifest = self._manifest(folder)
        self._stale = manifest is not None and self._is_stale(folder, manifest)
        for split, files in shards.items():
            self._check_names(folder, split, files)
            rows = None
            if manifest is not None:
                rows = manifest.filter(pc.equal(manifest.column("split"), split))
            for shard in files:
                self._check_shard(shard, self._part(folder, rows, shard))
        if manifest is not None:
            self.described.update(scene for (scene,) in distinct(manifest, "scene"))
            for (split,) in distinct(manifest, "split"):
                if split not in shards:
                    name = self._name(folder / f"{split}-*.parquet")
                    self._findings.add(name, "the shards its manifest describes", "none")
        if (folder / REJECTED_NAME).exists():
            self._table(folder / REJECTED_NAME, REJECTED_SCHEMA)

    def _manifest(self, folder: Path) -> Any:
        path = folder / MANIFEST_NAME
        if not path.exists():
            self._findings.add(self._name(path), "a manifest beside the shards", "no file")
            return None
        return self._table(path, MANIFEST_SCHEMA)

    def _is_stale(self, folder: Path, manifest: Any) -> bool:
        """Whether the crops belong to another build; if not, their images must be the present."""
        name = self._name(folder / MANIFEST_NAME)
        try:
            earlier = earlier_build(folder, manifest, self._pairs, self._digest)
        except DatasetError as error:
            self._findings.add(name, "a record of how the crops were made", str(error))
            return False
        if earlier is not None and self._rows is not None and folder.name in BLURRED_LEVELS:
            self._findings.add(
                name,
                f"crops of the present build ({SCENES_NAME} {str(self._digest)[:12]}...)",
                f"crops cut from an earlier build ({earlier[:12]}...)",
                f"Run `{crop_again(self._root, folder.name)}`.",
            )
            return True
        for kind in ("sharp", "blurred"):
            for scene, digest in distinct(manifest, "scene", f"image_sha256_{kind}"):
                built = self._pairs.get(scene)
                actual = built and (built.sharp_sha256 if kind == "sharp" else built.blurred_sha256)
                if actual is not None and actual != digest:
                    self._findings.add(name, f"{kind} image of {scene}: SHA-256 {actual}", digest)
        return False

    def _table(self, path: Path, schema: Any) -> Any:
        try:
            return read_table(path, schema)
        except DatasetError as error:
            self._findings.add(self._name(path), "a readable table of its schema", str(error))
            return None

    def _check_names(self, folder: Path, split: str, shards: list[Shard]) -> None:
        total = shards[0].total
        present = {shard.path.name for shard in shards}
        wanted = {
            f"{split}-{index:05}-of-{total:05}.parquet" for index in range(min(total, 99_999))
        }
        for name in sorted(wanted - present):
            self._findings.add(self._name(folder / name), f"shard of {total}", "no file")
        for name in sorted(present - wanted):
            self._findings.add(
                self._name(folder / name), f"a shard of {total}", "a shard of another run"
            )

    def _part(self, folder: Path, rows: Any, shard: Shard) -> Any:
        """The manifest's rows that belong in one shard; None where that cannot be said."""
        if rows is None:
            return None
        sizes = shard_counts(rows.num_rows)
        if len(sizes) != shard.total or shard.index >= shard.total:
            self._findings.add(
                self._name(folder / MANIFEST_NAME),
                f"rows for {shard.total} shards of {shard.split}",
                f"{rows.num_rows} rows, for {len(sizes)}",
            )
            return None
        return rows.slice(sum(sizes[: shard.index]), sizes[shard.index])

    def _check_shard(self, shard: Shard, manifest: Any) -> None:
        """Check every row; ``manifest`` holds the rows that this shard should have, or is None."""
        name = self._name(shard.path)
        try:
            file = open_table(shard.path, CROP_SCHEMA)
        except DatasetError as error:
            self._findings.add(name, "a readable shard", str(error))
            self._step(f"read {name}")
            return
        first = 0
        with file:
            if manifest is not None and manifest.num_rows != file.metadata.num_rows:
                self._findings.add(
                    name, f"{manifest.num_rows} rows of the manifest", str(file.metadata.num_rows)
                )
            for group in range(file.metadata.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                try:
                    table = read_group(file, group, path=shard.path, schema=CROP_SCHEMA)
                except DatasetError as error:
                    self._findings.add(name, f"rows {first} to {first + count - 1}", str(error))
                else:
                    self._compare(name, table, manifest, first)
                    rows = (row for part in table.to_batches(256) for row in part.to_pylist())
                    for index, row in enumerate(rows):
                        self._check_row(name, first + index, row, shard)
                first += count
        self._step(f"read {name}")

    def _compare(self, name: str, table: Any, manifest: Any, first: int) -> None:
        if manifest is None:
            return
        ours = table.select(_COLUMNS).replace_schema_metadata(None)
        theirs = manifest.select(_COLUMNS).slice(first, ours.num_rows).replace_schema_metadata(None)
        if ours.combine_chunks().equals(theirs.combine_chunks()):
            return
        for index, (one, other) in enumerate(
            zip(ours.to_pylist(), theirs.to_pylist(), strict=False)
        ):
            for column in _COLUMNS:
                if one[column] != other[column]:
                    self._findings.add(
                        name,
                        f"row {first + index}: {column} {other[column]!r}, as in the manifest",
                        repr(one[column]),
                    )

    def _check_row(self, name: str, number: int, row: dict[str, Any], shard: Shard) -> None:
        where = f"row {number}"
        scene, x, y = row["scene"], row["x"], row["y"]
        self._findings.checked["crops"] += 1
        self.seen.setdefault(scene, {}).setdefault(row["split"], name)
        folder = shard.path.parent.name
        for column, expected in (("split", shard.split), ("level", folder)):
            known = column == "split" or folder in BLURRED_LEVELS
            if known and row[column] != expected:
                self._findings.add(name, f"{where}: {column} {expected!r}", repr(row[column]))
        if row["split"] not in SPLITS:
            return
        if not self._places.add(scene, x, y):
            found = f"{(scene, x, y)} for the second time"
            self._findings.add(name, f"{where}: a crop of its own", found)
        for column in (*_MEASURED, *(name for name in _NULLABLE if row[name] is not None)):
            value = row[column]
            if not (value is not None and math.isfinite(value) and value >= 0):
                self._findings.add(name, f"{where}: {column} finite and >= 0", repr(value))
        try:
            crop = decode_crop(row, where=where, check=True)
        except DatasetError as error:
            self._findings.add(name, f"{where}: two crops of the hashes it states", str(error))
            return
        if self._rows is not None and not self._stale:
            self._check_pixels(name, where, row, crop.sharp, crop.blurred)

    def _check_pixels(
        self, name: str, where: str, row: dict[str, Any], sharp: UInt8Image, blurred: UInt8Image
    ) -> None:
        """A crop must be cut from a kept pair, inside its valid area, with its very pixels."""
        built = self._pairs.get(row["scene"])
        if built is None:
            why = self._left_out.get(row["scene"])
            found = f"{why.verdict} ({'; '.join(why.reasons)})" if why else "no such scene"
            self._findings.add(name, f"{where}: a kept pair of {row['scene']}", found)
            return
        x, y, size = row["x"], row["y"], row["size"]
        x0, y0, x1, y1 = built.valid_area
        if x < x0 or y < y0 or x + size > x1 or y + size > y1:
            self._findings.add(
                name, f"{where}: inside {list(built.valid_area)}", f"{size} px at ({x}, {y})"
            )
            return
        images = self._read(built)
        if images is None:
            return
        for kind, crop, image in zip(("sharp", "blurred"), (sharp, blurred), images, strict=True):
            window = image[y : y + size, x : x + size]
            if not np.array_equal(crop, window):
                count = int((crop != window).sum())
                self._findings.add(
                    name,
                    f"{where}: the pixels of {built.pair} ({kind}) at ({x}, {y})",
                    f"{count} of {crop.size} pixels differ",
                )

    def _read(self, built: BuiltPair) -> tuple[UInt8Image, UInt8Image] | None:
        """Luma of the pair, decoded once for the rows of a scene, which follow each other."""
        scene = built.pair.scene
        if self._images is not None and self._images[0] == scene:
            return self._images[1:]
        if str(built.pair) in self._unreadable:
            return None
        try:
            sharp, blurred = built.read()
        except DatasetError as error:
            self._unreadable.add(str(built.pair))
            names = [self._name(path) for path in (built.sharp, built.blurred)]
            if not any(map(self._findings.names, names)):
                self._findings.add(names[1], "the images of a kept pair", str(error))
            return None
        self._images = scene, sharp, blurred
        self._findings.checked["pairs"] += 1
        return sharp, blurred

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


class _Places:
    """Where a level's crops lie: a set for the scene at hand, 8 bytes a crop for the others."""

    def __init__(self) -> None:
        self._scene: str | None = None
        self._here: set[int] = set()
        self._others: dict[str, array[int]] = {}

    def add(self, scene: str, x: int, y: int) -> bool:
        """Remember a place; False where it was known."""
        if scene != self._scene:
            if self._scene is not None:
                self._others[self._scene] = array("q", self._here)
            self._scene, self._here = scene, set(self._others.pop(scene, ()))
        before = len(self._here)
        self._here.add((x << 32) + (y & 0xFFFFFFFF))  # both are 32 bits with sign
        return len(self._here) > before
