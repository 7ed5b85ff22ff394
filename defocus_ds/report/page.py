"""The page itself: one HTML file with its style and script inside, and every string escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from defocus_ds.frames import Level
from defocus_ds.report.pairs import PairView
from defocus_ds.report.pictures import Tile
from defocus_ds.wording import counted

__all__ = ["ScenePictures", "TilePictures", "render_page"]


@dataclass(frozen=True, slots=True)
class TilePictures:
    """One tile of one pair at full resolution: file names in the scene's folder."""

    tile: Tile
    sharp: str
    blurred: str
    model: str
    before: str | None


@dataclass(frozen=True, slots=True)
class ScenePictures:
    """File names of a scene's pictures, relative to ``folder``, itself relative to the page."""

    folder: str
    overviews: Mapping[str, str]
    tiles: Mapping[str, Sequence[TilePictures]]
    plots: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ScenePictures:
        """Inverse of `dataclasses.asdict`; KeyError or TypeError when it is not one."""
        tiles = {
            level: [TilePictures(**{**entry, "tile": Tile(**entry["tile"])}) for entry in entries]
            for level, entries in record["tiles"].items()
        }
        return cls(record["folder"], record["overviews"], tiles, record["plots"])


# heading, attribute of PairView, digits
_FIGURES = (
    ("Residual px", "residual_px", 3),
    ("Blur radius px", "blur_radius_px", 2),
    ("NCC", "ncc", 4),
    ("ΔE before", "colour_before", 2),
    ("ΔE after", "colour_after", 2),
)

_MEANINGS = {
    "Residual px": "estimated mean misalignment that remains, pixels; the arrows show where",
    "Blur radius px": "radius of the disk that blurs the sharp image into this one",
    "NCC": "correlation of the aligned capture with the sharp one blurred by that disk",
    "ΔE before": "mean CIEDE2000 of the captures, locally averaged and blur-matched, as shot",
    "ΔE after": "the same after colour matching",
}


_NUMBER = ' class="number"'

# said under a plot, where its figures and those of the pair could be taken for each other
_PLOT_NOTES = {
    "residual shift": "Each cell as measured, with its own noise: single cells can lie above the "
    "limit while the residual of the pair, which weighs what the cells know by their noise, is "
    "far below it."
}


# as they follow each other; `review` draws them under these names
_PLOTS = ("residual shift", "blur radius", "unexplained contrast", "registration metric")


def render_page(
    title: str,
    facts: Mapping[str, Any],
    pairs: Sequence[PairView],
    pictures: Mapping[str, ScenePictures],
) -> str:
    """The whole page.

    Args:
        title: name of the dataset.
        facts: the contents of dataset.json.
        pairs: in the order to show.
        pictures: scene -> its pictures.

    Returns:
        HTML5 text that loads nothing but the pictures beside it.
    """
    scenes: dict[str, list[PairView]] = {}
    for pair in pairs:
        scenes.setdefault(pair.scene, []).append(pair)
    body = [
        _header(title, facts, pairs, len(scenes)),
        _table(pairs, {scene: number for number, scene in enumerate(scenes)}),
        _VIEW_BAR,
        *(
            _scene(number, scene, own, pictures[scene])
            for number, (scene, own) in enumerate(scenes.items())
        ),
        _DECISIONS,
    ]
    assets = resources.files("defocus_ds.report")
    style = assets.joinpath("page.css").read_text(encoding="utf-8")
    script = assets.joinpath("page.js").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src 'self' file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}: review</title>\n<style>\n{style}</style>\n</head>\n"
        f'<body data-dataset="{escape(title)}">\n'
        + "\n".join(body)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


_VIEW_BAR = """<fieldset class="views"><legend>Tiles show</legend>
<label><input type="radio" name="view" value="slide" checked> sharp | blurred</label>
<label><input type="radio" name="view" value="before"> sharp | blurred before registration</label>
<label><input type="radio" name="view" value="model"> sharp blurred by the model | blurred</label>
<label><input type="radio" name="view" value="difference"> their difference × 4</label>
<label><input type="radio" name="view" value="anaglyph"> model red, blurred cyan</label>
<p class="hint">The model is the sharp image blurred in linear light by the disk that was measured.
Against it a shift shows as a coloured or bright rim, a wrong radius as a halo, a cast as a tint;
a black difference, or grey without colours, means that the pair is explained.</p></fieldset>"""

_DECISIONS = """<aside class="decisions" aria-live="polite" hidden>
<p><strong id="decided">0 pairs</strong> marked to leave out. Build again with:</p>
<textarea id="command" readonly rows="2" aria-label="Command"></textarea>
<button type="button" id="copy">Copy</button> <button type="button" id="clear">Clear all</button>
</aside>"""


def _header(title: str, facts: Mapping[str, Any], pairs: Sequence[PairView], scenes: int) -> str:
    counts = {v: sum(p.verdict == v for p in pairs) for v in ("keep", "reject", "failed")}
    versions = facts.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    config = facts.get("config")
    details = [
        ("Preset", facts.get("preset")),
        ("Configuration", facts.get("config_digest")),
        *(config if isinstance(config, dict) else {}).items(),
        *sorted(versions.items()),
    ]
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in details)
    return (
        f"<header><h1>defocus-ds report: {escape(title)}</h1><p>{counted(scenes, 'scene')}, "
        f"{counted(len(pairs), 'pair')}: "
        f'<span class="verdict keep">{counts["keep"]} kept</span>, '
        f'<span class="verdict reject">{counts["reject"]} rejected</span>, '
        f'<span class="verdict failed">{counts["failed"]} failed</span></p>'
        f"<details><summary>How it was built</summary><dl>{items}</dl></details></header>"
    )


def _table(pairs: Sequence[PairView], numbers: Mapping[str, int]) -> str:
    headings = ("Pair", "Level", "Verdict", *(name for name, _, _ in _FIGURES), "Reasons")
    head = "".join(
        f'<th scope="col" aria-sort="none" title="{escape(_MEANINGS.get(name, ""))}"'
        f"{_NUMBER if name in _MEANINGS else ''}>"
        f'<button type="button">{escape(name)}</button></th>'
        for name in headings
    )
    rows = "\n".join(_row(pair, numbers[pair.scene]) for pair in pairs)
    return (
        '<section><h2 id="pairs">Pairs</h2><p class="filter"><label>Show only pairs with '
        '<input type="search" id="filter" placeholder="scene, level, verdict or reason"></label> '
        '<output id="shown"></output></p><div class="scroll"><table id="table">'
        f'<thead><tr>{head}<th scope="col">Leave out</th></tr></thead>\n<tbody>\n{rows}\n</tbody>'
        "</table></div></section>"
    )


def _row(pair: PairView, number: int) -> str:
    order = [Level.SHARP, Level.LOW, Level.MEDIUM, Level.HIGH].index(pair.level)
    skipped = any(reason.startswith("skipped:") for reason in pair.reasons)
    cells = [
        f'<th scope="row"><a href="#s{number}-{pair.level}">{escape(pair.scene)}</a></th>',
        f'<td data-sort="{order}">{pair.level}</td>',
        f"<td>{_verdict(pair)}</td>",
        *(_figure_cell(getattr(pair, name), digits) for _, name, digits in _FIGURES),
        f'<td class="reasons">{escape("; ".join(pair.reasons))}</td>',
        f'<td><input type="checkbox" data-pair="{escape(pair.name)}" '
        f'aria-label="Leave out {escape(pair.name)}"{" data-skipped" if skipped else ""}></td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _figure_cell(value: float | None, digits: int) -> str:
    if value is None:
        return '<td class="number" data-sort="">–</td>'
    return f'<td class="number" data-sort="{value!r}">{value:.{digits}f}</td>'


def _verdict(pair: PairView) -> str:
    return f'<span class="verdict {escape(pair.verdict)}">{escape(pair.verdict)}</span>'


def _scene(number: int, scene: str, pairs: Iterable[PairView], pictures: ScenePictures) -> str:
    pairs = list(pairs)
    outlines = {pair.level: _outline(pair) for pair in pairs}
    thumbnails = "".join(
        _image(pictures, name, f"{scene}, {level}", caption=level, over=outlines.get(level, ""))
        for level in Level
        if (name := pictures.overviews.get(level))
    )
    parts = [_pair(number, pair, pictures) for pair in pairs]
    return (
        f'<section class="scene" id="s{number}"><h2>{escape(scene)} '
        '<a class="up" href="#pairs">to the table</a></h2>'
        f'<div class="thumbs">{thumbnails}</div>{"".join(parts)}</section>'
    )


def _pair(number: int, pair: PairView, pictures: ScenePictures) -> str:
    figures = ", ".join(
        f"{name} {value:.{digits}f}"
        for name, attribute, digits in _FIGURES
        if (value := getattr(pair, attribute)) is not None
    )
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in pair.reasons)
    tiles = "".join(
        _tile(pictures, entry, f"{pair.name}, {entry.tile.why}")
        for entry in pictures.tiles.get(pair.level, ())
    )
    plots = "".join(
        _image(
            pictures,
            name,
            f"{pair.name}, {label}",
            caption=". ".join(filter(None, (label, _PLOT_NOTES.get(label)))),
            kind="plot",
        )
        for label, name in sorted(
            pictures.plots.get(pair.level, {}).items(), key=lambda item: _PLOTS.index(item[0])
        )
    )
    return (
        f'<article id="s{number}-{pair.level}"><h3>{pair.level} {_verdict(pair)}</h3>'
        f"<p>{escape(figures)}</p>{f'<ul>{reasons}</ul>' if reasons else ''}"
        f'<div class="row">{tiles}</div><div class="row">{plots}</div></article>'
    )


def _outline(pair: PairView) -> str:
    """The valid area over a picture of the whole frame."""
    if pair.valid_area is None or min(pair.size) < 1:
        return ""
    (x0, y0, x1, y1), (width, height) = pair.valid_area, pair.size
    sides = {"left": x0 / width, "top": y0 / height}
    sides |= {"right": 1 - x1 / width, "bottom": 1 - y1 / height}
    style = ";".join(f"{name}:{100 * part:.2f}%" for name, part in sides.items())
    return f'<span class="valid" style="{style}" title="valid area"></span>'


def _image(
    pictures: ScenePictures,
    name: str,
    alt: str,
    *,
    caption: str,
    kind: str = "thumb",
    over: str = "",
) -> str:
    source = escape(f"{pictures.folder}/{name}")
    return (
        f'<figure class="{kind}"><a href="{source}"><img loading="lazy" src="{source}" '
        f'alt="{escape(alt)}">{over}</a><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _tile(pictures: ScenePictures, entry: TilePictures, label: str) -> str:
    tile = entry.tile

    def layer(kind: str, name: str) -> str:
        source = escape(f"{pictures.folder}/{name}")
        return (
            f'<div class="layer {kind}"><img loading="lazy" src="{source}" alt="" '
            f'width="{tile.width}" height="{tile.height}"></div>'
        )

    layers = layer("sharp", entry.sharp) + layer("model", entry.model)
    layers += layer("before", entry.before) if entry.before else ""
    layers += layer("blurred", entry.blurred)
    return (
        f'<figure class="tile" style="--w:{tile.width};--h:{tile.height}">'
        f'<div class="stack">{layers}<div class="bar"></div></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="Slide, {escape(label)}">'
        f"<figcaption>{escape(tile.why)}, at {tile.x}, {tile.y}</figcaption></figure>"
    )
