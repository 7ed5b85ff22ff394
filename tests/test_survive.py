"""Killed, out of room, out of time: what a build, a crop or a release leaves, and goes on from."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from built_dataset import make_dataset
from tiny_shoot import QUICK, SETTINGS, make_tiny_shoot

import defocus_ds
from defocus_ds.dataset.folders import only_writer
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.errors import DatasetError, InputError, NotWritten
from defocus_ds.pipeline.plan import STAGES, ScenePlan, plan_scene
from defocus_ds.pipeline.pool import StageEvent
from defocus_ds.stages.ingest import survey
from defocus_ds.store import atomic_path, read_receipt, write_bytes

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from same_bytes import contents, signed  # noqa: E402

KILLED = -signal.SIGKILL
ABOUT = ("--licence", "CC0-1.0", "--author", "Nobody", "--name", "tiny")


@pytest.fixture(scope="module")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_shoot(tmp_path_factory.mktemp("tiny") / "shoot")


@pytest.fixture(scope="module")
def whole(shoot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny shoot built without interruption; copy it before changing it."""
    folder = tmp_path_factory.mktemp("whole") / "dataset"
    report = defocus_ds.build(shoot, folder, config=QUICK, jobs=1)
    assert report.clean, report
    return folder


@pytest.fixture
def half(whole: Path, tmp_path: Path) -> Path:
    """A dataset of which the first scene is built."""
    return without_second_scene(shutil.copytree(whole, tmp_path / "half"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB, most of it taken by the file ``ballast``."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here; it takes Linux and root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def handmade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with crops; copy it before changing it."""
    folder = make_dataset(tmp_path_factory.mktemp("handmade") / "dataset")
    defocus_ds.crop(folder, level="low")
    return folder


def without_second_scene(dataset: Path) -> Path:
    for name in ("receipts", "images"):
        shutil.rmtree(dataset / name / "scene02")
    return dataset


def run(sabotage: str, *arguments: str | Path, once: Path | None = None) -> tuple[int, str]:
    """Exit status and standard error of a command that is done harm to."""
    environment = os.environ | {"SABOTAGE": sabotage}
    if once is not None:
        environment["SABOTAGE_ONCE"] = str(once)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("saboteur.py")), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    return done.returncode, done.stderr


def build_with(
    sabotage: str, shoot: Path, dataset: Path, *place: str, **more: Path
) -> tuple[int, str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    place = place or ("--jobs", "2" if more else "1")
    return run(sabotage, "build", shoot, "-o", dataset, *place, *settings, **more)


def strays(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob(".tmp-*")]


def test_killed_again_and_again(shoot: Path, whole: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    done: dict[str, tuple[int, int]] = {}
    for sabotage, stages in (
        ("kill-all receipts/scene01/register.json", 2),
        ("kill-main work/scene02/low.npy", 6),
        ("kill-self scenes.parquet", 10),
        ("kill-self SHA256SUMS", 10),
    ):
        status, _ = build_with(sabotage, shoot, dataset)
        assert status == KILLED
        assert done.items() <= signed(dataset).items(), "a stage was done twice"
        done = signed(dataset)
        assert len(done) == stages
        assert strays(dataset)
    report = defocus_ds.build(shoot, dataset, config=QUICK)
    assert report.stages_run == 0
    assert signed(dataset) == done
    assert contents(dataset) == contents(whole)


def test_killed_worker_costs_nothing_but_its_stage(
    shoot: Path, whole: Path, tmp_path: Path
) -> None:
    dataset, struck = tmp_path / "dataset", tmp_path / "struck"
    status, said = build_with(
        "kill-self receipts/scene01/register.json", shoot, dataset, once=struck
    )
    assert struck.exists()
    assert status == 0, said
    assert contents(dataset) == contents(whole), "the half-written receipt is swept too"


@pytest.mark.parametrize("place", [(), ("--cluster", "local:1")], ids=["pool", "cluster"])
@pytest.mark.parametrize("stage", ["register", "render"])
def test_worker_killed_after_it_signed_costs_nothing(
    shoot: Path, whole: Path, tmp_path: Path, stage: str, place: tuple[str, ...]
) -> None:
    dataset, struck = tmp_path / "dataset", tmp_path / "struck"
    sabotage = f"late-kill-self receipts/scene01/{stage}.json"
    status, said = build_with(sabotage, shoot, dataset, *place, once=struck)
    assert struck.exists()
    assert status == 0, said
    assert contents(dataset) == contents(whole)
    signed_then = (dataset / f"receipts/scene01/{stage}.json").stat().st_mtime_ns
    assert signed_then <= struck.stat().st_mtime_ns, "the stage was done twice"
    assert not (dataset / "work/scene01").exists()


def test_disk_full_in_a_worker(shoot: Path, whole: Path, half: Path) -> None:
    status, said = build_with("ENOSPC images/scene02/low.png", shoot, half)
    assert status == 1
    line = next(line for line in said.splitlines() if line.startswith("FAILED"))
    assert f"{half / 'images/scene02/low.png'}: could not be written (No space left" in line
    assert "MB are free there" in line
    assert not strays(half)
    before = signed(half)
    report = defocus_ds.build(shoot, half, config=QUICK, jobs=1)
    assert report.stages_run == 1, "only what could not be written"
    assert before.items() <= signed(half).items()
    assert contents(half) == contents(whole)


def test_disk_that_is_really_full(shoot: Path, whole: Path, small_disk: Path) -> None:
    dataset = without_second_scene(shutil.copytree(whole, small_disk / "dataset"))
    ballast = small_disk / "ballast"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(free - 150_000))  # room for one developed capture, not for two
    report = defocus_ds.build(shoot, dataset, config=QUICK, jobs=1)
    ((scene, error),) = report.failed
    assert scene == "scene02"
    assert f"{dataset / 'work/scene02/low.npy'}: could not be written" in error
    assert "0.0 MB are free there" in error
    assert not strays(dataset)
    with ballast.open("ab") as file:
        file.write(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(OSError, match=r"/receipts/shoot\.json: could not be written \(No space"):
        defocus_ds.build(shoot, dataset, config=QUICK)
    ballast.unlink()
    assert defocus_ds.build(shoot, dataset, config=QUICK, jobs=1).clean
    assert contents(dataset) == contents(whole)


def test_a_full_disk_is_not_tried_with_every_scene(
    shoot: Path, small_disk: Path, tmp_path: Path
) -> None:
    more = Path(shutil.copytree(shoot, tmp_path / "more"))
    lines = (shoot / "shoot.csv").read_text()
    for number in (3, 4):
        shutil.copytree(shoot / "scene02", more / f"scene{number:02}")
        lines += "".join(
            line.replace("scene02", f"scene{number:02}") + "\n"
            for line in lines.splitlines()
            if "scene02" in line
        )
    (more / "shoot.csv").write_text(lines)
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free - 100_000))
    events: list[StageEvent] = []
    with pytest.raises(NotWritten, match="stopped: 3 scenes could not be .*; scene03: ") as why:
        defocus_ds.build(more, small_disk / "dataset", config=QUICK, jobs=1, on_event=events.append)
    assert str(why.value).endswith("Make room or give permission, then run the same command again.")
    assert [event.scene for event in events if event.error] == ["scene01", "scene02", "scene03"]
    assert not strays(small_disk / "dataset")
    elsewhere = shutil.copytree(small_disk / "dataset", tmp_path / "dataset")
    report = defocus_ds.build(more, elsewhere, config=QUICK, jobs=1)
    assert (len(report.scenes), report.failed) == (4, ())


def test_permission_lost_at_the_end(shoot: Path, whole: Path, tmp_path: Path) -> None:
    dataset = Path(shutil.copytree(whole, tmp_path / "dataset"))
    (dataset / "SHA256SUMS").unlink()  # or nothing would be written
    status, said = build_with("EACCES SHA256SUMS", shoot, dataset)
    assert status == 2
    assert said.splitlines()[-1].startswith(
        f"defocus-ds: {dataset / 'SHA256SUMS'}: could not be written (Permission denied; "
    )
    assert not strays(dataset)
    assert defocus_ds.build(shoot, dataset, config=QUICK).stages_run == 0
    assert contents(dataset) == contents(whole)


def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        with pytest.raises(OSError, match=r"closed/a: could not be written \(Permission denied"):
            write_bytes(tmp_path / "closed/a", b"a")
    finally:
        os.seteuid(user)


def test_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"), atomic_path(tmp_path / "a") as path:
        path.write_bytes((tmp_path / "missing").read_bytes())
    assert not list(tmp_path.iterdir())


def plans(shoot: Path, dataset: Path) -> dict[str, ScenePlan]:
    found = survey(shoot, confirm=False, limits=QUICK.limits).shoot.brackets
    return {
        bracket.scene: plan_scene(
            bracket,
            {s: read_receipt(dataset, bracket.scene, s) for s in STAGES["accurate"]},
            config=QUICK,
            shoot=shoot,
            dataset=dataset,
        )
        for bracket in found
    }


@pytest.mark.parametrize("year", [1980, 2100])
def test_clock_that_was_set(shoot: Path, whole: Path, tmp_path: Path, year: int) -> None:
    dataset = Path(shutil.copytree(whole, tmp_path / "dataset"))
    then = (year - 1970) * 31_557_600
    for path in dataset.rglob("*"):
        os.utime(path, (then, then))
    assert not any(plan.todo for plan in plans(shoot, dataset).values()), "needless work"
    image = dataset / "images/scene01/low.png"
    damaged = bytearray(image.read_bytes())
    damaged[-20] ^= 1
    image.write_bytes(damaged)
    os.utime(image, (then, then))
    found = plans(shoot, dataset)
    assert found["scene01"].todo, "a wrong skip"
    assert not found["scene02"].todo


@pytest.mark.parametrize("size", [0, 1000])
def test_output_cut_short_with_its_time_kept_is_not_done(
    shoot: Path, whole: Path, tmp_path: Path, size: int
) -> None:
    dataset = Path(shutil.copytree(whole, tmp_path / "dataset"))
    image = dataset / "images/scene01/low.png"
    stat = image.stat()
    os.truncate(image, size)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = plans(shoot, dataset)
    assert found["scene01"].todo[0] == "develop"
    assert not found["scene02"].todo


_HOLD = """
import sys
from pathlib import Path
from defocus_ds.dataset.folders import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_build_names_the_first_and_a_dead_one_does_not_block(
    shoot: Path, whole: Path, tmp_path: Path
) -> None:
    dataset = Path(shutil.copytree(whole, tmp_path / "dataset"))
    command = [sys.executable, "-c", _HOLD, str(dataset)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        named = rf"\(process {first.pid} on {platform.node()} since \d{{4}}-\d\d-\d\d \d\d:\d\d"
        with pytest.raises(DatasetError, match=named):
            defocus_ds.build(shoot, dataset, config=QUICK)
        assert defocus_ds.status(dataset).running
        first.kill()
    assert not defocus_ds.status(dataset).running
    assert defocus_ds.build(shoot, dataset, config=QUICK).stages_run == 0


def test_a_look_at_the_lock_does_not_stop_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from defocus_ds.dataset import folders

    look = (tmp_path / ".lock").open("a")
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr(folders.time, "sleep", lambda seconds: look.close())
    with only_writer(tmp_path):
        pass


def test_disk_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(file: object, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with (
        pytest.raises(DatasetError, match=r"cannot be locked \(No locks available\)"),
        only_writer(tmp_path),
    ):
        pass


def test_a_dataset_is_swept_of_what_the_dead_left(tmp_path: Path) -> None:
    dataset, outside = tmp_path / "dataset", tmp_path / "outside"
    for folder in (outside, dataset / "crops/low", dataset / "images/a", dataset / "report"):
        folder.mkdir(parents=True)
    dead = ["crops/.tmp-low-abcd_234", "crops/low/.tmp-abcd_234", "images/a/.tmp-abcd_234.png"]
    for name in (*dead, ".tmp-abcd_234.json"):
        (dataset / name).mkdir() if name == dead[0] else (dataset / name).touch()
    (outside / ".tmp-abcd_234").touch()
    (dataset / "linked").symlink_to(outside)
    (dataset / "images/linked").symlink_to(outside)
    kept = ["report/.tmp-abcd_234", "crops/.tmp-mine", ".tmp-mine", "crops/.tmp-low-live_234"]
    for name in kept[:-1]:
        (dataset / name).touch()
    (dataset / kept[-1]).mkdir()
    live = os.open(dataset / kept[-1], os.O_RDONLY)
    fcntl.flock(live, fcntl.LOCK_EX)
    with only_writer(dataset):
        assert len(strays(dataset)) == 8, "nothing goes unless the caller says so"
    with only_writer(dataset, sweep=True):
        assert sorted(strays(dataset)) == sorted(kept)
    os.close(live)
    assert (outside / ".tmp-abcd_234").exists()


def test_a_folder_that_is_no_run_is_left_as_it_was(tmp_path: Path) -> None:
    """`train fit` locks its folder before it looks what is in it."""
    from toy_crops import toy_data, toy_recipe

    from defocus_ds_train.loop import fit

    mine = [".tmp-abcd_234", "data/.tmp-low-abcd_234/thesis.txt", "letter.txt"]
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="not empty and not a run"):
        fit(toy_recipe(epochs=1), toy_data(16), tmp_path, device="cpu")
    assert all((tmp_path / name).read_text() == "mine" for name in mine)


@pytest.mark.parametrize(
    "sabotage",
    ["kill-self defocus_ds.dataset.shards:ShardWriter.write 5", "kill-self SHA256SUMS"],
)
def test_killed_crop(handmade: Path, tmp_path: Path, sabotage: str) -> None:
    dataset = Path(shutil.copytree(handmade, tmp_path / "dataset"))
    shutil.rmtree(dataset / "crops")
    status, _ = run(sabotage, "crop", dataset, "--level", "low")
    assert status == KILLED
    assert strays(dataset)
    defocus_ds.crop(dataset, level="low")
    assert contents(dataset) == contents(handmade)


def test_crop_without_room_leaves_the_crops_as_they_were(handmade: Path, tmp_path: Path) -> None:
    dataset = Path(shutil.copytree(handmade, tmp_path / "dataset"))
    sabotage = "ENOSPC defocus_ds.dataset.shards:ShardWriter.write 5"
    status, said = run(sabotage, "crop", dataset, "--level", "low", "--size", "32")
    assert status == 2
    last = said.splitlines()[-1]
    assert f"{dataset / 'crops/low'}: could not be written (No space left on device; " in last
    assert "MB are free there" in last
    assert contents(dataset) == contents(handmade)


def test_killed_release(handmade: Path, tmp_path: Path) -> None:
    options = ("release", handmade, "-o", tmp_path / "out/tiny", *ABOUT)
    status, _ = run("kill-self README.md", *options)
    assert status == KILLED
    assert len(list((tmp_path / "out").iterdir())) == 1, "the half-made folder"
    for name in ("out", "other"):
        release(handmade, tmp_path / name / "tiny", about=About("tiny", "CC0-1.0", ("Nobody",)))
    assert contents(tmp_path / "out") == contents(tmp_path / "other")
