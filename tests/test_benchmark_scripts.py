"""The benchmarks that try whole commands: they must fail when what they look at is wrong."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from built_dataset import make_dataset

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import end_to_end  # noqa: E402
import publish  # noqa: E402
import report_size  # noqa: E402
import survive  # noqa: E402
from same_bytes import contents  # noqa: E402

from defocus_ds import load_crops  # noqa: E402
from defocus_ds.dataset.crop import crop  # noqa: E402
from defocus_ds.dataset.export.make import export  # noqa: E402
from defocus_ds.dataset.release import ReleaseReport, release  # noqa: E402
from defocus_ds.dataset.release_facts import About  # noqa: E402
from defocus_ds.dataset.repair import RepairReport  # noqa: E402
from defocus_ds.frames import Level  # noqa: E402
from defocus_ds.measure.alignment import PairScore  # noqa: E402

Steps = dict[str, bool]


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("made") / "dataset", scenes=2)
    crop(root)
    return root


@pytest.fixture
def released(cropped: Path, tmp_path: Path) -> ReleaseReport:
    return release(cropped, tmp_path / "release", about=About("x", "CC0-1.0", ("a",)))


# --- publish.py


@pytest.mark.parametrize(("fine", "status"), [(True, 0), (False, 1)])
def test_publish_fails_when_one_step_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    fine: bool,
    status: int,
) -> None:
    def run(out: Path, size: tuple[int, int], step: publish.Step) -> None:
        assert (out, size) == (tmp_path, (480, 320))
        step("one", True)
        step("two", fine)

    monkeypatch.setattr(publish, "run", run)
    monkeypatch.setattr(sys, "argv", ["publish.py", str(tmp_path), "--size", "480x320"])
    with pytest.raises(SystemExit) as ended:
        publish.main()
    assert int(ended.value.code or 0) == status
    printed = capsys.readouterr()
    assert printed.out == ("everything as it should be\n" if fine else "1 wrong\n")
    assert ("WRONG   two" in printed.err) is not fine


def test_a_flag_counts_only_where_its_pair_is() -> None:
    page = '<i data-pair="a/low">tinted</i><i data-pair="b/low">fine</i><i data-pair="bb/low">moved'
    assert publish.flagged(page, "a/low", "tinted")
    assert publish.flagged(page, "a", "tinted")
    assert not publish.flagged(page, "b/low", "tinted")
    assert not publish.flagged(page, "b", "moved")


def of_release(released: Path, level: str, split: str, *_: Path) -> Iterator[Any]:
    """In the place of the readers that take seconds to import."""
    for item in load_crops(released, level=level, split=split):
        yield item.sharp, item.blurred


@pytest.mark.parametrize("changed", [None, "basicsr", "dpdd"])
def test_publish_sees_a_changed_pixel_in_an_export(
    released: ReleaseReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str | None
) -> None:
    def damaged(source: Path, out: Path, *, to: str) -> None:
        export(source, out, to=to)
        if to == changed:
            image = next(out.rglob("*.png"))
            pixels = publish.cv2.imread(str(image), publish.cv2.IMREAD_UNCHANGED)
            publish.cv2.imwrite(str(image), np.asarray(pixels) ^ np.eye(*pixels.shape, dtype="u1"))

    monkeypatch.setattr(publish, "export", damaged)
    for name in ("by_datasets", "by_torch"):
        monkeypatch.setattr(publish, name, of_release)
    monkeypatch.setattr(
        publish, "by_webdataset", lambda _, level, split: of_release(released.folder, level, split)
    )
    steps: Steps = {}
    publish.compare_exports(tmp_path, released.folder, released.crops, steps.__setitem__)
    assert len(steps) == 5 * sum(len(splits) for splits in released.crops.values())
    wrong = [what for what, fine in steps.items() if not fine]
    assert [what.split()[0] for what in wrong] == ([changed] if changed else [])


@pytest.mark.parametrize("works", [True, False])
def test_publish_sees_whether_a_shard_was_repaired(
    cropped: Path, released: ReleaseReport, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    if not works:
        monkeypatch.setattr(publish, "repair_shards", lambda *_, **__: RepairReport((), {}))
    steps: Steps = {}
    publish.flip_and_repair(cropped, released.folder, steps.__setitem__)
    assert list(steps.values()) == [True, works, works]


# --- survive.py

_WRITER = """
import sys, time
from pathlib import Path
target = Path(sys.argv[1])
target.mkdir(exist_ok=True)
for name in "abc":
    time.sleep(0.1)
    (target / name).write_text(name)
"""


def trial(tmp_path: Path, *, script: str = _WRITER, seconds: float = 0.0) -> survive.Trial:
    expected = tmp_path / "expected"
    expected.mkdir()
    for name in "abc":
        (expected / name).write_text(name)
    return survive.Trial(
        "writer",
        lambda target: ["-c", script, str(target)],
        lambda target: None,
        contents(expected),
        seconds,
        survive.KINDS[:1],
    )


@pytest.fixture
def _python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survive, "_COMMAND", (sys.executable, "-S"))


@pytest.mark.usefixtures("_python")
def test_survive_kills_and_goes_on_until_it_is_whole(tmp_path: Path) -> None:
    tally = survive.torment(trial(tmp_path, seconds=0.3), 3, folder=tmp_path, seed=1)
    assert tally.kills == {"all processes": 3}
    assert (tally.differing, tally.failed, tally.left_running) == ([], [], 0)
    assert tally.files == 3 * tally.folders


@pytest.mark.usefixtures("_python")
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ('(target / "b").write_bytes(b"B")', ["b"]),
        ('(target / "b").unlink()', ["b"]),
        ('(target / "stray").touch()', ["stray"]),
        ('(target / "empty").mkdir()', ["empty"]),
    ],
)
def test_survive_finds_what_differs(tmp_path: Path, change: str, found: list[str]) -> None:
    tally = survive.torment(
        trial(tmp_path, script=f"{_WRITER}\n{change}"), 0, folder=tmp_path, seed=0
    )
    assert tally.differing == [f"writer-000/{name}" for name in found]


@pytest.mark.usefixtures("_python")
def test_survive_finds_a_run_that_fails(tmp_path: Path) -> None:
    script = f"{_WRITER}\nraise SystemExit('no space')"
    tally = survive.torment(trial(tmp_path, script=script), 0, folder=tmp_path, seed=0)
    assert tally.failed == ["writer-000: exit status 1: no space"]


# --- end_to_end.py


def score(**changes: Any) -> PairScore:
    level = Level.LOW
    known = {
        "scene": "scene01",
        "level": level,
        "registration_mean_px": end_to_end.REGISTRATION_PX[level],
        "colour_difference": end_to_end.COLOUR_DIFFERENCE,
        "verdict": "keep",
    }
    names = PairScore.__dataclass_fields__
    return PairScore(**{**dict.fromkeys(names), **known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"registration_mean_px": 0.101}, ["scene01/low registration"]),
        ({"registration_mean_px": None}, ["scene01/low registration"]),
        ({"colour_difference": 0.91}, ["scene01/low colour"]),
        ({"verdict": "reject"}, ["scene01/low rejected"]),
    ],
)
def test_end_to_end_misses_what_is_over_a_limit(changes: dict[str, Any], missed: list[str]) -> None:
    checks = list(end_to_end.pair_checks([score(**changes)]))
    assert [check.name for check in checks if not check.passed] == missed
    assert all(str(check).startswith("MISSED") is not check.passed for check in checks)


def test_end_to_end_compares_every_byte_but_costs(cropped: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(cropped, other)
    for name in ("receipts/scene00", "report"):
        (other / name).mkdir(parents=True)
        (other / name / "ingest.json").touch()
    assert end_to_end.different_files(cropped, other) == []
    shard = next(other.glob("crops/low/train-*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    (other / "images/scene00/low.png").unlink()
    changed = [shard.relative_to(other).as_posix(), "images/scene00/low.png"]
    assert end_to_end.different_files(cropped, other) == sorted(changed)


def test_end_to_end_reads_a_size() -> None:
    assert (end_to_end.size("full"), end_to_end.size("744x496")) == (None, (744, 496))


# --- report_size.py


def test_report_size_counts_a_page_of_many_scenes(
    cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_size, "opened", lambda page: [])
    large = tmp_path / "large"
    assert dict(report_size.drawn(cropped, large))["frames, px"] == "320x256"
    assert report_size.multiply(large, 5) == 5
    before = {path: path.stat().st_mtime_ns for path in large.glob("report/assets/*/*.jpg")}
    assert before
    rows = dict(report_size.measured(large))
    files = [path for path in (large / "report").rglob("*") if path.is_file()]
    assert rows["files"] == str(len(files))
    total = sum(path.stat().st_size for path in files)
    assert rows["whole folder, MB"] == f"{total / report_size.MEGABYTE:.0f}"
    page = (large / "report/index.html").read_text()
    assert rows["index.html, MB"] == f"{len(page.encode()) / report_size.MEGABYTE:.1f}"
    for scene in ("scene00", "scene01", "scene00-002", "scene01-003", "scene00-004"):
        assert f'data-pair="{scene}/low"' in page
    # pictures of the new scenes are taken, not drawn
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not (cropped / "report").exists()


# --- method_figures.py


def test_method_figures_writes_the_figures_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the results in docs/benchmarks; what is drawn is not looked at."""

    def subplots(_: int, count: int, **__: Any) -> tuple[mock.MagicMock, list[mock.MagicMock]]:
        return mock.MagicMock(), [mock.MagicMock() for _ in range(count)]

    for name in ("matplotlib", "matplotlib.pyplot", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, name, mock.MagicMock())
    monkeypatch.delitem(sys.modules, "method_figures", raising=False)
    figures = importlib.import_module("method_figures")
    monkeypatch.delitem(sys.modules, "method_figures")
    monkeypatch.setattr(figures.plt, "subplots", subplots)
    written: list[str] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: written.append(path.name))
    figures.main(ROOT / "docs/benchmarks", tmp_path)
    page = (ROOT / "docs/method.md").read_text()
    assert written == re.findall(r"\(images/(method-[a-z]+\.svg)\)", page)
    assert all((ROOT / "docs/images" / name).is_file() for name in written)
