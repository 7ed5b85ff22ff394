"""Imports: what others made becomes crops, and what nobody measured is not claimed."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image
from scenes import textured

from defocus_ds import load_crops
from defocus_ds.dataset import tables
from defocus_ds.dataset.importers import IMPORTERS, ImportOptions, import_images, write
from defocus_ds.dataset.importers.degradation import parse_degradation
from defocus_ds.dataset.importers.listing import PairFiles, listed, splits_of
from defocus_ds.dataset.pixels import pixels_sha256
from defocus_ds.dataset.shards import MANIFEST_SCHEMA
from defocus_ds.dataset.tables import read_table
from defocus_ds.dataset.verify import verify
from defocus_ds.errors import ConfigError, DatasetError, InputError
from defocus_ds.frames import known_px
from defocus_ds.optics import blur_disk, to_encoded
from defocus_ds.store import sha256_file
from defocus_ds_cli.main import cli

SIZE = (200, 150)
GRID = ImportOptions(size=64)
PAGE = Path(__file__).parents[1] / "docs/import.md"

UInt8 = npt.NDArray[np.uint8]


def picture(seed: int, *, radius: float = 0, size: tuple[int, int] = SIZE) -> UInt8:
    """(H, W, 3) of one texture, in colours of its own, blurred by a disk in linear light."""
    linear = blur_disk(textured(size, seed=seed), radius)
    if linear.ndim == 2:
        linear = np.stack([linear, linear * 0.8, linear * 0.6], axis=-1)
    return np.asarray(np.round(to_encoded(linear) * 255).clip(0, 255), np.uint8)


def save(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1])


def luma(path: Path) -> UInt8:
    with Image.open(path) as image:
        return np.asarray(image.convert("YCbCr"))[..., 0]


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes, two of them in a folder; case and endings as published."""
    root = tmp_path_factory.mktemp("trees") / "authors"
    for index, name in enumerate(("keyboard1", "soda2", "soda10", "more/tea1", "more/tea2")):
        for code, radius in (("original", 0), ("lbC", 2), ("mbc", 4), ("HBC", 6)):
            save(root / f"{name}_{code}_crop.png", picture(index, radius=radius))
    return root


@pytest.fixture(scope="module")
def dpdd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs to train on, one to test; 16 bits deep, as published."""
    root = tmp_path_factory.mktemp("trees") / "dpdd"
    for index, name in enumerate(("train_c/{}/1P0A01", "train_c/{}/1P0A02", "test_c/{}/1P0A03")):
        for side, radius in (("target", 0), ("source", 3)):
            wide = picture(index, radius=radius).astype(np.uint16) * 257
            save(root / f"{name.format(side)}.png", wide)
        (root / "train_l/source").mkdir(parents=True, exist_ok=True)
    return root


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees") / "photographs"
    for index in range(6):
        save(root / ("a" if index < 3 else "b") / f"{index:04}.png", picture(index))
    return root


def rows(out: Path, level: str) -> list[dict[str, Any]]:
    path = out / "crops" / level / "manifest.parquet"
    found: list[dict[str, Any]] = read_table(path, MANIFEST_SCHEMA).to_pylist()
    return found


def files(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): sha256_file(p) for p in root.rglob("*") if p.is_file()}


def test_the_authors_names_become_scenes_and_levels(authors: Path, tmp_path: Path) -> None:
    report = import_images("authors", authors, tmp_path / "out", options=GRID)
    assert not report.refused
    assert sum(report.scenes.values()) == 5
    for level, code in (("low", "lbC"), ("medium", "mbc"), ("high", "HBC")):
        found = rows(tmp_path / "out", level)
        assert {row["scene"] for row in found} == {"keyboard1", "soda2", "soda10", "tea1", "tea2"}
        assert len(found) == 5 * 6  # 3 x 2 crops of 64 px in 200 x 150
        assert sum(report.crops[level].values()) == len(found)
        for split in report.crops[level]:
            for crop in load_crops(tmp_path / "out", level=level, split=split, check=True):
                row = crop.row
                window = np.s_[row["y"] : row["y"] + 64, row["x"] : row["x"] + 64]
                folder = authors / ("more" if row["scene"].startswith("tea") else ".")
                for kind, end in (("sharp", "original"), ("blurred", code)):
                    image = luma(folder / f"{row['scene']}_{end}_crop.png")
                    assert np.array_equal(getattr(crop, kind), image[window])


def test_what_was_not_measured_is_unknown(authors: Path, tmp_path: Path) -> None:
    import_images("authors", authors, tmp_path / "out", options=GRID)
    for row in rows(tmp_path / "out", "low"):
        assert known_px(row["blur_radius_px"]) is None
        assert known_px(row["residual_px"]) is None
        assert row["blur_radius_confidence"] == 0
        assert row["q_sharp"] > row["q_blurred"] > 0
    made = json.loads((tmp_path / "out/import.json").read_text())
    assert made["not_measured"] == ["blur_radius_px", "residual_px"]


def test_an_import_is_clean_and_its_sums_are_those_of_coreutils(dpdd: Path, tmp_path: Path) -> None:
    import_images("dpdd", dpdd, tmp_path / "out", options=GRID)
    report = verify(tmp_path / "out")
    assert report.clean, report.findings
    assert report.checked["crops"] == 18
    line = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    subprocess.run(line, cwd=tmp_path / "out", check=True)


def test_a_flipped_pixel_of_an_import_is_found(dpdd: Path, tmp_path: Path) -> None:
    import_images("dpdd", dpdd, tmp_path / "out", options=GRID)
    shard = next((tmp_path / "out").rglob("test-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert not verify(tmp_path / "out").clean


def test_dpdd_keeps_its_splits_and_becomes_8_bit(dpdd: Path, tmp_path: Path) -> None:
    report = import_images("dpdd", dpdd, tmp_path / "out", options=GRID)
    assert report.crops == {"defocus": {"train": 12, "test": 6}}
    splits = {row["scene"]: row["split"] for row in rows(tmp_path / "out", "defocus")}
    assert splits == {"1P0A01": "train", "1P0A02": "train", "1P0A03": "test"}
    crop = load_crops(tmp_path / "out", level="defocus", split="test")[0]
    expected = np.asarray(Image.fromarray(picture(2)).convert("YCbCr"))[:64, :64, 0]
    assert np.array_equal(crop.sharp, expected)
    assert not np.array_equal(crop.blurred, crop.sharp)


def test_export_and_training_read_an_import(dpdd: Path, tmp_path: Path) -> None:
    from defocus_ds.dataset.export import export
    from defocus_ds_train.data.pairs import open_pairs

    options = ImportOptions(size=64, level="low")
    import_images("dpdd", dpdd, tmp_path / "out", options=options)
    assert export(tmp_path / "out", tmp_path / "dd", to="dpdd").crops == {
        "low": {"train": 12, "test": 6}
    }
    # and back: the export is a tree of the same kind, of crops
    again = import_images("dpdd", tmp_path / "dd/low", tmp_path / "back", options=options)
    assert again.crops == {"low": {"train": 12, "test": 6}}
    hashes = [
        sorted((r["sha256_sharp"], r["sha256_blurred"]) for r in rows(tmp_path / name, "low"))
        for name in ("out", "back")
    ]
    assert hashes[0] == hashes[1]
    cache = open_pairs(
        tmp_path / "out", level="low", split="train", size=64, cache=tmp_path / "cache"
    )
    assert len(cache) == 12


def test_realdof_pairs_by_name_or_by_its_list(dpdd: Path, tmp_path: Path) -> None:
    train = dpdd / "train_c"
    report = import_images("realdof", train, tmp_path / "out", options=GRID)
    assert report.crops == {"defocus": {"test": 12}}
    tree = tmp_path / "tree"
    for name, pixels in (("my blurred.png", picture(0, radius=3)), ("s.png", picture(0))):
        save(tree / name, pixels)
    (tree / "pairs.txt").write_text("# blurred, sharp\nmy blurred.png\ts.png\n\nb.png s.png\n")
    report = import_images("realdof", tree, tmp_path / "listed", options=GRID)
    assert report.crops == {"defocus": {"test": 6}}
    assert report.refused == {"b.png": "pairs.txt:4 names it, and it is no image file"}
    (tree / "pairs.txt").write_text("one two three\n")
    with pytest.raises(DatasetError, match=r"pairs\.txt:1: 3 names"):
        import_images("realdof", tree, tmp_path / "third", options=GRID)
    (tree / "pairs.txt").write_text("../train_c/a.png s.png\n")
    with pytest.raises(DatasetError, match="leads outside"):
        import_images("realdof", tree, tmp_path / "fourth", options=GRID)


def test_the_average_is_that_of_the_paper(photographs: Path, tmp_path: Path) -> None:
    options = ImportOptions(size=64, per_image=5, test_share=0.4)
    report = import_images("sharp", photographs, tmp_path / "out", options=options)
    assert sum(sum(c.values()) for c in report.crops.values()) == 30
    assert set(report.crops["average-5x5"]) == {"train", "test"}
    for split in report.crops["average-5x5"]:
        for crop in load_crops(tmp_path / "out", level="average-5x5", split=split, check=True):
            folder, name = crop.row["scene"].split("-")
            x, y = crop.row["x"], crop.row["y"]
            image = luma(photographs / folder / f"{name}.png")
            assert np.array_equal(crop.sharp, image[y : y + 64, x : x + 64])
            assert np.array_equal(crop.blurred, cv2.blur(crop.sharp, (5, 5)))
            assert crop.row["residual_px"] == 0
            assert crop.row["blur_radius_px"] == pytest.approx(math.sqrt(8))
    assert verify(tmp_path / "out").clean


def test_the_disk_is_that_of_the_recipes(photographs: Path, tmp_path: Path) -> None:
    from defocus_ds_train.degrade import Blur, blur_crop

    options = ImportOptions(size=64, per_image=3, blur="disk:3.0", test_share=0)
    report = import_images("sharp", photographs, tmp_path / "out", options=options)
    assert report.crops == {"disk-3": {"train": 18}}
    for crop in load_crops(tmp_path / "out", level="disk-3", split="train"):
        assert np.array_equal(crop.blurred, blur_crop(crop.sharp, Blur("disk", 3.0)))
        assert crop.row["blur_radius_px"] == 3


def test_random_crops_differ_and_depend_on_their_image_alone(
    photographs: Path, tmp_path: Path
) -> None:
    options = ImportOptions(size=148, per_image=20, test_share=0)
    import_images("sharp", photographs, tmp_path / "all", options=options)
    import_images("sharp", photographs / "a", tmp_path / "few", options=options)
    places = {(r["scene"], r["x"], r["y"]) for r in rows(tmp_path / "all", "average-5x5")}
    assert len(places) == 6 * 20  # all different, of 53 x 3 that there are
    again = ImportOptions(size=148, per_image=20, test_share=0, images=4)
    report = import_images("sharp", photographs, tmp_path / "four", options=again)
    assert report.crops == {"average-5x5": {"train": 80}}
    four = {(r["scene"], r["x"], r["y"]) for r in rows(tmp_path / "four", "average-5x5")}
    assert four < places
    other = ImportOptions(size=148, per_image=20, test_share=0, seed=1)
    import_images("sharp", photographs, tmp_path / "seed", options=other)
    assert places != {(r["scene"], r["x"], r["y"]) for r in rows(tmp_path / "seed", "average-5x5")}


@pytest.mark.parametrize("kind", ["authors", "sharp"])
def test_same_files_same_bytes(authors: Path, photographs: Path, tmp_path: Path, kind: str) -> None:
    tree, options = (
        (authors, GRID) if kind == "authors" else (photographs, ImportOptions(size=64, per_image=8))
    )
    for name in ("one", "two"):
        import_images(kind, tree, tmp_path / name, options=options)
    found = files(tmp_path / "one")
    assert found == files(tmp_path / "two")
    assert all(not name.split("/")[-1].startswith(".") for name in found)
    for path in (tmp_path / "one").rglob("*.*"):
        assert str(tree).encode() not in path.read_bytes()


def test_every_refused_file_has_its_reason(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, radius in (("a_original", 0), ("a_lbc", 2), ("small_original", 0)):
        save(tree / f"{name}.png", picture(0, radius=radius))
    data = (tree / "a_lbc.png").read_bytes()
    (tree / "a_mbc.png").write_bytes(data[: len(data) // 2])
    (tree / "a_hbc.png").write_bytes((tree / "a_original.png").read_bytes())
    (tree / "notes.png").write_bytes(b"no image")
    save(tree / "small_lbc.png", picture(0, radius=2, size=(190, 150)))
    save(tree / "alone_mbc.png", picture(1))
    save(tree / "tiny_original.png", picture(1, size=(40, 40)))
    save(tree / "tiny_lbc.png", picture(1, radius=2, size=(40, 40)))
    save(tree / "A_lbC.png", picture(0, radius=3))
    report = import_images("authors", tree, tmp_path / "out", options=GRID)
    assert sum(report.crops["low"].values()) == 6
    for name, reason in {
        "a_hbc.png": "the same pixels as the sharp image a_original.png",
        "a_mbc.png": "damaged",
        "a_lbc.png": "a second low image beside A_lbC.png",
        "alone_mbc.png": "no sharp image alone_original",
        "notes.png": "its name does not end in",
        "small_lbc.png": "190x150 px, its sharp image has 200x150",
        "tiny_original.png": "40x40 px is smaller than a crop of 64",
    }.items():
        assert reason in report.refused.pop(name), name
    assert not report.refused
    assert verify(tmp_path / "out").clean


def test_unmatched_names_and_second_scenes_are_refused(dpdd: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("train_c", "test_c"):
        for side, radius in (("target", 0), ("source", 3)):
            save(tree / name / side / "x.png", picture(0, radius=radius))
    save(tree / "train_c/source/y.png", picture(1))
    report = import_images("dpdd", tree, tmp_path / "out", options=GRID)
    assert report.crops == {"defocus": {"test": 6}}
    assert report.refused == {
        "train_c/source/x.png": "scene 'x' is that of test_c/target/x.png already; rename one",
        "train_c/source/y.png": "no image of this name in target",
    }


@pytest.mark.parametrize("scene", ["", "..", "a/b", "a\nb", "x" * 300, "\udcff"])
def test_a_name_that_no_scene_can_have_is_refused(tmp_path: Path, scene: str) -> None:
    blurred = tmp_path / "blurred.png"
    pair = PairFiles(scene, "train", "low", tmp_path / "sharp.png", blurred)
    found = listed(tmp_path, [pair], {})
    assert not found.pairs
    assert list(found.refused) == ["blurred.png"]


def test_images_of_a_test_split_are_not_imported(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from defocus_ds.dataset.importers import sharp

    released = {SIZE: {sha256_file(photographs / "a/0001.png"): "kodak24"}}
    monkeypatch.setattr(sharp, "released_test_images", lambda: released)
    options = ImportOptions(size=64, per_image=8)
    report = import_images("sharp", photographs, tmp_path / "out", options=options)
    assert list(report.refused) == ["a/0001.png"]
    assert "kodak24" in report.refused["a/0001.png"]
    assert "a-0001" not in {row["scene"] for row in rows(tmp_path / "out", "average-5x5")}


@pytest.mark.parametrize(("name", "mode"), [("again.png", "RGB"), ("alpha.png", "RGBA")])
def test_images_of_a_test_split_saved_again_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    from defocus_ds.dataset.importers import sharp

    released = {SIZE: {pixels_sha256(picture(1)): "kodak24 test"}}
    monkeypatch.setattr(sharp, "released_test_images", lambda: released)
    tree = tmp_path / "tree"
    save(tree / "other.png", picture(0))
    Image.fromarray(picture(1)).convert(mode).save(tree / name, compress_level=1)
    (tree / "half.png").write_bytes((tree / name).read_bytes()[:9000])
    report = import_images("sharp", tree, tmp_path / "out", options=ImportOptions(size=64))
    assert set(report.refused) == {name, "half.png"}
    assert "kodak24 test" in report.refused[name]
    assert "damaged" in report.refused["half.png"]
    assert {row["scene"] for row in rows(tmp_path / "out", "average-5x5")} == {"other"}


def test_unusable_images_are_not_counted_among_those_chosen(
    photographs: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("0000", "0001", "0002"):
        (tree / f"{name}.png").symlink_to(photographs / f"a/{name}.png")
    save(tree / "small.png", picture(0, size=(60, 150)))
    (tree / "empty.png").touch()
    options = ImportOptions(size=64, per_image=2, images=3, test_share=0)
    report = import_images("sharp", tree, tmp_path / "out", options=options)
    assert report.crops == {"average-5x5": {"train": 6}}
    assert report.refused == {
        "empty.png": "not a JPEG, PNG or TIFF file (starts with b''). Was it renamed?",
        "small.png": "60x150 px is smaller than a crop of 64",
    }
    with pytest.raises(DatasetError, match="4 images asked for, 3 are there"):
        import_images("sharp", tree, tmp_path / "four", options=ImportOptions(size=64, images=4))


@pytest.mark.parametrize("inner", [".", "images", ".."])
def test_a_built_dataset_is_no_folder_of_sharp_images(tmp_path: Path, inner: str) -> None:
    dataset = tmp_path / "dataset"
    save(dataset / "images/0001.png", picture(0))
    for name in ("dataset.json", "scenes.parquet"):
        (dataset / name).touch()
    with pytest.raises(DatasetError, match="a built dataset, with blurred images"):
        import_images("sharp", dataset / inner, tmp_path / "out", options=ImportOptions(size=64))


def test_nothing_half_made_stays(
    authors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from defocus_ds.dataset.importers import write

    calls = []

    def stopped(*_args: object, **_options: object) -> None:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_write_level", stopped)
    with pytest.raises(KeyboardInterrupt):
        import_images("authors", authors, tmp_path / "out", options=GRID)
    assert calls
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(6))
def test_all_scenes_of_an_object_are_in_one_split(tmp_path: Path, seed: int) -> None:
    tree = tmp_path / "tree"
    for index, name in enumerate(("car2{}", "car2{}_crop", "more/Car2{}_small", "tea1{}")):
        for code, radius in (("_original", 0), ("_lbc", 2)):
            save(tree / f"{name.format(code)}.png", picture(index, radius=radius))
    options = ImportOptions(size=64, seed=seed, test_share=0.5)
    report = import_images("authors", tree, tmp_path / "out", options=options)
    assert not report.refused
    splits = {row["scene"]: row["split"] for row in rows(tmp_path / "out", "low")}
    assert set(splits) == {"car2", "car2_crop", "Car2", "tea1"}
    assert splits["car2"] == splits["car2_crop"] == splits["Car2"]


@pytest.mark.parametrize("seed", range(6))
def test_equal_files_are_in_one_split(authors: Path, tmp_path: Path, seed: int) -> None:
    for index in range(8):
        save(tmp_path / f"sharp/{index}.png", picture(index % 2))
    options = ImportOptions(size=64, per_image=2, seed=seed, test_share=0.4)
    import_images("sharp", tmp_path / "sharp", tmp_path / "out", options=options)
    splits = {r["scene"]: r["split"] for r in rows(tmp_path / "out", "average-5x5")}
    for index in (0, 1):
        assert len({splits[str(i)] for i in range(index, 8, 2)}) == 1
    # tea and cup have a picture in common, cup and pot another
    for name, index in (("tea", 0), ("cup", 0), ("cup_crop", 1), ("pot", 1), ("soda", 2)):
        stem, _, rest = name.partition("_")
        for code, radius in (("original", 0), ("lbc", 2)):
            end = f"_{rest}" if rest else ""
            save(tmp_path / f"names/{stem}_{code}{end}.png", picture(index, radius=radius))
    options = ImportOptions(size=64, seed=seed, test_share=0.5)
    import_images("authors", tmp_path / "names", tmp_path / "more", options=options)
    splits = {row["scene"]: row["split"] for row in rows(tmp_path / "more", "low")}
    assert len({splits[scene] for scene in ("tea", "cup", "cup_crop", "pot")}) == 1


def test_an_image_without_a_twin_keeps_its_split(tmp_path: Path) -> None:
    options = ImportOptions(seed=3, test_share=0.3, val_share=0.3)
    alone = {f"{index:02}": [tmp_path / f"{index:02}.png"] for index in range(40)}
    for index, (path,) in enumerate(alone.values()):
        path.write_bytes(b"%02d" % index)
    before = splits_of(alone, options)
    assert set(before.values()) == {"train", "val", "test"}
    (tmp_path / "twin.png").write_bytes(b"00")
    after = splits_of(alone | {"twin": [tmp_path / "twin.png"]}, options)
    assert after == before | {"twin": before["00"]}


def test_a_file_in_two_splits_of_dpdd_is_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, index in (("train_c/{}/a", 0), ("test_c/{}/b", 0), ("train_c/{}/c", 1)):
        for side, radius in (("target", 0), ("source", 3)):
            save(tree / f"{name.format(side)}.png", picture(index, radius=radius))
    report = import_images("dpdd", tree, tmp_path / "out", options=GRID)
    assert report.crops == {"defocus": {"train": 6, "test": 6}}
    assert report.refused == {
        "train_c/target/a.png": "the same file as test_c/target/b.png, which is in test; "
        "leave one of them out"
    }


def test_the_spool_has_no_limit_of_row_groups(
    authors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 crops of a level are more than a file of 2 groups of 4 rows holds."""
    import_images("authors", authors, tmp_path / "out", options=GRID)
    monkeypatch.setattr(tables, "MAX_GROUPS", 2)
    monkeypatch.setattr(write, "_GROUP_ROWS", 4)
    import_images("authors", authors, tmp_path / "small", options=GRID)
    assert files(tmp_path / "small") == files(tmp_path / "out")


def test_an_existing_folder_is_refused(authors: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="exists"):
        import_images("authors", authors, tmp_path / "out", options=GRID)
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(DatasetError, match="lies in the tree that is imported"):
        import_images("authors", authors, authors / "out", options=GRID)
    assert not (authors / "out").exists()


@pytest.mark.parametrize("kind", IMPORTERS)
def test_an_empty_folder_is_no_import(tmp_path: Path, kind: str) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(DatasetError, match="tree"):
        import_images(kind, tmp_path / "tree", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_out_of_range_and_of_another_kind(authors: Path, tmp_path: Path) -> None:
    for wrong in (
        {"size": 4},
        {"per_image": 0},
        {"test_share": 0.7, "val_share": 0.7},
        {"test_share": math.nan},
        {"level": "../up"},
        {"blur": "gauss"},
        {"blur": "disk:0"},
        {"blur": "disk:x"},
        {"blur": "average5:3"},
        {"blur": "disk:60", "size": 32},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ImportOptions(**wrong)
    with pytest.raises(InputError, match="per_image = 3: authors does not use it, only sharp"):
        import_images("authors", authors, tmp_path / "out", options=ImportOptions(per_image=3))
    with pytest.raises(InputError, match="one of authors, dpdd, realdof, sharp"):
        import_images("other", authors, tmp_path / "out")
    assert parse_degradation("disk:2.5").level == "disk-2.5"


def test_the_published_examples_of_the_authors(real_data: Path, tmp_path: Path) -> None:
    tree = real_data / "mmsp2024/Dataset_Examples"
    report = import_images("authors", tree, tmp_path / "out")
    assert not report.refused
    found = rows(tmp_path / "out", "low")
    assert {row["scene"] for row in found} == {"keyboard1", "peppermintTea3", "soda2"}
    assert len(found) == 12  # 256 x 256 px each
    assert verify(tmp_path / "out").clean


def test_real_photographs_become_a_synthetic_set(real_data: Path, tmp_path: Path) -> None:
    options = ImportOptions(images=4, per_image=16, test_share=0.25)
    report = import_images("sharp", real_data / "sharp", tmp_path / "out", options=options)
    assert sum(report.crops["average-5x5"].values()) == 64
    assert verify(tmp_path / "out").clean


def test_the_command_prints_counts_refusals_and_json(authors: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.symlink_to(authors)
    line = ["import", "authors", str(tree), "-o", str(tmp_path / "out"), "--size", "64"]
    done = CliRunner().invoke(cli, line)
    assert done.exit_code == 0, done.output
    assert "90 crops from 5 scenes" in done.stdout
    done = CliRunner().invoke(cli, line)
    assert done.exit_code == 2
    assert "exists" in done.stderr
    save(tmp_path / "few/a_original.png", picture(0))
    save(tmp_path / "few/a_lbc.png", picture(0, radius=2))
    save(tmp_path / "few/other.png", picture(0))
    line[2], line[4] = str(tmp_path / "few"), str(tmp_path / "json")
    done = CliRunner().invoke(cli, [*line, "--test-share", "0", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["crops"] == {"low": {"train": 6}}
    assert "other.png: its name does not end in" in done.stderr


def test_every_command_of_the_page_runs(
    authors: Path, dpdd: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, tree in (
        ("quadruples", authors),
        ("dd_dp_dataset_png", dpdd),
        ("RealDOF", dpdd / "train_c"),
        ("DF2K", photographs),
    ):
        (tmp_path / name).symlink_to(tree)
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line.split("#")[0])
        assert words[0] == "defocus-ds"
        # the trees of the test are small
        small = ["--size", "64"] if words[1] == "import" else []
        words = ["6" if word == "2100" else word for word in words[1:]]
        done = CliRunner().invoke(cli, [*words, *small])
        assert done.exit_code == 0, f"{line}: {done.output}"


def test_no_images_is_not_all_of_them(photographs: Path, tmp_path: Path) -> None:
    line = ["import", "sharp", str(photographs), "-o", str(tmp_path / "out"), "--images", "0"]
    done = CliRunner().invoke(cli, line)
    assert done.exit_code == 2
    assert "0 is not in the range" in done.stderr
    assert not (tmp_path / "out").exists()
