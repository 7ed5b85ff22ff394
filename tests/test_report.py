"""The review page: complete, safe whatever the names, and drawn again only when needed."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from report_dataset import CAST, HOSTILE, LEVELS, make_dataset, radius_map, row_of, write_crops
from scenes import TruePair, true_pair

from defocus_ds.dataset.manifest import SCENES_NAME, read_scenes, write_scenes
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level, Pair
from defocus_ds.optics import Transfer, blur_disk, to_encoded, to_linear
from defocus_ds.report import report
from defocus_ds.report.crop_figures import mean_q
from defocus_ds.report.edges import BLURRED_EDGE, BOTH_EDGES, SHARP_EDGE, edge_overlay
from defocus_ds.report.figures import FIGURES, Figure, figures_of
from defocus_ds.report.histograms import bins_of, histogram
from defocus_ds.report.maps import radius_plot, unexplained_plot
from defocus_ds.report.pairs import Cell, PairView, Shift, Trace, pair_view
from defocus_ds.report.pictures import (
    Tile,
    before_of,
    choose_tiles,
    colours_as_shot,
    encode_jpeg,
    model_of,
    overview,
)
from defocus_ds.report.plots import shift_plot, trace_plot
from defocus_ds.resample import resample
from defocus_ds.stages.register.radius_map import RadiusMap
from defocus_ds.store import read_json, sha256_file, write_json


@pytest.fixture(scope="module")
def pair() -> TruePair:
    return true_pair((320, 240), radius_px=3.0, shift_px=(2.0, -1.0), seed=5)


class Page(HTMLParser):
    """Tags with their attributes, and the text outside script and style.

    ``at_once`` holds the tags that are not in a template: what a browser makes when it loads.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.at_once: list[str] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if "template" not in self._inside:
            self.at_once.append(tag)
        if tag not in ("meta", "img", "input", "br"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)

    def attributes(self, tag: str, name: str) -> list[str]:
        return [a[name] or "" for t, a in self.tags if t == tag and name in a]

    def pictures(self) -> list[str]:
        """Every picture that the page can show, by its path from the page."""
        found, folder = [], ""
        for tag, attributes in self.tags:
            folder = attributes.get("data-folder") or folder
            if tag == "img" and "src" in attributes:
                found.append(attributes["src"] or "")
            names = (attributes.get("data-files") or "").split()
            found += [f"{folder}/{name}" for name in names if name != "-"]
        return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, pair: TruePair) -> Path:
    return make_dataset(tmp_path_factory.mktemp("report") / "set", pair, ("a1", HOSTILE))


@pytest.fixture(scope="module")
def page(dataset: Path) -> Page:
    return Page(report(dataset))


def test_every_pair_has_a_row_with_its_figures(page: Page) -> None:
    text = " ".join(page.text)
    assert page.attributes("tr", "data-pair") == [
        f"{scene}/{level}" for scene in sorted(("a1", HOSTILE)) for level in LEVELS
    ]
    for figure in ("0.050", "0.025", "3.00", "4.00", "0.9900", "0.40"):
        assert figure in text
    assert "5 kept" in text
    assert "1 failed" in text
    assert "no texture: <b>0.1</b> %" in text  # as text, and below not as a tag


def test_hostile_names_stay_text(page: Page) -> None:
    assert HOSTILE in " ".join(page.text)
    assert "b" not in {tag for tag, _ in page.tags}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_pictures_exist_load_lazily_and_lead_nowhere_else(dataset: Path, page: Page) -> None:
    sources = page.pictures()
    assert len(sources) > 60
    assert all((dataset / "report" / source).is_file() for source in sources)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [a.get("loading") for a in images] == ["lazy"] * len(images)
    assert "img" not in page.at_once
    assert page.at_once.count("tr") == 1 + 6
    links = page.attributes("a", "href")
    identities = {i for _, a in page.tags if (i := a.get("id"))}
    for link in links:
        assert link.removeprefix("#") in identities or (dataset / "report" / link).is_file()
    html = (dataset / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"?(https?:)?//", html)
    assert "default-src 'none'" in html


def test_no_drawing_is_opened_by_itself(dataset: Path) -> None:
    """A drawing that came with a dataset may hold scripts, which a picture in a page never runs."""
    text = (dataset / "report" / "index.html").read_text(encoding="utf-8")
    assert re.search(r'<img [^>]*src="[^"]+\.svg"', text)
    assert not re.search(r'href="[^"]+\.svg"', text)


def test_same_dataset_same_bytes_and_nothing_drawn_twice(dataset: Path, page: Page) -> None:
    files = sorted(path for path in (dataset / "report").rglob("*") if path.is_file())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    report(dataset)
    for path, (content, modified) in before.items():
        assert path.read_bytes() == content
        if path.suffix == ".jpg":
            assert path.stat().st_mtime_ns == modified


def _set(record: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a parsed JSON value with another value at one place."""
    copy = json.loads(json.dumps(record))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


TILE_PLACE = ("tiles", "low", 0)
OUTSIDE = "../../../outside/sharp.jpg"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((*TILE_PLACE, "tile", "x"), HOSTILE),
        ((*TILE_PLACE, "tile", "width"), "1;background:url(//evil)"),
        ((*TILE_PLACE, "tile", "y"), True),
        ((*TILE_PLACE, "tile", "y"), -1),
        ((*TILE_PLACE, "tile", "height"), 1.5),
        ((*TILE_PLACE, "tile", "why"), ["evil"]),
        ((*TILE_PLACE, "tile", "why"), "\ud800"),
        ((*TILE_PLACE, "tile", "evil"), 1),
        ((*TILE_PLACE, "sharp"), OUTSIDE),
        ((*TILE_PLACE, "before"), ".hidden.jpg"),
        ((*TILE_PLACE, "colours"), "evil.html"),
        ((*TILE_PLACE, "edges"), None),
        (TILE_PLACE, "evil"),
        (("tiles", "low"), {"evil": 1}),
        (("tiles", "evil"), []),
        (("folder",), "javascript:alert(1)//"),
        (("folder",), "../../outside"),
        (("folder",), None),
        (("overviews", "sharp"), OUTSIDE),
        (("overviews", "sharp"), "evil\\sharp.jpg"),
        (("overviews", HOSTILE), "low.jpg"),
        (("overviews",), "sharp"),
        (("plots", "low", "blur radius"), "javascript:alert(1)"),
        (("plots", "low", HOSTILE), "low-blur-radius.svg"),
        (("plots",), ["low"]),
        (("evil",), 1),
    ],
)
def test_a_stamp_that_somebody_else_wrote_is_not_believed(
    dataset: Path, page: Page, place: tuple[str | int, ...], value: Any
) -> None:
    html = report(dataset).read_bytes()
    stamp = sorted((dataset / "report" / "assets").glob("*/stamp.json"))[0]
    drawn = stamp.read_bytes()
    known = json.loads(drawn)
    stamp.write_text(json.dumps(_set(known, ("pictures", *place), value)), encoding="utf-8")
    assert report(dataset).read_bytes() == html
    assert stamp.read_bytes() == drawn


@pytest.mark.parametrize("text", ["", "[]", '"evil"', '{"digest": 1}', "[" * 200_000])
def test_a_stamp_that_is_none_is_drawn_again(dataset: Path, page: Page, text: str) -> None:
    html = report(dataset).read_bytes()
    stamp = sorted((dataset / "report" / "assets").glob("*/stamp.json"))[0]
    drawn = stamp.read_bytes()
    stamp.write_text(text, encoding="utf-8")
    assert report(dataset).read_bytes() == html
    assert stamp.read_bytes() == drawn


def test_why_a_tile_is_shown_is_text_only(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    report(dataset)
    (stamp,) = (dataset / "report" / "assets").glob("*/stamp.json")
    place = ("pictures", *TILE_PLACE, "tile", "why")
    stamp.write_text(json.dumps(_set(json.loads(stamp.read_bytes()), place, HOSTILE)))
    page = Page(report(dataset))
    assert [text for text in page.text if HOSTILE in text]
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_a_changed_image_is_drawn_again_and_a_lost_scene_removed(
    tmp_path: Path, pair: TruePair
) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a", "b"))
    report(dataset)
    folders = sorted((dataset / "report" / "assets").iterdir())
    overviews = {folder: (folder / "low.jpg").read_bytes() for folder in folders}
    shifted = TruePair(pair.sharp, pair.uncast // 2, pair.uncast, pair.warp, 3.0)
    make_dataset(dataset, shifted, ("a",))
    report(dataset)
    (left,) = (dataset / "report" / "assets").iterdir()
    assert (left / "low.jpg").read_bytes() != overviews[left]


@pytest.mark.parametrize(
    ("verdict", "reason"), [("reject", "skipped: --skip gone"), ("failed", "gone/sharp: truncated")]
)
def test_a_scene_without_any_image_is_listed(
    tmp_path: Path, pair: TruePair, verdict: str, reason: str
) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a", "gone"))
    table = dataset / "scenes.parquet"
    empty = dict.fromkeys(("image", "image_sha256", "matrix", "valid_area", "alignment", "colour"))
    rows = read_scenes(table)
    for row in rows:
        if row["scene"] == "gone":
            row.update(empty, verdict=verdict, reasons=[reason])
    write_scenes(table, rows)
    page = Page(report(dataset))
    wanted = [f"{scene}/{level}" for scene in ("a", "gone") for level in LEVELS]
    assert page.attributes("tr", "data-pair") == wanted
    assert page.attributes("tr", "data-verdict")[3:] == [verdict] * 3
    assert page.text.count(reason) == 2 * 3  # in the table and in the scene


def test_an_overview_that_is_gone_is_named(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    page = report(dataset)
    overview = next(page.parent.glob("assets/*/sharp.jpg"))
    overview.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"sharp\.jpg: missing or damaged\. Delete its folder"):
        report(dataset)


def test_an_image_that_is_gone_is_named(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    (dataset / "images" / "a" / "medium.png").unlink()
    with pytest.raises(DatasetError, match=r"medium\.png"):
        report(dataset)


@pytest.mark.parametrize("place", ["report", "report/assets", "report/assets/one"])
def test_a_linked_folder_is_not_written_through(tmp_path: Path, pair: TruePair, place: str) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "assets" / "kept").mkdir(parents=True)
    (dataset / place).parent.mkdir(parents=True, exist_ok=True)
    (dataset / place).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(DatasetError, match=f"{place}: a symbolic link"):
        report(dataset)
    assert sorted(elsewhere.rglob("*")) == [elsewhere / "assets", elsewhere / "assets" / "kept"]


def test_command_prints_the_page_and_json(tmp_path: Path, pair: TruePair) -> None:
    from defocus_ds_cli.report import command

    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    plain = CliRunner().invoke(command, [str(dataset)])
    assert plain.exit_code == 0, plain.output
    assert str(dataset / "report" / "index.html") in plain.stdout
    machine = CliRunner().invoke(command, [str(dataset), "--json"])
    assert json.loads(machine.stdout)["report"] == str(dataset / "report" / "index.html")


def test_model_of_a_tile_is_the_tile_of_the_model(pair: TruePair) -> None:
    area = (0, 0, 320, 240)
    tiles = choose_tiles(pair.sharp, area=area, size_px=80)
    whole = Tile(0, 0, 320, 240, "all of it")
    everywhere = model_of(pair.sharp, whole, blur_radius_px=3.0, transfer=Transfer.SRGB)
    for tile in tiles:
        model = model_of(pair.sharp, tile, blur_radius_px=3.0, transfer=Transfer.SRGB)
        assert np.abs(model.astype(int) - tile.cut(everywhere)).max() <= 1
    assert len(tiles) == 3
    # the blurred capture, registered, is what the model predicts, but for noise
    registered = resample(pair.blurred, pair.warp)[20:-20, 20:-20].astype(float)
    assert np.abs(registered - everywhere[20:-20, 20:-20]).mean() < 2.0
    assert np.abs(registered - pair.sharp[20:-20, 20:-20]).mean() > 6.0


def test_tiles_show_the_middle_a_corner_and_the_worst_place(pair: TruePair) -> None:
    shifts = [Shift(30, 200, 0.9, 0.0, 1.0), Shift(200, 100, 0.1, 0.0, 1.0)]
    tiles = choose_tiles(pair.sharp, area=(0, 0, 320, 240), shifts=shifts, size_px=80)
    assert [tile.why for tile in tiles] == ["middle", "corner", "largest residual shift"] or (
        tiles[1].x <= 30 < tiles[1].x + 80 and tiles[1].y <= 200  # the corner was the worst
    )
    assert 60 <= tiles[0].x + 40 <= 260
    boxes = [(t.x, t.y, t.x + t.width, t.y + t.height) for t in tiles]
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert choose_tiles(pair.sharp, area=(5, 5, 5, 50)) == ()
    assert {t.width for t in choose_tiles(pair.sharp, area=(0, 0, 320, 240))} == {120}
    (small,) = choose_tiles(pair.sharp, area=(10, 20, 60, 50))
    assert (small.x, small.y, small.width, small.height) == (10, 20, 50, 30)


def test_overview_is_reduced_and_never_enlarged(pair: TruePair) -> None:
    assert overview(pair.sharp, long_side_px=160).shape == (120, 160, 3)
    assert overview(pair.sharp, long_side_px=9000) is pair.sharp
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(pair.sharp), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded.astype(int) - pair.sharp).mean() < 4


def test_arrows_point_where_the_shift_points() -> None:
    svg = shift_plot([Shift(50, 50, 0.4, 0.2, 1.0)], size=(100, 100), limit_px=0.3)
    match = re.search(r'd="M([\d.]+) ([\d.]+)l([\d.-]+) ([\d.-]+)', svg)
    assert match is not None
    x, y, dx, dy = (float(v) for v in match.groups())
    assert (x, y) == (210.0, 210.0)
    assert dx == pytest.approx(2 * dy, rel=0.02)
    assert dx > 0
    assert "far" in svg.split("</style>")[1]
    calm = shift_plot([Shift(50, 50, 0.1, 0.0, 1.0)], size=(100, 100), limit_px=0.3)
    assert "far" not in calm.split("</style>")[1]
    assert "no residual shift" in shift_plot([], size=(100, 100))


def test_an_arrow_of_stated_length_gives_the_scale() -> None:
    shifts = [Shift(20, 20, 0.03, 0.0, 1.0), Shift(60, 60, 0.05, 0.0, 1.0)]
    svg = shift_plot(shifts, size=(100, 80), limit_px=0.04, area=(2, 3, 98, 77))
    drawn, scale = re.findall(r'd="M[\d.]+ [\d.]+l([\d.]+) ', svg)[1:]
    stated = re.search(r">([\d.]+) px, magnified ([\d.]+) times; 1 of 2 above 0.04 px", svg)
    assert stated is not None
    assert float(scale) / float(stated[1]) == pytest.approx(float(drawn) / 0.05, rel=0.02)
    assert float(stated[2]) == pytest.approx(float(drawn) / 0.05 / 4.2, rel=0.02)
    outline = re.search(r'class="valid" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', svg)
    assert outline is not None
    assert [float(v) for v in outline.groups()] == pytest.approx([8.4, 12.6, 403.2])
    assert "1 point," in shift_plot(shifts[:1], size=(100, 80))
    assert 'class="valid"' not in shift_plot(shifts, size=(100, 80))


def pixels_of(svg: str) -> npt.NDArray[np.uint8]:
    """The first picture inside an SVG, (rows, columns, 4) RGBA."""
    found = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", svg)
    assert found is not None
    image = cv2.imdecode(np.frombuffer(base64.b64decode(found[1]), np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(image, np.uint8)[..., [2, 1, 0, 3]]


def test_a_radius_map_is_drawn_node_by_node() -> None:
    svg = radius_plot(radius_map(3.0), size=(320, 240), area=(4, 4, 310, 230))
    image = pixels_of(svg)
    assert image.shape == (4, 5, 4)
    assert image[0, 0, 3] == 0  # unknown
    assert (image[1:, :, 3] == 255).all()
    low, high, unsure = image[3, 0, :3], image[3, 4, :3], image[2, 2, :3]
    assert low[2] > low[1] > 0  # violet
    assert min(high[:2]) > 2 * high[2]  # yellow
    assert np.ptp(unsure.astype(int)) < 5  # grey
    assert "3.00 px" in svg
    assert "3.50 px" in svg
    assert 'class="valid"' in svg
    assert "no radius map was recorded" in radius_plot(None, size=(320, 240), area=None)
    nothing = RadiusMap(*[np.full((4, 5), np.nan)] * 3)
    assert "no blur radius could be measured" in radius_plot(nothing, size=(320, 240), area=None)


def test_unexplained_cells_are_drawn_in_their_places() -> None:
    cells = [Cell(40, 40, 0.0), Cell(120, 40, 1.7), Cell(280, 200, 0.5)]
    svg = unexplained_plot(cells, size=(320, 240), area=None)
    image = pixels_of(svg)
    assert image.shape == (2, 4, 4)  # 80 x 160 px are the smallest gaps between cells
    assert (image[..., 3] > 0).sum() == 3
    clean, foreign, half = image[0, 0, :3], image[0, 1, :3], image[1, 3, :3]
    assert foreign[0] > 2 * foreign[1]
    assert clean[1] > clean[0]
    assert np.allclose(half, (clean.astype(float) + foreign) / 2, atol=1)
    assert "3 cells, worst 1.70" in svg
    assert "1 cell," in unexplained_plot(cells[:1], size=(320, 240), area=None)
    assert "no cell was textured" in unexplained_plot([], size=(320, 240), area=None)


def test_the_page_shows_the_maps_and_the_valid_area(dataset: Path, page: Page) -> None:
    sources = page.pictures()
    for name in ("residual-shift", "blur-radius", "unexplained-contrast", "registration-metric"):
        assert sum(source.endswith(f"-{name}.svg") for source in sources) == 5
    assert "100" not in page.attributes("span", "style")[0]
    outlines = [a for t, a in page.tags if t == "span" and a.get("class") == "valid"]
    assert len(outlines) == 5
    assert outlines[0]["style"] == "left:1.25%;top:1.67%;right:3.12%;bottom:4.17%"


def test_the_capture_before_registration_is_shown(pair: TruePair, page: Page) -> None:
    assert sum(s.endswith("-before.jpg") for s in page.pictures()) == 15
    tile = Tile(100, 80, 96, 64, "here")
    registered = resample(pair.blurred, pair.warp)
    moved_back = before_of(registered, tile, pair.warp).astype(float)
    as_shot = tile.cut(pair.blurred)
    assert np.abs(moved_back - as_shot).mean() < 1.5
    assert np.abs(tile.cut(registered).astype(float) - as_shot).mean() > 4


def test_the_colours_as_shot_are_the_matched_ones_taken_back(pair: TruePair, page: Page) -> None:
    assert sum(s.endswith("-colours.jpg") for s in page.pictures()) == 15
    matrix = np.array([[1.1, 0.02, 0.0, 0.0], [0.03, 0.9, 0.0, 0.001], [0.0, 0.0, 0.95, 0.0]])
    shot = pair.blurred.clip(20, 200)
    matched = to_linear(shot, Transfer.BT709) @ matrix[:, :3].T + matrix[:, 3]
    matched8 = np.rint(to_encoded(matched.astype(np.float32), Transfer.BT709) * 255)
    back = colours_as_shot(matched8.astype(np.uint8), matrix.tolist(), transfer=Transfer.BT709)
    assert back is not None
    assert np.abs(back.astype(int) - shot).max() <= 2  # of the rounding to 8 bits, enlarged
    assert np.abs(matched8 - shot).mean() > 3
    grey = np.full((3, 4), 1 / 3)
    assert colours_as_shot(shot, grey.tolist(), transfer=Transfer.BT709) is None


def test_one_of_a_kind_is_not_called_many(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    assert "1 scene, 3 pairs:" in " ".join(Page(report(dataset)).text)


def test_a_damaged_radius_map_shows_nothing(pair: TruePair) -> None:
    row: dict[str, Any] = {"scene": "a", "level": "low", "verdict": "keep", "reasons": []}
    row |= {"width": 320, "height": 240, "alignment": json.dumps({"radius_map": {"rows": 4}})}
    assert pair_view(row).radii is None
    other = json.dumps({"radius_map": radius_map(3.0).to_record()})
    assert pair_view(row | {"alignment": other}).radii is not None
    assert pair_view(row | {"alignment": other, "width": 999}).radii is None


def test_the_refinement_is_shown_from_coarse_to_fine() -> None:
    trace = {"refine 1/16": [2, 1], "refine 1/4": [2, 1], "multimodal 1": [2, 1]}
    trace |= {"multimodal 2": [2, 1], "refine 1/8": [2, 1]}
    row: dict[str, Any] = {"scene": "a", "level": "low", "verdict": "keep", "width": 1, "height": 1}
    names = [t.name for t in pair_view(row | {"alignment": json.dumps({"trace": trace})}).traces]
    assert names == ["multimodal 1", "multimodal 2", "refine 1/16", "refine 1/8", "refine 1/4"]


def test_traces_are_drawn_from_first_to_last_and_escaped() -> None:
    svg = trace_plot([Trace("<1/4>", (-0.2, -0.4, -0.5))])
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    ys = [float(p.split(",")[1]) for p in points[1].split()]
    assert ys == sorted(ys)  # the metric falls: down the page
    assert "&lt;1/4&gt;" in svg
    assert "no metric trace" in trace_plot([])


@pytest.mark.parametrize("record", ["", "[1]", "not json", '{"trace": 3, "residual_grid": [[1]]}'])
def test_a_record_of_another_shape_shows_nothing(record: str) -> None:
    row: dict[str, Any] = {"scene": "a", "level": "low", "verdict": "failed", "width": None}
    view = pair_view(row | {"height": None, "alignment": record, "colour": record})
    assert (view.ncc, view.colour_before, view.shifts, view.traces) == (None, None, (), ())


def test_a_residual_that_could_not_be_measured_is_unknown(pair: TruePair, tmp_path: Path) -> None:
    row = row_of(tmp_path, "a", "low", pair.sharp, residual_px=1e6)
    assert pair_view(row).residual_px is None
    assert pair_view(row | {"residual_px": 0.25}).residual_px == 0.25


def test_headings_stand_over_their_numbers(dataset: Path) -> None:
    html = report(dataset).read_text(encoding="utf-8")
    head = html[html.index("<thead>") : html.index("</thead>")]
    assert head.count('class="number"') == 5
    assert "<h1>defocus-ds report: " in html
    assert '<div class="thumbs"><figure class="thumb">' in html
    assert "weighs what the cells know by their noise" in html


def test_what_the_build_rejected_cannot_be_accepted(tmp_path: Path, pair: TruePair) -> None:
    rejected = {
        ("a", "low"): "residual: 2 px, 1 px",
        ("a", "medium"): "skipped: --skip a/medium",
        ("b", "medium"): "shaken: the blur is longer than wide (1.6, limit 1.4)",
    }
    dataset = make_dataset(tmp_path / "set", pair, ("a", "b"), rejected=rejected)
    page = Page(report(dataset))
    buttons = [a for t, a in page.tags if t == "button" and a.get("data-do") == "accept"]
    assert len(buttons) == 2 * 6  # in the table and in the scenes
    titles = [a["title"] if "disabled" in a else None for a in buttons[:6]]
    limit, skipped, *open_, rules, failed = titles
    assert "with a higher --set register.max_residual_px and --replace" in (limit or "")
    assert "for the reasons that it names" in (rules or "")
    assert "--skip" in (skipped or "")
    assert open_ == [None] * 2
    assert "could not make it" in (failed or "")
    rejects = [a for t, a in page.tags if t == "button" and a.get("data-do") == "reject"]
    assert not [a for a in rejects if "disabled" in a]


def test_a_residual_that_cannot_be_measured_has_no_limit_to_raise(
    tmp_path: Path, pair: TruePair
) -> None:
    rejected = {("a", "low"): "residual: cannot be measured, limit 1 px"}
    dataset = make_dataset(tmp_path / "set", pair, ("a",), rejected=rejected)
    rows = read_scenes(dataset / SCENES_NAME)
    for row in rows:
        if row["level"] == "low":
            row["residual_px"] = 1e6  # how records hold what could not be measured
    write_scenes(dataset / SCENES_NAME, rows)
    page = Page(report(dataset))
    accept = [a for t, a in page.tags if t == "button" and a.get("data-do") == "accept"]
    assert "for the reasons that it names" in (accept[0]["title"] or "")


def test_maps_follow_the_limit_of_the_dataset(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    page = report(dataset)
    maps = sorted(page.parent.glob("assets/*/low-*shift*.svg"))
    before = [path.read_text() for path in maps]
    info = read_json(dataset / "dataset.json")
    info["config"]["tile"]["max_residual_px"] = 0.001
    write_json(dataset / "dataset.json", info)
    report(dataset)
    assert before
    assert all(path.read_text() != text for path, text in zip(maps, before, strict=True))


def test_the_command_can_be_pasted(tmp_path: Path, pair: TruePair) -> None:
    page = Page(report(make_dataset(tmp_path / "my set", pair, ("a",))))
    assert "defocus-ds crop 'my set' --level low --review review.csv" in page.text
    assert "The same again for medium and high." in page.text


def views(values: dict[str, list[float | None]]) -> list[PairView]:
    """Pairs with these residuals, by level."""
    row: dict[str, Any] = {"verdict": "keep", "width": 1, "height": 1}
    return [
        pair_view(row | {"scene": f"s{n}", "level": level, "residual_px": value})
        for level, numbers in values.items()
        for n, value in enumerate(numbers)
    ]


def bars_of(svg: str) -> list[tuple[str, list[int]]]:
    found = re.findall(r'aria-label="([^"]+)" data-rows="([\d ]+)"', svg)
    return [(label, [int(n) for n in rows.split()]) for label, rows in found]


RESIDUAL = FIGURES[0]


def test_bars_hold_every_pair_once_in_the_bin_they_name() -> None:
    pairs = views({"low": [0.01, 0.012, 0.05, None], "high": [0.05, 0.021, 0.09]})
    bars = bars_of(histogram(RESIDUAL, pairs))
    assert sorted(n for _, rows in bars for n in rows) == [0, 1, 2, 4, 5, 6]
    for label, rows in bars:
        named = re.fullmatch(r"Residual px ([\d.]+) to ([\d.]+), (\w+): (\d+) pairs?", label)
        assert named is not None, label
        assert int(named[4]) == len(rows)
        assert {pairs[n].level for n in rows} == {named[3]}
        assert all(float(named[1]) <= (pairs[n].residual_px or 0) for n in rows)
        assert all((pairs[n].residual_px or 0) < float(named[2]) for n in rows)


def test_one_outlier_does_not_squeeze_the_rest() -> None:
    values: list[float | None] = [0.02 + 0.001 * n for n in range(20)]
    bars = bars_of(histogram(RESIDUAL, views({"low": [*values, 40.0]})))
    assert len(bars) > 4
    label, rows = bars[-1]
    assert rows == [20]
    assert "and above" in label


def test_the_limit_is_marked_where_it_lies() -> None:
    pairs = views({"low": [0.0, 0.2, 0.4, 0.8]})
    svg = histogram(RESIDUAL, pairs, limit=0.4)
    mark = re.search(r'class="limit" d="M([\d.]+) ', svg)
    places = re.findall(r'class="hit" x="([\d.]+)"', svg)
    assert mark is not None
    assert float(mark[1]) == pytest.approx(float(places[2]), abs=0.1)  # the bar of 0.4 begins there
    assert "limit" not in histogram(RESIDUAL, pairs, limit=5.0)


def test_a_figure_that_no_pair_has_is_said() -> None:
    assert "no pair has it" in histogram(RESIDUAL, views({"low": [None]}))
    assert "svg" not in histogram(RESIDUAL, [])
    hostile = Figure(HOSTILE, "residual_px", 1, "")
    assert "<img" not in histogram(hostile, views({"low": [0.1]}))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.floats(0, 1e6, allow_subnormal=False).map(lambda v: v if v > 1e-9 else 0.0), min_size=1
    )
)
def test_every_value_lies_in_its_bin(values: list[float]) -> None:
    bins = bins_of(values)
    assert 1 <= bins.total <= 18
    for value in values:
        at = bins.index(value)
        low, high = ((bins.first + at + end) * bins.step for end in (0, 1))
        slack = 1e-8 * bins.step + 1e-12 * value
        assert low - slack <= value
        assert value < high + slack or (bins.tail and at == bins.count)


def overlay_counts(picture: npt.NDArray[np.uint8]) -> dict[tuple[int, int, int], int]:
    colours = (SHARP_EDGE, BLURRED_EDGE, BOTH_EDGES)
    return {c: int((picture == np.array(c)).all(axis=-1).sum()) for c in colours}


def test_edges_of_a_registered_pair_coincide_and_of_a_shifted_one_part(pair: TruePair) -> None:
    model = to_encoded(blur_disk(to_linear(pair.sharp, Transfer.SRGB), 3.0), Transfer.SRGB)
    model8 = np.asarray(np.rint(np.clip(model, 0, 1) * 255), np.uint8)[20:-20, 20:-20]
    registered = resample(pair.blurred, pair.warp)[20:-20, 20:-20]
    right = overlay_counts(edge_overlay(model8, registered))
    wrong = overlay_counts(edge_overlay(model8, np.roll(registered, 3, axis=1)))
    assert right[BOTH_EDGES] > 500
    assert right[BOTH_EDGES] > 3 * (right[SHARP_EDGE] + right[BLURRED_EDGE])
    assert wrong[BOTH_EDGES] < 0.5 * (wrong[SHARP_EDGE] + wrong[BLURRED_EDGE])


def test_orange_is_the_sharp_image_and_blue_the_blurred_one() -> None:
    def step(at: int) -> npt.NDArray[np.uint8]:
        image = np.full((40, 60, 3), 60, np.uint8)
        image[:, at:] = 180
        return image

    picture = edge_overlay(step(20), step(40))
    places = {
        c: np.flatnonzero((picture == np.array(c)).all(axis=-1)[20])
        for c in (SHARP_EDGE, BLURRED_EDGE)
    }
    assert list(places[SHARP_EDGE]) in ([19], [20])
    assert list(places[BLURRED_EDGE]) in ([39], [40])
    flat = np.full((40, 60, 3), 90, np.uint8)
    assert not any(overlay_counts(edge_overlay(flat, flat)).values())


def test_q_is_the_mean_over_the_crops_of_a_pair(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a", "b"))
    assert mean_q(dataset) == {}
    assert "Q sharp" not in " ".join(Page(report(dataset)).text)
    write_crops(dataset, "medium", {"a": [(0.2, 0.1), (0.4, 0.3)], "b": [(0.5, 0.25)]})
    assert mean_q(dataset) == {
        Pair("a", Level.MEDIUM): (pytest.approx(0.3), pytest.approx(0.2)),
        Pair("b", Level.MEDIUM): (0.5, 0.25),
    }
    page = Page(report(dataset))
    assert {"Q sharp", "Q blurred"} <= set(page.text)
    assert "0.300" in page.text
    labels = page.attributes("g", "aria-label")
    assert [label for label in labels if label.startswith("Q sharp")]
    assert all("medium" in label for label in labels if label.startswith("Q "))


def test_q_of_an_earlier_build_is_left_out_and_said(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a", "b"))
    write_crops(dataset, "low", {"a": [(0.2, 0.1)]})
    write_scenes(dataset / SCENES_NAME, read_scenes(dataset / SCENES_NAME)[1:])
    facts = read_json(dataset / "dataset.json")
    facts["digest"] = sha256_file(dataset / SCENES_NAME)
    write_json(dataset / "dataset.json", facts)
    write_crops(dataset, "medium", {"a": [(0.5, 0.25)]})
    page = Page(report(dataset))
    text = " ".join(page.text)
    assert "The crops of low were cut from an earlier build" in text
    assert "defocus-ds crop set --level low" in page.text
    assert "defocus-ds crop set --level medium" not in page.text
    assert "0.200" not in page.text
    assert "0.500" in page.text
    dashes = [title for title in page.attributes("td", "title") if title]
    assert set(dashes) == {
        "the crops of low were cut from an earlier build than the one shown here: cut them again",
        "no crops of the pair",
        "the build could not make the pair",
    }
    assert all(meaning in text.partition("–: ")[2] for meaning in set(dashes))


def test_crops_that_have_lost_their_manifest_are_said_so(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    write_crops(dataset, "medium", {"a": [(0.5, 0.25)]})
    (dataset / "crops/low").mkdir()
    (dataset / "crops/low/train-00000-of-00001.parquet").touch()
    page = Page(report(dataset))
    text = " ".join(page.text)
    assert "The crops of low have no manifest.parquet, so their Q is left out." in text
    assert "earlier build" not in text
    assert "defocus-ds crop set --level low" in page.text
    assert "the crops of low have no manifest.parquet: cut them again" in page.attributes(
        "td", "title"
    )


def test_a_damaged_manifest_of_crops_is_named(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    path = write_crops(dataset, "low", {"a": [(0.2, 0.1)]})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"low/manifest\.parquet"):
        report(dataset)


def test_figures_of_crops_are_shown_only_if_there_are_crops() -> None:
    (bare,) = views({"low": [0.1]})
    assert [f.name for f in figures_of([bare])] == [f.name for f in FIGURES if "Q" not in f.name]


def test_what_was_done_to_the_colours_is_told(page: Page) -> None:
    row: dict[str, Any] = {"scene": "a", "level": "low", "verdict": "keep", "width": 1, "height": 1}
    told = dict(pair_view(row | {"colour": json.dumps(CAST)}).colour)
    assert told == {
        "method": "response",
        "gains R, G, B": "1.020, 0.940, 1.030 ± 0.0020",
        "ΔE": "3.00 → 0.40",
        "contrast": "1.020 → 1.001",
    }
    assert page.text.count("3.00 → 0.40") == 5
    failed = {"failed": "no overlap", "notes": ["took the affine map"]}
    told = dict(pair_view(row | {"colour": json.dumps(failed)}).colour)
    assert told == {"failed": "no overlap", "note": "took the affine map"}
