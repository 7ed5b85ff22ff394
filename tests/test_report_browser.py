"""The review page as a person uses it, in the Chromium of the system.

Without one these tests are skipped, or fail where DEFOCUS_DS_BROWSER=required.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from report_dataset import HOSTILE, make_dataset, write_crops
from scenes import true_pair

from defocus_ds.dataset.manifest import SCENES_NAME, read_scenes
from defocus_ds.dataset.review import Decision, read_review
from defocus_ds.frames import Level, Pair
from defocus_ds.report import report
from defocus_ds.store import read_json, write_json

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LONG = "a_scene_name_that_is_much_longer_than_any_phone_is_wide_and_has_no_space"
SCENES = ("chair", HOSTILE, "garden", LONG, "zebra")
REASON = "residual: 1.31 px, limit 1 px"

Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = browser_path()
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def browser_path() -> str:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        absent = f"none of {', '.join(BROWSERS)} is installed"
        if os.environ.get("DEFOCUS_DS_BROWSER") == "required":
            pytest.fail(absent, pytrace=False)
        pytest.skip(absent)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes; garden/medium was rejected by the build, zebra/high failed."""
    folder = tmp_path_factory.mktemp("browser") / "set"
    pair = true_pair((320, 240), radius_px=3.0, shift_px=(2.0, -1.0), seed=5)
    make_dataset(folder, pair, SCENES, rejected={("garden", "medium"): REASON})
    write_crops(folder, "low", {scene: [(0.1 + n / 50, 0.1)] for n, scene in enumerate(SCENES)})
    with pytest.MonkeyPatch.context() as patch:
        # the five are one and the same, and would all be near-duplicates of each other
        patch.setattr("defocus_ds.report.review.find_duplicates", lambda scenes: [])
        report(folder)
    return folder


@pytest.fixture
def opened(browser: Any, dataset: Path) -> Iterator[Opened]:
    """A page in a browser that has kept nothing; at the end nothing may have gone wrong in it."""
    contexts, troubles = [], []

    def open_page(before: str | None = None, **options: Any) -> Any:
        contexts.append(
            browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(8000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda m: m.type in ("error", "warning") and troubles.append(m.text))
        page.on("requestfailed", lambda r: "ERR_ABORTED" in r.failure or troubles.append(r.url))
        if before:
            page.add_init_script(before)
        page.goto(address(dataset))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def address(dataset: Path) -> str:
    return (dataset / "report" / "index.html").as_uri()


def shown(page: Any) -> list[str]:
    """The pairs in the table, in its order."""
    found = page.evaluate(
        "[...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.dataset.pair)"
    )
    return list(found)


def current(page: Any) -> str:
    return str(page.locator("tr[aria-current=true]").get_attribute("data-pair"))


def decision(page: Any, pair: str) -> list[str]:
    """Decision and note of a pair, as the table shows them."""
    found = page.evaluate(
        "pair => { const row = [...document.querySelectorAll('#table tbody tr')]"
        ".find(r => r.dataset.pair === pair);"
        " return [row.querySelector('[aria-pressed=true]')?.textContent ?? '',"
        " row.querySelector('.said').textContent]; }",
        pair,
    )
    return list(found)


def saved(page: Any, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.click("#save")
    assert waiting.value.suggested_filename == "review.csv"
    path = folder / "review.csv"
    waiting.value.save_as(path)
    return path


def load(page: Any, content: bytes) -> None:
    file = {"name": "review.csv", "mimeType": "text/csv", "buffer": content}
    page.set_input_files("#file", file)
    page.wait_for_function("document.getElementById('status').textContent.includes('loaded')")


def refuse(page: Any, content: bytes) -> str:
    """What the page says about a file that it takes nothing of."""
    file = {"name": "review.csv", "mimeType": "text/csv", "buffer": content}
    page.evaluate("document.getElementById('trouble').hidden = true")
    page.set_input_files("#file", file)
    page.wait_for_selector("#trouble:not([hidden])")
    return str(page.inner_text("#trouble"))


def test_a_missing_browser_fails_only_where_one_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    for value, outcome in (("required", pytest.fail.Exception), ("", pytest.skip.Exception)):
        monkeypatch.setenv("DEFOCUS_DS_BROWSER", value)
        with pytest.raises(outcome, match="none of chromium, .* is installed"):
            browser_path()


def test_pictures_load_as_they_come_near(opened: Opened) -> None:
    page = opened()
    assert page.locator("section.scene").count() == 5
    before = page.locator("article").count()
    assert before < 15
    page.keyboard.press("k")  # backwards from nowhere: the last pair
    page.wait_for_function("n => document.querySelectorAll('article').length > n", arg=before)
    assert current(page) == "zebra/high"
    page.keyboard.press("k")
    tile = page.locator("article[aria-current] .tile").first
    images = tile.locator("img")
    tile.scroll_into_view_if_needed()
    page.wait_for_function(
        "image => image.complete && image.naturalWidth > 0", arg=images.first.element_handle()
    )
    loaded = images.evaluate_all("images => images.map(i => i.naturalWidth > 0)")
    assert loaded == [True, False, False, False, True, False]  # only what the view shows
    page.keyboard.press("7")
    page.wait_for_function("image => image.naturalWidth > 0", arg=images.last.element_handle())


def test_the_slider_uncovers_the_blurred_image(opened: Opened) -> None:
    page = opened()
    page.keyboard.press("j")
    tile = page.locator("article[aria-current] .tile").first
    clip = "layer => getComputedStyle(layer).clipPath"
    assert tile.locator(".blurred").evaluate(clip) == "inset(0px 0px 0px 50%)"
    tile.locator("input").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert tile.locator(".blurred").evaluate(clip) == "inset(0px 0px 0px 60%)"
    assert current(page) == f"{HOSTILE}/low"  # arrows in a slider do not change the pair


def test_blinking_is_slow_and_by_hand_for_who_wants_no_motion(opened: Opened) -> None:
    page = opened()
    start = datetime(2030, 1, 1)
    page.clock.install(time=start)
    page.clock.pause_at(start + timedelta(hours=1))  # from here time passes only as it is told
    page.keyboard.press("j")
    page.keyboard.press("b")
    page.clock.run_for(1)
    seen = []
    for _ in range(40):
        page.clock.run_for(100)
        seen.append(page.evaluate("document.body.dataset.blink"))
    changes = [n for n in range(1, len(seen)) if seen[n] != seen[n - 1]]
    assert len(changes) >= 7  # in four seconds
    assert {b - a for a, b in zip(changes, changes[1:], strict=False)} == {5}
    page.keyboard.press("b")
    assert page.evaluate("document.body.dataset.blink") is None
    page.emulate_media(reduced_motion="reduce")
    states = []
    for _ in range(3):
        page.keyboard.press("b")
        states.append(page.evaluate("document.body.dataset.blink"))
        page.clock.run_for(5000)
        assert page.evaluate("document.body.dataset.blink") == states[-1]
    assert states == ["sharp", "blurred", "sharp"]
    blurred = page.locator("article[aria-current] .blurred").first
    assert blurred.evaluate("e => getComputedStyle(e).clipPath") == "inset(0px 0px 0px 100%)"
    page.keyboard.press("Escape")
    assert page.evaluate("document.body.dataset.blink") is None


def test_sorting_and_filters_drive_the_order_of_the_keys(opened: Opened) -> None:
    page = opened()
    everything = shown(page)
    assert everything == [f"{s}/{lv}" for s in sorted(SCENES) for lv in ("low", "medium", "high")]
    page.click("th button:text('Residual px')")
    values = page.eval_on_selector_all("tbody tr", "rows => rows.map(r => r.cells[3].dataset.sort)")
    assert [float(v) for v in values[:-1]] == sorted(float(v) for v in values[:-1])
    assert values[-1] == ""  # the failed pair, which has none
    page.fill("#filter", "chair")
    assert shown(page) == ["chair/high", "chair/medium", "chair/low"]
    walked = []
    page.keyboard.press("Enter")  # until then a letter typed into the filter is text
    for _ in range(4):
        page.keyboard.press("j")
        walked.append(current(page))
    assert walked == ["chair/high", "chair/medium", "chair/low", "chair/low"]
    assert "last pair" in page.inner_text("#status")
    assert page.locator("section.scene:visible h2").count() == 1
    page.keyboard.press("ArrowLeft")
    assert current(page) == "chair/medium"
    page.click("#unfilter")
    page.keyboard.press("j")  # not into the filter
    assert page.input_value("#filter") == ""
    assert len(shown(page)) == 15
    page.select_option("#by-level", "high")
    assert len(shown(page)) == 5
    page.select_option("#by-verdict", "failed")
    assert shown(page) == ["zebra/high"]
    page.click("#unfilter")
    assert len(shown(page)) == 15
    page.fill("#filter", "1.31 limit")
    assert shown(page) == ["garden/medium"]


def test_a_bar_selects_its_pairs_in_the_table_and_below(opened: Opened) -> None:
    page = opened()
    bar = page.locator('.bin[aria-label^="Blur radius px"][aria-label*="medium"]')
    bar.click()
    assert bar.get_attribute("aria-pressed") == "true"
    assert shown(page) == [f"{scene}/medium" for scene in sorted(SCENES)]
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert current(page) == f"{LONG}/medium"
    articles = page.locator("article:visible h3").all_inner_texts()
    assert articles
    assert all("/medium" in text for text in articles)
    bar.click()
    assert len(shown(page)) == 15
    other = page.locator('.bin[aria-label^="Blur radius px"][aria-label*="low"]')
    other.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert bar.get_attribute("aria-pressed") == "true"
    other.click(modifiers=["Shift"])
    assert len(shown(page)) == 10
    assert page.locator(".bin[aria-label^='Q sharp']").count() == 5


def test_deciding_by_key_survives_a_reload_and_is_undone(opened: Opened) -> None:
    page = opened()
    page.fill("#filter", "chair")
    page.evaluate("document.activeElement.blur()")
    for key in ("j", "r", "j", "a", "n"):
        page.keyboard.press(key)
    page.keyboard.type('tilted, "left"')
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("über 2 px")
    page.keyboard.press("Enter")
    note = 'tilted, "left"\nüber 2 px'
    assert decision(page, "chair/low") == ["Reject", ""]
    assert decision(page, "chair/medium") == ["Accept", note]
    assert page.inner_text("#counts") == "1 accepted, 1 rejected, 11 undecided"
    other = page.context.new_page()  # a second window of the same page
    other.goto(page.url)
    assert decision(other, "chair/low") == ["Reject", ""]
    page.keyboard.press("j")
    page.keyboard.press("r")
    told = "document.getElementById('counts').textContent.includes('2 rejected')"
    other.wait_for_function(told, polling=50)  # by time: what is hidden draws no frames
    other.close()
    page.keyboard.press("u")
    page.reload()
    assert decision(page, "chair/low") == ["Reject", ""]
    assert decision(page, "chair/medium") == ["Accept", note]
    page.fill("#filter", "chair")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("u")  # what was decided before the reload stays
    assert "Nothing to undo" in page.inner_text("#status")
    page.keyboard.press("j")
    page.click('article[data-pair="chair/low"] [data-do=reject]')
    assert decision(page, "chair/low") == ["", ""]
    page.keyboard.press("u")
    assert decision(page, "chair/low") == ["Reject", ""]
    page.click("#clear")
    assert page.inner_text("#counts") == "0 accepted, 0 rejected, 13 undecided"
    page.click("#undo")
    assert decision(page, "chair/medium") == ["Accept", note]
    page.click("#unfilter")
    page.select_option("#by-decision", "reject")
    assert shown(page) == ["chair/low"]
    page.check("#undecided")
    assert len(shown(page)) == 11
    assert not {"chair/low", "garden/medium", "zebra/high"} & set(shown(page))


def test_a_decided_pair_stays_until_it_is_left(opened: Opened) -> None:
    page = opened()
    page.check("#undecided")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    first = current(page)
    page.keyboard.press("a")
    assert first in shown(page)
    page.keyboard.press("j")
    assert first not in shown(page)
    assert current(page) == f"{HOSTILE}/medium"


def test_a_pair_that_is_out_of_sight_is_not_decided(opened: Opened) -> None:
    page = opened()
    page.keyboard.press("j")
    page.evaluate("document.getElementById('s4').scrollIntoView()")
    page.wait_for_selector("#s4.drawn article")
    page.keyboard.press("r")
    assert page.locator("[data-do=reject][aria-pressed=true]").count() == 0
    assert "press again" in page.inner_text("#status")
    middle = "document.elementFromPoint(640, 450).closest('article').dataset.pair"
    assert current(page) == page.evaluate(middle) != f"{HOSTILE}/low"
    page.keyboard.press("r")
    assert decision(page, page.evaluate(middle))[0] == "Reject"


def test_the_build_cannot_be_overruled(opened: Opened) -> None:
    page = opened()
    page.fill("#filter", "garden/medium")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("a")
    assert decision(page, "garden/medium") == ["", ""]
    assert "build rejected it for " in page.inner_text("#status")
    assert page.locator("article[aria-current] [data-do=accept]").is_disabled()
    page.keyboard.press("r")
    assert decision(page, "garden/medium") == ["Reject", ""]


def test_keys_act_on_the_pair_that_has_the_focus(opened: Opened) -> None:
    page = opened()
    page.keyboard.press("j")
    page.evaluate("document.getElementById('pairs').scrollIntoView()")
    page.focus("tr[data-pair='chair/low'] [data-do=accept]")
    page.keyboard.press("r")
    assert decision(page, "chair/low") == ["Reject", ""]
    assert decision(page, f"{HOSTILE}/low") == ["", ""]


def test_the_review_is_saved_to_the_byte_and_loaded_elsewhere(
    opened: Opened, dataset: Path, tmp_path: Path
) -> None:
    page = opened()
    made = {
        (row["scene"], row["level"]): row["image_sha256"]
        for row in read_scenes(dataset / SCENES_NAME)
    }
    lines = [
        "zebra,low,,look again\r\n",
        '"<img src=x onerror=alert(1)> ""& \'%2e",high,reject,"a, ""b""\nc"\r\n',
        "chair,medium,accept,\r\n",
    ]
    load(page, "\ufeffscene,level,decision,note\r\n".encode() + "".join(lines).encode())
    assert "3 rows loaded" in page.inner_text("#status")
    assert decision(page, "zebra/low") == ["", "look again"]
    path = saved(page, tmp_path)
    header = "scene,level,decision,note,image_sha256\r\n"
    order = ((HOSTILE, "high", lines[1]), ("chair", "medium", lines[2]), ("zebra", "low", lines[0]))
    bound = [line.replace("\r\n", f",{made[name, level]}\r\n") for name, level, line in order]
    assert path.read_bytes() == (header + "".join(bound)).encode()
    assert read_review(path).decisions == {
        Pair(HOSTILE, Level.HIGH): Decision("reject", 'a, "b"\nc', made[HOSTILE, "high"]),
        Pair("chair", Level.MEDIUM): Decision("accept", "", made["chair", "medium"]),
        Pair("zebra", Level.LOW): Decision("", "look again", made["zebra", "low"]),
    }
    assert "crop set --level low --review review.csv" in page.inner_text("#status")
    elsewhere = opened()
    load(elsewhere, path.read_bytes())
    assert saved(elsewhere, tmp_path).read_bytes() == path.read_bytes()
    elsewhere.keyboard.press("u")
    assert elsewhere.inner_text("#counts") == "0 accepted, 0 rejected, 13 undecided"


def test_loading_a_review_loses_no_note(opened: Opened) -> None:
    page = opened()
    head = b"scene,level,decision,note,image_sha256\n"
    load(page, head + b"chair,low,,look again,\nzebra,low,reject,moved,\n")
    load(page, head + b"chair,low,accept,,\nzebra,low,,shaken,\n")
    assert decision(page, "chair/low") == ["Accept", "look again"]
    assert decision(page, "zebra/low") == ["Reject", "shaken"]
    assert "1 in place of another decision or note" in page.inner_text("#status")
    said = refuse(page, head + b"chair,high,reject,the curtain," + b"0" * 64 + b"\n")
    assert said.startswith("review.csv: 1 decision not loaded:")
    assert "line 2: chair/high was decided about another image" in said
    assert decision(page, "chair/high") == ["", "the curtain"]


def test_a_file_that_is_no_review_is_refused_with_the_reason(opened: Opened) -> None:
    page = opened()
    head = b"scene,level,decision,note\n"
    bound = b"scene,level,decision,note,image_sha256\n"
    need = 'need "scene,level,decision,note,image_sha256"'
    assert need in refuse(page, b"scene;level\n")
    assert 'its first line is ""' in refuse(page, b"")
    assert "line 2: 3 cells, need 4" in refuse(page, head + b"chair,low,accept\n")
    assert "line 2: 4 cells, need 5" in refuse(page, bound + b"chair,low,accept,\n")
    old = bound + b"chair,low,reject,," + b"0" * 64 + b"\n"
    assert "line 2: chair/low was decided about another image" in refuse(page, old)
    assert "line 3: a quotation mark is never" in refuse(page, head + b'a,low,,\nb,low,,"x\n')
    assert "line 2: text after a closing" in refuse(page, head + b'chair,low,reject,"x"y\n')
    assert "not text in UTF-8" in refuse(page, head + b"chair,low,reject,\xff\n")
    assert page.inner_text("#counts") == "0 accepted, 0 rejected, 13 undecided"
    rows = b"nobody,low,reject,\nchair,low,perhaps,\ngarden,medium,accept,\n"
    said = refuse(page, head + rows + b"chair,high,reject,\nchair,high,accept,\n")
    assert "line 2: nobody/low is not in this dataset" in said
    assert 'line 3: chair/low: decision "perhaps"' in said
    assert "line 4: garden/medium cannot be accepted" in said
    assert "line 6: chair/high is there twice" in said
    assert decision(page, "chair/high") == ["Reject", ""]
    assert page.inner_text("#counts") == "0 accepted, 1 rejected, 12 undecided"


def test_decisions_of_another_dataset_never_mix(opened: Opened, tmp_path: Path) -> None:
    page = opened()
    page.keyboard.press("j")
    page.keyboard.press("r")
    mine = current(page)
    # the same name, configuration and scenes, but other pixels
    pair = true_pair((320, 240), radius_px=2.0, seed=9)
    other = make_dataset(tmp_path / "set", pair, (HOSTILE, "chair"))
    report(other)
    page.goto(address(other))
    assert page.evaluate("localStorage.length") == 1  # the browser does keep both in one place
    assert page.locator("[data-do][aria-pressed=true]").count() == 0
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.go_back()
    assert decision(page, mine) == ["Reject", ""]
    assert page.inner_text("#counts").startswith("0 accepted, 1 rejected")
    facts = read_json(other / "dataset.json")
    write_json(other / "dataset.json", facts | {"config_digest": "another"})
    report(other)
    page.goto(address(other))
    assert page.inner_text("#counts").startswith("0 accepted, 0 rejected")


def test_a_browser_that_keeps_nothing_says_so_and_goes_on(opened: Opened, tmp_path: Path) -> None:
    page = opened(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }});"
    )
    assert "does not keep decisions" in page.inner_text("#counts")
    page.keyboard.press("j")
    page.keyboard.press("r")
    assert b",low,reject," in saved(page, tmp_path).read_bytes()


def test_a_phone_needs_no_sideways_scrolling(opened: Opened) -> None:
    page = opened(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 360
    for _ in range(4):
        page.tap("#next")
        page.tap("article[aria-current] [data-do=reject]")
        assert page.evaluate(width) == 360
    assert page.evaluate("window.innerWidth") == 360  # nor was the page zoomed out to fit
    small = page.eval_on_selector_all(
        "button, select, .strip label span",
        "nodes => nodes.filter(n => n.offsetHeight && !n.closest('thead'))"
        ".filter(n => Math.min(n.offsetHeight, n.offsetWidth) < 43.5).map(n => n.outerHTML)",
    )
    assert small == []
    bar = page.locator(".decisions").bounding_box()
    assert bar["height"] < 740 / 4


def test_the_table_fits_and_where_it_does_not_its_end_is_shaded(opened: Opened) -> None:
    page = opened()
    frame = page.locator(".scroll")
    beyond = "node => node.scrollWidth - node.clientWidth"
    assert frame.evaluate(beyond) == 0
    page.set_viewport_size({"width": 700, "height": 900})
    assert frame.evaluate(beyond) > 0
    assert page.evaluate("document.documentElement.scrollWidth") == 700
    # of two backgrounds the upper moves with the table and covers the lower at its end
    attached = frame.evaluate("node => getComputedStyle(node).backgroundAttachment")
    assert attached == "local, scroll"


PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def test_on_a_phone_the_pair_that_is_looked_at_can_be_decided(opened: Opened) -> None:
    page = opened(**PHONE)
    page.evaluate("document.getElementById('s3').scrollIntoView()")
    page.wait_for_selector("#s3.drawn article")
    article = page.locator("#s3 article").nth(1)
    tile = article.locator(".tile").last
    for step in range(2):
        tile.evaluate("node => node.scrollIntoView({ block: 'center' })")
        page.wait_for_timeout(100)
        buttons = article.locator("[data-do=reject]").bounding_box()
        name, shown = article.locator("h3").bounding_box(), tile.bounding_box()
        strip, foot = (page.locator(part).bounding_box() for part in (".strip", ".decisions"))
        assert strip["y"] + strip["height"] - 1 <= name["y"] < shown["y"]
        assert buttons["y"] > shown["y"] + shown["height"] / 2
        assert buttons["y"] + buttons["height"] <= foot["y"] + 1
        assert foot["y"] + foot["height"] == 844
        page.touchscreen.tap(buttons["x"] + 20, buttons["y"] + 20)
        told = decision(page, article.get_attribute("data-pair"))
        assert told == (["Reject", ""] if step == 0 else ["", ""])
    # at the end of the pair its buttons are below its last map and cover nothing
    article.evaluate("node => node.scrollIntoView({ block: 'end' })")
    ends = "[...node.children].map(part => part.getBoundingClientRect())"
    boxes = article.evaluate(f"node => {ends}.map(b => [b.top, b.bottom])")
    decide = article.locator("div.decide").bounding_box()
    assert max(bottom for top, bottom in boxes if top < decide["y"]) <= decide["y"] + 1


@pytest.mark.parametrize(
    ("size", "top"), [((820, 1180), ".views"), ((1024, 768), ".views"), ((844, 390), None)]
)
def test_the_name_of_the_pair_is_below_what_stays_at_the_top(
    opened: Opened, size: tuple[int, int], top: str | None
) -> None:
    page = opened(viewport={"width": size[1], "height": size[0]}, is_mobile=True, has_touch=True)
    page.set_viewport_size({"width": size[0], "height": size[1]})  # the device is turned
    page.evaluate("document.getElementById('s3').scrollIntoView()")
    page.wait_for_selector("#s3.drawn article")
    article = page.locator("#s3 article").nth(1)
    for view in ("slide", "anaglyph"):  # hints of other lengths
        page.evaluate("view => document.querySelector(`.strip input[value=${view}]`).click()", view)
        article.evaluate("node => scrollBy(0, node.getBoundingClientRect().top + 200)")
        page.wait_for_timeout(100)
        name = article.locator("h3").bounding_box()
        above = page.locator(top).bounding_box() if top else {"y": 0, "height": 0}
        assert above["y"] == 0
        assert above["height"] == pytest.approx(name["y"], abs=1)
        x, y = name["x"] + 20, name["y"] + name["height"] / 2
        seen = "([x, y]) => document.elementFromPoint(x, y).closest('h3')?.textContent"
        assert page.evaluate(seen, [x, y]) == article.locator("h3").text_content()


def test_on_a_phone_all_is_large_enough_and_nothing_speaks_of_keys(opened: Opened) -> None:
    page = opened(**PHONE)
    page.evaluate("document.getElementById('s3').scrollIntoView()")
    page.wait_for_selector("#s3.drawn article")
    small = page.eval_on_selector_all(
        "a:not(.thumb a), button, select, textarea, summary, label.box, input[type=search],"
        " .tile input, .strip label",
        "nodes => nodes.map(n => [n.getBoundingClientRect(), n.outerHTML.slice(0, 80)])"
        ".filter(([box]) => box.height && Math.min(box.height, box.width) < 40)"
        ".map(([, text]) => text)",
    )
    assert small == []
    assert page.locator("kbd:visible").count() == 0
    assert "Tab to" not in page.inner_text("body")
    strip = page.locator(".strip fieldset")
    assert strip.evaluate("node => node.scrollWidth > node.clientWidth")
    assert "linear-gradient" in strip.evaluate("node => getComputedStyle(node).maskImage")
    strip.evaluate("node => { node.scrollLeft = 9999; }")
    last, whole = strip.locator("label").last.bounding_box(), strip.bounding_box()
    assert last["x"] + last["width"] <= whole["x"] + whole["width"] - 39  # beside what fades


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = [r, g, b].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.disabled) continue;
    if (node.closest("script, style, title, template, option")) continue;
    const style = getComputedStyle(node);
    const colour = node.namespaceURI.includes("svg") ? style.fill : style.color;
    const [a, b] = [light(rgba(colour)), light(ground(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(opened: Opened, scheme: str) -> None:
    page = opened(color_scheme=scheme)
    for key in ("j", "r", "j", "a", "j"):
        page.keyboard.press(key)
    page.locator(".bin").first.click()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 150
    assert [entry for entry in found if entry[0] < 4.5] == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 20, 25)"}[scheme]


def test_the_keys_are_shown_and_focus_is_seen(opened: Opened) -> None:
    page = opened()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("r")  # the keys do nothing while they are explained
    assert page.locator("[data-do][aria-pressed=true]").count() == 0
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    unseen = []
    for _ in range(45):
        page.keyboard.press("Tab")
        drawn = page.evaluate(
            "(() => { const e = document.activeElement; if (e === document.body) return true;"
            " const seen = [e, e.nextElementSibling, e.querySelector('.hit')].filter(Boolean);"
            " return seen.some(n => { const s = getComputedStyle(n);"
            " return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)"
            " || (s.stroke !== 'none' && parseFloat(s.strokeWidth) >= 2); }) || e.outerHTML; })()"
        )
        unseen += [drawn] if drawn is not True else []
    assert unseen == []
