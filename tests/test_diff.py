"""Diff: what was changed is named, nothing else is, and no pixel is looked at."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_dataset import change_rows, image_row, make_dataset, write_dataset
from click.testing import CliRunner, Result
from PIL import Image

from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.diff import Change, Difference, NameDifference, diff
from defocus_ds.dataset.manifest import read_scenes
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.dataset.shards import (
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    manifest_metadata,
)
from defocus_ds.dataset.tables import read_table, table_writer, with_metadata
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level
from defocus_ds.store import write_json
from defocus_ds_cli.main import cli

ABOUT = About("Toy brackets", "CC-BY-4.0", ("Doe, Jane",))
NOTHING = NameDifference()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes at two levels, cropped; do not write to it."""
    root = tmp_path_factory.mktemp("made") / "dataset"
    make_dataset(root, scenes=4, levels=(Level.LOW, Level.HIGH))
    for level in ("low", "high"):
        crop(root, level=level)
    return root


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, words)])


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of a manifest."""
    table = read_table(path, MANIFEST_SCHEMA)
    rows = table.to_pylist()
    change(rows)
    with table_writer(path, table.schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=table.schema))


def crops_of(found: Difference) -> dict[str, tuple[int, int, int, int]]:
    return {
        level.level: (
            len(level.only_a),
            len(level.only_b),
            len(level.pixels),
            len(level.measured),
        )
        for level in found.crops
    }


def test_a_copy_is_equal(built: Path, copy: Path) -> None:
    found = diff(built, copy)
    assert found.equal
    assert found.notes == ()
    assert crops_of(found) == {"high": (0, 0, 0, 0), "low": (0, 0, 0, 0)}
    assert all(level.crops[0] > 0 for level in found.crops)
    done = run(built, copy)
    assert done.exit_code == 0
    assert "are equal" in done.stdout


def test_no_pixel_is_read(built: Path, copy: Path) -> None:
    for path in [*copy.rglob("*-of-*.parquet"), *copy.rglob("*.png")]:
        path.unlink()
    assert diff(built, copy).equal


def test_a_scene_that_came_is_named(built: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "grown", scenes=5, levels=(Level.LOW, Level.HIGH))
    for level in ("low", "high"):
        crop(tmp_path / "grown", level=level)
    found = diff(built, tmp_path / "grown")
    assert (found.scenes.only_a, found.scenes.only_b) == ((), ("scene04",))
    assert found.images.only_b == ("scene04/high", "scene04/low", "scene04/sharp")
    assert found.images.changed == ()
    for level in found.crops:
        assert not (level.only_a or level.pixels or level.measured)
        assert {scene for scene, *_ in level.only_b} == {"scene04"}
        assert level.crops[1] - level.crops[0] == len(level.only_b)
    assert diff(tmp_path / "grown", built).scenes.only_a == ("scene04",)


def test_another_seed_is_other_splits_and_the_same_pixels(built: Path, copy: Path) -> None:
    def splits(root: Path) -> dict[str, str]:
        rows = read_table(root / "crops/low" / MANIFEST_NAME, MANIFEST_SCHEMA).to_pylist()
        return {row["scene"]: row["split"] for row in rows}

    before = splits(built)
    for seed in range(1, 20):
        for level in ("low", "high"):
            crop(copy, level=level, seed=seed)
        if (after := splits(copy)) != before:
            break
    found = diff(built, copy)
    assert found.scenes.changed == tuple(
        Change(s, before[s], after[s]) for s in sorted(before) if before[s] != after[s]
    )
    assert crops_of(found) == {"high": (0, 0, 0, 0), "low": (0, 0, 0, 0)}
    assert Change("crops.low.seed", 0, seed) in found.config.changed


def test_an_image_that_changed_changes_its_crops_alone(built: Path, copy: Path) -> None:
    name = "images/scene01/low.png"
    with Image.open(copy / name) as image:
        pixels = np.asarray(image).copy()
    pixels[64:128, 128:192] ^= 1  # one crop of 64 px
    Image.fromarray(pixels).save(copy / name)
    rows = read_scenes(copy / "scenes.parquet")
    for index, row in enumerate(rows):
        if (row["scene"], row["level"]) == ("scene01", "low"):
            rows[index] = image_row(copy, "scene01", Level.LOW)
    write_dataset(copy, rows)
    for level in ("low", "high"):
        crop(copy, level=level)
    found = diff(built, copy)
    assert crops_of(found) == {"high": (0, 0, 0, 0), "low": (0, 0, 1, 0)}
    low = next(level for level in found.crops if level.level == "low")
    assert list(low.pixels) == [("scene01", 128, 64, 64)]
    assert [item.name for item in found.images.changed] == ["scene01/low"]
    assert found.scenes == NOTHING
    changed = {item.name for item in found.files.changed}
    assert {name, "scenes.parquet", "crops/low/manifest.parquet"} <= changed
    assert "images/scene01/sharp.png" not in changed


def test_a_measurement_that_changed_is_not_a_pixel_that_changed(built: Path, copy: Path) -> None:
    def measured(rows: list[dict[str, Any]]) -> None:
        rows[3]["residual_px"] += 0.01
        rows[5]["residual_px"] += 0.01
        rows[5]["q_sharp"] *= 1.01
        rows[6]["blur_radius_confidence"] = 0.5  # was null

    rewrite(copy / "crops/low" / MANIFEST_NAME, measured)
    found = diff(built, copy)
    low = next(level for level in found.crops if level.level == "low")
    assert crops_of(found)["low"] == (0, 0, 0, 3)
    assert low.columns == {"residual_px": 2, "q_sharp": 1, "blur_radius_confidence": 1}
    assert not found.equal
    assert found.files == NOTHING  # SHA256SUMS still says the old ones: verify finds that


def test_without_manifests_the_shards_say_the_same(built: Path, copy: Path) -> None:
    def gone(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["scene"] = row["scene"].replace("scene00", "scene99")

    rewrite(copy / "crops/low" / MANIFEST_NAME, gone)
    expected = diff(built, copy)
    assert crops_of(expected)["low"][0] == crops_of(expected)["low"][1] > 0
    bare = Path(shutil.copytree(built, copy.parent / "bare"))
    for path in bare.rglob(MANIFEST_NAME):
        path.unlink()
    found = diff(bare, copy)
    for ours, theirs in zip(found.crops, expected.crops, strict=True):
        assert list(ours.only_a) == list(theirs.only_a)
        assert list(ours.only_b) == list(theirs.only_b)
        assert ours.crops == theirs.crops
    assert diff(built, bare).equal


def test_a_release_has_the_crops_of_its_dataset(built: Path, tmp_path: Path) -> None:
    release(built, tmp_path / "one", about=ABOUT)
    found = diff(built, tmp_path / "one")
    assert crops_of(found) == {"high": (0, 0, 0, 0), "low": (0, 0, 0, 0)}
    assert (found.config, found.versions, found.images) == (NOTHING, NOTHING, NOTHING)
    assert found.notes == ("scenes.parquet: not compared, B has none.",)
    assert "splits.csv" in found.files.only_b
    release(built, tmp_path / "two", about=ABOUT)
    assert diff(tmp_path / "one", tmp_path / "two").equal


def test_configuration_versions_and_verdicts(built: Path, copy: Path) -> None:
    change_rows(copy, "scene02", Level.HIGH, verdict="reject", reasons=["residual: 0.9, 0.5"])
    info = json.loads((copy / "dataset.json").read_text())
    info["config"]["register"]["iterations"] = 7
    info["versions"] = {"rawpy": "0.28"}
    write_json(copy / "dataset.json", info)
    write_sums(copy)
    found = diff(built, copy)
    assert [change.name for change in found.config.changed] == ["register.iterations"]
    assert found.config.changed[0].b == 7
    assert found.versions.only_b == ("rawpy",)
    assert found.verdicts.changed == (Change("scene02/high", "keep", "reject; residual: 0.9, 0.5"),)
    assert crops_of(found)["high"] == (0, 0, 0, 0)
    assert {item.name for item in found.files.changed} == {"dataset.json", "scenes.parquet"}


def test_levels_of_one_alone_and_folders_of_one_level(built: Path, copy: Path) -> None:
    shutil.rmtree(copy / "crops/high")
    found = diff(built, copy)
    assert found.levels.only_a == ("high",)
    assert list(crops_of(found)) == ["low"]
    assert found.scenes == NOTHING
    found = diff(built / "crops/low", copy / "crops/low")
    assert found.equal
    found = diff(built / "crops/low", built / "crops/high")
    assert crops_of(found)["low"][2] == found.crops[0].crops[0] > 0
    assert found.levels == NOTHING


def test_folders_that_cannot_be_compared(built: Path, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(built, tmp_path / "empty")
    assert done.exit_code == 2
    assert "neither crops nor scenes.parquet" in done.stderr
    path = copy / "crops/low" / MANIFEST_NAME
    rewrite(path, lambda rows: rows.append(dict(rows[0])))
    with pytest.raises(DatasetError, match="is there twice"):
        diff(built, copy)
    with pytest.raises(DatasetError, match="is there twice"):
        diff(copy, built)
    rewrite(path, lambda rows: rows.pop())
    rewrite(path, lambda rows: rows[0].update(sha256_sharp="not a hash"))
    with pytest.raises(DatasetError, match="not a SHA-256"):
        diff(built, copy)
    data = bytearray((built / "crops/low" / MANIFEST_NAME).read_bytes())
    group = pq.ParquetFile(built / "crops/low" / MANIFEST_NAME).metadata.row_group(0)
    hashes = group.column(MANIFEST_SCHEMA.names.index("sha256_sharp"))
    data[hashes.data_page_offset + hashes.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"low.*manifest\.parquet"):
        diff(built, copy)
    path.write_bytes(data[: len(data) // 2])
    assert run(built, copy).exit_code == 2


def test_the_summary_is_short_and_all_is_all(built: Path, copy: Path) -> None:
    crop(copy, level="low", size=32, stride=32)
    found = diff(built, copy)
    low = next(level for level in found.crops if level.level == "low")
    assert len(low.only_b) > 20
    short, long = run(built, copy), run(built, copy, "--all")
    assert short.exit_code == long.exit_code == 1
    assert f"crops low: {len(low.only_a)} only in A, {len(low.only_b)} only in B" in short.stdout
    assert f"... {len(low.only_b) - 5} more, see --all" in short.stdout
    lines = [line for line in long.stdout.splitlines() if line.endswith("32 px: only in B")]
    assert len(lines) == len(low.only_b)
    assert len(short.stdout.splitlines()) < 60
    whole = json.loads(run(built, copy, "--all", "--json").stdout)
    assert whole["equal"] is False
    assert whole["crops"]["low"]["counts"]["only_b"] == len(low.only_b)
    assert [tuple(place) for place in whole["crops"]["low"]["only_b"]] == list(low.only_b)
    few = json.loads(run(built, copy, "--json").stdout)
    assert len(few["crops"]["low"]["only_b"]) == 5
    assert few["crops"]["low"]["counts"] == whole["crops"]["low"]["counts"]


def test_places_hold_any_coordinates(tmp_path: Path) -> None:
    places = [(0, 0, 1), (2**31 - 1, 5, 4096), (-3, 2**31 - 1, 128)]
    for name, shift in (("a", 0), ("b", 1)):
        write_manifest(tmp_path / name / "crops/low", len(places), shift=shift)

        def placed(rows: list[dict[str, Any]]) -> None:
            for row, (x, y, size) in zip(rows, places, strict=True):
                row |= {"x": x, "y": y, "size": size}

        rewrite(tmp_path / name / "crops/low" / MANIFEST_NAME, placed)
    found = diff(tmp_path / "a", tmp_path / "b").crops[0]
    assert [place[1:] for place in found.pixels] == places


def write_manifest(folder: Path, rows: int, *, shift: int) -> None:
    """A manifest of one large row group, as `crop` writes it, of made-up hashes."""
    folder.mkdir(parents=True)
    digits = np.random.default_rng(shift).bytes(32 * rows).hex()
    hashes = pa.array([digits[64 * i : 64 * i + 64] for i in range(rows)])
    images = pa.array([f"{i // 1000:064x}" for i in range(rows)])
    index = np.arange(rows, dtype=np.int32)
    columns: dict[str, Any] = {
        "scene": pa.array([f"scene{i // 1000:04}" for i in range(rows)]),
        "level": pa.array(["low"] * rows),
        "split": pa.array(["train"] * rows),
        "x": pa.array(index % 1000),
        "y": pa.array(index % 97),
        "size": pa.array(np.full(rows, 128, np.int32)),
    }
    for field in MANIFEST_SCHEMA:
        if pa.types.is_floating(field.type):
            columns[field.name] = pa.array(np.random.default_rng(shift).random(rows))
        columns.setdefault(field.name, images if "image" in field.name else hashes)
    schema = with_metadata(MANIFEST_SCHEMA, manifest_metadata({"format": 1, "level": "low"}))
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    with table_writer(folder / MANIFEST_NAME, schema) as writer:
        writer.write_table(table)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
def test_memory_grows_by_at_most_200_bytes_a_crop(tmp_path: Path) -> None:
    """Every crop differs, which is the worst case."""
    peaks = []
    sizes = (40_000, 120_000)
    for rows in sizes:
        for name, shift in (("a", 0), ("b", 1)):
            write_manifest(tmp_path / str(rows) / name / "crops/low", rows, shift=shift)
        script = (
            "import sys\n"
            "from pathlib import Path\n"
            "from defocus_ds.dataset.diff import diff\n"
            "found = diff(*sys.argv[1:])\n"
            "print(len(found.crops[0].pixels))\n"
            # getrusage would begin with the peak of the process that started this one
            "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        pair = [str(tmp_path / str(rows) / name) for name in ("a", "b")]
        done = subprocess.run(
            [sys.executable, "-c", script, *pair], capture_output=True, text=True, check=True
        )
        changed, peak_kib = map(int, done.stdout.split())
        assert changed == rows
        peaks.append(peak_kib * 1024)
    assert (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]) <= 200
