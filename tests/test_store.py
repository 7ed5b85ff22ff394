"""Files are whole or absent."""

import hashlib
import json
from pathlib import Path

import pytest

from defocus_ds.errors import DatasetError
from defocus_ds.store import (
    JsonObject,
    Receipt,
    atomic_path,
    canonical_json,
    inside,
    read_json,
    read_receipt,
    sha256_file,
    write_bytes,
    write_json,
    write_receipt,
)


def test_failed_write_leaves_the_old_file_and_no_stray(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half of the new")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_is_canonical_and_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": [1.5, "é"]})
    write_json(tmp_path / "b", {"a": [1.5, "é"], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"a": [1.5, "é"], "b": 1}


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DatasetError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(DatasetError, match="outside"):
        inside(tmp_path, path)


def test_impossible_name_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be a file"):
        inside(tmp_path, "a\0b")


def test_symlink_does_not_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match="outside"):
        inside(root, "link/x")


def test_receipt_round_trip_and_damage(tmp_path: Path) -> None:
    receipt = Receipt(
        "develop", "s1", "abc", {"x": "1"}, {"a": "b"}, {}, {"k": [1]}, {"a": 5}, 2.0, 1.5, 3.0
    )
    write_receipt(tmp_path, receipt)
    assert read_receipt(tmp_path, "s1", "develop") == receipt
    assert read_receipt(tmp_path, "s1", "register") is None
    (tmp_path / "receipts/s1/develop.json").write_text('{"stage": 1}')
    assert read_receipt(tmp_path, "s1", "develop") is None


def test_a_receipt_is_json_and_its_result_waits_to_be_parsed(tmp_path: Path) -> None:
    receipt = Receipt("develop", "s1", "abc", {}, {',\n  "result": ': "b"}, {}, {"k": {"l": "ä"}})
    write_receipt(tmp_path, receipt)
    path = tmp_path / "receipts/s1/develop.json"
    assert json.loads(path.read_text())["result"] == {"k": {"l": "ä"}}
    found = read_receipt(tmp_path, "s1", "develop")
    assert found is not None
    assert isinstance(found.result, JsonObject)
    assert canonical_json(found.result) == canonical_json(receipt.result)
    path.write_bytes(path.read_bytes().replace(b"\\u00e4", b"\\u00e5"))
    assert read_receipt(tmp_path, "s1", "develop") is None


@pytest.mark.parametrize("text", [b"5", b"no", b"[" * 100_000])
def test_a_result_that_is_no_object_is_our_error(text: bytes) -> None:
    with pytest.raises(DatasetError, match="a receipt whose result is"):
        len(JsonObject(text))
