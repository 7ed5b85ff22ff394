"""The picture of the report page in the README, taken in the Chromium of the system.

python benchmarks/report_picture.py demo/dataset docs/images/report.jpg
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 1120}


def main(dataset: Path, target: Path) -> None:
    """Write the view of the last pair of the first scene, accepted, with its tiles and maps."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto((dataset / "report" / "index.html").resolve().as_uri())
        pair = page.locator("#s0-high")
        page.locator("#s0").scroll_into_view_if_needed()
        pair.scroll_into_view_if_needed()
        pair.get_by_role("button", name="Accept").click()
        page.evaluate("document.getElementById('s0-high').scrollIntoView()")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(500)
        page.screenshot(path=target, type="jpeg", quality=88)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
