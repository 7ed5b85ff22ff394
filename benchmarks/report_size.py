"""The review page of a large dataset: how large it is, how long it takes, how fast it opens.

    make demo
    python benchmarks/report_size.py demo/dataset                 # 305 scenes, as MMSP 2024
    python benchmarks/report_size.py full/dataset --scenes 10     # the same of full-size frames

The scenes of a built dataset are drawn, and taken again and again under new names, with their
pictures, until there are enough.  Drawing is measured on the scenes that there are, everything else
on the large page, where every scene is a near-duplicate of a hundred others: the worst case of
that search.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from results import machine, table

from defocus_ds.dataset.manifest import SCENES_NAME, read_scenes, write_scenes
from defocus_ds.report import report
from defocus_ds.store import read_json, write_json

MEGABYTE = 1e6
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--scenes", type=int, default=305)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dataset.resolve().parent) as place:
        large = Path(place) / "large"
        rows = drawn(options.dataset, large)
        pairs = multiply(large, options.scenes)
        rows = [("scenes, pairs", f"{options.scenes}, {pairs}"), *rows, *measured(large)]
    print(table(("", ""), rows))
    print(
        ", ".join(
            f"{name} {value}"
            for name, value in machine(["defocus-ds", "opencv-python-headless"]).items()
        )
    )


def drawn(dataset: Path, target: Path) -> list[tuple[str, str]]:
    """Link the dataset's images and records into ``target``, and draw its scenes there."""
    target.mkdir(parents=True)
    for name in (SCENES_NAME, "dataset.json"):
        shutil.copyfile(dataset / name, target / name)
    rows = read_scenes(dataset / SCENES_NAME)
    for name in filter(None, (row["image"] for row in rows)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(dataset / name, target / name)
    scenes = len({row["scene"] for row in rows})
    cpu = time.process_time()
    report(target)
    each = (time.process_time() - cpu) / scenes
    return [
        ("frames, px", f"{rows[0]['width']}x{rows[0]['height']}"),
        (f"drawing a scene, mean of {scenes}", f"{each:.1f} CPU s"),
    ]


def multiply(dataset: Path, scenes: int) -> int:
    """Give the dataset so many scenes, which have images and pictures of those that it had.

    Returns:
        How many pairs it has.
    """
    rows = read_scenes(dataset / SCENES_NAME)
    names = sorted({row["scene"] for row in rows})
    made = []
    for number in range(scenes):
        first = names[number % len(names)]
        scene = first if number < len(names) else f"{first}-{number:03}"
        made += [{**row, "scene": scene} for row in rows if row["scene"] == first]
        if scene != first:
            copy_pictures(pictures(dataset, first), pictures(dataset, scene))
    write_scenes(dataset / SCENES_NAME, made)
    return sum(row["level"] != "sharp" for row in made)


def copy_pictures(source: Path, target: Path) -> None:
    """Pictures of one scene for another, as if they had been drawn for it."""
    shutil.copytree(source, target)
    stamp = target / "stamp.json"
    record = read_json(stamp)
    record["pictures"]["folder"] = f"assets/{target.name}"
    write_json(stamp, record)


def pictures(dataset: Path, scene: str) -> Path:
    """Where `report` draws a scene."""
    return dataset / "report/assets" / hashlib.sha256(scene.encode()).hexdigest()[:12]


def measured(dataset: Path) -> list[tuple[str, str]]:
    """What it costs to write the page around its pictures, how large it is, how it opens."""
    cpu = time.process_time()
    page = report(dataset)
    seconds = time.process_time() - cpu
    files = [path for path in page.parent.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    rows = [
        ("the page, its pictures drawn", f"{seconds:.0f} CPU s"),
        ("index.html, MB", f"{page.stat().st_size / MEGABYTE:.1f}"),
        ("whole folder, MB", f"{total / MEGABYTE:.0f}"),
        ("files", f"{len(files)}"),
    ]
    return rows + opened(page)


def opened(page: Path) -> list[tuple[str, str]]:
    """How the page opens in the Chromium of the system; nothing where there is none."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        return [("opened", "not measured: no Chromium here")]
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        view.on("request", lambda request: asked.append(request.url))
        start = time.perf_counter()
        view.goto(page.resolve().as_uri())
        view.wait_for_load_state("load")
        seconds = time.perf_counter() - start
        pictures = len(asked) - 1
        start = time.perf_counter()
        view.locator("th", has_text="Residual").first.click()
        view.evaluate("() => new Promise(done => requestAnimationFrame(() => done()))")
        sorted_in = time.perf_counter() - start
        browser.close()
    return [
        ("opened", f"{seconds:.1f} s, {pictures} pictures loaded"),
        ("table sorted", f"{sorted_in:.1f} s"),
    ]


if __name__ == "__main__":
    main()
