"""dataset.json and scenes.parquet: the rows of a built dataset, and what must hold of them."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from defocus_ds.dataset.kinds import what_it_is
from defocus_ds.dataset.tables import read_groups, table_writer, text_limit
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level
from defocus_ds.store import atomic_path, read_json

__all__ = [
    "FORMAT",
    "INFO_NAME",
    "MAX_SCENE_ROWS",
    "SCENES_NAME",
    "SCENE_SCHEMA",
    "VERDICTS",
    "read_info",
    "read_scenes",
    "enclosing_dataset",
    "read_object",
    "row_problems",
    "write_scenes",
]

FORMAT = 1
INFO_NAME = "dataset.json"
SCENES_NAME = "scenes.parquet"
VERDICTS = ("keep", "reject", "failed")
MAX_SCENE_ROWS = 200_000
# a row of a full-size pair has 150 KB, and a row group that is read at most 1 GB
_GROUP_ROWS = 256
_MAX_INFO_BYTES = 1 << 26
_MAX_NAME_BYTES = 255
_OFFSETS = {level.value: level.offset for level in Level}

SCENE_SCHEMA = pa.schema(
    [
        pa.field("scene", pa.string(), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("offset", pa.int32(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("source", pa.string()),
        pa.field("source_sha256", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("make", pa.string()),
        pa.field("model", pa.string()),
        pa.field("serial", pa.string()),
        pa.field("lens", pa.string()),
        pa.field("focal_length_mm", pa.float64()),
        pa.field("iso", pa.int32()),
        pa.field("exposure_s", pa.float64()),
        pa.field("f_number", pa.float64()),
        pa.field("taken", pa.string()),
        pa.field("focus_distance_upper_m", pa.float64()),
        pa.field("focus_distance_lower_m", pa.float64()),
        pa.field("transfer", pa.string()),
        pa.field("development", pa.string()),
        pa.field("colour", pa.string()),
        pa.field("alignment", pa.string()),
        pa.field("matrix", pa.list_(pa.float64())),
        pa.field("radial", pa.float64()),
        pa.field("blur_radius_px", pa.float64()),
        pa.field("residual_px", pa.float64()),
        pa.field("valid_area", pa.list_(pa.int32())),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
    ]
)


def enclosing_dataset(folder: Path) -> Path | None:
    """The built dataset that a folder is, lies in, or holds; None where there is none."""
    near = (folder, *folder.resolve().parents, *(p.parent for p in folder.rglob(INFO_NAME)))
    return next(
        (root for root in near if all((root / n).is_file() for n in (INFO_NAME, SCENES_NAME))), None
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a dataset or release, of bounded size.

    Raises:
        DatasetError: not JSON, no object, nested too deeply or too large.
    """
    if (size := path.stat().st_size) > _MAX_INFO_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {_MAX_INFO_BYTES}.")
    found = read_json(path)
    if not isinstance(found, dict):
        raise DatasetError(f"{path}: {type(found).__name__}, need an object.")
    return found


def read_info(root: Path) -> dict[str, Any]:
    """dataset.json of a built dataset.

    Raises:
        DatasetError: missing, not JSON, too large, of another format version, or without
            configuration.
    """
    path = root / INFO_NAME
    if not path.is_file():
        kind = what_it_is(root, unknown="it is no dataset")
        raise DatasetError(
            f"{root}: no {INFO_NAME}; {kind}. Name the folder that `defocus-ds build` made."
        )
    info = read_object(path)
    if info.get("format") != FORMAT:
        found = info.get("format")
        raise DatasetError(f"{path}: format {found!r}, this version reads {FORMAT}.")
    if not isinstance(info.get("config"), dict):
        raise DatasetError(f"{path}: 'config' is {info.get('config')!r}, need an object.")
    return info


def write_scenes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write scenes.parquet atomically; the same rows in any order give the same bytes.

    Args:
        path: the file.
        rows: one an image, with the columns of `SCENE_SCHEMA`; absent ones are null.

    Raises:
        DatasetError: an unknown column, a value of the wrong type, or a row that contradicts
            itself; the text names file, row and column.
    """
    for row in rows:
        for name in row:
            if name not in SCENE_SCHEMA.names:
                raise DatasetError(f"{path}: {_name(row)}: column {name!r} is not in the format.")
    ordered = sorted(rows, key=lambda row: (str(row.get("scene")), _order(row)))
    columns = []
    for field in SCENE_SCHEMA:
        try:
            columns.append(pa.array([row.get(field.name) for row in ordered], field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"{path}: column {field.name!r}: {error}.") from error
    table = pa.Table.from_arrays(columns, schema=SCENE_SCHEMA)
    _refuse(path, row_problems(table.to_pylist()))
    with atomic_path(path) as temporary, table_writer(temporary, SCENE_SCHEMA) as writer:
        writer.write_table(table, row_group_size=_GROUP_ROWS)


def read_scenes(path: Path, *, records_of: Container[str] | None = None) -> list[dict[str, Any]]:
    """Rows of scenes.parquet, validated, sorted by scene and focus offset.

    Args:
        path: the file.
        records_of: levels whose rows keep their alignment, colour and development, which are
            nearly all of a row; None keeps them all.

    Raises:
        DatasetError: missing or damaged file, another schema, or a row that contradicts itself;
            the text names file, row and column.
    """
    rows: list[dict[str, Any]] = []
    problems: list[tuple[str, str, str]] = []
    for table in read_groups(path, SCENE_SCHEMA, max_rows=MAX_SCENE_ROWS):
        part = table.to_pylist()
        for row in part:
            problems += ((_name(row), *problem) for problem in _problems(row))
            if records_of is not None and row["level"] not in records_of:
                row |= dict.fromkeys(("alignment", "colour", "development"))
        rows += part
    _refuse(path, chain(_repeated(rows), problems))
    return rows


def row_problems(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """What contradicts itself in the rows of scenes.parquet, as (row, column, message)."""
    yield from _repeated(rows)
    for row in rows:
        for column, message in _problems(row):
            yield _name(row), column, message


def _repeated(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row["scene"], row["level"]) in seen:
            yield _name(row), "level", "a second row for this scene and level"
        seen.add((row["scene"], row["level"]))


def _problems(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(column, message) of one row."""
    scene, level, verdict = row["scene"], row["level"], row["verdict"]
    if (
        not scene
        or scene in (".", "..")
        or any(c in scene for c in "/\\\0\n\r")
        or len(scene.encode()) > _MAX_NAME_BYTES
    ):
        yield "scene", f"{scene[:300]!r} is not usable as a folder name"
    if level not in _OFFSETS:
        yield "level", f"{level!r} is not one of {', '.join(_OFFSETS)}"
    if verdict not in VERDICTS:
        yield "verdict", f"{verdict!r} is not one of {', '.join(VERDICTS)}"
    elif row["reasons"] is None or (verdict == "keep") == bool(row["reasons"]):
        yield "reasons", f"{row['reasons']!r} does not go with verdict {verdict!r}"
    for column, value in row.items():
        values = value if isinstance(value, list) else [value]
        if any(v is None for v in values) and isinstance(value, list):
            yield column, "an entry is null"
        elif any(isinstance(v, float) and not math.isfinite(v) for v in values):
            yield column, f"{value!r} is not finite"
        longest = max((len(v.encode()) for v in values if isinstance(v, str)), default=0)
        if longest > text_limit(column):
            yield column, f"a text of {longest} bytes, limit {text_limit(column)}"
    for column in ("development", "colour", "alignment"):
        if (text := row[column]) is not None and not _is_json_object(text):
            yield column, "not a JSON object"
    if verdict == "keep":
        yield from _kept_problems(row)


def _kept_problems(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a kept image needs: a file of stated size, and an alignment unless it is sharp."""
    for column in ("image", "image_sha256", "width", "height"):
        if row[column] is None:
            yield column, "null, but the image is kept"
    width, height = row["width"] or 0, row["height"] or 0
    if width < 1 or height < 1:
        yield "width", f"{width}x{height} is not the size of an image"
    digest = row["image_sha256"] or "0" * 64
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        yield "image_sha256", f"{digest!r} is not a SHA-256"
    if row["level"] == Level.SHARP:
        return
    for column in ("blur_radius_px", "residual_px"):
        if row[column] is None or row[column] < 0:
            yield column, f"{row[column]!r} for a kept pair"
    if row["matrix"] is None or len(row["matrix"]) != 6:
        yield "matrix", f"{row['matrix']!r} does not have six entries"
    if not _is_rectangle(row["valid_area"], width, height):
        area = row["valid_area"]
        yield "valid_area", f"{area} is not a rectangle x0, y0, x1, y1 inside {width}x{height}"


def _is_rectangle(area: list[int | None] | None, width: int, height: int) -> bool:
    if area is None or len(area) != 4:
        return False
    x0, y0, x1, y1 = (-1 if value is None else value for value in area)
    return 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _refuse(path: Path, problems: Iterable[tuple[str, str, str]]) -> None:
    found = list(problems)
    if found:
        row, column, message = found[0]
        more = f" ({len(found) - 1} more like it)" if len(found) > 1 else ""
        raise DatasetError(f"{path}: {row}: column {column!r}: {message}{more}.")


def _order(row: Mapping[str, Any]) -> tuple[int, str]:
    return _OFFSETS.get(str(row.get("level")), 99), str(row.get("level"))


def _name(row: Mapping[str, Any]) -> str:
    return f"{row.get('scene')}/{row.get('level')}"
