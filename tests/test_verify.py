"""Verify: a clean dataset is clean, and each planted fault is found in the file that has it."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_dataset import change_rows, image_row, make_dataset, save_image, write_dataset
from click.testing import CliRunner
from PIL import Image

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.checksums import write_sums
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export.source import open_streams
from defocus_ds.dataset.findings import Finding
from defocus_ds.dataset.folders import only_writer
from defocus_ds.dataset.loaders import load_crops
from defocus_ds.dataset.manifest import SCENE_SCHEMA, read_scenes
from defocus_ds.dataset.pixels import encode_png, pixels_sha256
from defocus_ds.dataset.stale import stale_levels
from defocus_ds.dataset.verify import verify
from defocus_ds.dataset.verify_crops import _Places
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level
from defocus_ds.pipeline.journal import Journal, write_journal
from defocus_ds.store import sha256_file, write_json
from defocus_ds_cli.main import cli

TRAIN = "crops/low/train-00000-of-00001.parquet"
TEST = "crops/low/test-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes, two levels, cropped with two training shards' worth of rows."""
    root = make_dataset(
        tmp_path_factory.mktemp("cropped") / "dataset", levels=(Level.LOW, Level.MEDIUM)
    )
    for level in ("low", "medium"):
        crop(root, level=level)
    return root


@pytest.fixture
def dataset(cropped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cropped, tmp_path / "dataset"))


def found(root: Path, file: str) -> list[Finding]:
    return [finding for finding in verify(root).findings if finding.file == file]


def flip(path: Path, position: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * position)] ^= 0xFF
    path.write_bytes(data)


def edit(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change rows of a Parquet file and bring the checksums up to date, as a forger would."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    write_sums(path.parents[2])


def edit_both(root: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """The same change in the training shard and in its rows of the manifest."""
    edit(root / TRAIN, change)

    def in_manifest(rows: list[dict[str, Any]]) -> None:
        change([row for row in rows if row["split"] == "train"])

    edit(root / "crops/low/manifest.parquet", in_manifest)


def forge_digest(root: Path, level: str = "low") -> None:
    """Make a manifest claim that it was cut from the present scenes.parquet."""
    path = root / f"crops/{level}/manifest.parquet"
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[b"defocus_ds"])
    record["dataset_digest"] = sha256_file(root / "scenes.parquet")
    pq.write_table(table.replace_schema_metadata({"defocus_ds": json.dumps(record)}), path)
    write_sums(root)


def force_image(root: Path, name: str) -> None:
    """A path in scenes.parquet that its writer would refuse or never write."""
    rows = read_scenes(root / "scenes.parquet")
    rows[1]["image"] = name
    pq.write_table(pa.Table.from_pylist(rows, schema=SCENE_SCHEMA), root / "scenes.parquet")


def set_value(column: str, value: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0][column] = value

    return change


def test_a_cropped_dataset_is_clean(dataset: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(dataset, progress=lambda done, total, _: seen.append((done, total)))
    assert report.findings == ()
    assert report.clean
    assert report.checked == {"files": 19, "images": 9, "crops": 36, "pairs": 6}
    assert seen == [(i, 23) for i in range(1, 24)]


def test_a_dataset_without_crops_is_clean(tmp_path: Path) -> None:
    report = verify(make_dataset(tmp_path / "dataset", scenes=1))
    assert report.findings == ()
    assert report.checked == {"files": 4, "images": 2}


@pytest.mark.parametrize("part", ["crops", "crops/low"])
def test_a_folder_of_crops_is_checked_on_its_own(dataset: Path, part: str) -> None:
    assert verify(dataset / part).clean
    (dataset / TRAIN).unlink()
    assert not verify(dataset / part).clean


@pytest.mark.parametrize("part", ["images/scene00/low.png", "images/scene01/sharp.png", TRAIN])
def test_a_flipped_byte_is_found(dataset: Path, part: str) -> None:
    expected = sha256_file(dataset / part)
    flip(dataset / part)
    finding = found(dataset, part)[0]
    assert finding.expected == f"SHA-256 {expected}"
    assert finding.found == sha256_file(dataset / part)
    way_out = "verify --repair" if part == TRAIN else "Delete it, then run the same"
    assert way_out in finding.repair


def test_a_flipped_byte_in_a_shard_is_found_without_its_checksum(dataset: Path) -> None:
    flip(dataset / TRAIN, 0.3)
    write_sums(dataset)
    assert "rows 0 to 11" in found(dataset, TRAIN)[0].expected


@pytest.mark.parametrize(
    "part", ["images/scene00/low.png", "scenes.parquet", "dataset.json", "SHA256SUMS", TRAIN, TEST]
)
def test_a_missing_file_is_found(dataset: Path, part: str) -> None:
    (dataset / part).unlink()
    assert "Delete" not in found(dataset, part)[0].repair


@pytest.mark.parametrize("level", ["sharp", "low"])
def test_a_missing_image_is_found_once(dataset: Path, level: str) -> None:
    name = f"images/scene00/{level}.png"
    (dataset / name).unlink()
    (finding,) = verify(dataset).findings
    assert (finding.file, finding.found) == (name, "no file")


@pytest.mark.parametrize("part", ["note.txt", "images/scene00/extra.png", "crops/low/x.parquet"])
def test_a_stray_file_is_found(dataset: Path, part: str) -> None:
    (dataset / part).write_bytes(b"x")
    assert "a line in SHA256SUMS" in {finding.expected for finding in found(dataset, part)}


def test_receipts_and_reports_are_not_stray(dataset: Path) -> None:
    for name in ("receipts/scene00/ingest.json", "report/index.html", "work/x", ".lock"):
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).write_text("{}")
    assert verify(dataset).clean


def test_an_image_without_a_row_is_found(dataset: Path) -> None:
    save_image(dataset / "images/scene09/low.png", np.zeros((8, 8, 3), np.uint8))
    write_sums(dataset)
    assert found(dataset, "images/scene09/low.png")[0].expected == "a row in scenes.parquet"


def test_an_image_of_another_size_is_found(dataset: Path) -> None:
    path = dataset / "images/scene00/medium.png"
    save_image(path, np.zeros((100, 90, 3), np.uint8))
    change_rows(dataset, "scene00", Level.MEDIUM, image_sha256=sha256_file(path))
    finding = found(dataset, "images/scene00/medium.png")[0]
    assert (finding.expected, finding.found) == ("320x256 px", "90x100 px")


def test_an_image_other_than_its_row_says_is_found_with_new_checksums(dataset: Path) -> None:
    path = dataset / "images/scene00/medium.png"
    with Image.open(path) as image:
        save_image(path, np.asarray(image)[::-1])
    write_sums(dataset)
    assert any("as scenes.parquet says" in f.expected for f in found(dataset, str(path_of(path))))


def path_of(path: Path) -> str:
    return "/".join(path.parts[-3:])


def test_a_scene_in_two_splits_over_two_levels_is_found(dataset: Path) -> None:
    low = {row["split"]: row["scene"] for row in pq.read_table(dataset / TRAIN).to_pylist()}
    crop(dataset, level="medium", seed=next(s for s in range(99) if moves(dataset, low, s)))
    problems = [f for f in verify(dataset).findings if low["train"] in f.expected]
    assert problems
    assert "in test only" in problems[0].expected or "in train" in problems[0].found


def moves(dataset: Path, low: dict[str, str], seed: int) -> bool:
    """Whether this seed puts the training scene into test."""
    from defocus_ds.dataset.split import assign_splits

    names = {row["scene"] for row in read_scenes(dataset / "scenes.parquet")}
    splits = assign_splits(names, seed=seed, test_share=0.3, val_share=0.0).by_scene
    return splits[low["train"]] == "test"


def test_a_scene_in_two_splits_of_one_level_is_found(dataset: Path) -> None:
    test_scene = pq.read_table(dataset / TEST).to_pylist()[0]["scene"]
    edit_both(dataset, set_value("scene", test_scene))
    assert any(f"{test_scene} in train" in f.found for f in found(dataset, TRAIN))


def test_a_missing_shard_is_named(dataset: Path) -> None:
    (dataset / TRAIN).rename(dataset / "crops/low/train-00000-of-00002.parquet")
    write_sums(dataset)
    missing = found(dataset, "crops/low/train-00001-of-00002.parquet")
    assert [(f.expected, f.found) for f in missing] == [("shard of 2", "no file")]


def test_a_missing_split_is_named(dataset: Path) -> None:
    (dataset / TEST).unlink()
    write_sums(dataset)
    assert found(dataset, "crops/low/test-*.parquet")


def test_a_shard_of_another_run_is_named(dataset: Path) -> None:
    other = "crops/low/train-00003-of-00007.parquet"
    shutil.copy(dataset / TRAIN, dataset / other)
    write_sums(dataset)
    assert any("another run" in f.found for f in found(dataset, other))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scenes", 4),
        ("images", 1),
        ("images", None),
        ("pairs", {"failed": 0, "keep": 5, "reject": 0}),
        ("pairs", [6]),
        ("digest", "0" * 64),
    ],
)
def test_a_wrong_count_is_found(dataset: Path, name: str, value: object) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    write_json(dataset / "dataset.json", info | {name: value})
    write_sums(dataset)
    finding = found(dataset, "dataset.json")[0]
    assert name in finding.expected
    assert finding.found == repr(value)


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 100_000, '{"format": 2}', '{"format": 1, "config": {"x": 1}}']
)
def test_a_damaged_record_is_found(dataset: Path, text: str) -> None:
    (dataset / "dataset.json").write_text(text)
    write_sums(dataset)
    assert found(dataset, "dataset.json")[0].expected == "a record of this format"


def test_rows_missing_from_a_shard_are_found(dataset: Path) -> None:
    edit(dataset / TRAIN, lambda rows: rows.pop())
    finding = found(dataset, TRAIN)[0]
    assert (finding.expected, finding.found) == ("12 rows of the manifest", "11")


@pytest.mark.parametrize("column", ["residual_px", "q_sharp", "blur_radius_px", "q_blurred"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_measurement_that_is_not_one_is_found(dataset: Path, column: str, value: float) -> None:
    edit_both(dataset, set_value(column, value))
    assert any(f"row 0: {column} finite" in f.expected for f in found(dataset, TRAIN))


def test_a_row_that_differs_from_the_manifest_is_found(dataset: Path) -> None:
    edit(dataset / TRAIN, set_value("residual_px", 0.01))
    assert [(f.expected, f.found) for f in found(dataset, TRAIN)] == [
        ("row 0: residual_px 0.05, as in the manifest", "0.01")
    ]


def test_crop_pixels_of_another_hash_are_found(dataset: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[3]["sharp"]["bytes"] = encode_png(np.full((64, 64), 7, np.uint8))

    edit(dataset / TRAIN, change)
    assert [f.expected for f in found(dataset, TRAIN)] == [
        "row 3: two crops of the hashes it states"
    ]


def test_crop_pixels_other_than_the_image_are_found_even_with_a_right_hash(dataset: Path) -> None:
    """Shifted by one pixel, hashed again everywhere: only the image gives it away."""
    with Image.open(dataset / "images/scene00/low.png") as image:
        y = np.asarray(image.convert("YCbCr"))[..., 0]
    rows = pq.read_table(dataset / TRAIN).to_pylist()
    assert rows[0]["scene"] == "scene00"
    at_x, at_y = rows[0]["x"] + 1, rows[0]["y"]
    shifted = np.ascontiguousarray(y[at_y : at_y + 64, at_x : at_x + 64])

    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["sha256_blurred"] = pixels_sha256(shifted)
        if "blurred" in rows[0]:
            rows[0]["blurred"]["bytes"] = encode_png(shifted)

    edit_both(dataset, change)
    problems = found(dataset, TRAIN)
    assert [f.expected for f in problems] == [
        "row 0: the pixels of scene00/low (blurred) at (64, 64)"
    ]
    assert problems[0].found.endswith("of 4096 pixels differ")


def test_a_crop_of_a_rejected_pair_is_found(dataset: Path) -> None:
    change_rows(dataset, "scene00", Level.LOW, verdict="reject", reasons=["ncc: 0.1, 0.9"])
    forge_digest(dataset)
    assert any(f.found == "reject (ncc: 0.1, 0.9)" for f in found(dataset, TRAIN))


def test_a_crop_outside_the_valid_area_is_found(dataset: Path) -> None:
    change_rows(dataset, "scene00", Level.LOW, valid_area=[80, 6, 312, 250])
    forge_digest(dataset)
    assert any("inside [80, 6, 312, 250]" in f.expected for f in found(dataset, TRAIN))


def test_a_crop_twice_is_found(dataset: Path) -> None:
    edit_both(dataset, lambda rows: rows[1].update(rows[0]))
    assert any("second time" in f.found for f in found(dataset, TRAIN))


def test_a_crop_in_the_wrong_file_is_found(dataset: Path) -> None:
    edit(dataset / TRAIN, set_value("split", "test"))
    edit(dataset / TRAIN, set_value("level", "high"))
    text = " ".join(f.expected for f in found(dataset, TRAIN))
    assert "split 'train'" in text
    assert "level 'low'" in text


def test_a_manifest_of_other_images_is_found(dataset: Path) -> None:
    path = dataset / "crops/low/manifest.parquet"
    edit(path, set_value("image_sha256_sharp", "0" * 64))
    assert found(dataset, "crops/low/manifest.parquet")[0].found == "0" * 64


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "images/../../outside.png"])
def test_a_path_out_of_the_dataset_is_found_and_not_read(dataset: Path, name: str) -> None:
    save_image(dataset.parent / "outside.png", np.zeros((256, 320, 3), np.uint8))
    force_image(dataset, name)
    assert any("outside the dataset" in f.found for f in found(dataset, name))


@pytest.mark.parametrize("name", ["", ".", "images", "a\0b", "\0", "x" * 5000, "x/" * 2000])
def test_a_path_that_cannot_be_a_file_is_found(dataset: Path, name: str) -> None:
    force_image(dataset, name)
    shown = name.replace("\0", "\\x00")
    assert found(dataset, shown)
    for command in (["verify"], ["crop", "--level", "low"]):
        done = CliRunner().invoke(cli, [command[0], str(dataset), *command[1:]])
        assert done.exit_code in (1, 2)
        assert isinstance(done.exception, SystemExit)


def test_a_path_out_of_the_dataset_in_the_sums_is_found(dataset: Path) -> None:
    with (dataset / "SHA256SUMS").open("a") as file:
        file.write(f"{'a' * 64}  ../x\n")
    assert "'../x' leads outside" in found(dataset, "SHA256SUMS")[0].found


def test_a_link_out_of_the_dataset_is_found_and_not_read(dataset: Path) -> None:
    (dataset.parent / "secret").write_text("x")
    (dataset / "link.txt").symlink_to(dataset.parent / "secret")
    assert any("outside" in f.found for f in found(dataset, "link.txt"))


def test_a_link_in_a_circle_is_found_and_not_followed(dataset: Path) -> None:
    path = dataset / "images/scene00/low.png"
    path.unlink()
    path.symlink_to(path)
    assert "in a circle" in found(dataset, "images/scene00/low.png")[0].found
    with pytest.raises(DatasetError, match="in a circle"):
        crop(dataset, level="low")


def test_what_is_not_a_file_is_found_and_not_read(dataset: Path) -> None:
    """A pipe would be waited on for ever."""
    path = dataset / "images/scene00/low.png"
    path.unlink()
    os.mkfifo(path)
    problems = found(dataset, "images/scene00/low.png")
    assert problems[0].found == "something else"
    with pytest.raises(DatasetError, match=r"low\.png: not a file"):
        crop(dataset, level="low")


def test_a_name_that_a_terminal_cannot_show_is_escaped(dataset: Path) -> None:
    (dataset / "a\x1b[2Jb").write_text("x")
    Path(os.fsdecode(os.fsencode(dataset) + b"/\xff")).write_text("x")
    done = CliRunner().invoke(cli, ["verify", str(dataset)])
    assert done.exit_code == 1
    assert "a\\x1b[2Jb" in done.stdout
    assert "\\udcff" in done.stdout
    assert "\x1b" not in done.stdout


def test_crops_of_an_earlier_build_are_one_finding_a_level(dataset: Path) -> None:
    """A second build measured other residuals: nothing is damaged, all crops are out of date."""
    assert stale_levels(dataset) == []
    change_rows(dataset, "scene00", Level.LOW, residual_px=0.07, valid_area=[80, 6, 312, 250])
    path = dataset / "images/scene01/medium.png"
    with Image.open(path) as image:
        save_image(path, np.asarray(image)[::-1])
    change_rows(dataset, "scene01", Level.MEDIUM, image_sha256=sha256_file(path))
    assert stale_levels(dataset) == ["low", "medium"]
    problems = verify(dataset).findings
    assert [f.file for f in problems] == [
        f"crops/{level}/manifest.parquet" for level in ("low", "medium")
    ]
    assert "earlier build" in problems[0].found
    assert problems[0].repair == f"Run `defocus-ds crop {dataset} --level low`."
    crop(dataset, level="low")
    assert stale_levels(dataset) == ["medium"]
    crop(dataset, level="medium")
    assert stale_levels(dataset) == []
    assert verify(dataset).clean


def test_stale_crops_are_neither_loaded_nor_exported(dataset: Path) -> None:
    assert len(load_crops(dataset, level="low", split="train"))
    change_rows(dataset, "scene00", Level.LOW, verdict="reject", reasons=["residual: 2 px"])
    again = f"cut from an earlier build .* Run defocus-ds crop {dataset} --level low"
    with pytest.raises(DatasetError, match=again):
        load_crops(dataset, level="low", split="train")
    with pytest.raises(DatasetError, match=again):
        open_streams(dataset, ["low"])
    crop(dataset, level="low")
    assert len(load_crops(dataset, level="low", split="train"))


def test_damage_inside_stale_crops_is_still_found(dataset: Path) -> None:
    change_rows(dataset, "scene00", Level.LOW, residual_px=0.07)
    edit(dataset / TRAIN, set_value("sha256_sharp", "0" * 64))
    assert any("hashes it states" in f.expected for f in found(dataset, TRAIN))


@pytest.mark.parametrize("content", [None, b"", b"PAR1junkPAR1"])
def test_a_level_without_a_sound_manifest_counts_as_stale(
    dataset: Path, content: bytes | None
) -> None:
    manifest = dataset / "crops/medium/manifest.parquet"
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)
    assert stale_levels(dataset) == ["medium"]


def test_a_manifest_without_its_record_counts_as_stale(dataset: Path) -> None:
    path = dataset / "crops/low/manifest.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert stale_levels(dataset) == ["low"]
    write_sums(dataset)
    problems = found(dataset, "crops/low/manifest.parquet")
    assert "does not say how it was made" in problems[0].found


def test_a_dataset_without_crops_or_scenes_has_its_say(dataset: Path, tmp_path: Path) -> None:
    assert stale_levels(make_dataset(tmp_path / "bare", scenes=1, size=(96, 80))) == []
    (dataset / "scenes.parquet").unlink()
    assert stale_levels(dataset) == ["low", "medium"]


def test_crops_rebuilt_from_a_manifest_are_current_as_long_as_the_images_are(
    dataset: Path, tmp_path: Path
) -> None:
    """Their record is that of the manifest, whatever else the dataset holds by now."""
    manifest = Path(shutil.copy(dataset / "crops/low/manifest.parquet", tmp_path / "m.parquet"))
    shutil.rmtree(dataset / "crops/medium")
    change_rows(dataset, "scene00", Level.MEDIUM, residual_px=0.09)
    crop(dataset, level="low", manifest=manifest)
    assert stale_levels(dataset) == []
    assert verify(dataset).findings == ()
    change_rows(dataset, "scene00", Level.LOW, verdict="reject", reasons=["ncc: 0.1, 0.9"])
    assert stale_levels(dataset) == ["low"]
    assert [f.file for f in verify(dataset).findings] == ["crops/low/manifest.parquet"]


def test_images_of_rejected_pairs_are_listed_hashed_and_not_cropped(dataset: Path) -> None:
    name = "rejected/scene00/low.png"
    (dataset / "rejected/scene00").mkdir(parents=True)
    (dataset / "images/scene00/low.png").rename(dataset / name)
    change_rows(
        dataset, "scene00", Level.LOW, image=name, verdict="reject", reasons=["ncc: 0.1, 0.9"]
    )
    report = crop(dataset, level="low")
    crop(dataset, level="medium")
    assert [str(item) for item in report.left_out] == ["scene00/low: ncc: 0.1, 0.9"]
    clean = verify(dataset)
    assert clean.findings == ()
    assert clean.checked["images"] == 9
    rejected = pq.read_table(dataset / "crops/low/rejected.parquet").column("scene").to_pylist()
    assert set(rejected) == {"scene01", "scene02"}
    flip(dataset / name)
    assert [(f.file, f.repair.split(",")[0]) for f in verify(dataset).findings] == [
        (name, "Delete it")
    ]
    (dataset / name).unlink()
    assert found(dataset, name)[0].found == "no file"
    save_image(dataset / "rejected/scene01/low.png", np.zeros((8, 8, 3), np.uint8))
    write_sums(dataset)
    assert found(dataset, "rejected/scene01/low.png")[0].expected == "a row in scenes.parquet"


def png_header(width: int, height: int, colour: int) -> bytes:
    """A PNG that declares a size it does not have the pixels for."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def test_a_png_bomb_among_the_images_is_found_and_not_decoded(dataset: Path) -> None:
    path = dataset / "images/scene00/low.png"
    path.write_bytes(png_header(2**31 - 1, 2**31 - 1, 2))
    write_sums(dataset)
    problems = found(dataset, "images/scene00/low.png")
    assert any("limit 200000000" in f.found for f in problems)


def test_a_png_bomb_in_a_shard_is_found_and_not_decoded(dataset: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[2]["blurred"]["bytes"] = png_header(2**31 - 1, 2**31 - 1, 0)
        rows[4]["sharp"]["bytes"] = png_header(64, 64, 0)
        rows[5]["sharp"]["bytes"] = b"not a picture"
        rows[6]["sharp"] = None
        rows[7]["size"] = 2**31 - 1

    edit(dataset / TRAIN, change)
    text = {
        f.expected.split(":")[0]: f.found for f in found(dataset, TRAIN) if "hashes" in f.expected
    }
    assert "limit 200000000" in text["row 2"]
    assert "damaged PNG" in text["row 4"]
    assert "not a PNG" in text["row 5"]
    assert "no sharp image" in text["row 6"]
    assert "limit 4096" in text["row 7"]


def test_pixels_of_another_kind_are_found(dataset: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "PNG")

    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["sharp"]["bytes"] = buffer.getvalue()

    edit(dataset / TRAIN, change)
    assert any("need 8-bit L" in f.found for f in found(dataset, TRAIN))


@pytest.mark.parametrize("part", [TRAIN, "scenes.parquet", "crops/low/manifest.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1junkPAR1", bytes(100)])
def test_what_is_not_parquet_is_a_finding_and_no_trace(
    dataset: Path, part: str, content: bytes
) -> None:
    (dataset / part).write_bytes(content)
    write_sums(dataset)
    assert found(dataset, part)


def test_random_damage_is_a_finding_and_no_trace(dataset: Path) -> None:
    """Forty flipped bytes, one at a time, anywhere in a shard; checksums brought up to date."""
    original = (dataset / TRAIN).read_bytes()
    for position in np.random.default_rng(0).integers(0, len(original), 40):
        data = bytearray(original)
        data[position] ^= 0xFF
        (dataset / TRAIN).write_bytes(data)
        assert not verify(dataset / "crops/low").clean or harmless(dataset / TRAIN, original)


def harmless(path: Path, original: bytes) -> bool:
    """Whether a damaged file still holds the same rows: not every byte of Parquet is data."""
    before = pq.read_table(io.BytesIO(original))
    return bool(pq.read_table(path).equals(before))


def test_many_findings_of_one_file_are_cut_short_with_their_number(dataset: Path) -> None:
    crop(dataset, level="low", size=16)
    change_rows(dataset, "scene00", Level.LOW, verdict="reject", reasons=["ncc: 0.1, 0.9"])
    forge_digest(dataset)
    name = next(f for f in (TRAIN, TEST) if scene_in(dataset / f, "scene00"))
    problems = found(dataset, name)
    assert len(problems) == 21
    assert problems[-1].found.endswith(" more")


def scene_in(path: Path, scene: str) -> bool:
    return scene in pq.read_table(path).column("scene").to_pylist()


def test_two_rows_for_one_image_are_found(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=1)
    rows = read_scenes(root / "scenes.parquet")
    rows.append(image_row(root, "scene00", Level.LOW) | {"scene": "copy"})
    write_dataset(root, rows)
    text = [(f.expected, f.found) for f in found(root, "scenes.parquet")]
    assert ("one row for images/scene00/low.png", "2 rows") in text
    assert ("a kept sharp image of copy", "only low kept") in text


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Give the folder"):
        verify(tmp_path)
    with pytest.raises(DatasetError, match="not a folder"):
        verify(tmp_path / "nowhere")


def test_command_says_file_expected_found_repair(dataset: Path) -> None:
    run = CliRunner().invoke
    clean = run(cli, ["verify", str(dataset)])
    assert clean.exit_code == 0
    assert "clean (19 files, 9 images, 36 crops, 6 pairs checked)" in clean.stdout
    edit(dataset / TRAIN, set_value("residual_px", 0.01))
    dirty = run(cli, ["verify", str(dataset)])
    assert dirty.exit_code == 1
    assert dirty.stdout.splitlines()[:4] == [
        TRAIN,
        "  expected  row 0: residual_px 0.05, as in the manifest",
        "  found     0.01",
        "  repair    Run `defocus-ds verify --repair`, or copy the file again.",
    ]
    as_json = json.loads(run(cli, ["verify", str(dataset), "--json"]).stdout)
    assert as_json["clean"] is False
    assert as_json["findings"][0]["file"] == TRAIN
    assert run(cli, ["verify", str(dataset / "nowhere")]).exit_code == 2


@pytest.mark.parametrize("command", ["verify", "crop", "report"])
def test_an_interrupted_build_is_called_unfinished(command: str, tmp_path: Path) -> None:
    dataset = tmp_path / "my ds"
    config = BuildConfig.from_preset("accurate")
    write_journal(dataset, Journal("/my shoot", config, ("a",), (), (), ""))
    done = CliRunner().invoke(cli, [command, str(dataset)])
    assert done.exit_code != 0
    assert f"unfinished; go on with: defocus-ds build '/my shoot' -o '{dataset}'" in done.stderr
    state = CliRunner().invoke(cli, ["status", str(dataset)])
    assert f"go on with: defocus-ds build '/my shoot' -o '{dataset}'" in state.stdout
    with only_writer(dataset):
        done = CliRunner().invoke(cli, [command, str(dataset)])
    assert done.exit_code != 0
    assert "at work" in done.stderr
    assert "go on with" not in done.stderr


def test_one_finding_is_not_called_findings(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", levels=(Level.LOW,))
    (dataset / "stray.txt").write_text("x")
    done = CliRunner().invoke(cli, ["verify", str(dataset)])
    assert ": 1 finding (" in done.stdout, done.stdout


def test_a_place_is_known_again_when_its_scene_comes_back() -> None:
    places = _Places()
    ends = (-(2**31), 2**31 - 1)
    corners = [(x, y) for x in ends for y in ends]
    assert all(places.add("one", x, y) for x, y in corners)
    assert all(places.add("two", x, y) for x, y in corners)
    assert not any(places.add("one", x, y) for x, y in corners)
    assert places.add("one", 0, -1)
