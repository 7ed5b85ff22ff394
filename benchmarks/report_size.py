"""The review page of a large dataset: how large it is, how long it takes, how fast it opens.

    make demo
    python benchmarks/report_size.py demo/dataset                 # 305 scenes, as MMSP 2024
    python benchmarks/report_size.py full/dataset --scenes 10     # the same of full-size frames

The scenes of a built dataset are taken again and again under new names, their images linked, until
there are enough; every one is drawn as if it were another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from results import machine, table

from defocus_ds.dataset.manifest import SCENES_NAME, read_info, read_scenes, write_scenes
from defocus_ds.report import report
from defocus_ds.store import write_json

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
        pairs = multiply(options.dataset, large, options.scenes)
        rows = [("scenes, pairs", f"{options.scenes}, {pairs}"), *measured(large)]
    size = read_scenes(options.dataset / SCENES_NAME)[0]
    rows.insert(1, ("frames, px", f"{size['width']}x{size['height']}"))
    print(table(("", ""), rows))
    print(
        ", ".join(
            f"{name} {value}"
            for name, value in machine(["defocus-ds", "opencv-python-headless"]).items()
        )
    )


def multiply(dataset: Path, target: Path, scenes: int) -> int:
    """Write a dataset of so many scenes that links to the images of this one.

    Returns:
        How many pairs it has.
    """
    rows = read_scenes(dataset / SCENES_NAME)
    names = sorted({row["scene"] for row in rows})
    made = []
    for number in range(scenes):
        scene = f"{names[number % len(names)]}-{number:03}"
        for row in rows:
            if row["scene"] != names[number % len(names)]:
                continue
            image = row["image"] and f"images/{scene}/{row['level']}.png"
            if image:
                (target / image).parent.mkdir(parents=True, exist_ok=True)
                os.link(dataset / row["image"], target / image)
            made.append({**row, "scene": scene, "image": image})
    write_scenes(target / SCENES_NAME, made)
    write_json(target / "dataset.json", read_info(dataset) | {"scenes": scenes})
    return sum(row["level"] != "sharp" for row in made)


def measured(dataset: Path) -> list[tuple[str, str]]:
    """What it costs to write the page, to write it again, and to open it."""
    wall, cpu = time.perf_counter(), time.process_time()
    page = report(dataset)
    first = f"{time.process_time() - cpu:.0f} CPU s, {time.perf_counter() - wall:.0f} s"
    cpu = time.process_time()
    report(dataset)
    again = f"{time.process_time() - cpu:.1f} CPU s"
    files = [path for path in page.parent.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    rows = [
        ("written", first),
        ("written again, nothing changed", again),
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
