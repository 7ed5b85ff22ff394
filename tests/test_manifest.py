"""scenes.parquet, dataset.json and SHA256SUMS: validated, the same bytes, nothing outside."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_dataset import make_dataset

from defocus_ds.dataset import manifest, tables
from defocus_ds.dataset.checksums import list_files, read_sums, write_sums
from defocus_ds.dataset.manifest import (
    SCENE_SCHEMA,
    read_info,
    read_scenes,
    write_scenes,
)
from defocus_ds.dataset.shards import REJECTED_SCHEMA
from defocus_ds.errors import DatasetError
from defocus_ds.store import sha256_bytes, write_json


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    root = make_dataset(tmp_path_factory.mktemp("dataset"), scenes=2, size=(96, 80))
    return read_scenes(root / "scenes.parquet")


def changed(rows: list[dict[str, Any]], index: int, **changes: Any) -> list[dict[str, Any]]:
    return [row | changes if i == index else row for i, row in enumerate(rows)]


def test_scenes_round_trip_sorted_by_scene_and_offset(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    write_scenes(tmp_path / "a.parquet", rows[::-1])
    assert read_scenes(tmp_path / "a.parquet") == rows
    assert [(r["scene"], r["level"]) for r in rows] == [
        ("scene00", "sharp"),
        ("scene00", "low"),
        ("scene01", "sharp"),
        ("scene01", "low"),
    ]


def test_same_rows_same_bytes(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    write_scenes(tmp_path / "a.parquet", rows)
    write_scenes(tmp_path / "b.parquet", rows[::-1])
    data = (tmp_path / "a.parquet").read_bytes()
    assert data == (tmp_path / "b.parquet").read_bytes()
    assert b"pandas" not in data


def test_a_failed_scene_has_a_row_without_an_image(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    failed = {
        "scene": "zebra",
        "level": "low",
        "offset": 2,
        "verdict": "failed",
        "reasons": ["truncated: 12 bytes, need 25 MB"],
    }
    write_scenes(tmp_path / "a.parquet", [*rows, failed])
    row = read_scenes(tmp_path / "a.parquet")[-1]
    assert row["image"] is None
    assert row["reasons"] == failed["reasons"]


@pytest.mark.parametrize(
    ("index", "changes", "column"),
    [
        (0, {"scene": "../x"}, "scene"),
        (0, {"scene": ""}, "scene"),
        (0, {"scene": "ä" * 128}, "scene"),  # 256 bytes
        (0, {"lens": "x" * 70_000}, "lens"),
        (1, {"level": "lowish"}, "level"),
        (1, {"level": "sharp"}, "level"),  # a second sharp row
        (1, {"verdict": "maybe"}, "verdict"),
        (1, {"verdict": "reject"}, "reasons"),  # without a reason
        (1, {"reasons": ["misaligned: 2, 1"]}, "reasons"),  # kept in spite of one
        (1, {"residual_px": float("nan")}, "residual_px"),
        (1, {"residual_px": None}, "residual_px"),
        (1, {"blur_radius_px": -1.0}, "blur_radius_px"),
        (1, {"matrix": [1.0, 0.0, 0.0]}, "matrix"),
        (1, {"matrix": [1.0, 0.0, 0.0, 0.0, float("inf"), 0.0]}, "matrix"),
        (1, {"valid_area": [0, 0, 97, 80]}, "valid_area"),
        (1, {"valid_area": [50, 0, 50, 80]}, "valid_area"),
        (1, {"valid_area": [0, 0, None, 80]}, "valid_area"),
        (1, {"alignment": "{"}, "alignment"),
        (1, {"alignment": "[]"}, "alignment"),
        (0, {"image": None}, "image"),
        (0, {"image_sha256": "abc"}, "image_sha256"),
        (0, {"width": 0}, "width"),
        (0, {"width": "wide"}, "width"),
        (0, {"iso": 2**40}, "iso"),
        (0, {"colour_space": "sRGB"}, "colour_space"),
    ],
)
def test_write_refuses_and_names_file_row_and_column(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    index: int,
    changes: dict[str, Any],
    column: str,
) -> None:
    with pytest.raises(DatasetError, match=column) as caught:
        write_scenes(tmp_path / "a.parquet", changed(rows, index, **changes))
    assert "a.parquet" in str(caught.value)
    assert not (tmp_path / "a.parquet").exists()


def test_read_refuses_a_row_that_contradicts_itself(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    bad = changed(rows, 1, residual_px=float("nan"))
    pq.write_table(pa.Table.from_pylist(bad, schema=SCENE_SCHEMA), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"scene00/low: column 'residual_px'"):
        read_scenes(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"scene": ["a"]}), "'level' is missing"),
        (
            SCENE_SCHEMA.empty_table().append_column("extra", pa.array([], pa.int8())),
            "'extra' is not part",
        ),
        (
            SCENE_SCHEMA.empty_table().set_column(2, "offset", pa.array([], pa.float64())),
            "'offset' is double, need int32",
        ),
    ],
)
def test_read_refuses_another_schema(tmp_path: Path, table: pa.Table, message: str) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=message):
        read_scenes(tmp_path / "a.parquet")


def test_a_text_stored_once_and_used_often_is_not_spelled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.2 GB of text in a file of a few kB: refused before it is copied for every row."""
    rows = 20_000
    table = pa.table(
        {
            name: pa.array(["x" * 60_000 if name == "reason" else "a"]).take(pa.array([0] * rows))
            if field_type == pa.string()
            else pa.array([0] * rows, field_type)
            for name, field_type in zip(REJECTED_SCHEMA.names, REJECTED_SCHEMA.types, strict=True)
        }
    )
    with tables.table_writer(tmp_path / "a.parquet", REJECTED_SCHEMA) as writer:
        writer.write_table(table.cast(REJECTED_SCHEMA))
    del table
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    monkeypatch.setattr(tables, "_MAX_GROUP_BYTES", 1 << 24)
    pool, usual = pa.proxy_memory_pool(pa.system_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(DatasetError, match="more than 16777216 bytes when decoded"):
            tables.read_table(tmp_path / "a.parquet", REJECTED_SCHEMA)
    finally:
        pa.set_memory_pool(usual)
    assert 0 < pool.max_memory() < 1 << 24


@pytest.mark.parametrize(
    ("rows", "length", "message"),
    [
        (20_000, 60_000, "more than 16777216 bytes when decoded"),
        (3, 70_000, "a text of 70000 bytes, limit 65536"),
    ],
)
def test_a_text_that_is_not_compressed_is_held_to_the_same_limits(
    rows: int,
    length: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stored once for many rows, or too long."""
    path = tmp_path / "a.parquet"
    few = {"scene": "a", "level": "low", "x": 0, "y": 0, "size": 8, "value": 0.0, "limit": 0.0}
    table = pa.Table.from_pylist([few] * rows, schema=REJECTED_SCHEMA.remove(5))
    reason = pa.array(["x" * length]).take(pa.array([0] * rows))
    table = table.add_column(5, REJECTED_SCHEMA.field("reason"), reason)
    pq.write_table(table, path, compression="NONE", use_dictionary=True)
    monkeypatch.setattr(tables, "_MAX_GROUP_BYTES", 1 << 24)
    with pytest.raises(DatasetError, match=message):
        tables.read_table(path, REJECTED_SCHEMA)


@pytest.mark.parametrize("compliant", [True, False])
def test_what_the_bounded_reader_reads_is_what_was_written(tmp_path: Path, compliant: bool) -> None:
    """Nulls, empty lists, several groups, repeated and unique texts: as pyarrow alone reads it."""
    rows: list[dict[str, Any]] = [
        {
            "scene": f"scene{i // 4:04}",
            "level": "low",
            "offset": 2,
            "lens": None if i % 3 else "EF24-70mm f/2.8L II USM",
            "matrix": [[1.0, float(i)], [], None][i % 3],
            "verdict": "failed",
            "reasons": ["ä" * (i % 5)] * (i % 4),
        }
        for i in range(9000)
    ]
    table = pa.Table.from_pylist(rows, schema=SCENE_SCHEMA)
    pq.write_table(
        table, tmp_path / "a.parquet", row_group_size=5000, use_compliant_nested_type=compliant
    )
    assert tables.read_table(tmp_path / "a.parquet", SCENE_SCHEMA).equals(table)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_ROWS", 3, "declares 4 rows, limit 3"),
        ("MAX_GROUPS", 1, "declares 2 row groups, limit 1"),
        ("_MAX_LIST_ITEMS", 15, r"declares \d+ list entries, limit 15"),
        ("_MAX_TABLE_BYTES", 500, "more than 500 bytes when decoded"),
        ("_TEXT_BYTES", 10, "column 'image': a text of 24 bytes, limit 10"),
        ("_LONG_BYTES", {"alignment": 5}, "column 'alignment': a text of 21 bytes, limit 5"),
    ],
)
def test_read_refuses_too_much(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: Any,
    message: str,
) -> None:
    table = pa.Table.from_pylist(rows, schema=SCENE_SCHEMA)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    monkeypatch.setattr(tables, limit, value)
    with pytest.raises(DatasetError, match=message):
        read_scenes(tmp_path / "a.parquet")


def test_read_scenes_holds_fewer_rows_than_other_tables(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MAX_SCENE_ROWS", 3)
    write_scenes(tmp_path / "a.parquet", rows)
    with pytest.raises(DatasetError, match="4 rows, limit 3"):
        read_scenes(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 4096])
def test_read_refuses_what_is_not_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.parquet"):
        read_scenes(tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"b\.parquet"):
        read_scenes(tmp_path / "b.parquet")


def test_info_says_which_format_it_reads(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        read_info(tmp_path)
    write_json(tmp_path / "dataset.json", {"format": 7})
    with pytest.raises(DatasetError, match="format 7, this version reads 1"):
        read_info(tmp_path)
    (tmp_path / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"dataset\.json: nested too deeply"):
        read_info(tmp_path)
    write_json(tmp_path / "dataset.json", ["format"])
    with pytest.raises(DatasetError, match="list, need an object"):
        read_info(tmp_path)


def some_files(root: Path) -> None:
    for name in ("b.txt", "a dir/ä.txt", "receipts/x.json", "report/i.html", ".lock", "work/t"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")


def test_sums_are_what_coreutils_checks(tmp_path: Path) -> None:
    some_files(tmp_path)
    write_sums(tmp_path)
    assert list(read_sums(tmp_path)) == ["a dir/ä.txt", "b.txt"]
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.count(b": OK") == 2


def test_sums_take_known_hashes_and_are_stable(tmp_path: Path) -> None:
    some_files(tmp_path)
    write_sums(tmp_path, {"b.txt": "f" * 64, "gone.txt": "e" * 64})
    assert read_sums(tmp_path) == {
        "a dir/ä.txt": sha256_bytes("a dir/ä.txt".encode()),
        "b.txt": "f" * 64,
    }
    before = (tmp_path / "SHA256SUMS").read_bytes()
    write_sums(tmp_path, {"b.txt": "f" * 64})
    assert (tmp_path / "SHA256SUMS").read_bytes() == before


def test_sums_refuse_a_name_that_the_format_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "two\nlines").write_text("x")
    with pytest.raises(DatasetError, match="rename it"):
        write_sums(tmp_path)


def test_sums_do_not_follow_links_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("x")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    assert list_files(root) == ["link"]
    with pytest.raises(DatasetError, match="outside"):
        write_sums(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{'a' * 64}  ../x\n", "outside"),
        (f"{'a' * 64}  /etc/passwd\n", "outside"),
        (f"{'a' * 63}  x\n", "is not"),
        ("hello\n", "is not"),
        (f"{'a' * 64}  x\n{'b' * 64}  x\n", "named twice"),
    ],
)
def test_read_sums_refuses(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "SHA256SUMS").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_sums(tmp_path)


def test_scenes_lie_in_groups_that_can_be_read_one_by_one(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records of 2,500 full-size scenes are more than a row group may have."""
    path = tmp_path / "a.parquet"
    record = json.dumps({"text": "x" * 50_000})
    many = [
        row | {"scene": f"{row['scene']}-{i}", "alignment": row["alignment"] and record}
        for i in range(20)
        for row in rows
    ]
    monkeypatch.setattr(manifest, "_GROUP_ROWS", 16)
    write_scenes(path, many)
    assert pq.ParquetFile(path).metadata.num_row_groups == 5
    monkeypatch.setattr(tables, "_MAX_GROUP_BYTES", len(many) * len(record) // 4)
    assert len(read_scenes(path)) == len(many)


def test_records_of_other_levels_are_let_go(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    full = [row | {"development": "{}", "colour": "{}", "alignment": "{}"} for row in rows]
    write_scenes(path, full)
    found = read_scenes(path, records_of=("low",))
    for row, whole in zip(found, full, strict=True):
        kept = whole["level"] == "low"
        assert row == (
            whole if kept else whole | dict.fromkeys(("development", "colour", "alignment"))
        )
    write_scenes(path, full[:1])
    table = pq.read_table(path)
    broken = table.set_column(
        table.schema.get_field_index("alignment"), "alignment", pa.array(["no JSON"])
    )
    with tables.table_writer(path, SCENE_SCHEMA) as writer:
        writer.write_table(broken.cast(SCENE_SCHEMA))
    with pytest.raises(DatasetError, match="'alignment': not a JSON object"):
        read_scenes(path, records_of=())
