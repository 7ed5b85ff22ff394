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
from scenes import TruePair, true_pair

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.manifest import write_scenes
from defocus_ds.errors import DatasetError
from defocus_ds.optics import Transfer
from defocus_ds.report import report
from defocus_ds.report.maps import radius_plot, unexplained_plot
from defocus_ds.report.pairs import Cell, Shift, Trace, pair_view
from defocus_ds.report.pictures import (
    Tile,
    before_of,
    choose_tiles,
    encode_jpeg,
    model_of,
    overview,
)
from defocus_ds.report.plots import shift_plot, trace_plot
from defocus_ds.resample import resample
from defocus_ds.stages.register.radius_map import RadiusMap
from defocus_ds.store import sha256_file, write_json

Bytes = npt.NDArray[np.uint8]
HOSTILE = "<img src=x onerror=alert(1)> \"& '%2e"
LEVELS = ("low", "medium", "high")


@pytest.fixture(scope="module")
def pair() -> TruePair:
    return true_pair((320, 240), radius_px=3.0, shift_px=(2.0, -1.0), seed=5)


def save(path: Path, image: Bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return sha256_file(path)


def row_of(dataset: Path, scene: str, level: str, image: Bytes, **more: Any) -> dict[str, Any]:
    name = f"images/{scene}/{level}.png"
    base = {
        "scene": scene,
        "level": level,
        "offset": {"sharp": 0, "low": 2, "medium": 4, "high": 6}[level],
        "image": name,
        "image_sha256": save(dataset / name, image),
        "width": image.shape[1],
        "height": image.shape[0],
        "transfer": "srgb",
        "verdict": "keep",
        "reasons": [],
    }
    return base | more


def radius_map(radius_px: float) -> RadiusMap:
    """A frame of 320 x 240: half a pixel more in the last column, the first node unknown."""
    radius = np.full((4, 5), radius_px)
    radius[:, -1] += 0.5
    deviation = np.full((4, 5), 0.03)
    deviation[2, 2] = 3.0
    radius[0, 0] = deviation[0, 0] = np.nan
    return RadiusMap(radius, deviation, 0 * radius)


def make_dataset(dataset: Path, pair: TruePair, scenes: tuple[str, ...]) -> Path:
    """Scenes of one sharp and three registered images; the last scene's high pair failed."""
    registered = resample(pair.blurred, pair.warp)
    rows = []
    for scene in scenes:
        rows.append(row_of(dataset, scene, "sharp", pair.sharp))
        for index, level in enumerate(LEVELS):
            if scene == scenes[-1] and level == "high":
                rows.append(
                    {
                        **rows[-1],
                        **dict.fromkeys(("image", "image_sha256", "matrix", "alignment")),
                        "level": level,
                        "offset": 6,
                        "verdict": "failed",
                        "reasons": ["no texture: <b>0.1</b> %, 1 % needed"],
                    }
                )
                continue
            alignment = {
                "ncc": 0.99 - index / 100,
                "residual_grid": [[x, y, 0.02, -0.01, 0.9] for x in (40, 160) for y in (40, 160)],
                "unexplained_grid": [[40, 40, 0.02], [160, 40, 0.9], [160, 160, 0.0]],
                "radius_map": radius_map(3.0 + index).to_record(),
                "trace": {"1/4": [-0.2, -0.5, -0.6], "1/2": [-0.6, -0.65]},
            }
            rows.append(
                row_of(
                    dataset,
                    scene,
                    level,
                    registered,
                    matrix=[float(v) for line in pair.warp.matrix for v in line],
                    radial=0.0,
                    blur_radius_px=3.0 + index,
                    residual_px=0.05 / (index + 1),
                    valid_area=[4, 4, 310, 230],
                    alignment=json.dumps(alignment),
                    colour=json.dumps({"ciede2000": {"before": 3.0, "after": 0.4}}),
                )
            )
    write_scenes(dataset / "scenes.parquet", rows)
    config = BuildConfig.from_preset("accurate")
    write_json(
        dataset / "dataset.json",
        {
            "format": 1,
            "preset": "accurate",
            "config": config.as_dict(),
            "config_digest": config.digest(),
            "versions": {"numpy": "2"},
            "pairs": {"keep": len(rows)},
        },
    )
    return dataset


class Page(HTMLParser):
    """Tags with their attributes, and the text outside script and style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)

    def attributes(self, tag: str, name: str) -> list[str]:
        return [a[name] or "" for t, a in self.tags if t == tag and name in a]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, pair: TruePair) -> Path:
    return make_dataset(tmp_path_factory.mktemp("report") / "set", pair, ("a1", HOSTILE))


@pytest.fixture(scope="module")
def page(dataset: Path) -> Page:
    return Page(report(dataset))


def test_every_pair_has_a_row_with_its_figures(page: Page) -> None:
    text = " ".join(page.text)
    assert page.attributes("input", "data-pair") == [
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
    sources = page.attributes("img", "src")
    assert len(sources) > 20
    assert all((dataset / "report" / source).is_file() for source in sources)
    assert page.attributes("img", "loading") == ["lazy"] * len(sources)
    links = page.attributes("a", "href")
    identities = {i for _, a in page.tags if (i := a.get("id"))}
    for link in links:
        assert link.removeprefix("#") in identities or (dataset / "report" / link).is_file()
    html = (dataset / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"?(https?:)?//", html)
    assert "default-src 'none'" in html


def test_same_dataset_same_bytes_and_nothing_drawn_twice(dataset: Path, page: Page) -> None:
    files = sorted(path for path in (dataset / "report").rglob("*") if path.is_file())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    report(dataset)
    for path, (content, modified) in before.items():
        assert path.read_bytes() == content
        if path.suffix == ".jpg":
            assert path.stat().st_mtime_ns == modified


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


def test_an_image_that_is_gone_is_named(tmp_path: Path, pair: TruePair) -> None:
    dataset = make_dataset(tmp_path / "set", pair, ("a",))
    (dataset / "images" / "a" / "medium.png").unlink()
    with pytest.raises(DatasetError, match=r"medium\.png"):
        report(dataset)


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
    sources = page.attributes("img", "src")
    for name in ("residual-shift", "blur-radius", "unexplained-contrast", "registration-metric"):
        assert sum(source.endswith(f"-{name}.svg") for source in sources) == 5
    assert "100" not in page.attributes("span", "style")[0]
    outlines = [a for t, a in page.tags if t == "span" and a.get("class") == "valid"]
    assert len(outlines) == 5
    assert outlines[0]["style"] == "left:1.25%;top:1.67%;right:3.12%;bottom:4.17%"


def test_the_capture_before_registration_is_shown(pair: TruePair, page: Page) -> None:
    assert sum(s.endswith("-before.jpg") for s in page.attributes("img", "src")) == 15
    tile = Tile(100, 80, 96, 64, "here")
    registered = resample(pair.blurred, pair.warp)
    moved_back = before_of(registered, tile, pair.warp).astype(float)
    as_shot = tile.cut(pair.blurred)
    assert np.abs(moved_back - as_shot).mean() < 1.5
    assert np.abs(tile.cut(registered).astype(float) - as_shot).mean() > 4


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
