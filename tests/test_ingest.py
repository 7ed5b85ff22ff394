"""A folder of captures becomes brackets, or complaints; never a silent guess."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scenes import textured

from defocus_ds.config import LimitsConfig
from defocus_ds.errors import ShootError
from defocus_ds.frames import Bracket, Level, Shoot
from defocus_ds.optics import blur_disk, to_encoded
from defocus_ds.stages.ingest import scan, survey
from defocus_ds.stages.ingest.groups import natural_key
from defocus_ds.stages.ingest.roles import focus_measure, reduced_jpeg
from defocus_ds.stages.ingest.shoot_csv import parse_shoot_csv
from defocus_ds_cli.main import cli
from defocus_ds_cli.scan import command

RADII = (0.0, 2.0, 4.0, 8.0)


@pytest.fixture(scope="module")
def stack() -> list[np.ndarray]:
    """Four captures of one scene, 240x160, by rising blur."""
    scene = textured((240, 160), 3)
    return [np.round(to_encoded(blur_disk(scene, r)) * 255).astype(np.uint8) for r in RADII]


Save = Callable[..., None]


@pytest.fixture
def save(stack: list[np.ndarray]) -> Save:
    """Save the capture of an index; with ``second`` or settings, as JPEG with EXIF."""

    def write(path: Path, index: int, **notes: float | str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if notes:
            exif[0x010F], exif[0x0110] = "Maker", "Model X"
            ifd = exif.get_ifd(0x8769)
            second = int(notes.get("second", 0))
            ifd[0x9003] = f"2024:05:01 10:{second // 60:02}:{second % 60:02}"
            ifd[0x8827] = int(notes.get("iso", 200))
            ifd[0x920A] = float(notes.get("focal", 50.0))
            if "time" in notes:
                ifd[0x829A] = float(notes["time"])
            ifd[0xA431], ifd[0xA434] = str(notes.get("serial", "77")), "50mm"
        Image.fromarray(stack[index]).save(path, exif=exif)

    return write


def names(bracket: Bracket) -> list[str]:
    return [c.path.name for c in bracket]


def errors(shoot: Shoot) -> list[str]:
    return [str(c) for c in shoot.errors]


def accept_draft(shoot: Shoot) -> None:
    assert shoot.draft_csv is not None
    (shoot.root / "shoot.csv").write_text(shoot.draft_csv, encoding="utf-8")


def test_names_group_whatever_their_case(tmp_path: Path, save: Save) -> None:
    for index, code in enumerate(("original", "lbC", "MBC", "hbC")):
        save(tmp_path / f"peppermintTea3_{code}_crop.png", index)
        save(tmp_path / "more" / f"Soda 2_{code}.png", index)
    found = survey(tmp_path)
    assert [b.scene for b in found.shoot.brackets] == ["peppermintTea3", "Soda-2"]
    assert found.shoot.complaints == ()
    assert found.shoot.draft_csv is None
    assert set(found.grouped_by.values()) == {"name"}
    bracket = found.shoot.brackets[0]
    assert [(c.level, c.offset) for c in bracket] == [(lv, lv.offset) for lv in Level]
    values = [found.sharpness[c.path] for c in bracket]
    assert values[0] == 1.0
    assert values == sorted(values, reverse=True)


def test_a_dataset_of_ours_is_a_shoot_too(tmp_path: Path, save: Save) -> None:
    for scene in ("a", "b"):
        for index, level in enumerate(Level):
            save(tmp_path / "images" / scene / f"{level}.png", index)
    assert [b.scene for b in scan(tmp_path).brackets] == ["images-a", "images-b"]


def test_names_that_sharpness_contradicts_are_an_error(tmp_path: Path, save: Save) -> None:
    for index, code in zip((0, 2, 1, 3), ("original", "lbc", "mbc", "hbc"), strict=True):
        save(tmp_path / f"tea_{code}.png", index)
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    (error,) = errors(shoot)
    assert "sharpness contradicts the names" in error
    assert "tea_original.png tea_mbc.png tea_lbc.png tea_hbc.png" in error
    accept_draft(shoot)  # a person insists on the names
    again = scan(tmp_path)
    assert names(again.brackets[0])[1] == "tea_lbc.png"
    assert again.errors == ()
    assert "shoot.csv is followed" in str(again.complaints[0])


def test_a_missing_level_and_a_level_twice(tmp_path: Path, save: Save) -> None:
    for index, code in enumerate(("original", "lbc", "mbc")):
        save(tmp_path / f"tea_{code}.png", index)
        save(tmp_path / f"cup_{code}.png", index)
    save(tmp_path / "cup_hbc.png", 3)
    save(tmp_path / "cup_hbc.tif", 3)
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    assert len(shoot.errors) == 2
    assert "2 files are its high capture by name" in str(shoot.errors[0])
    assert "there is no high capture" in str(shoot.errors[1])
    assert "tea_lbc.png,tea,low,2" in (shoot.draft_csv or "")


def test_the_natural_order_of_any_name() -> None:
    names = ["b", "A10", "a9", "²", "a", "٣", "9", "10", "a9/2", "a9/10", "3²", "③"]
    ordered = sorted(names, key=natural_key)
    assert [n for n in ordered if n in ("9", "10", "a9", "A10", "b")] == [
        *("9", "10", "a9", "A10", "b")
    ]
    assert ordered.index("a9/2") < ordered.index("a9/10")
    assert sorted(reversed(names), key=natural_key) == ordered


def test_folders_with_digits_of_other_kinds(tmp_path: Path, save: Save) -> None:
    for folder in ("²", "٣", "a"):
        for index in range(4):
            save(tmp_path / folder / f"img{index}.png", index)
    assert {b.scene for b in scan(tmp_path).brackets} == {"²", "٣", "a"}


def test_a_folder_of_four_in_capture_order(tmp_path: Path, save: Save) -> None:
    for index in range(4):
        save(tmp_path / "lamp" / f"img{index + 8}.png", index)  # img8 img9 img10 img11
    found = survey(tmp_path)
    assert names(found.shoot.brackets[0]) == ["img8.png", "img9.png", "img10.png", "img11.png"]
    assert found.grouped_by == {"lamp": "folder"}
    assert found.shoot.complaints == ()


def test_a_folder_of_four_in_another_order_is_not_guessed(tmp_path: Path, save: Save) -> None:
    for at, index in enumerate((3, 0, 1, 2)):
        save(tmp_path / "lamp" / f"img{at}.png", index)
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    (error,) = errors(shoot)
    assert "the order of capture is img0.png img1.png img2.png img3.png" in error
    assert "falling sharpness is img1.png img2.png img3.png img0.png" in error
    accept_draft(shoot)
    again = scan(tmp_path)
    assert names(again.brackets[0]) == ["img1.png", "img2.png", "img3.png", "img0.png"]
    assert again.complaints == ()


def test_four_equal_captures_are_not_a_bracket(tmp_path: Path, save: Save) -> None:
    for at in range(4):
        save(tmp_path / f"img{at}.png", 1)
    assert "the roles are not certain" in errors(scan(tmp_path))[0]


def test_captures_without_texture_confirm_nothing(tmp_path: Path) -> None:
    for at in range(4):
        Image.new("RGB", (64, 48), (90, 90, 90)).save(tmp_path / f"img{at}.png")
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    assert "no texture" in errors(shoot)[0]


def test_without_confirmation_the_roles_are_a_warning(tmp_path: Path, save: Save) -> None:
    for at, index in enumerate((3, 0, 1, 2)):
        save(tmp_path / "lamp" / f"img{at}.png", index)
    shoot = scan(tmp_path, confirm=False)
    assert names(shoot.brackets[0])[0] == "img0.png"
    assert [c.severity for c in shoot.complaints] == ["warning"]
    assert shoot.draft_csv is not None


def test_runs_by_time(tmp_path: Path, save: Save) -> None:
    for at in range(8):
        save(tmp_path / f"IMG_{at + 1:04}.jpg", at % 4, second=at * 10)
    found = survey(tmp_path)
    assert [b.scene for b in found.shoot.brackets] == ["IMG_0001", "IMG_0005"]
    assert set(found.grouped_by.values()) == {"run"}
    assert found.shoot.complaints == ()
    save(tmp_path / "IMG_0009.jpg", 0, second=80)
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    assert "9 captures in runs of 9" in errors(shoot)[0]


@pytest.mark.parametrize(
    ("change", "number"),
    [({"iso": 400}, 5), ({"focal": 85.0}, 5), ({"serial": "78"}, 5), ({"second": 200}, 5), ({}, 6)],
)
def test_what_ends_a_run(
    tmp_path: Path, save: Save, change: dict[str, float | str], number: int
) -> None:
    for at in range(4):
        save(tmp_path / f"IMG_{at + 1:04}.jpg", at, second=at)
    save(tmp_path / f"IMG_{number:04}.jpg", 0, **({"second": 4} | change))
    shoot = scan(tmp_path)
    assert [names(b)[0] for b in shoot.brackets] == ["IMG_0001.jpg"]
    assert f"1 capture in runs of 1 (IMG_{number:04}.jpg)" in errors(shoot)[0]


def test_one_wrong_four_keeps_its_whole_run_out(tmp_path: Path, save: Save) -> None:
    for at, index in enumerate((0, 1, 2, 3, 1, 2, 3, 0)):
        save(tmp_path / f"IMG_{at + 1:04}.jpg", index, second=at)
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    assert any("same run as IMG_0005" in text for text in errors(shoot))


def test_settings_must_not_change_within_a_bracket(tmp_path: Path, save: Save) -> None:
    for at in range(4):
        save(tmp_path / "a" / f"{at}.jpg", at, second=at, iso=100 if at < 3 else 3200)
        save(tmp_path / "b" / f"{at}.jpg", at, second=at, focal=50.0)
        save(tmp_path / "c" / f"{at}.jpg", at, second=at, focal=85.0)
    shoot = scan(tmp_path)
    assert [b.scene for b in shoot.brackets] == ["b", "c"]
    assert errors(shoot) == [
        "a: the ISO differs: 100 (0.jpg, 1.jpg, 2.jpg), 3200 (3.jpg). In a bracket only the focus "
        "ring may move; leave the capture out, or group the files in shoot.csv."
    ]
    (warning,) = (str(c) for c in shoot.complaints if c.severity == "warning")
    assert "focal length in mm differs between scenes: 50 (1 scene, first b), 85" in warning


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ((1 / 6, 1 / 20, 1 / 50, 1 / 101), "differs by 4.1 stops: 1/6 s (img0.png), 1/20 s"),
        ((1 / 100, 1 / 100, 1 / 100, 1 / 64), "differs by 0.6 stops"),
        ((2.0, 1.0, 2.0, 2.0), "differs by 1.0 stops: 2 s (img0.png, img2.png, img3.png), 1 s"),
        ((1 / 125, 1 / 128, 1 / 125, 1 / 125), ""),
        ((1 / 100, 1 / 125, 1 / 100, 1 / 100), ""),
    ],
)
def test_exposure_times_that_differ_are_a_warning(
    tmp_path: Path, save: Save, times: tuple[float, ...], says: str
) -> None:
    for at, time in enumerate(times):
        save(tmp_path / "lamp" / f"img{at}.png", at, second=at, time=time)
    shoot = scan(tmp_path)
    assert len(shoot.brackets) == 1
    found = [c.message for c in shoot.complaints]
    assert (not found) if not says else (says in found[0]), found


def test_a_turned_camera_is_a_warning(tmp_path: Path, stack: list[np.ndarray]) -> None:
    for at, image in enumerate(stack):
        exif = Image.Exif()
        exif[0x0112] = 6 if at == 2 else 1
        Image.fromarray(image).save(tmp_path / f"{at}.jpg", exif=exif)
    shoot = scan(tmp_path)
    assert len(shoot.brackets) == 1
    assert "the EXIF orientation differs: 1 (0.jpg, 1.jpg, 3.jpg), 6 (2.jpg)" in str(
        shoot.complaints[0]
    )


def test_bad_files_are_one_complaint_each_and_the_rest_is_grouped(
    tmp_path: Path, save: Save, small_shoot: Path
) -> None:
    for at in range(4):
        save(tmp_path / "good" / f"img{at}.png", at)
    for at in range(5):
        save(tmp_path / "five" / f"img{at}.png", min(at, 3))
    shutil.copytree(small_shoot / "scene01", tmp_path / "cut")
    (tmp_path / "cut" / "IMG_0002.CR2").write_bytes(
        (small_shoot / "scene01" / "IMG_0002.CR2").read_bytes()[:50_000]
    )
    (tmp_path / "EMPTY.CR2").write_bytes(b"")
    (tmp_path / "TEXT.CR2").write_text("not a picture")
    (tmp_path / "notes.txt").write_text("a note is no capture")
    (tmp_path / "photo.heic").write_bytes(b"x")
    shoot = scan(tmp_path)
    assert [b.scene for b in shoot.brackets] == ["good"]
    where = [c.where for c in shoot.complaints]
    assert sorted(where) == sorted(
        ["EMPTY.CR2", "TEXT.CR2", "cut", "cut/IMG_0002.CR2", "five", "photo.heic"]
    )
    assert "should be bytes" in str(shoot.complaints[where.index("cut/IMG_0002.CR2")])


def test_a_broken_level_is_named_by_its_scene(tmp_path: Path, save: Save) -> None:
    for index, code in enumerate(("original", "lbc", "mbc")):
        save(tmp_path / f"tea_{code}.png", index)
    (tmp_path / "tea_hbc.png").write_bytes(b"")
    texts = errors(scan(tmp_path))
    assert texts[0].startswith("tea_hbc.png: the file is empty")
    assert "tea: left out, because its capture tea_hbc.png cannot be read" in texts[1]


def test_a_jpeg_beside_its_raw_is_left_out_with_a_word(tmp_path: Path, small_shoot: Path) -> None:
    shutil.copytree(small_shoot / "scene01", tmp_path / "lamp")
    for raw in list((tmp_path / "lamp").glob("*.CR2")):
        Image.new("RGB", (32, 32)).save(raw.with_suffix(".JPG"))
    shoot = scan(tmp_path)
    assert len(shoot.brackets) == 1
    (complaint,) = shoot.complaints
    assert complaint.severity == "warning"
    assert "4 files beside a raw of the same name" in complaint.message


def test_hidden_names_are_ignored_but_adobe_rgb_names_are_not(tmp_path: Path, save: Save) -> None:
    for at in range(4):
        save(tmp_path / "lamp" / f"_MG_{at}.png", at)
        save(tmp_path / "_truth" / f"{at}.png", at)
        save(tmp_path / ".cache" / f"{at}.png", at)
        save(tmp_path / "lamp" / f".tmp-{at}.png", at)
    (tmp_path / "truth.json").write_text("{}")
    shoot = scan(tmp_path)
    assert [b.scene for b in shoot.brackets] == ["lamp"]
    assert shoot.complaints == ()


def test_an_unreadable_folder_is_complained_of(
    tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(4):
        save(tmp_path / "lamp" / f"img{at}.png", at)
    (tmp_path / "locked").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    shoot = scan(tmp_path)
    assert len(shoot.brackets) == 1
    assert "locked: the folder cannot be read (Permission denied)" in errors(shoot)[0]


def test_only_a_missing_folder_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ShootError, match="does not exist"):
        scan(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ShootError, match="is not a folder"):
        scan(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "no captures" in errors(scan(tmp_path / "empty"))[0]


def test_shoot_csv_overrides_every_guess(tmp_path: Path, save: Save) -> None:
    for at in range(3):
        save(tmp_path / "stack" / f"frame{at}.png", at)
    (tmp_path / "shoot.csv").write_text(
        "\ufefffile;scene;level;offset\nstack\\frame0.png;tree;Sharp;0\n\n# a remark\n"
        "stack/frame2.png;tree;low;1\n",
        encoding="utf-8",
    )
    found = survey(tmp_path)
    (bracket,) = found.shoot.brackets
    assert [(c.path.name, c.level, c.offset) for c in bracket] == [
        ("frame0.png", Level.SHARP, 0),
        ("frame2.png", Level.LOW, 1),
    ]
    assert bracket.sharp.path == tmp_path / "stack" / "frame0.png"
    (warning,) = found.shoot.complaints
    assert "does not name 1 capture of the folder stack (frame1.png)" in warning.message


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("../a0.png,s,sharp,0", "must be a path inside the shoot"),
        ("/etc/a0.png,s,sharp,0", "must be a path inside the shoot"),
        ("C:\\a0.png,s,sharp,0", "must be a path inside the shoot"),
        ("a0.png,s/t,sharp,0", "the scene 's/t' must be letters"),
        ("a0.png,..,sharp,0", "the scene '..' must be letters"),
        ("a0.png,s,blurry,0", "the level 'blurry' must be one of sharp, low"),
        ("a0.png,s,,", "the level '' must be one of"),
        ("a0.png,s,sharp,2", "the sharp capture has offset 2"),
        ("a0.png,s,sharp,x", "the offset 'x' must be a whole number"),
        ("a0.png,s,sharp", "3 cells, but the header has 4. Separate columns by commas."),
        ("a0.png;s;sharp;0", "1 cells, but the header has 4. Separate columns by commas."),
        ("a0.png,s,low,2", "a0.png is already named on line 3"),
    ],
)
def test_bad_rows_of_shoot_csv_name_their_line(row: str, says: str) -> None:
    good = "a0.png,r,sharp,0\na1.png,r,low,2"
    table = parse_shoot_csv(f"file,scene,level,offset\n# remark\n{good}\n{row}\n")
    assert any(
        c.where == "shoot.csv:5" and says in c.message and c.severity == "error"
        for c in table.complaints
    )
    assert {r.scene for r in table.rows} - table.bad_scenes == {"r"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("a,s,low,2\nb,s,high,6", "s has no sharp capture"),
        ("a,s,sharp,0", "s has no blurred capture"),
        ("a,s,sharp,0\nb,s,low,2\nc,s,low,2", "s has its low capture on line 3 already"),
        ("a,s,sharp,0\nb,s,low,6\nc,s,high,2", "they must grow from sharp to high"),
        ("a,s,sharp,0\nb,S,low,2", "the scene S is written s elsewhere"),
    ],
)
def test_rows_of_shoot_csv_that_cannot_all_be_true(rows: str, says: str) -> None:
    table = parse_shoot_csv(f"file,scene,level,offset\n{rows}\n")
    assert any(says in c.message for c in table.complaints)
    assert "s" in table.bad_scenes


def test_a_table_without_its_columns_groups_nothing(tmp_path: Path, save: Save) -> None:
    for at in range(4):
        save(tmp_path / f"img{at}.png", at)
    (tmp_path / "shoot.csv").write_text("name,scene,level\nimg0.png,a,sharp\n")
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    assert errors(shoot) == [
        "shoot.csv:1: no column 'file'; need file, scene, level and may have offset, comment. "
        "Separate columns by commas."
    ]


@pytest.mark.parametrize("line", ["img3.png,b,lou,2", "img3.png,b", "./img3.png,b/,low,2"])
def test_a_file_on_a_bad_line_is_named_all_the_same(tmp_path: Path, save: Save, line: str) -> None:
    for at in range(4):
        save(tmp_path / f"img{at}.png", at)
    rows = ("img0.png,a,sharp,0", "img1.png,a,low,2", "img2.png,b,sharp,0", line)
    (tmp_path / "shoot.csv").write_text("\n".join(("file,scene,level,offset", *rows)))
    shoot = scan(tmp_path)
    assert any("shoot.csv:5" in error for error in errors(shoot))
    assert not [str(c) for c in shoot.complaints if "does not name" in c.message]


def test_a_file_on_a_bad_line_is_not_grouped_by_its_name(tmp_path: Path, save: Save) -> None:
    names = ("tea_original.png", "tea_lbc.png", "tea_mbc.png", "tea_hbc.png")
    for at, name in enumerate(names):
        save(tmp_path / name, at)
    rows = [f"{name},tea,wrong" for name in names]
    (tmp_path / "shoot.csv").write_text("\n".join(("file,scene,level", *rows)))
    shoot = scan(tmp_path)
    assert shoot.brackets == ()
    assert len(errors(shoot)) == 4


def test_a_file_that_is_not_there_keeps_its_scene_out(tmp_path: Path, save: Save) -> None:
    for at in range(4):
        save(tmp_path / f"img{at}.png", at)
    rows = ("img0.png,a,sharp", "IMG1.png,a,low", "img2.png,b,sharp", "img3.png,b,low")
    (tmp_path / "shoot.csv").write_text("\n".join(("file,scene,level", *rows)))
    shoot = scan(tmp_path)
    assert [b.scene for b in shoot.brackets] == ["b"]
    assert "shoot.csv:3: IMG1.png is not among the captures" in errors(shoot)[0]


def test_focus_measure_falls_with_blur_and_not_with_light() -> None:
    scene = textured((300, 200), 1).mean(axis=2)
    values = [focus_measure(blur_disk(scene, radius) * 200) for radius in (0, 1, 2, 4, 8)]
    assert all(b < 0.95 * a for a, b in zip(values, values[1:], strict=False))
    assert focus_measure(scene * 50) == pytest.approx(focus_measure(scene * 200), rel=1e-3)
    rng = np.random.default_rng(0)
    noisy = [blur_disk(scene, r) * 200 + rng.normal(0, 6, scene.shape) for r in (2, 4, 8)]
    noise = [focus_measure(image) for image in noisy]
    assert noise == sorted(noise, reverse=True)
    assert focus_measure(np.full((50, 50), 7, np.uint8)) is None


def test_a_jpeg_inside_a_file_is_decoded_at_reduced_size(tmp_path: Path) -> None:
    scene = to_encoded(textured((2048, 1024), 4))
    luma = np.round(scene.mean(axis=2) * 255).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", luma)[1].tobytes()
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 77 + jpeg + b"y" * 50)
    whole = {"window": (77, len(jpeg)), "size": (2048, 1024), "max_megapixels": 200.0}
    image = reduced_jpeg(path, **whole)
    assert image is not None
    assert image.shape == luma.shape
    assert np.abs(image.astype(int) - luma).mean() < 4
    assert reduced_jpeg(path, **(whole | {"max_megapixels": 2.0})) is None
    assert reduced_jpeg(path, **(whole | {"window": (77, len(jpeg) + 99)})) is None
    assert reduced_jpeg(path, **(whole | {"window": (78, len(jpeg) - 1)})) is None
    small = cv2.imencode(".jpg", luma[:480, :960])[1].tobytes()
    path.write_bytes(small)
    assert reduced_jpeg(path, **(whole | {"window": (0, None)})) is None
    large = cv2.imencode(".jpg", cv2.resize(luma, (4096, 2048)))[1].tobytes()
    path.write_bytes(large)
    image = reduced_jpeg(path, window=(0, None), size=(4096, 2048), max_megapixels=200.0)
    assert image is not None
    assert image.shape == (1024, 2048)


def test_no_pixel_is_decoded_in_the_process_that_scans(
    tmp_path: Path, save: Save, small_shoot: Path
) -> None:
    shutil.copytree(small_shoot / "scene01", tmp_path / "raws")
    for index in range(4):
        save(tmp_path / "jpegs" / f"img{index}.jpg", index)
        save(tmp_path / "pngs" / f"img{index}.png", index)
    code = (
        "import sys; from defocus_ds.stages.ingest import survey; found = survey(sys.argv[1]); "
        "print(len(found.sharpness), sorted({'cv2', 'rawpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(maxsplit=1) == ["12", "[]\n"]


def test_a_capture_that_needs_too_much_memory_keeps_its_scene_out_by_name(
    tmp_path: Path, save: Save
) -> None:
    for index in range(4):
        save(tmp_path / "good" / f"img{index}.png", index)
        save(tmp_path / "wide" / f"img{index}.png", index)
    wide = np.zeros((9000, 12000, 3), np.uint8)  # 324 MB, 1 MB as PNG
    assert cv2.imwrite(str(tmp_path / "wide" / "img2.png"), wide)
    found = survey(tmp_path, limits=LimitsConfig(decode_memory_mb=500))
    assert [b.scene for b in found.shoot.brackets] == ["good"]
    assert any(
        c.where == "wide"
        and "left out, because of img2.png: the decoder " in c.message
        and "its limit being 500 MB" in c.message
        for c in found.shoot.errors
    )


def test_a_simulated_shoot_scans_clean(small_shoot: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    shoot = scan(small_shoot, progress=lambda *step: steps.append(step))
    assert shoot.complaints == ()
    assert [b.scene for b in shoot.brackets] == ["scene01", "scene02"]
    numbers = [c.info.file_number for b in shoot.brackets for c in b]
    assert numbers == list(range(1000001, 1000009))
    assert steps[-1] == ("sharpness", 2, 2)


def test_a_card_full_of_raws_in_one_folder_is_cut_by_time(
    small_shoot: Path, tmp_path: Path
) -> None:
    for raw in small_shoot.glob("scene*/*.CR2"):
        shutil.copy(raw, tmp_path)
    found = survey(tmp_path)
    assert found.shoot.complaints == ()
    assert [names(b)[0] for b in found.shoot.brackets] == ["IMG_0001.CR2", "IMG_0005.CR2"]
    shutil.copy(tmp_path / "IMG_0001.CR2", tmp_path / "IMG_0001b.CR2")
    again = scan(tmp_path)
    assert [names(b)[0] for b in again.brackets] == []
    assert "9 captures in runs of 9" in errors(again)[0]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_scan_command_on_a_clean_shoot(small_shoot: Path) -> None:
    code, text = run(str(small_shoot))
    assert code == 0
    lines = text.splitlines()
    assert lines[0].split("\t") == [
        *("scene", "level", "file", "exposure", "lens", "focus", "sharpness")
    ]
    assert lines[1].startswith("scene01\tsharp +0\tscene01/IMG_0001.CR2\t1/")
    assert lines[-1] == "2 scenes, 0 errors, 0 warnings"
    assert not (small_shoot / "shoot.draft.csv").exists()
    code, text = run(str(small_shoot), "--json")
    found = json.loads(text)
    assert code == 0
    assert found["scenes"][1]["captures"][3]["info"]["model"] == "Canon EOS 5D Mark III"
    assert found["scenes"][0]["captures"][0]["sharpness"] == 1.0


def test_scan_command_lists_what_is_in_no_scene(tmp_path: Path, save: Save) -> None:
    for index in range(4):
        save(tmp_path / "lamp" / f"img{index}.png", index)
    save(tmp_path / "lone.jpg", 0, second=7, iso=800, focal=85.0)
    (tmp_path / "EMPTY.CR2").write_bytes(b"")
    code, text = run(str(tmp_path))
    assert code == 1
    assert "-\t-\tlone.jpg\tISO 800\t50mm at 85 mm\t-\t-" in text.splitlines()
    found = json.loads(run(str(tmp_path), "--json")[1])
    assert found["ungrouped"] == ["lone.jpg"]
    assert found["captures"]["lone.jpg"]["taken"] == "2024-05-01T10:00:07"
    assert found["captures"]["lone.jpg"]["orientation"] == 1
    assert "lamp/img0.png" in found["captures"]
    assert "EMPTY.CR2" not in found["captures"]


def test_scan_command_writes_a_draft_and_never_over_anything(tmp_path: Path, save: Save) -> None:
    order: Sequence[int] = (3, 0, 1, 2)
    for at, index in enumerate(order):
        save(tmp_path / "lamp" / f"img{at}.png", index)
    code, text = run(str(tmp_path))
    draft = tmp_path / "shoot.draft.csv"
    assert code == 2
    assert f"draft: {draft}" in text
    assert "lamp/img1.png,lamp,sharp,0,UNCERTAIN" in draft.read_text()
    draft.write_text("mine")
    assert "left as it is" in run(str(tmp_path))[1]
    assert draft.read_text() == "mine"
    for at in range(4):
        save(tmp_path / "vase" / f"img{at}.png", at)
    assert run(str(tmp_path))[0] == 1
    assert run(str(tmp_path), "--no-confirm")[0] == 0


def test_scan_command_where_nothing_can_be_written(
    tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "lone.png", 0)

    def refuse(target: Path, data: bytes) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr("defocus_ds.store.write_bytes", refuse)
    code, text = run(str(tmp_path))
    assert code == 2
    assert "would be written to" in text
    assert "file,scene,level,offset,comment" in text


def test_the_authors_examples(real_data: Path) -> None:
    shoot = scan(real_data / "mmsp2024" / "Dataset_Examples")
    assert [b.scene for b in shoot.brackets] == ["keyboard1", "peppermintTea3", "soda2"]
    assert shoot.complaints == ()
    assert names(shoot.brackets[1])[3] == "peppermintTea3_hbC_crop.png"


def test_a_real_folder_of_this_and_that(real_data: Path) -> None:
    found = survey(real_data / "canon")
    assert found.shoot.brackets == ()
    assert [c.where for c in found.shoot.errors] == ["canon.raw.cr2", "CanonRaw.cr2", "canon"]
    by_name = {path.name: header.info for path, header in found.captures.items()}
    assert by_name["CRW_0113.CRW"].width == 2312
    assert by_name["CRW_0113.CRW"].white_balance == pytest.approx((1819 / 990, 1, 1794 / 990))
    assert by_name["_K6A7946.JPG"].serial == "302022000566"


def test_real_canon_jpegs_are_a_scene_with_their_exif(real_data: Path, tmp_path: Path) -> None:
    """Values as exiftool 12.57 prints them; the smaller ones are the camera's other sizes."""
    for number in range(7941, 7947):
        shutil.copy(real_data / "canon" / f"_K6A{number}.JPG", tmp_path)
    rows = ("_K6A7941.JPG,plant,sharp,0", "_K6A7942.JPG,plant,low,2")
    (tmp_path / "shoot.csv").write_text("\n".join(("file,scene,level,offset", *rows)))
    found = survey(tmp_path)
    assert found.shoot.errors == ()
    (bracket,) = found.shoot.brackets
    for capture in bracket:
        info = capture.info
        assert (info.model, info.serial) == ("Canon EOS 5D Mark III", "302022000566")
        assert (info.exposure_s, info.f_number, info.iso) == (1 / 160, 5.6, 320)
        assert (info.lens, info.focal_length_mm) == ("EF28-135mm f/3.5-5.6 IS USM", 135.0)
        assert info.focus_distance_m == (0.47, 0.40)
    assert bracket.sharp.info.taken == "2023-09-01T17:19:26.73"
    assert len(found.sharpness) == 2
    code, text = run(str(tmp_path))
    assert code == 0
    exif = "1/160 s f/5.6 ISO 320\tEF28-135mm f/3.5-5.6 IS USM at 135 mm\t0.4-0.47 m"
    assert f"plant\tsharp +0\t_K6A7941.JPG\t{exif}\t" in text
    assert f"-\t-\t_K6A7945.JPG\t{exif}\t-" in text.splitlines()
    code, text = run(str(tmp_path), "--json")
    listed = json.loads(text)
    assert listed["ungrouped"] == [f"_K6A{number}.JPG" for number in range(7943, 7947)]
    assert len(listed["captures"]) == 6
    assert [c["orientation"] for c in listed["captures"].values()] == [1, 1, 6, 6, 8, 6]
    for info in (listed["scenes"][0]["captures"][1]["info"], *listed["captures"].values()):
        assert (info["lens"], info["iso"]) == ("EF28-135mm f/3.5-5.6 IS USM", 320)
        assert info["focus_distance_m"] == [0.47, 0.40]
        assert info["exposure_s"] in (1 / 160, 1 / 125)


def test_a_real_focus_stack_by_shoot_csv(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "focus_stacks" / "cmcguinness" / "Input"
    for step in range(6):
        shutil.copy(source / f"step{step}.jpg", tmp_path)
    rows = ("step1.jpg,desk,sharp,0", "step3.jpg,desk,low,2", "step5.jpg,desk,medium,4")
    (tmp_path / "shoot.csv").write_text("\n".join(("file,scene,level,offset", *rows)))
    found = survey(tmp_path)
    assert found.shoot.errors == ()
    values = [found.sharpness[c.path] for c in found.shoot.brackets[0]]
    assert values[1] < 0.95
    assert values[2] < values[1]
    assert cv2.imread(str(found.shoot.brackets[0].sharp.path)).shape[1] == 1521


def test_a_built_dataset_is_refused_as_a_shoot(tmp_path: Path, save: Save) -> None:
    for index, level in enumerate(Level):
        save(tmp_path / "images" / "a" / f"{level}.png", index)
    (tmp_path / "dataset.json").write_text("{}")
    (tmp_path / "scenes.parquet").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(cli, ["scan", str(tmp_path)])
    assert done.exit_code == 2
    assert "this is a built dataset (dataset.json): `report`" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_beside_a_damaged_capture_no_level_is_guessed(tmp_path: Path, save: Save) -> None:
    for at in range(4):
        save(tmp_path / "s" / f"IMG_000{at + 1}.png", at)
    (tmp_path / "s" / "IMG_0002.png").write_bytes(b"")
    shoot = scan(tmp_path)
    assert [c.where for c in shoot.errors] == ["s/IMG_0002.png", "s"]
    assert "its capture s/IMG_0002.png cannot be read" in errors(shoot)[1]
    lines = (shoot.draft_csv or "").splitlines()[3:]
    assert [line.split(",")[:4] for line in lines] == [
        [f"s/IMG_000{number}.png", "s", "", ""] for number in (1, 3, 4)
    ]
    assert all("cannot be read, so the level is not guessed" in line for line in lines)
