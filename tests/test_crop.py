"""Crop: the very pixels of the images, the same bytes again, a reason for all left out."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_dataset import change_rows, make_dataset
from click.testing import CliRunner
from PIL import Image

from defocus_ds.config import TileConfig
from defocus_ds.dataset import folders, shards
from defocus_ds.dataset.checksums import read_sums
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.pixels import pixels_sha256
from defocus_ds.dataset.plan import _by_scene
from defocus_ds.dataset.stale import crop_again
from defocus_ds.dataset.verify import verify
from defocus_ds.errors import ConfigError, DatasetError, TooFewCrops
from defocus_ds.frames import Level
from defocus_ds.measure.sharpness import sharpness_q
from defocus_ds.stages.register.radius_map import RadiusMap
from defocus_ds.store import sha256_file
from defocus_ds_cli.main import cli


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes at two levels; copy it before changing it."""
    return make_dataset(
        tmp_path_factory.mktemp("built") / "dataset", levels=(Level.LOW, Level.MEDIUM)
    )


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "dataset"))


def rows_of(dataset: Path, level: str = "low") -> list[dict[str, Any]]:
    """Rows of all shards, pixels included, in the order of files."""
    files = sorted((dataset / "crops" / level).glob("*-of-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def decoded(image: dict[str, Any]) -> np.ndarray:
    with Image.open(io.BytesIO(image["bytes"])) as opened:
        assert opened.mode == "L"
        return np.asarray(opened)


def test_crops_are_the_luma_of_the_images_they_name(dataset: Path) -> None:
    report = crop(dataset, level="low")
    rows = rows_of(dataset)
    assert sum(report.kept.values()) == len(rows) == 18  # 3 x 2 of each 320 x 256 frame
    for row in rows:
        for name, level in (("sharp", "sharp"), ("blurred", "low")):
            with Image.open(dataset / f"images/{row['scene']}/{level}.png") as image:
                y = np.asarray(image.convert("YCbCr"))[..., 0]
            x0, y0 = row["x"], row["y"]
            window = y[y0 : y0 + 64, x0 : x0 + 64]
            pixels = decoded(row[name])
            assert np.array_equal(pixels, window)
            assert row[f"sha256_{name}"] == pixels_sha256(pixels)
            assert row[f"q_{name}"] == sharpness_q(window, kind="reported")
            assert row[name]["path"] == f"{row['scene']}_low_{x0}_{y0}_{name}.png"
        assert row["q_sharp"] > row["q_blurred"] > 0
        assert row["blur_radius_px"] == 2.0
        assert row["residual_px"] == 0.05


def test_every_grid_position_is_kept_or_rejected_with_a_reason(dataset: Path) -> None:
    with Image.open(dataset / "images/scene00/sharp.png") as image:
        flat = np.asarray(image).copy()
    flat[64:128, 64:128] = 90
    Image.fromarray(flat).save(dataset / "images/scene00/sharp.png")
    grid = [[96, 160, 0.0, 2.0, 1.0], [160, 160, 0.0, 0.0, 1.0], [96, 96, 0.0, 0.0, 1.0]]
    change_rows(
        dataset,
        "scene00",
        Level.SHARP,
        image_sha256=sha256_file(dataset / "images/scene00/sharp.png"),
    )
    change_rows(dataset, "scene00", Level.LOW, alignment=json.dumps({"residual_grid": grid}))
    report = crop(dataset, level="low")
    kept = {(r["scene"], r["x"], r["y"]) for r in rows_of(dataset)}
    rejected = pq.read_table(dataset / "crops/low/rejected.parquet").to_pylist()
    reasons = {(r["scene"], r["x"], r["y"]): r["reason"] for r in rejected}
    assert not kept & reasons.keys()
    assert len(kept) + len(reasons) == 3 * 5 * 4
    assert reasons["scene00", 64, 64] == "flat"
    assert reasons["scene00", 64, 128] == "misaligned"
    assert ("scene00", 128, 128) in kept
    assert report.rejected == {"flat": 1, "misaligned": 1, "outside": 42}
    worst = next(r for r in rejected if r["reason"] == "misaligned")
    assert worst["value"] == pytest.approx(2.0, abs=0.05)
    assert worst["limit"] == 0.5


def test_the_blur_radius_of_a_crop_is_that_of_its_place(dataset: Path) -> None:
    """A radius that grows by 1 px in 100 px to the right is found again in every crop."""
    grid = [[x, y, 1 + x / 100, 0.8] for x in range(20, 320, 40) for y in range(20, 256, 40)]
    change_rows(dataset, "scene00", Level.LOW, alignment=json.dumps({"radius_grid": grid}))
    crop(dataset, level="low")
    for row in rows_of(dataset):
        expected = 1 + (row["x"] + 31.5) / 100 if row["scene"] == "scene00" else 2.0
        assert row["blur_radius_px"] == pytest.approx(expected, abs=1e-6)


def test_radius_confidence_and_spread_of_a_crop_come_from_the_map(dataset: Path) -> None:
    """Five columns of 64 px: 2 px on the left, 4 px from the third on, the last one unknown."""
    radius = np.repeat([[2.0, 2, 4, 4, np.nan]], 4, axis=0)
    radii = RadiusMap(radius, 0 * radius + 0.05, 0 * radius)
    record = json.dumps({"radius_map": radii.to_record()})
    change_rows(dataset, "scene00", Level.LOW, alignment=record)
    report = crop(dataset, level="low", size=96, stride=32)
    found = {row["x"]: row for row in rows_of(dataset) if row["scene"] == "scene00"}
    assert found[32]["blur_radius_px"] == pytest.approx(2.0)
    assert found[32]["blur_radius_confidence"] == pytest.approx(0.96, abs=0.01)
    assert found[32]["blur_radius_spread_px"] == pytest.approx(0.0, abs=1e-6)
    # a third of it on the left
    assert found[96]["blur_radius_px"] == pytest.approx(10 / 3, abs=0.01)
    assert found[96]["blur_radius_spread_px"] == pytest.approx(2 * 2**0.5 / 3, abs=0.01)
    # two thirds of it over the unknown column
    assert found[224 - 32]["blur_radius_confidence"] == pytest.approx(0.96 * 2 / 3, abs=0.01)
    (note,) = (note for note in report.notes if "radius map" in note)
    assert "2 of 3 pairs have no radius map (scene01/low, scene02/low)" in note


def test_without_a_map_the_confidence_is_not_recorded(dataset: Path) -> None:
    crop(dataset, level="low")
    for row in rows_of(dataset):
        assert row["blur_radius_confidence"] is None
        assert row["blur_radius_spread_px"] is None


def test_where_the_map_knows_nothing_the_pairs_radius_stands_in(dataset: Path) -> None:
    nothing = np.full((4, 5), np.nan)
    record = {"radius_map": RadiusMap(nothing, nothing, nothing).to_record()}
    change_rows(dataset, "scene00", Level.LOW, alignment=json.dumps(record))
    crop(dataset, level="low")
    for row in rows_of(dataset):
        if row["scene"] == "scene00":
            assert (row["blur_radius_px"], row["blur_radius_confidence"]) == (2.0, 0.0)
            assert row["blur_radius_spread_px"] is None


@pytest.mark.parametrize(
    "record",
    ["x", {}, RadiusMap(*[np.ones((2, 2))] * 3).to_record()],
    ids=["text", "empty", "small"],
)
def test_a_radius_map_that_is_not_one_is_refused(dataset: Path, record: object) -> None:
    change_rows(dataset, "scene00", Level.LOW, alignment=json.dumps({"radius_map": record}))
    with pytest.raises(DatasetError, match="scene00/low: alignment: radius map"):
        crop(dataset, level="low")


@pytest.mark.parametrize("grid", ["x", [[1, 2]], [[0, 0, "a", 0, 1]], [3], [[0, 0, 10**400, 0, 1]]])
def test_a_residual_grid_that_is_not_one_is_refused(dataset: Path, grid: object) -> None:
    change_rows(dataset, "scene00", Level.LOW, alignment=json.dumps({"residual_grid": grid}))
    with pytest.raises(DatasetError, match="scene00/low: alignment: residual_grid"):
        crop(dataset, level="low")


def test_only_kept_pairs_are_cut_and_the_others_are_counted(dataset: Path) -> None:
    change_rows(dataset, "scene01", Level.LOW, verdict="reject", reasons=["residual: 2.1 px, 1.0"])
    report = crop(dataset, level="low")
    assert {row["scene"] for row in rows_of(dataset)} == {"scene00", "scene02"}
    assert [str(item) for item in report.left_out] == ["scene01/low: residual: 2.1 px, 1.0"]
    assert report.pairs == 2


def test_a_failed_sharp_image_leaves_its_pairs_out(dataset: Path) -> None:
    change_rows(dataset, "scene02", Level.SHARP, verdict="failed", reasons=["truncated"])
    report = crop(dataset, level="medium")
    assert [str(item) for item in report.left_out] == ["scene02/medium: truncated"]


def test_same_dataset_same_bytes(dataset: Path, built: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(built, tmp_path / "other"))
    crop(dataset, level="low")
    crop(other, level="medium")
    crop(other, level="low", size=96)
    crop(other, level="low")
    assert bytes_of(dataset / "crops/low") == bytes_of(other / "crops/low")
    assert (dataset / "crops").is_dir()
    assert [p.name for p in sorted((other / "crops").iterdir())] == ["low", "medium"]


def test_levels_share_their_split(dataset: Path) -> None:
    for level in ("low", "medium"):
        crop(dataset, level=level)
    splits = [{(r["scene"], r["split"]) for r in rows_of(dataset, lv)} for lv in ("low", "medium")]
    assert splits[0] == splits[1]
    assert {split for _, split in splits[0]} == {"train", "test"}


def test_a_level_without_one_pair_leaves_the_split_as_it_is(dataset: Path) -> None:
    crop(dataset, level="low")
    before = {(r["scene"], r["split"]) for r in rows_of(dataset)}
    test_scene = next(scene for scene, split in before if split == "test")
    change_rows(dataset, test_scene, Level.LOW, verdict="reject", reasons=["ncc: 0.1, 0.9"])
    report = crop(dataset, level="low")
    assert {(r["scene"], r["split"]) for r in rows_of(dataset)} == {
        pair for pair in before if pair[0] != test_scene
    }
    assert any("no low crop is in test" in note for note in report.notes)


def test_a_forced_test_scene_is_reported(dataset: Path) -> None:
    report = crop(dataset, level="low", config=TileConfig(size=64, stride=64, test_share=1e-9))
    assert report.kept == {"train": 12, "test": 6}
    assert any("was made test" in note for note in report.notes)


def test_exact_counts_balanced_over_scenes(dataset: Path) -> None:
    options: dict[str, Any] = {"size": 64, "stride": 16, "train": 21, "test": 5}
    report = crop(dataset, level="low", **options)
    assert report.kept == {"train": 21, "test": 5}
    assert report.passed["train"] > 21
    counts = [r["scene"] for r in rows_of(dataset) if r["split"] == "train"]
    assert sorted(counts.count(scene) for scene in set(counts)) == [10, 11]
    first = bytes_of(dataset / "crops/low")
    crop(dataset, level="low", **options)
    assert bytes_of(dataset / "crops/low") == first
    crop(dataset, level="low", **options, seed=0)
    assert bytes_of(dataset / "crops/low") == first


def test_too_few_says_how_many_are_missing_and_changes_nothing(dataset: Path) -> None:
    crop(dataset, level="low")
    before = bytes_of(dataset / "crops/low")
    with pytest.raises(TooFewCrops) as caught:
        crop(dataset, level="low", train=77_000, test=188)
    text = str(caught.value)
    assert "train: 77000 asked for, 12 pass, 76988 missing" in text
    assert "test: 188 asked for, 6 pass, 182 missing" in text
    assert "--stride (now 64)" in text
    assert bytes_of(dataset / "crops/low") == before
    assert [p.name for p in (dataset / "crops").iterdir()] == ["low"]


def test_shards_are_bounded_complete_and_readable_at_random(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 100)
    report = crop(dataset, level="low", size=64, stride=16)
    total = report.kept["train"]
    count = -(-total // 100)
    files = sorted((dataset / "crops/low").glob("train-*"))
    assert [f.name for f in files] == [f"train-{i:05}-of-{count:05}.parquet" for i in range(count)]
    sizes = []
    for file in files:
        metadata = pq.read_metadata(file)
        sizes.append(metadata.num_rows)
        groups = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        assert max(groups) <= 32
    assert sum(sizes) == total
    assert max(sizes) - min(sizes) <= 1


def test_schema_tells_datasets_that_pixels_are_images(dataset: Path) -> None:
    crop(dataset, level="low")
    schema = pq.read_schema(next((dataset / "crops/low").glob("train-*")))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["sharp"] == features["blurred"] == {"_type": "Image"}
    assert features["x"] == {"dtype": "int32", "_type": "Value"}
    assert features["q_sharp"] == {"dtype": "float64", "_type": "Value"}
    record = json.loads(schema.metadata[b"defocus_ds"])
    assert record["format"] == 1
    assert record["dataset_digest"] == sha256_file(dataset / "scenes.parquet")
    assert record["tile"]["size"] == 64


def test_manifest_has_no_pixels_and_rebuilds_the_same_bytes(
    dataset: Path, built: Path, tmp_path: Path
) -> None:
    crop(dataset, level="low", size=48, stride=40, train=9, test=4)
    first = bytes_of(dataset / "crops/low")
    manifest = Path(shutil.copy(dataset / "crops/low/manifest.parquet", tmp_path))
    assert manifest.stat().st_size < 20_000
    other = Path(shutil.copytree(built, tmp_path / "other"))
    report = crop(other, level="low", manifest=manifest)
    assert report.kept == {"train": 9, "test": 4}
    first.pop("rejected.parquet")  # a manifest says nothing of what was not kept
    assert bytes_of(other / "crops/low") == first


def test_rebuild_names_missing_scenes_and_other_images_at_once(
    dataset: Path, built: Path, tmp_path: Path
) -> None:
    crop(dataset, level="low")
    manifest = Path(shutil.copy(dataset / "crops/low/manifest.parquet", tmp_path))
    other = Path(shutil.copytree(built, tmp_path / "other"))
    path = other / "images/scene00/low.png"
    Image.fromarray(np.zeros((256, 320, 3), np.uint8)).save(path)
    change_rows(other, "scene00", Level.LOW, image_sha256=sha256_file(path))
    change_rows(other, "scene02", Level.LOW, verdict="reject", reasons=["ncc: 0, 1"])
    with pytest.raises(DatasetError) as caught:
        crop(other, level="low", manifest=manifest)
    assert "2 of 3 scenes" in str(caught.value)
    assert "scene00 (the blurred image is" in str(caught.value)
    assert "scene02 (ncc: 0, 1)" in str(caught.value)
    with pytest.raises(DatasetError, match="--level"):
        crop(dataset, level="medium", manifest=manifest)


@pytest.mark.parametrize(("column", "value"), [("x", 2**31 - 1), ("y", 2**31 - 32), ("x", -1)])
def test_a_manifest_with_a_crop_beyond_its_image_is_refused(
    dataset: Path, tmp_path: Path, column: str, value: int
) -> None:
    """The end of the first two, as a 32-bit number, is negative."""
    crop(dataset, level="low")
    table = pq.read_table(dataset / "crops/low/manifest.parquet")
    rows = table.to_pylist()
    rows[0][column] = value
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), tmp_path / "m.parquet")
    with pytest.raises(DatasetError, match="a crop lies beyond its 320x256 image"):
        crop(dataset, level="low", manifest=tmp_path / "m.parquet")


def test_sums_are_refreshed_without_hiding_damage(dataset: Path) -> None:
    crop(dataset, level="medium")
    before = read_sums(dataset)
    damaged = next((dataset / "crops/medium").glob("train-*"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    crop(dataset, level="low")
    sums = read_sums(dataset)
    for path in (dataset / "crops/low").iterdir():
        assert sums[f"crops/low/{path.name}"] == sha256_file(path)
    name = f"crops/medium/{damaged.name}"
    assert sums[name] == before[name] != sha256_file(damaged)


def test_a_changed_image_is_not_cut(dataset: Path) -> None:
    path = dataset / "images/scene01/low.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"scene01/low\.png: SHA-256 .* Delete it, then run"):
        crop(dataset, level="low")
    assert not (dataset / "crops").exists()


def test_interrupted_while_writing_the_old_crops_stay(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop(dataset, level="low")
    before = bytes_of(dataset / "crops/low")
    count = 0

    def stop(done: int, total: int, label: str) -> None:
        nonlocal count
        count += label.startswith("cut")
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crop(dataset, level="low", size=96, progress=stop)
    assert bytes_of(dataset / "crops/low") == before
    assert [p.name for p in (dataset / "crops").iterdir()] == ["low"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_killed_run_is_cleaned_up_by_the_next(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """Without an atomic exchange, death between the two renames leaves only ``.old-low-...``."""
    crop(dataset, level="low")
    before = bytes_of(dataset / "crops/low")
    if not exchange:
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    (dataset / "crops/.tmp-low-deadbeef").mkdir()
    (dataset / "crops/.tmp-low-deadbeef/train").write_text("half")
    (dataset / "crops/low").rename(dataset / "crops/.old-low-deadbeef")
    crop(dataset, level="low")
    assert bytes_of(dataset / "crops/low") == before
    assert [p.name for p in (dataset / "crops").iterdir()] == ["low"]


def test_one_writer_at_a_time(dataset: Path) -> None:
    with folders.only_writer(dataset), pytest.raises(DatasetError, match="is at work on it"):
        crop(dataset, level="low")
    assert crop(dataset, level="low").pairs == 3


def test_a_manifest_without_its_record_is_refused(dataset: Path, tmp_path: Path) -> None:
    crop(dataset, level="low")
    table = pq.read_table(dataset / "crops/low/manifest.parquet")
    for metadata in (None, {"defocus_ds": "{"}, {"defocus_ds": '{"format": 1, "tile": {"a": 1}}'}):
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "m.parquet")
        with pytest.raises(DatasetError, match="does not say how it was made"):
            crop(dataset, level="low", manifest=tmp_path / "m.parquet")


def test_unusable_input_is_said_in_one_line(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        crop(tmp_path, level="low")
    with pytest.raises(DatasetError, match="one of low, medium, high"):
        crop(dataset, level="sharp")
    with pytest.raises(DatasetError, match="no high pair to crop: scene00/high: absent"):
        crop(dataset, level="high")
    with pytest.raises(DatasetError, match=r"no crop of size 512 passes in 3 pairs \(no place\)"):
        crop(dataset, level="low", size=512)
    with pytest.raises(ConfigError, match=r"tile\.size = 0"):
        crop(dataset, level="low", size=0)
    with pytest.raises(ConfigError, match="add up"):
        crop(dataset, level="low", config=TileConfig(test_share=0.7, val_share=0.7))


def test_crops_that_stay_when_a_review_leaves_no_pair_are_said(
    dataset: Path, tmp_path: Path
) -> None:
    review = tmp_path / "review.csv"
    lines = [f"scene0{number},low,reject,\n" for number in range(3)]
    review.write_text("scene,level,decision,note\n" + "".join(lines))
    with pytest.raises(DatasetError) as none_yet:
        crop(dataset, level="low", review=review)
    assert "earlier run" not in str(none_yet.value)
    crop(dataset, level="low")
    folder = dataset / "crops" / "low"
    before = bytes_of(folder)
    with pytest.raises(DatasetError, match="no low pair to crop: .*rejected by a person") as found:
        crop(dataset, level="low", review=review)
    assert f"The crops of an earlier run stay in {folder}." in str(found.value)
    assert bytes_of(folder) == before
    # the way out that the message names
    assert "delete that folder, then crop another level" in str(found.value)
    shutil.rmtree(folder)
    crop(dataset, level="medium")
    assert verify(dataset).clean


def test_a_review_that_is_not_given_again_is_said(dataset: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    review.write_text("scene,level,decision\nscene00,low,reject\n")
    assert not any("obeyed" in n for n in crop(dataset, level="low", review=review).notes)
    assert crop_again(dataset, "low").endswith("--level low --review review.csv")
    notes = crop(dataset, level="low").notes
    assert any("low crops before these obeyed a review" in note for note in notes)
    assert crop_again(dataset, "low").endswith("--level low")
    assert not any("obeyed a review" in note for note in crop(dataset, level="low").notes)


def test_levels_cut_with_other_seeds_are_said(dataset: Path) -> None:
    crop(dataset, level="medium")
    moved = next(
        notes
        for seed in range(1, 20)
        if (notes := [n for n in crop(dataset, level="low", seed=seed).notes if "split" in n])
    )
    assert moved[-1].startswith("in the medium crops scene0")
    assert "Cut them with the same --seed" in moved[-1]
    (dataset / "crops/medium/manifest.parquet").write_bytes(b"damaged")
    notes = crop(dataset, level="low", seed=1).notes
    assert not any("have another split" in note for note in notes)


def test_a_test_scene_that_a_review_left_out_is_named(dataset: Path, tmp_path: Path) -> None:
    crop(dataset, level="low")
    (held,) = {row["scene"] for row in rows_of(dataset) if row["split"] == "test"}
    review = tmp_path / "review.csv"
    review.write_text(f"scene,level,decision\n{held},low,reject\n")
    notes = crop(dataset, level="low", review=review).notes
    assert f"no low crop is in test: {held}, of test, left out at this level." in notes


def test_progress_counts_every_pair_twice(dataset: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    crop(dataset, level="low", progress=lambda *step: seen.append(step))
    assert [(done, total) for done, total, _ in seen] == [(i, 6) for i in range(1, 7)]
    assert [label for *_, label in seen][::3] == ["judged scene00/low", "cut scene00/low"]


def test_command_prints_counts_and_reasons(dataset: Path) -> None:
    change_rows(dataset, "scene01", Level.LOW, verdict="reject", reasons=["ncc: 0.2, 0.9"])
    done = CliRunner().invoke(cli, ["crop", str(dataset), "--set", "tile.min_std=1"])
    assert done.exit_code == 0, done.output
    assert "12 crops of 64 px, stride 64, from 2 pairs" in done.stdout
    assert "outside" in done.stdout
    assert "scene01/low: ncc: 0.2, 0.9" in done.stdout
    assert "crop: 4/4 cut scene02/low" in done.stderr


def test_command_json_and_exit_codes(dataset: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(cli, ["crop", str(dataset), "--size", "32", "--json"])
    result = json.loads(done.stdout)
    assert result["size"] == result["stride"] == 32
    assert result["kept"]["train"] == result["passed"]["train"] > 0
    few = run(cli, ["crop", str(dataset), "--train", "77000", "--test", "188"])
    assert few.exit_code == 1
    assert "76988 missing" in few.stderr
    assert few.stdout == ""
    manifest = Path(shutil.copy(dataset / "crops/low/manifest.parquet", tmp_path))
    for option in (["--size", "32"], ["--seed", "0"], ["--train", "9"], ["--set", "tile.size=8"]):
        both = run(cli, ["crop", str(dataset), "--manifest", str(manifest), *option])
        assert both.exit_code == 2
        assert "--manifest decides every crop" in both.stderr
    assert run(cli, ["crop", str(dataset), "--manifest", str(manifest)]).exit_code == 0
    other = run(cli, ["crop", str(dataset), "--set", "register.refine=false"])
    assert other.exit_code == 2
    assert other.stderr.count("\n") == 1
    assert "register" in other.stderr


def test_rebuild_from_its_own_manifest_keeps_the_rejections(dataset: Path, tmp_path: Path) -> None:
    made = crop(dataset, level="low", size=48, stride=40)
    first = bytes_of(dataset / "crops/low")
    again = crop(dataset, level="low", manifest=dataset / "crops/low/manifest.parquet")
    assert bytes_of(dataset / "crops/low") == first
    assert again.rejected == made.rejected != {}
    assert not again.notes


def test_a_manifest_from_elsewhere_says_that_it_knows_no_rejections(
    dataset: Path, built: Path, tmp_path: Path
) -> None:
    crop(dataset, level="low", size=48, stride=40)
    other = Path(shutil.copytree(built, tmp_path / "other"))
    report = crop(other, level="low", manifest=dataset / "crops/low/manifest.parquet")
    assert report.rejected == {}
    assert "does not know what was rejected" in report.notes[0]


def test_one_pair_is_not_called_pairs(dataset: Path) -> None:
    for scene in ("scene01", "scene02"):
        change_rows(dataset, scene, Level.LOW, verdict="reject", reasons=["ncc: 0.2, 0.9"])
    done = CliRunner().invoke(cli, ["crop", str(dataset)])
    assert "from 1 pair\n" in done.stdout


def test_rows_of_a_manifest_are_sorted_into_scenes_in_one_pass() -> None:
    table = pa.table({"scene": ["b", "a", "b", "c", "a"], "x": [1, 2, 3, 4, 5]})
    found = {scene: rows.column("x").to_pylist() for scene, rows in _by_scene(table)}
    assert list(found.items()) == [("a", [2, 5]), ("b", [1, 3]), ("c", [4])]
    assert list(_by_scene(table.slice(0, 0))) == []


def test_a_long_manifest_is_written_in_parts(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop(dataset, level="low")
    path = dataset / "crops/low/manifest.parquet"
    whole = pq.read_table(path)
    monkeypatch.setattr(shards, "_MANIFEST_ROWS", 10)
    crop(dataset, level="low")
    assert pq.ParquetFile(path).metadata.num_row_groups > whole.num_rows // 10
    assert pq.read_table(path).equals(whole)
