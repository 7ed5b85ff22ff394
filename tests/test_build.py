"""The main job: a shoot goes in, a dataset comes out; resumable, honest, the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import defocus_ds
from defocus_ds.config import load_config
from defocus_ds.dataset.manifest import read_scenes
from defocus_ds.errors import DatasetError, InputError, ShootError
from defocus_ds.frames import BLURRED_LEVELS, Pair
from defocus_ds.pipeline import STAGES, BuildReport
from defocus_ds.simulate.cr2 import CaptureTags, write_cr2
from defocus_ds.stages.ingest.header import read_header
from defocus_ds.store import read_receipt, sha256_file
from defocus_ds_cli.build import print_report
from defocus_ds_cli.main import cli


def bytes_of(dataset: Path) -> dict[str, str]:
    """SHA-256 of every file of the dataset; receipts hold times, so they are not part of it."""
    return {
        path.relative_to(dataset).as_posix(): sha256_file(path)
        for path in sorted(dataset.rglob("*"))
        if path.is_file() and path.relative_to(dataset).parts[0] not in ("receipts", ".lock")
    }


def lower_black_level(path: Path) -> None:
    """Rewrite a CR2 so that its headers are right and its masked pixels 600 too dark."""
    import rawpy

    info = read_header(path).info
    assert info.taken is not None
    with rawpy.imread(str(path)) as raw:
        mosaic = raw.raw_image.copy()
        preview = cv2.imdecode(np.frombuffer(raw.extract_thumb().data, np.uint8), 1)[..., ::-1]
    tags = CaptureTags(
        taken=datetime.fromisoformat(info.taken),
        serial=int(info.serial or 0),
        iso=info.iso or 0,
        focal_length_mm=int(info.focal_length_mm or 0),
        lens=info.lens or "",
    )
    write_cr2(path, np.maximum(mosaic, 600) - 600, info=tags, preview=preview)


def test_every_capture_has_its_row_and_image(small_dataset: Path) -> None:
    rows = read_scenes(small_dataset / "scenes.parquet")
    assert [(r["scene"], r["level"]) for r in rows] == [
        (scene, level)
        for scene in ("scene01", "scene02")
        for level in ("sharp", "low", "medium", "high")
    ]
    for row in rows:
        assert row["verdict"] == "keep", (row["scene"], row["level"], row["reasons"])
        assert sha256_file(small_dataset / row["image"]) == row["image_sha256"]
        assert len(row["source_sha256"]) == 64
        assert row["model"] == "Canon EOS 5D Mark III"
    names = {p.name for p in small_dataset.iterdir()}
    assert names == {
        ".lock",
        "SHA256SUMS",
        "dataset.json",
        "images",
        "receipts",
        "scenes.parquet",
    }


def test_built_dataset_matches_the_truth(small_dataset: Path, small_shoot: Path) -> None:
    from defocus_ds.measure.alignment import score_build

    limits = {"low": 0.1, "medium": 0.15, "high": 0.25}
    scores = score_build(small_dataset, small_shoot)
    assert len(scores) == 6
    for score in scores:
        assert score.registration_mean_px is not None, score
        assert score.registration_mean_px <= limits[score.level], score
        assert score.colour_difference is not None, score
        assert score.colour_difference <= 0.9, score


def test_second_build_does_nothing(small_dataset: Path, small_shoot: Path) -> None:
    before = bytes_of(small_dataset)
    report = defocus_ds.build(small_shoot, small_dataset, jobs=1)
    assert report.stages_run == 0
    assert len(report.kept) == 6
    assert bytes_of(small_dataset) == before


def test_bytes_do_not_depend_on_jobs_or_interruption(
    small_dataset: Path, small_shoot: Path, tmp_path: Path
) -> None:
    other = tmp_path / "dataset"
    command = [sys.executable, "-m", "defocus_ds_cli", "build", str(small_shoot), "-o", str(other)]
    killed = subprocess.Popen(
        [*command, "--jobs", "1"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while read_receipt(other, "scene01", "develop") is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    developed = other / "receipts/scene01/develop.json"
    stamp = developed.stat().st_mtime_ns
    done = subprocess.run([*command, "--jobs", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert developed.stat().st_mtime_ns == stamp, "develop was done twice"
    assert bytes_of(other) == bytes_of(small_dataset)


def test_changed_option_redoes_only_what_depends_on_it(
    small_dataset: Path, small_shoot: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "dataset"
    shutil.copytree(small_dataset, copy)
    events = []
    report = defocus_ds.build(
        small_shoot,
        copy,
        config=load_config(settings=["colour.method=none"]),
        jobs=1,
        skip=["scene02"],
        replace_scenes=True,
        on_event=events.append,
    )
    assert report.clean
    assert {e.scene for e in events} == {"scene01"}
    rows = read_scenes(copy / "scenes.parquet")
    assert json.loads(rows[1]["colour"])["method"] == "none"
    assert rows[5]["colour"] is None, "a skipped scene has no record"


def test_skipped_pair_is_a_row_with_its_reason(small_shoot: Path, tmp_path: Path) -> None:
    report = defocus_ds.build(
        small_shoot,
        tmp_path / "d",
        config=load_config(settings=["colour.method=none", "register.iterations=200"]),
        jobs=1,
        skip=["scene01/high", "scene02"],
    )
    assert [str(p) for p in report.kept] == ["scene01/low", "scene01/medium"]
    rejected = {str(pair): reasons for pair, reasons in report.rejected}
    assert rejected["scene01/high"] == ("skipped: --skip scene01/high",)
    assert set(rejected) == {"scene01/high", "scene02/low", "scene02/medium", "scene02/high"}
    rows = read_scenes(tmp_path / "d/scenes.parquet")
    assert len(rows) == 8
    assert not (tmp_path / "d/images/scene02").exists()


def test_what_skip_left_out_is_not_called_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = {s: [Pair(s, level) for level in BLURRED_LEVELS] for s in ("a", "b")}
    rejected = [(pair, ("skipped: --skip a",)) for pair in pairs["a"]]
    rejected += [(pairs["b"][0], ("ncc: 0.1, needs 0.5",)), (pairs["b"][2], ("skipped: x",))]
    report = BuildReport(
        dataset=Path("my set"),
        scenes=("a", "b"),
        kept=(pairs["b"][1],),
        rejected=tuple(rejected),
        failed=(),
        complaints=(),
        stages_run=5,
    )
    print_report(report)
    assert capsys.readouterr().out.splitlines() == [
        "2 scenes, 1 pair kept, 1 rejected, 0 scenes failed, 2 left out (5 stages run)",
        "  left out by --skip: a (4 captures)",
        "  left out by --skip: b/high",
        "  rejected b/low: ncc: 0.1, needs 0.5",
        "Dataset: my set",
        "Next: defocus-ds report 'my set', to look at every pair",
        "Then: defocus-ds crop 'my set' --level medium",
    ]


def test_broken_capture_fails_its_scene_and_is_not_tried_twice(
    small_shoot: Path, tmp_path: Path
) -> None:
    shoot = tmp_path / "shoot"
    shutil.copytree(small_shoot, shoot)
    broken = sorted((shoot / "scene01").glob("*.CR2"))[2]
    lower_black_level(broken)
    settings = ["colour.method=none", "register.iterations=200"]
    config = load_config(settings=settings)
    report = defocus_ds.build(shoot, tmp_path / "d", config=config, jobs=2)
    assert not report.clean
    assert [scene for scene, _ in report.failed] == ["scene01"]
    assert broken.name in report.failed[0][1]
    assert {pair.scene for pair in report.kept} == {"scene02"}
    rows = [r for r in read_scenes(tmp_path / "d/scenes.parquet") if r["scene"] == "scene01"]
    assert [r["verdict"] for r in rows] == ["failed"] * 4
    assert broken.name in rows[0]["reasons"][0]
    state = defocus_ds.status(tmp_path / "d")
    assert state.failed == report.failed
    assert state.done["ingest"] == 2, "what a failed scene has done is done"
    assert state.done["develop"] == state.done["render"] == 1
    assert state.complete
    told = CliRunner().invoke(cli, ["status", str(tmp_path / "d")])
    assert "/d: complete, but for 1 scene that failed" in told.stdout
    assert told.exit_code == 1

    events = []
    again = defocus_ds.build(shoot, tmp_path / "d", config=config, jobs=1, on_event=events.append)
    assert again.failed == report.failed
    assert not events
    retried = defocus_ds.build(
        shoot, tmp_path / "d", config=config, jobs=1, retry_failed=True, on_event=events.append
    )
    assert [scene for scene, _ in retried.failed] == ["scene01"]
    assert events

    shutil.copy(sorted((small_shoot / "scene01").glob("*.CR2"))[2], broken)
    mended = defocus_ds.build(shoot, tmp_path / "d", config=config, jobs=1)
    assert mended.clean, "a mended file is tried again without being asked"


def test_unusable_files_are_named_and_the_rest_is_built(small_shoot: Path, tmp_path: Path) -> None:
    shoot = tmp_path / "shoot"
    shutil.copytree(small_shoot / "scene01", shoot / "scene01")
    captures = sorted((small_shoot / "scene02").glob("*.CR2"))
    for path in captures:
        (shoot / "five").mkdir(exist_ok=True)
        shutil.copy(path, shoot / "five")
    shutil.copy(captures[3], shoot / "five" / "IMG_0099.CR2")
    (shoot / "odd").mkdir()
    (shoot / "odd/empty.CR2").write_bytes(b"")
    (shoot / "odd/text.CR2").write_text("not a raw file\n")
    (shoot / "odd/cut.CR2").write_bytes(captures[0].read_bytes()[:100_000])
    report = defocus_ds.build(
        shoot,
        tmp_path / "d",
        config=load_config(settings=["colour.method=none", "register.iterations=200"]),
        jobs=1,
    )
    assert not report.clean
    assert [str(pair) for pair in report.kept] == [f"scene01/{b}" for b in BLURRED_LEVELS]
    complaints = {c.where: c.message for c in report.complaints if c.severity == "error"}
    assert "empty" in complaints["odd/empty.CR2"]
    assert "not a CR2" in complaints["odd/text.CR2"]
    assert "truncated" in complaints["odd/cut.CR2"]
    assert "5 captures" in complaints["five"]
    state = defocus_ds.status(tmp_path / "d")
    assert dict(state.left_out) == complaints
    assert state.complete
    recorded = json.loads((tmp_path / "d/dataset.json").read_text())["left_out"]
    assert {entry["where"] for entry in recorded} == set(complaints)


def test_a_capture_that_became_unusable_unseen_is_named(small_shoot: Path, tmp_path: Path) -> None:
    """As a lost permission does: names, sizes and times are what they were."""
    shoot, dataset = tmp_path / "shoot", tmp_path / "d"
    for scene in ("scene01", "scene02"):
        shutil.copytree(small_shoot / scene, shoot / scene)

    class Stopped(Exception):
        pass

    def stop(event: object) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        defocus_ds.build(shoot, dataset, config=QUICK, jobs=1, on_event=stop)
    lost = sorted((shoot / "scene02").glob("*.CR2"))[1]
    before, data = lost.stat(), bytearray(lost.read_bytes())
    data[:1024] = bytes(1024)
    lost.write_bytes(data)
    os.utime(lost, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = defocus_ds.build(shoot, dataset, config=QUICK, jobs=1)
    assert report.scenes == ("scene01",)
    assert not report.clean
    assert any(lost.name in str(c) for c in report.complaints)
    assert any(lost.name in where for where, _ in defocus_ds.status(dataset).left_out)
    tight = load_config(settings=["limits.max_megapixels=0.1"])
    with pytest.raises(ShootError, match=r"megapixels \(limit 0\.1\)"):
        defocus_ds.build(shoot, dataset, config=tight, replace_scenes=True)


def test_built_scenes_that_cannot_be_used_now_are_said_with_the_reason(
    small_shoot: Path, dataset: Path, tmp_path: Path
) -> None:
    shoot = Path(shutil.copytree(small_shoot, tmp_path / "shoot"))
    lost = sorted((shoot / "scene02").glob("*.CR2"))[1]
    lost.write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"scene02; .*{lost.name}: .*empty.*Mend the shoot"):
        defocus_ds.build(shoot, dataset, config=QUICK)


def test_captures_that_are_in_two_scenes_are_said(small_shoot: Path, tmp_path: Path) -> None:
    for scene, copy in (("scene01", "a"), ("scene01", "b")):
        shutil.copytree(small_shoot / scene, tmp_path / "shoot" / copy)
    report = defocus_ds.build(tmp_path / "shoot", tmp_path / "d", config=QUICK, jobs=2)
    assert report.clean, "a warning keeps nothing out"
    (found,) = [c for c in report.complaints if c.where == "b"]
    assert found.severity == "warning"
    assert "is the same file as one of a," in found.message
    assert found.message.endswith("--skip b")


def test_a_disk_that_will_not_hold_the_images_is_said_first(
    small_shoot: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr("defocus_ds.pipeline.place.shutil.disk_usage", lambda _: usage)
    said: list[str] = []
    defocus_ds.build(small_shoot, dataset, config=QUICK, jobs=1, on_notice=said.append)
    assert said == [], "nothing is to be done"
    shutil.rmtree(dataset / "receipts/scene01")
    defocus_ds.build(small_shoot, dataset, config=QUICK, jobs=1, on_notice=said.append)
    assert len(said) == 1
    assert said[0].startswith("the images to build take about 2 MB, and 0 MB are free in")


def test_pair_of_another_scene_is_rejected_and_kept_apart(
    small_shoot: Path, tmp_path: Path
) -> None:
    shoot = tmp_path / "shoot"
    shutil.copytree(small_shoot, shoot)
    first, second = (sorted((shoot / s).glob("*.CR2")) for s in ("scene01", "scene02"))
    files = [first[0], first[1], second[2]]  # the third is of another scene
    levels = [("sharp", 0), ("low", 2), ("medium", 4)]
    lines = ["file,scene,level,offset"]
    for file, (level, offset) in zip(files, levels, strict=True):
        lines.append(f"{file.relative_to(shoot).as_posix()},scene01,{level},{offset}")
    (shoot / "shoot.csv").write_text("\n".join(lines) + "\n")
    report = defocus_ds.build(
        shoot, tmp_path / "d", config=load_config(settings=["colour.method=none"]), jobs=2
    )
    assert [str(pair) for pair, _ in report.rejected] == ["scene01/medium"]
    assert not (tmp_path / "d/images/scene01/medium.png").exists()
    assert (tmp_path / "d/rejected/scene01/medium.png").is_file()


def test_paper_preset_writes_the_same_records(small_shoot: Path, tmp_path: Path) -> None:
    config = load_config("paper", settings=["register.iterations=150", "register.sampling=0.2"])
    report = defocus_ds.build(
        small_shoot, tmp_path / "d", config=config, jobs=1, skip=["scene02", "scene01/high"]
    )
    assert report.clean
    row = next(r for r in read_scenes(tmp_path / "d/scenes.parquet") if r["level"] == "low")
    assert len(row["matrix"]) == 6
    assert json.loads(row["colour"])["method"] == "idt"
    assert read_receipt(tmp_path / "d", "scene01", STAGES["paper"][-1]) is not None


QUICK = load_config(settings=["colour.method=none", "register.iterations=100"])


@pytest.fixture(scope="module")
def quick_dataset(small_shoot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shoot built with few iterations, and cropped; copy it before changing it."""
    folder = tmp_path_factory.mktemp("quick") / "dataset"
    report = defocus_ds.build(small_shoot, folder, config=QUICK, jobs=2)
    assert report.clean, report
    defocus_ds.crop(folder, level="low")
    return folder


@pytest.fixture
def dataset(quick_dataset: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(quick_dataset, tmp_path / "dataset"))


def test_folder_left_by_a_killed_crop_is_swept(small_shoot: Path, dataset: Path) -> None:
    (dataset / "crops/.tmp-low-abcd_234").mkdir()
    (dataset / "crops/.tmp-low-abcd_234/part.parquet").write_bytes(b"half")
    (dataset / "images/scene01/.tmp-abcd_234.png").write_bytes(b"half")
    assert defocus_ds.build(small_shoot, dataset, config=QUICK).clean
    assert not list(dataset.rglob(".tmp-*"))


def test_build_does_not_sign_damaged_crops(small_shoot: Path, dataset: Path) -> None:
    shard = next(iter((dataset / "crops/low").glob("train-*.parquet")))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    defocus_ds.build(small_shoot, dataset, config=QUICK)
    report = defocus_ds.verify(dataset)
    assert any(shard.name in finding.file for finding in report.findings)


def test_damaged_image_is_made_again(small_shoot: Path, dataset: Path) -> None:
    image = dataset / "images/scene01/low.png"
    good = image.read_bytes()
    image.write_bytes(good[:-100] + bytes(100))
    report = defocus_ds.build(small_shoot, dataset, config=QUICK)
    assert report.stages_run == 4
    assert image.read_bytes() == good


def test_shoot_that_was_moved_is_only_hashed(
    small_shoot: Path, dataset: Path, tmp_path: Path
) -> None:
    before = bytes_of(dataset)
    moved = Path(shutil.copytree(small_shoot, tmp_path / "elsewhere"))
    for path in moved.rglob("*.CR2"):
        os.utime(path, ns=(1, 1))
    report = defocus_ds.build(moved, dataset, config=QUICK)
    assert report.stages_run == 2, "only ingest, for each of two scenes"
    assert bytes_of(dataset) == before


def test_built_scenes_are_not_lost_by_a_slip(
    small_shoot: Path, dataset: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(small_shoot / "scene02", other / "scene02")
    with pytest.raises(DatasetError, match="scene01"):
        defocus_ds.build(other, dataset, config=QUICK)
    shutil.copytree(small_shoot / "scene02", other / "scene01")
    with pytest.raises(DatasetError, match="built from other files"):
        defocus_ds.build(other, dataset, config=QUICK)
    assert (dataset / "images/scene01/low.png").is_file()
    shutil.rmtree(other / "scene01")
    report = defocus_ds.build(other, dataset, config=QUICK, replace_scenes=True)
    assert report.scenes == ("scene02",)
    assert not (dataset / "images/scene01").exists()


def test_skipping_later_leaves_a_true_status_and_warns_of_old_crops(
    small_shoot: Path, dataset: Path
) -> None:
    report = defocus_ds.build(small_shoot, dataset, config=QUICK, skip=["scene02"])
    assert [c.where for c in report.complaints] == ["crops/low"]
    assert report.clean
    state = defocus_ds.status(dataset)
    assert state.complete
    assert state.scenes == ("scene01",)
    assert state.skipped == ("scene02",)


def test_dataset_keeps_the_options_it_was_begun_with(small_shoot: Path, dataset: Path) -> None:
    before = bytes_of(dataset)
    assert defocus_ds.build(small_shoot, dataset).stages_run == 0
    changed = r"other options \(preset: accurate -> paper, .*register.refine: True -> False"
    with pytest.raises(DatasetError, match=changed):
        defocus_ds.build(small_shoot, dataset, preset="paper")
    assert bytes_of(dataset) == before


def test_damaged_journal_is_named_and_damaged_failure_ignored(
    small_shoot: Path, dataset: Path
) -> None:
    (dataset / "receipts/scene01/failure.json").write_text("[]")
    assert defocus_ds.status(dataset).failed == ()
    assert defocus_ds.build(small_shoot, dataset, config=QUICK).stages_run == 0
    (dataset / "receipts/shoot.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"shoot\.json: damaged"):
        defocus_ds.status(dataset)


def test_unwritable_receipt_fails_the_scene_only(small_shoot: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "d/receipts/scene01"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder should be")
    report = defocus_ds.build(small_shoot, tmp_path / "d", config=QUICK, jobs=1)
    assert [scene for scene, _ in report.failed] == ["scene01"]
    assert {pair.scene for pair in report.kept} == {"scene02"}


def test_second_build_on_one_folder_refuses(small_dataset: Path, small_shoot: Path) -> None:
    import fcntl

    with (small_dataset / ".lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another build"):
            defocus_ds.build(small_shoot, small_dataset, jobs=1)


def test_unusable_input_is_refused_before_any_work(small_shoot: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShootError, match=r"^[^(]*empty: no usable scene \(no captures in this f"):
        defocus_ds.build(tmp_path / "empty", tmp_path / "d")
    with pytest.raises(InputError, match="Did you mean 'scene01'"):
        defocus_ds.build(small_shoot, tmp_path / "d", skip=["scene1"])
    for inside_or_around in (small_shoot / "out", small_shoot, small_shoot.parent):
        with pytest.raises(InputError, match="one in the other"):
            defocus_ds.build(small_shoot, inside_or_around)
    assert not (tmp_path / "d").exists()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    with pytest.raises(DatasetError, match=r"thesis\.tex"):
        defocus_ds.build(small_shoot, foreign)


def test_status_counts_stages(small_dataset: Path) -> None:
    state = defocus_ds.status(small_dataset)
    assert state.complete
    assert state.done == dict.fromkeys(STAGES["accurate"], 2)
    assert state.pairs == {"keep": 6, "reject": 0, "failed": 0}
    with pytest.raises(DatasetError, match="nothing was built here"):
        defocus_ds.status(small_dataset / "images")


def test_one_doubt_of_the_sharp_capture_holds_for_the_whole_scene(
    small_shoot: Path, tmp_path: Path
) -> None:
    files = sorted((small_shoot / "scene01").glob("*.CR2"))
    shoot = tmp_path / "shoot"
    shutil.copytree(small_shoot / "scene01", shoot / "scene01")
    lines = ["file,scene,level,offset"]  # the sharp capture and the low one exchanged
    for at, level in ((1, "sharp,0"), (0, "low,2"), (2, "medium,4"), (3, "high,6")):
        lines.append(f"scene01/{files[at].name},a,{level}")
    (shoot / "shoot.csv").write_text("\n".join(lines) + "\n")
    report = defocus_ds.build(
        shoot, tmp_path / "d", config=load_config(settings=["colour.method=none"]), jobs=1
    )
    reasons = {str(pair): why for pair, why in report.rejected}
    assert list(reasons) == ["a/low", "a/medium", "a/high"]
    assert any(reason.startswith("roles: the sharp capture is the") for reason in reasons["a/low"])
    for name in ("a/medium", "a/high"):
        assert reasons[name][-1] == "roles: the sharp capture is doubtful, see a/low"
    assert {p.name for p in (tmp_path / "d/rejected/a").iterdir()} == {
        "low.png",
        "medium.png",
        "high.png",
    }
