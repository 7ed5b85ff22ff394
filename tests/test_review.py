"""review.csv: what a person rejected stays out of the crops, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from built_dataset import change_rows, make_dataset
from click.testing import CliRunner

from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.manifest import SCENES_NAME, read_scenes
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.dataset.review import Decision, read_review
from defocus_ds.dataset.shards import MANIFEST_NAME, MANIFEST_SCHEMA, crop_record
from defocus_ds.dataset.tables import read_table
from defocus_ds.dataset.verify import verify
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level, Pair
from defocus_ds_cli.main import cli

HEADER = "scene,level,decision,note\n"
BOUND = "scene,level,decision,note,image_sha256\n"


def written(folder: Path, lines: str, *, header: str = HEADER) -> Path:
    path = folder / "review.csv"
    path.write_text(header + lines, encoding="utf-8")
    return path


def test_decisions_and_notes_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path, 'a,low,reject,"tripod, moved"\r\na,high,accept,\r\nb,low,,"two\nlines"\r\n'
    )
    assert read_review(path).decisions == {
        Pair("a", Level.LOW): Decision("reject", "tripod, moved"),
        Pair("a", Level.HIGH): Decision("accept"),
        Pair("b", Level.LOW): Decision("", "two\nlines"),
    }


def test_a_table_by_hand_needs_no_notes(tmp_path: Path) -> None:
    path = written(tmp_path, "a,low,reject\n", header="scene,level,decision\n")
    assert read_review(path).decisions == {Pair("a", Level.LOW): Decision("reject")}


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEADER.encode() + "ä,low,reject,\n".encode())
    assert read_review(path).decisions == {Pair("ä", Level.LOW): Decision("reject")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a,low,maybe,\n", "line 2: decision 'maybe': accept, reject or empty"),
        ("a,sharp,reject,\n", "line 2: level 'sharp': one of low, medium, high"),
        ("a,low,reject,\na,low,accept,\n", "line 3: a/low is there twice"),
        ("a,low,reject\n", "line 2: need 4 cells"),
        ("a,low,reject,x,y\n", "line 2: need 4 cells"),
        (",low,reject,\n", "line 2: no scene"),
        ('a,low,reject,"open\n', "not a CSV table"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_review(written(tmp_path, lines))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a,low,reject,\n", "line 2: need 5 cells"),
        (f"a,low,reject,,{'0' * 12}\n", "line 2: image_sha256 '0{12}': 64 hex digits or empty"),
    ],
)
def test_a_bad_line_of_a_bound_table_is_named(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_review(written(tmp_path, lines, header=BOUND))


def test_decisions_hold_only_for_the_pixels_that_were_looked_at(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset")
    rows = read_scenes(dataset / SCENES_NAME)
    (made,) = (r["image_sha256"] for r in rows if (r["scene"], r["level"]) == ("scene00", "low"))
    bound = f"scene00,low,reject,moved,{made}\nscene01,low,reject,,\n"
    report = crop(dataset, review=written(tmp_path, bound, header=BOUND))
    assert [item.pair.scene for item in report.left_out] == ["scene00", "scene01"]
    other = f"scene00,low,accept,,{'0' * 64}\n"
    message = r"1 decision about other images .*: scene00/low\. .*Load the file"
    with pytest.raises(DatasetError, match=message):
        crop(dataset, review=written(tmp_path, other, header=BOUND))
    note = other.replace("accept", "").replace(",,,", ",,look again,")
    assert not crop(dataset, review=written(tmp_path, note, header=BOUND)).left_out


def test_a_pair_accepted_in_vain_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset")
    reason = "residual: 2.1 px, 1.0"
    rejected = {"verdict": "reject", "reasons": [reason], "image": None}
    change_rows(dataset, "scene01", Level.LOW, **rejected)
    review = written(tmp_path, "scene00,low,accept,\nscene01,low,accept,\nscene02,low,,\n")
    done = CliRunner().invoke(cli, ["crop", str(dataset), "--review", str(review)])
    assert done.exit_code == 0
    note = (
        f"accepted in {review}, but left out by build, and so left out here: 1 pair (scene01/low)."
    )
    assert f"note: {note}" in done.output
    assert crop(dataset, review=review).notes[0] == note
    about = About("Toy", "CC0-1.0", ("Doe, Jane",), "1.0.0", "2026-11-22", "")
    report = release(dataset, tmp_path / "out", about=about, review=review)
    vain = "; accepted in the review, but build left it out"
    assert report.left_out == {"scene01/low": reason + vain}
    assert not any("accepted" in note for note in crop(dataset).notes)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError,
        match="columns file, scene; need scene, level, decision, and may have",
    ):
        read_review(written(tmp_path, "", header="file,scene\n"))
    with pytest.raises(DatasetError, match=r"Separate columns by commas"):
        read_review(written(tmp_path, "", header=HEADER.replace(",", ";")))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_bytes(HEADER.encode() + b"\xff\xfe,low,reject,\n")
    with pytest.raises(DatasetError, match="not a CSV table in UTF-8"):
        read_review(path)


def test_crop_leaves_out_what_a_person_rejected(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset")
    before = crop(dataset)
    whole = read_table(before.folder / MANIFEST_NAME, MANIFEST_SCHEMA)
    scene = whole.column("scene").to_pylist()[0]
    path = written(tmp_path, f"{scene},low,reject,moved\n{scene},high,accept,\n")
    report = crop(dataset, review=path)
    assert report.pairs == before.pairs - 1
    assert [str(item) for item in report.left_out] == [f"{scene}/low: review: moved"]
    table = read_table(report.folder / MANIFEST_NAME, MANIFEST_SCHEMA)
    others = [row for row in whole.to_pylist() if row["scene"] != scene]
    assert table.to_pylist() == others
    record = crop_record(report.folder / MANIFEST_NAME, table.schema.metadata)
    assert record["review"] == read_review(path).sha256
    assert verify(dataset).clean


def test_a_review_of_another_dataset_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset")
    with pytest.raises(DatasetError, match=r"review\.csv: not in the dataset: elsewhere"):
        crop(dataset, review=written(tmp_path, "elsewhere,low,reject,\n"))
    with pytest.raises(
        DatasetError, match=r"in the dataset: scene0\. Did you mean 'scene0[0-9]'\?"
    ):
        crop(dataset, review=written(tmp_path, "scene0,low,reject,\n"))


def test_command_takes_a_review_but_not_beside_a_manifest(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset")
    path = written(tmp_path, "scene00,low,reject,blurry\n")
    done = CliRunner().invoke(cli, ["crop", str(dataset), "--review", str(path)])
    assert done.exit_code == 0, done.output
    assert "scene00/low: review: blurry" in done.stdout
    manifest = dataset / "crops" / "low" / MANIFEST_NAME
    arguments = ["crop", str(dataset), "--review", str(path), "--manifest", str(manifest)]
    assert CliRunner().invoke(cli, arguments).exit_code == 2
