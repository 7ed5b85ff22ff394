"""A release: the same crops with frozen splits, a card that can be read, and no leak."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from built_dataset import change_rows, image_row, make_dataset, write_dataset
from click.testing import CliRunner
from PIL import Image

import defocus_ds
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.diff import NameDifference, diff
from defocus_ds.dataset.duplicates import Duplicate
from defocus_ds.dataset.frozen import read_frozen
from defocus_ds.dataset.held_out import decisions, read_held_out
from defocus_ds.dataset.manifest import read_scenes
from defocus_ds.dataset.release import ReleaseReport, release
from defocus_ds.dataset.release_card import card
from defocus_ds.dataset.release_facts import About, release_facts
from defocus_ds.dataset.shards import MANIFEST_NAME, MANIFEST_SCHEMA
from defocus_ds.dataset.tables import read_table
from defocus_ds.dataset.verify import verify
from defocus_ds.errors import ConfigError, DatasetError, InputError
from defocus_ds.frames import BLURRED_LEVELS, Level
from defocus_ds.store import sha256_file
from defocus_ds_cli.main import cli

ABOUT = About("Toy brackets", "CC-BY-4.0", ("Doe, Jane", "A Group"))


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes at two levels, of which scene05 shows the place of scene02; cropped."""
    root = tmp_path_factory.mktemp("made") / "dataset"
    make_dataset(root, scenes=5, levels=(Level.LOW, Level.HIGH))
    rows = read_scenes(root / "scenes.parquet")
    for level in (Level.SHARP, Level.LOW, Level.HIGH):
        with Image.open(root / f"images/scene02/{level}.png") as image:
            pixels = np.asarray(image, np.int16)
        moved = np.clip(np.roll(pixels, 9, axis=1) * 0.9, 0, 255).astype(np.uint8)
        (root / "images/scene05").mkdir(exist_ok=True)
        Image.fromarray(moved).save(root / f"images/scene05/{level}.png")
        rows.append(image_row(root, "scene05", level))
    write_dataset(root, rows)
    for name in ("low", "high"):
        crop(root, level=name)
    return root


@pytest.fixture(scope="module")
def released(cropped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "release"
    release(cropped, out, about=ABOUT, test_share=0.3)
    return out


def manifest_rows(root: Path, level: str = "low") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(
        root / "crops" / level / MANIFEST_NAME, MANIFEST_SCHEMA
    ).to_pylist()
    return rows


def splits_of(root: Path, level: str = "low") -> dict[str, str]:
    return {row["scene"]: row["split"] for row in manifest_rows(root, level)}


def test_the_rows_are_those_of_the_dataset_but_for_the_split(cropped: Path, released: Path) -> None:
    for level in ("low", "high"):
        whole, found = manifest_rows(cropped, level), manifest_rows(released, level)
        assert [row | {"split": ""} for row in found] == [row | {"split": ""} for row in whole]


def test_the_pixels_are_those_of_the_images(cropped: Path, released: Path) -> None:
    rows = 0
    for split in ("train", "test"):
        crops = defocus_ds.load_crops(released, level="low", split=split, check=True)
        for item in crops:
            row = item.row
            for name, found in (("sharp", item.sharp), ("low", item.blurred)):
                with Image.open(cropped / f"images/{row['scene']}/{name}.png") as image:
                    luma = np.asarray(image.convert("YCbCr"))[..., 0]
                x, y, size = row["x"], row["y"], row["size"]
                assert np.array_equal(found, luma[y : y + size, x : x + size])
            rows += 1
    assert rows == len(manifest_rows(cropped))


def test_a_planted_duplicate_is_in_the_split_of_its_twin(released: Path) -> None:
    splits = splits_of(released)
    assert splits["scene05"] == splits["scene02"]
    assert splits == splits_of(released, "high")
    found = json.loads((released / "decisions.json").read_text())["near_duplicates"]
    assert [(p["one"], p["other"]) for p in found] == [("scene02", "scene05")]


def test_the_duplicate_would_have_leaked_without_the_test(cropped: Path, tmp_path: Path) -> None:
    """Splits by the name alone do separate the two for some seed: the test above can fail."""
    assert any(
        len({s for scene, s in _by_name(cropped, seed).items() if scene in ("scene02", "scene05")})
        == 2
        for seed in range(20)
    )
    for seed in range(20):
        out = tmp_path / str(seed)
        release(cropped, out, about=ABOUT, levels=["low"], test_share=0.3, seed=seed)
        splits = splits_of(out)
        assert splits["scene05"] == splits["scene02"]


def _by_name(root: Path, seed: int) -> dict[str, str]:
    from defocus_ds.dataset.split import assign_splits

    scenes = {row["scene"] for row in manifest_rows(root)}
    return assign_splits(scenes, seed=seed, test_share=0.3, val_share=0).by_scene


def test_a_release_is_clean_and_its_sums_are_those_of_coreutils(released: Path) -> None:
    assert verify(released).clean
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=released, check=True)


def test_a_flipped_byte_is_found(released: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(released, tmp_path / "broken"))
    shard = next((broken / "crops" / "low").glob("train-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert any(finding.file == f"crops/low/{shard.name}" for finding in verify(broken).findings)


def test_same_dataset_same_bytes(cropped: Path, released: Path, tmp_path: Path) -> None:
    release(cropped, tmp_path / "again", about=ABOUT, test_share=0.3)
    names = sorted(p.relative_to(released) for p in released.rglob("*") if p.is_file())
    assert names == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for name in names:
        assert sha256_file(released / name) == sha256_file(tmp_path / "again" / name), name


def test_the_card_can_be_read_by_a_hub(released: Path) -> None:
    _, header, body = (released / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(header)
    assert about["license"] == "cc-by-4.0"
    assert about["size_categories"] == ["n<1K"]
    low = next(c for c in about["configs"] if c["config_name"] == "low")
    assert {entry["split"] for entry in low["data_files"]} == {"train", "test"}
    for entry in low["data_files"]:
        assert list(released.glob(entry["path"]))
    assert "# Toy brackets" in body
    assert "focus ring turned by 2 marks (low) and 6 marks (high)" in body
    assert "0.050 (0.050 to 0.050)" in body
    assert "not measured" in body  # the colour difference, which this dataset does not record


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D Mark III", "Canon EOS 5D Mark III"),
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("Canon", None, "Canon"),
        (None, "X100", "X100"),
    ],
)
def test_a_camera_is_named_once(make: str | None, model: str | None, camera: str) -> None:
    row = {"make": make, "model": model, "lens": None, "level": "sharp"}
    assert facts_of([row])["cameras"] == {camera: 1}
    assert facts_of([row | {"make": None, "model": None}])["cameras"] == {}


def test_what_was_left_out_is_counted_in_words() -> None:
    assert "1 scene or pair was left out;" in card(facts_of([], left_out=["a/low"]))
    assert "2 scenes or pairs were left out;" in card(facts_of([], left_out=["a/low", "b"]))


def facts_of(rows: list[dict[str, Any]], *, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """release.json of a release of one training crop."""
    return release_facts(
        {"versions": {}},
        rows,
        about=ABOUT,
        crops={"low": {"train": 1}},
        splits={"s": "train"},
        decisions=decisions([], left_out=dict.fromkeys(left_out, "why"), held_out={}),
        seed=0,
        review=None,
    )


def test_the_citation_names_everyone(released: Path) -> None:
    found = yaml.safe_load((released / "CITATION.cff").read_text())
    assert found["authors"] == [
        {"family-names": "Doe", "given-names": "Jane"},
        {"name": "A Group"},
    ]
    assert found["license"] == "CC-BY-4.0"
    assert found["type"] == "dataset"


def test_nothing_names_a_folder_of_this_machine(cropped: Path, released: Path) -> None:
    for path in released.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert str(cropped).encode() not in data, path
            assert str(Path.home()).encode() not in data, path


def test_a_review_is_obeyed(cropped: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    review.write_text("scene,level,decision,note\nscene01,low,reject,moved\n")
    report = release(cropped, tmp_path / "out", about=ABOUT, review=review)
    assert "scene01" not in splits_of(tmp_path / "out")
    assert "scene01" in splits_of(tmp_path / "out", "high")
    assert report.left_out == {"scene01/low": "review: moved"}
    facts = json.loads((tmp_path / "out" / "release.json").read_text())
    written = json.loads((tmp_path / "out" / "decisions.json").read_text())
    assert written["left_out"] == report.left_out
    assert facts["decisions"]["left_out"] == 1
    assert facts["review_sha256"] == sha256_file(review)
    assert verify(tmp_path / "out").clean


def test_the_figures_are_of_the_pairs_that_are_released(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    change_rows(root, "scene01", Level.LOW, residual_px=0.9)
    for level in ("low", "high"):
        crop(root, level=level)
    review = tmp_path / "review.csv"
    review.write_text("scene,level,decision,note\nscene01,low,reject,\n")
    release(root, tmp_path / "out", about=ABOUT, review=review)
    levels = json.loads((tmp_path / "out" / "release.json").read_text())["levels"]
    assert levels["low"]["pairs"] == 5
    assert levels["low"]["residual_px"]["most"] == 0.05
    assert levels["high"]["pairs"] == 6


def test_a_level_that_a_review_empties_is_not_released(cropped: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    lines = [f"scene0{number},low,reject,\n" for number in range(6)]
    review.write_text("scene,level,decision,note\n" + "".join(lines))
    report = release(cropped, tmp_path / "out", about=ABOUT, review=review)
    assert set(report.crops) == {"high"}
    assert not (tmp_path / "out" / "crops" / "low").exists()
    assert verify(tmp_path / "out").clean
    with pytest.raises(DatasetError, match="no crop is left to release"):
        release(cropped, tmp_path / "none", about=ABOUT, review=review, levels=["low"])


def test_pairs_that_a_review_left_out_of_the_crops_are_said(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    review = tmp_path / "review.csv"
    review.write_text("scene,level,decision,note\nscene01,low,reject,\n")
    crop(root, level="low", review=review)
    report = release(root, tmp_path / "out", about=ABOUT, levels=["low"])
    reason = "crops: none kept; crop obeyed a review, which may have rejected the pair"
    assert report.left_out == {"scene01/low": reason}
    facts = json.loads((tmp_path / "out" / "release.json").read_text())
    assert facts["review_sha256"] == sha256_file(review)


def test_the_reviews_of_all_levels_are_recorded(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    review = tmp_path / "review.csv"
    review.write_text("scene,level,decision,note\nscene01,high,reject,\n")
    crop(root, level="high", review=review)
    release(root, tmp_path / "one", about=ABOUT)
    facts = json.loads((tmp_path / "one" / "release.json").read_text())
    assert facts["review_sha256"] == {"low": None, "high": sha256_file(review)}
    crop(root, level="low", review=review)
    release(root, tmp_path / "both", about=ABOUT)
    facts = json.loads((tmp_path / "both" / "release.json").read_text())
    assert facts["review_sha256"] == sha256_file(review)


@pytest.fixture(scope="module")
def three_levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes, of which scene02 has no low crops: it comes nearest to a quarter of all."""
    folder = tmp_path_factory.mktemp("levels")
    root = make_dataset(folder / "dataset", scenes=4, levels=tuple(BLURRED_LEVELS))
    review = folder / "review.csv"
    review.write_text("scene,level,decision,note\nscene02,low,reject,\n")
    for level in BLURRED_LEVELS:
        crop(root, level=level, review=review)
    return root


@pytest.mark.parametrize("seed", range(4))
def test_what_is_held_out_has_crops_at_every_level(
    three_levels: Path, tmp_path: Path, seed: int
) -> None:
    out = tmp_path / "out"
    report = release(three_levels, out, about=ABOUT, test_share=0.25, val_share=0.25, seed=seed)
    for level, counts in report.crops.items():
        assert set(counts) == {"train", "val", "test"}, level
    assert unmoved(report) == ()
    assert read_frozen(out)["scene02"][0] == "train"


def test_a_level_without_test_crops_says_why(three_levels: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    lines = [f"scene0{number},low,reject,\n" for number in (0, 1)]
    review.write_text("scene,level,decision,note\n" + "".join(lines))
    ask = {"about": ABOUT, "review": review, "val_share": 0.0}
    report = release(three_levels, tmp_path / "out", test_share=0.25, **ask)
    splits = read_frozen(tmp_path / "out")
    assert splits["scene03"][0] == "train"  # the only one with low crops
    (test,) = (scene for scene, (split, _) in splits.items() if split == "test")
    assert unmoved(report) == (
        f"no low crop is in test: {test}, held out for every level, has no low crops. "
        "Another --seed or --test-share may hold out others.",
    )
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "splits.csv").write_text("scene,split,group\nscene02,test,scene02\n")
    grown = release(three_levels, tmp_path / "grown", about=ABOUT, previous=tmp_path / "before")
    assert read_frozen(tmp_path / "grown")["scene02"][0] == "test"
    assert grown.notes[-1].endswith("scene02, held out for every level, has no low crops.")
    none = release(three_levels, tmp_path / "none", test_share=0.0, **ask)
    assert unmoved(none) == ()
    assert set(none.scenes) == {"train"}


def test_shards_of_another_run_are_not_released(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    kept = Path(shutil.copytree(root / "crops" / "low", tmp_path / "kept"))
    crop(root, level="low", seed=3)  # the same crops, in other splits
    for shard in (root / "crops" / "low").glob("*-of-*.parquet"):
        shard.unlink()
    for shard in kept.glob("*-of-*.parquet"):
        shutil.copyfile(shard, root / "crops" / "low" / shard.name)
    with pytest.raises(DatasetError, match=r"made otherwise than manifest\.parquet beside it"):
        release(root, tmp_path / "out", about=ABOUT)
    assert not (tmp_path / "out").exists()


def test_a_shard_twice_is_not_released_as_two(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    low = root / "crops" / "low"
    (whole,) = low.glob("train-*.parquet")
    shutil.copyfile(whole, low / "train-00001-of-00002.parquet")
    whole.rename(low / "train-00000-of-00002.parquet")
    with pytest.raises(DatasetError, match="the shards have other rows of"):
        release(root, tmp_path / "out", about=ABOUT)


def test_a_scene_held_out_before_is_compared_although_it_is_gone(
    cropped: Path, tmp_path: Path
) -> None:
    release(cropped, tmp_path / "first", about=ABOUT, test_share=0.3)
    table = tmp_path / "first" / "splits.csv"
    splits = "scene,split,group\nscene02,test,scene02\nscene00,train,scene00\n"
    table.write_text(splits)  # scene05, which shows the place of scene02, is new
    review = tmp_path / "review.csv"
    lines = [f"scene02,{level},reject,\n" for level in ("low", "high")]
    review.write_text("scene,level,decision,note\n" + "".join(lines))
    second = tmp_path / "second"
    report = release(cropped, second, about=ABOUT, previous=tmp_path / "first", review=review)
    assert report.left_out["scene05"] == "leak: a near-duplicate of scene02, held out for test"
    assert "scene05" not in splits_of(second)
    table.write_text(splits.replace("scene02,test", "nowhere,test"))
    report = release(cropped, tmp_path / "third", about=ABOUT, previous=tmp_path / "first")
    assert any("have no image any more" in note and "nowhere" in note for note in report.notes)


def test_why_a_scene_failed_stays_on_this_machine(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    reason = "failed: [Errno 28] No space left on device: '/home/jane/shoot'"
    change_rows(root, "scene03", Level.LOW, verdict="failed", reasons=[reason])
    crop(root, level="low")
    report = release(root, tmp_path / "out", about=ABOUT, levels=["low"])
    assert report.left_out == {"scene03/low": "failed: it was not built"}


def test_a_dataset_that_grows_keeps_its_test_set(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=4)
    crop(root)
    release(root, tmp_path / "first", about=ABOUT, test_share=0.25)
    before = splits_of(tmp_path / "first")
    make_dataset(tmp_path / "grown", scenes=9)
    crop(tmp_path / "grown")
    report = release(
        tmp_path / "grown", tmp_path / "second", about=ABOUT, previous=tmp_path / "first"
    )
    after = splits_of(tmp_path / "second")
    assert {scene: after[scene] for scene in before} == before
    new = set(after) - set(before)
    assert {after[scene] for scene in new} == {"train"}
    assert report.left_out == {}
    assert held_out(tmp_path / "second") == held_out(tmp_path / "first") != []
    change = diff(tmp_path / "first", tmp_path / "second")
    assert change.scenes == NameDifference(only_b=tuple(sorted(new)))
    (crops,) = change.crops
    assert not (crops.only_a or crops.pixels or crops.measured)
    assert {scene for scene, *_ in crops.only_b} == new


def held_out(root: Path) -> list[dict[str, Any]]:
    """The test crops, with the bytes of their images."""
    return [
        row
        for shard in sorted((root / "crops" / "low").glob("test-*.parquet"))
        for row in pq.read_table(shard).to_pylist()
    ]


def test_scenes_that_only_a_scene_left_out_would_join_are_two_groups(
    cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panorama whose middle came later: its ends were released in two splits before."""
    ends = ("scene00", "scene03")
    found = [Duplicate(end, "scene01", matched=50, share=0.5) for end in ends]
    monkeypatch.setattr("defocus_ds.dataset.release.find_duplicates", lambda *_, **__: found)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "splits.csv").write_text(
        "scene,split,group\nscene00,test,scene00\nscene03,train,scene03\n"
    )
    out = tmp_path / "second"
    report = release(cropped, out, about=ABOUT, levels=["low"], previous=tmp_path / "first")
    assert report.left_out == {"scene01": "leak: a near-duplicate of scene00, held out for test"}
    assert read_frozen(out)["scene03"] == ("train", "scene03")
    assert verify(out).clean


def test_unusable_input_is_refused_in_one_line(cropped: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cropped, tmp_path / "dataset"))
    with pytest.raises(DatasetError, match=r"no crops of medium\. Run defocus-ds crop"):
        release(root, tmp_path / "out", about=ABOUT, levels=["medium"])
    (tmp_path / "there").mkdir()
    with pytest.raises(DatasetError, match=r"there: exists, and is no release\. Give a new folder"):
        release(root, tmp_path / "there", about=ABOUT)
    (tmp_path / "there" / "release.json").touch()
    with pytest.raises(DatasetError, match=r"exists\. A release is frozen"):
        release(root, tmp_path / "there", about=ABOUT)
    with pytest.raises(DatasetError, match="lies in the dataset"):
        release(root, root / "release", about=ABOUT)
    with pytest.raises(InputError, match="--previous keeps its splits"):
        release(root, tmp_path / "out", about=ABOUT, previous=root, seed=1)
    shard = next((root / "crops" / "low").glob("train-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=shard.name):
        release(root, tmp_path / "out", about=ABOUT)
    assert not (tmp_path / "out").exists()
    change_rows(root, "scene00", Level.LOW, residual_px=0.06)
    with pytest.raises(DatasetError, match="are of an earlier build"):
        release(root, tmp_path / "out", about=ABOUT)


def test_no_crops_at_all(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=2)
    with pytest.raises(DatasetError, match="no crops of any level"):
        release(root, tmp_path / "out", about=ABOUT)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (("", "CC0-1.0", ("a",)), "name"),
        (("x", "my own licence", ("a",)), "SPDX"),
        (("x", "CC0-1.0", ("a",), "1", "", "example.org"), "absolute address"),
        (("x", "CC0-1.0", ()), "author"),
        (("x\ny", "CC0-1.0", ("a",)), "one line"),
        (("x", "CC0-1.0", ("a",), "1", "yesterday"), "give YYYY-MM-DD"),
    ],
)
def test_what_a_person_says_is_checked(about: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        About(*about)


def test_command_prints_what_was_released(cropped: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["release", str(cropped), "-o", str(out), "--licence", "CC0-1.0"]
    done = CliRunner().invoke(cli, [*arguments, "--author", "Doe, Jane", "--test-share", "0.3"])
    assert done.exit_code == 0, done.output
    assert "6 scenes (" in done.stdout
    assert "cited as a group" not in done.stderr
    words = ["release", str(cropped), "-o", str(tmp_path / "named"), "--licence", "CC0-1.0"]
    named = CliRunner().invoke(cli, [*words, "--author", "Jane Doe"])
    assert named.exit_code == 0
    assert "note: 'Jane Doe' is cited as a group; a person is written Family" in named.stderr
    assert "near-duplicates, in one split: scene02 and scene05" in done.stdout
    assert CliRunner().invoke(cli, arguments).exit_code == 2  # no author
    again = CliRunner().invoke(cli, [*arguments, "--author", "x", "--json"])
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_what_was_held_out_stays_so_over_generations(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=6)
    crop(root)
    release(root, tmp_path / "first", about=ABOUT, test_share=0.3)
    test = [s for s, split in splits_of(tmp_path / "first").items() if split == "test"]
    review = tmp_path / "review.csv"
    review.write_text(f"scene,level,decision,note\n{test[0]},low,reject,look again\n")
    ask = {"about": ABOUT, "previous": tmp_path / "first"}
    release(root, tmp_path / "second", review=review, **ask)
    assert test[0] not in splits_of(tmp_path / "second")
    release(root, tmp_path / "third", about=ABOUT, previous=tmp_path / "second")
    assert splits_of(tmp_path / "third") == splits_of(tmp_path / "first")


def renamed(root: Path, names: dict[str, str]) -> Path:
    """The dataset with other names for its scenes."""
    rows = read_scenes(root / "scenes.parquet")
    for old in names:
        (root / "images" / old).rename(root / "images" / f"{old}-moved")
    for old, new in names.items():
        (root / "images" / f"{old}-moved").rename(root / "images" / new)
    for row in rows:
        if row["scene"] in names:
            row["image"] = row["image"].replace(row["scene"], names[row["scene"]])
            row["scene"] = names[row["scene"]]
    shutil.rmtree(root / "crops")
    write_dataset(root, rows)
    crop(root)
    return root


def test_a_held_out_capture_is_known_under_any_name(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=5)
    crop(root)
    release(root, tmp_path / "first", about=ABOUT, test_share=0.3)
    splits = splits_of(tmp_path / "first")
    (held, *_), (free, *_) = ([s for s in splits if splits[s] == k] for k in ("test", "train"))
    renamed(root, {held: "another"})
    out = tmp_path / "second"
    report = release(root, out, about=ABOUT, previous=tmp_path / "first")
    reason = f"leak: a near-duplicate of {held}, held out for test"
    assert report.left_out == {"another": reason}
    renamed(root, {"another": free, free: held})
    with pytest.raises(DatasetError, match=f"{held}: .*first holds out another capture under this"):
        release(root, tmp_path / "third", about=ABOUT, previous=tmp_path / "first")


def test_what_everyone_reads_does_not_grow_with_the_scenes(released: Path) -> None:
    assert splits_of(released).keys() >= {"scene01", "scene02"}
    assert "scene0" not in (released / "release.json").read_text()
    assert "scene0" in (released / "decisions.json").read_text()


def test_a_release_without_its_decisions_is_not_gone_on_from(
    cropped: Path, released: Path, tmp_path: Path
) -> None:
    first = Path(shutil.copytree(released, tmp_path / "first"))
    (first / "decisions.json").unlink()
    with pytest.raises(DatasetError, match=r"first: no decisions\.json, .* Copy it again"):
        release(cropped, tmp_path / "second", about=ABOUT, previous=first)


@pytest.mark.parametrize("record", [[], {"a": 1}, {"a": {}}, {"a": {"split": "train"}}])
def test_a_damaged_record_of_what_is_held_out_is_named(tmp_path: Path, record: object) -> None:
    (tmp_path / "release.json").write_text("{}")
    (tmp_path / "decisions.json").write_text(json.dumps({"left_out": {}, "held_out": record}))
    with pytest.raises(DatasetError, match=r"decisions\.json: held_out .*is not what"):
        read_held_out(tmp_path, {})


def test_offsets_are_those_of_the_captures(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=4)
    change_rows(root, "scene01", Level.LOW, offset=5)
    crop(root)
    out = tmp_path / "out"
    release(root, out, about=ABOUT)
    facts = json.loads((out / "release.json").read_text())
    assert facts["levels"]["low"]["offsets"] == [2, 5]
    assert "2 or 5 marks (low)" in (out / "README.md").read_text()
    assert "low (+2 or +5)" in (out / "croissant.json").read_text()


def unmoved(report: ReleaseReport) -> tuple[str, ...]:
    """The notes but for that on scenes whose split is another than in the dataset."""
    return tuple(note for note in report.notes if "another split than" not in note)


def test_scenes_that_changed_their_split_are_counted(cropped: Path, tmp_path: Path) -> None:
    own = {
        row["scene"]: row["split"]
        for level in ("low", "high")
        for row in read_table(
            cropped / "crops" / level / MANIFEST_NAME, MANIFEST_SCHEMA
        ).to_pylist()
    }
    told = 0
    for seed in range(3):
        report = release(cropped, tmp_path / str(seed), about=ABOUT, test_share=0.4, seed=seed)
        now = splits_of(tmp_path / str(seed))
        moved = [scene for scene in now if now[scene] != own[scene]]
        twins = len({"scene02", "scene05"} & set(moved))
        notes = [note for note in report.notes if "another split than" in note]
        assert len(notes) == bool(moved)
        for note in notes:
            assert note.startswith(f"{len(moved)} of 6 scenes have another split")
            assert f"{moved[0]} {own[moved[0]]} -> {now[moved[0]]}" in note
            assert f"near-duplicates ({twins} of them) together" in note
            told += 1
    assert told


def test_shares_that_were_missed_are_said(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=3)
    crop(root)
    report = release(root, tmp_path / "out", about=ABOUT, test_share=0.1, val_share=0.0)
    share = report.crops["low"]["test"] / sum(report.crops["low"].values())
    assert 0.25 < share < 0.45
    (note,) = unmoved(report)
    assert note.startswith(f"test has {share:.0%} of the crops, asked were 10%: whole scenes")


def test_a_pair_that_a_review_left_out_does_not_come_back_unsaid(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=6)
    crop(root)
    review = tmp_path / "review.csv"
    review.write_text("scene,level,decision\nscene01,low,reject\n")
    release(root, tmp_path / "first", about=ABOUT, review=review)
    ask = {"about": ABOUT, "previous": tmp_path / "first"}
    again = release(root, tmp_path / "second", review=review, **ask)
    assert not any("review" in note for note in again.notes)
    back = release(root, tmp_path / "third", **ask)
    (note,) = [note for note in back.notes if "review" in note]
    assert note.startswith("1 of the pairs that a review left out of")
    assert "scene01/low" in note
