"""Diff: how two datasets, releases or folders of crops differ, from what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defocus_ds.dataset.checksums import SUMS_NAME, read_sums
from defocus_ds.dataset.diff_columns import CropTable
from defocus_ds.dataset.diff_crops import LevelDifference, compare_level
from defocus_ds.dataset.importers.make import IMPORT_NAME
from defocus_ds.dataset.kinds import what_it_is
from defocus_ds.dataset.manifest import INFO_NAME, SCENES_NAME, read_object, read_scenes
from defocus_ds.dataset.release_facts import RELEASE_NAME
from defocus_ds.dataset.shards import has_crops
from defocus_ds.dataset.steps import Progress, Steps
from defocus_ds.errors import DatasetError

__all__ = ["Change", "Difference", "NameDifference", "diff", "flat"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that both have, or one of them: its value in A and in B, None where absent."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class NameDifference:
    """Names that only one has, sorted, and those that changed."""

    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.only_a or self.only_b or self.changed)


@dataclass(frozen=True, slots=True)
class Difference:
    """How B differs from A.

    Attributes:
        a, b: the folders.
        scenes: by name; a change is of the split.
        images: by scene and level; a change is of the SHA-256 of the file.
        verdicts: images that both have, judged otherwise.
        levels: those with crops.
        crops: of each level that both have, also where nothing differs.
        config: keys of the configuration, of `crop` and of `import`.
        versions: of the tools.
        files: by SHA256SUMS.
        notes: what could not be compared, because one side does not say it.
    """

    a: Path
    b: Path
    scenes: NameDifference
    images: NameDifference
    verdicts: NameDifference
    levels: NameDifference
    crops: tuple[LevelDifference, ...]
    config: NameDifference
    versions: NameDifference
    files: NameDifference
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing that could be compared differs."""
        named = (self.scenes, self.images, self.verdicts, self.levels)
        made = (self.config, self.versions, self.files)
        return not any((*named, *made, *self.crops))


def diff(a: Path | str, b: Path | str, *, progress: Progress | None = None) -> Difference:
    """Compare two datasets, releases or folders of crops.

    Read are manifests (the columns of the shards without pixels, where there is none),
    scenes.parquet, dataset.json or release.json and SHA256SUMS.  No pixel is decoded and no file
    is hashed: `verify` says whether a folder is what these say.

    Args:
        a, b: folders with crop shards, a manifest or scenes.parquet.
        progress: called with (done, total, label) for each level.

    Raises:
        DatasetError: a folder with none of these, or one of them is damaged.
    """
    one, other = _read(Path(a)), _read(Path(b))
    _same_level(one, other)
    notes: list[str] = []
    crops = _crops(one, other, progress)
    levels = _named(one.levels, other.levels)
    images = _named(one.images, other.images)
    if one.verdicts is None or other.verdicts is None:
        # a release names the images of its crops alone
        images = NameDifference(changed=images.changed)
    verdicts = _both(one, other, notes, SCENES_NAME, lambda side: side.verdicts)
    return Difference(
        one.root,
        other.root,
        _scenes(one.splits, other.splits),
        images,
        NameDifference(changed=verdicts.changed),
        NameDifference(levels.only_a, levels.only_b),
        crops,
        _both(one, other, notes, "configuration", lambda side: side.config),
        _both(one, other, notes, "versions of tools", lambda side: side.versions),
        _both(one, other, notes, SUMS_NAME, lambda side: side.sums),
        tuple(notes),
    )


@dataclass(slots=True)
class _Side:
    """What a folder says of itself; None where it does not."""

    root: Path
    levels: dict[str, CropTable]
    config: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    sums: dict[str, str] | None = None
    verdicts: dict[str, str] | None = None
    images: dict[str, str] = field(default_factory=dict)
    splits: dict[str, set[str]] = field(default_factory=dict)


def _read(root: Path) -> _Side:
    """Everything small; of the crops only which levels there are."""
    from defocus_ds.pipeline.journal import refuse_unfinished

    if not root.is_dir():
        raise DatasetError(f"{root}: not a folder.")
    side = _Side(root, {name: CropTable(folder) for name, folder in _level_folders(root).items()})
    if (root / SCENES_NAME).is_file():
        side.verdicts = {}
        for row in read_scenes(root / SCENES_NAME):
            name = f"{row['scene']}/{row['level']}"
            side.splits.setdefault(row["scene"], set())
            side.verdicts[name] = "; ".join((row["verdict"], *row["reasons"]))
            if row["image_sha256"] is not None:
                side.images[name] = row["image_sha256"]
    elif not side.levels:
        refuse_unfinished(root)
        found = what_it_is(root, unknown="nothing that can be compared")
        raise DatasetError(
            f"{root}: neither crops nor {SCENES_NAME} here; {found}. Give the folder that build, "
            "crop, release or import made."
        )
    for name in (INFO_NAME, RELEASE_NAME, IMPORT_NAME):
        if (root / name).is_file():
            info = read_object(root / name)
            side.versions = flat(info.get("versions") or {})
            if name != IMPORT_NAME:  # the records of its crops say the rest
                side.config = flat({"preset": info.get("preset"), **(info.get("config") or {})})
    if (root / SUMS_NAME).is_file():
        side.sums = read_sums(root)
    return side


def _level_folders(root: Path) -> dict[str, Path]:
    """Folders with crops: below ``crops``, directly below, or the folder itself."""
    for parent in (root / "crops", root):
        if parent.is_dir():
            found = {f.name: f for f in sorted(parent.iterdir()) if has_crops(f)}
            if found:
                return found
    return {root.name: root} if has_crops(root) else {}


def _same_level(one: _Side, other: _Side) -> None:
    """Two folders of one level each are compared whatever they are called."""
    sides = one, other
    if all([table.folder for table in side.levels.values()] == [side.root] for side in sides):
        other.levels = dict(zip(one.levels, other.levels.values(), strict=True))


def _crops(one: _Side, other: _Side, progress: Progress | None) -> tuple[LevelDifference, ...]:
    """Levels compared one after another; on the way both sides learn their splits and images."""
    names = [*one.levels, *(name for name in other.levels if name not in one.levels)]
    step = Steps(progress, len(names))
    found = []
    for name in names:
        codes: dict[str, int] = {}
        keys = []
        for side in (one, other):
            if (table := side.levels.get(name)) is None:
                continue
            places, splits = table.keys(codes)
            keys.append(places)
            for scene, where in splits.items():
                side.splits.setdefault(scene, set()).update(where)
            for scene, level, digest in table.images(name):
                side.images.setdefault(f"{scene}/{level}", digest)
        if len(keys) == 2:
            tables = one.levels[name], other.levels[name]
            found.append(compare_level(*tables, (keys[0], keys[1]), codes, level=name))
            if all(table.record for table in tables):
                for side in (one, other):
                    record = {"crops": {name: side.levels[name].record}}
                    side.config = (side.config or {}) | flat(record)
        step(name)
    return tuple(found)


def _scenes(a: Mapping[str, set[str]], b: Mapping[str, set[str]]) -> NameDifference:
    """Scenes by name; one without crops has no split that could have changed."""
    found = _named(*({name: "+".join(sorted(s)) for name, s in side.items()} for side in (a, b)))
    return NameDifference(
        found.only_a, found.only_b, tuple(item for item in found.changed if item.a and item.b)
    )


def _both(
    one: _Side,
    other: _Side,
    notes: list[str],
    what: str,
    of: Callable[[_Side], Mapping[str, Any] | None],
) -> NameDifference:
    """The difference of something that a side may lack as a whole, which is a note."""
    a, b = of(one), of(other)
    if a is not None and b is not None:
        return _named(a, b)
    if a is not None or b is not None:
        notes.append(f"{what}: not compared, {'A' if a is None else 'B'} has none.")
    return NameDifference()


def _named(a: Mapping[str, Any], b: Mapping[str, Any]) -> NameDifference:
    both = sorted(a.keys() & b.keys())
    return NameDifference(
        tuple(sorted(a.keys() - b.keys())),
        tuple(sorted(b.keys() - a.keys())),
        tuple(Change(name, a[name], b[name]) for name in both if a[name] != b[name]),
    )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Keys of nested tables joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found
