"""The commands of README and docs run as they are written, page after page, in a small world."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from defocus_ds.dataset.manifest import read_scenes
from defocus_ds_cli.main import cli

ROOT = Path(__file__).parents[1]
FIRST = ("README.md", "docs/training.md")
# page -> what it takes from the folder of an earlier page, beside the world that all begin with
NEEDS = {
    "docs/training.md": {"dataset": "README.md", "release": "README.md"},
    "docs/reproducing.md": {"runs": "docs/training.md"},
    "docs/restore.md": {"runs": "docs/training.md"},
    # drawn once: the pictures are the same
    **dict.fromkeys(
        ("docs/release.md", "docs/review.md", "docs/shooting.md"), {"dataset/report": "README.md"}
    ),
}
# run, with other worlds, by test_export_command.py and test_importers.py; several machines, whose
# schedulers and workers test_cluster.py starts
ELSEWHERE = ("docs/export.md", "docs/import.md", "docs/cluster.md")

# beginning of a command -> why it is not run here
NOT_RUN = {
    "make ": "installs an environment from the network, then does what this test does",
    "pip install": "installs from the network",
    "apt-get install": "installs from the network",
    "DEFOCUS_DS_FUZZ=": "random examples for minutes; the tests run without it",
    "torchrun ": "four processes; tests/test_train_processes.py runs two",
    "defocus-ds weights --download": "downloads",
    "defocus-ds weights alexnet.ckpt": "the public weights; tests/test_weights.py makes such files",
    "defocus-ds measure restored.png sharp.png --metric ssim-gaussian --metric lpips": (
        "the public weights; tests/test_metrics.py has the metric"
    ),
    "defocus-ds train bench [METHOD]": "a pattern, no command",
    'defocus-ds train bench blurred "U-Net=$P': "files of the paper's authors",
    "defocus-ds train bench --data kodak24 --images kodak --expect": "CPU minutes; the benchmark",
    "defocus-ds train bench --data bsd500": "CPU minutes, and the public weights",
    "defocus-ds train bench blurred red-fp": "CPU minutes, and the public weights",
    "defocus-ds train bench blurred al mrl mlm": "the public weights",
}
# beginning of a command -> what is put behind it, so that it takes seconds and not hours
SMALLER = {
    # the small shoot once more, whose build lies in built/ and is found to be complete
    "defocus-ds simulate known/": "--size 744x496 --scenes 2 --seed 5",
    # one pair is built
    "defocus-ds build shoot/ -o dataset-2/": "--skip scene02 --skip scene01/medium "
    "--skip scene01/high --set register.iterations=50",
    # with two scenes, all of them for training and its validation
    "defocus-ds crop dataset/ --level low": "--set tile.test_share=0",
    "defocus-ds release dataset/ -o release/": "--test-share 0",
    "defocus-ds import sharp": "--images 2 --per-image 2",
    "defocus-ds train fit": "--set epochs=1 --set hold_epochs=0 --set batch=2 --set width=2 "
    "--set depth=2",
    "defocus-ds train fit smoke": "--set crops=8",
    "defocus-ds train fit real": "--set crops=8",
    "defocus-ds train fit synthetic": "--set images=2 --set crops_per_image=2",
    "defocus-ds train fit toy": "--set images=2 --set crops_per_image=2",
    "defocus-ds train bench": "--first 1",
}
# a file that an earlier command of the page left in the way of one that makes it
IN_THE_WAY = {"defocus-ds restore photo.CR2": "sharp.png"}
# not equal, which is what the page says it answers
DIFFERENT = "defocus-ds diff"


def pages() -> list[str]:
    """Pages to run, relative to the repository."""
    every = {p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")} | {FIRST[0]}
    return [*FIRST, *sorted(every - {*FIRST, *ELSEWHERE})]


def commands_of(page: str) -> Iterator[str]:
    """Every line of the blocks of shell, and every indented command, whole and without comment."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / page).read_text(encoding="utf-8"))
    for found in re.finditer(r"^```sh\n(.*?)^```$|^    (defocus-ds [^\n]*)", text, re.M | re.S):
        for line in (found[1] or found[2]).splitlines():
            command = " ".join(line.partition("  #")[0].split())
            yield from filter(None, command.split(" && "))


def toml_of(page: str) -> str:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.M | re.S)
    return str(text)


def beginning(command: str, table: dict[str, str]) -> list[str]:
    return [start for start in table if command.startswith(start)]


COMMANDS = [command for page in pages() for command in commands_of(page)]


@pytest.mark.parametrize("start", [*NOT_RUN, *SMALLER, *IN_THE_WAY, DIFFERENT])
def test_an_exception_is_of_a_command_of_the_pages(start: str) -> None:
    assert any(command.startswith(start) for command in COMMANDS)


def test_the_pages_have_commands_to_run() -> None:
    run = [command for command in COMMANDS if not beginning(command, NOT_RUN)]
    assert len(run) > 40
    assert all(command.startswith("defocus-ds ") for command in run), run
    assert {command.split()[1] for command in run} >= set(cli.commands) - {"export", "weights"}


@pytest.fixture
def world(small_shoot: Path, small_dataset: Path, tmp_path: Path) -> Path:
    """What the pages take for granted: a shoot, its build, and files of one's own beside it."""
    folder = tmp_path / "world"
    shutil.copytree(small_shoot, folder / "shoot")
    shutil.copytree(small_dataset, folder / "dataset")
    shutil.copytree(small_dataset, folder / "built")
    images = sorted((folder / "dataset" / "images").iterdir())
    source = {row["level"]: row["source"] for row in read_scenes(folder / "dataset/scenes.parquet")}
    for name, level in (("sharp.CR2", "sharp"), ("low.CR2", "low"), ("photo.CR2", "low")):
        shutil.copyfile(folder / "shoot" / source[level], folder / name)
    shutil.copyfile(images[0] / "sharp.png", folder / "sharp.png")
    shutil.copyfile(images[0] / "low.png", folder / "restored.png")
    for name in ("photographs", "DIV2K_Flickr2K"):
        (folder / name).mkdir()
        for scene in images:
            for image in scene.glob("*.png"):
                shutil.copyfile(image, folder / name / f"{scene.name}_{image.name}")
    (folder / "review.csv").write_text(
        f"scene,level,decision,note\n{images[0].name},high,reject,the curtain moved\n"
    )
    (folder / "mine.toml").write_text(toml_of("docs/configuration.md"), encoding="utf-8")
    if data := os.environ.get("DEFOCUS_DS_DATA"):
        (folder / "kodak").symlink_to(Path(data) / "kodak24")
    return folder


@pytest.mark.slow
def test_the_pages_run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("click.launch", opened.append)
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path / "cache"))
    for page in pages():
        commands = [c for c in commands_of(page) if not beginning(c, NOT_RUN)]
        if not commands:
            continue
        here = tmp_path / page
        shutil.copytree(world, here, symlinks=True)
        for name, earlier in NEEDS.get(page, {}).items():
            shutil.copytree(tmp_path / earlier / name, here / name, dirs_exist_ok=True)
        monkeypatch.chdir(here)
        for command in commands:
            run(page, command)
    assert opened == ["dataset/report/index.html"]


def run(page: str, command: str) -> None:
    """The command in this process, in the present folder; it must end with 0."""
    if "kodak" in command and not Path("kodak").exists():
        return  # DEFOCUS_DS_DATA is not set
    for start in beginning(command, IN_THE_WAY):
        Path(IN_THE_WAY[start]).unlink()
    if command == "defocus-ds diff release/ release-2/":
        shutil.copytree("release", "release-2")
    more = " ".join(SMALLER[start] for start in beginning(command, SMALLER))
    words = shlex.split(f"{command} {more}")
    done = CliRunner().invoke(cli, words[1:])
    allowed = (0, 1) if command.startswith(DIFFERENT) else (0,)
    assert done.exit_code in allowed, f"{page}: {command}: {done.output}"
