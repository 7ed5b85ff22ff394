"""What the page shows of one scene: its pictures, and each of its pairs with tiles and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Self

from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Level
from defocus_ds.report.figures import Figure
from defocus_ds.report.pairs import PairView
from defocus_ds.report.pictures import OVERVIEW_PX, Tile
from defocus_ds.report.table import decision_buttons, verdict_label

__all__ = [
    "PLOTS",
    "TILE",
    "ScenePictures",
    "TilePictures",
    "overview_file",
    "plot_file",
    "scene_section",
]

# as they follow each other; `review` draws them under these names
PLOTS = ("residual shift", "blur radius", "unexplained contrast", "registration metric")

# no image of a dataset is as large
_MOST_PX = 1_000_000

# said under a plot, where its figures and those of the pair could be taken for each other
_PLOT_NOTES = {
    "residual shift": "Each cell as measured, with its own noise: single cells can lie above the "
    "limit while the residual of the pair, which weighs what the cells know by their noise, is "
    "far below it."
}


# what every tile holds, once; layers in the order of a tile's files, the later ones above
TILE = (
    '<template id="tile"><div class="stack">'
    + "".join(
        f'<div class="layer {kind}"><img loading="lazy" alt=""></div>'
        for kind in ("sharp", "model", "before", "colours", "blurred", "edges")
    )
    + '<div class="bar"></div></div><input type="range" min="0" max="100" value="50"></template>'
)


@dataclass(frozen=True, slots=True)
class TilePictures:
    """One tile of one pair at full resolution: file names in the scene's folder."""

    tile: Tile
    sharp: str
    blurred: str
    model: str
    edges: str
    before: str | None
    colours: str | None

    @classmethod
    def named(cls, tile: Tile, level: str, number: int, *, before: bool, colours: bool) -> Self:
        """The files of a pair's tile; ``before`` and ``colours`` say whether it has these."""
        stem = f"{level}-{number}"
        return cls(
            tile,
            sharp=f"sharp-{number}.jpg",
            blurred=f"{stem}.jpg",
            model=f"{stem}-model.jpg",
            edges=f"{stem}-edges.png",
            before=f"{stem}-before.jpg" if before else None,
            colours=f"{stem}-colours.jpg" if colours else None,
        )


@dataclass(frozen=True, slots=True)
class ScenePictures:
    """File names of a scene's pictures, relative to ``folder``, itself relative to the page."""

    folder: str
    overviews: Mapping[str, str]
    tiles: Mapping[str, Sequence[TilePictures]]
    plots: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_record(cls, record: Any, *, folder: str) -> Self:
        """Inverse of `dataclasses.asdict`; nothing that a record of others says is trusted.

        Names of files are made here, not taken from the record; it may only agree with them.

        Args:
            record: parsed JSON.
            folder: of the scene, which must be the record's.

        Raises:
            DatasetError: another folder, level, plot or file name than `report` writes, or a tile
                that is none.
        """
        try:
            made = cls(
                folder,
                {level: overview_file(level) for level in Level if level in record["overviews"]},
                {
                    level: [
                        TilePictures.named(
                            _tile_from(entry["tile"]),
                            level,
                            number,
                            before=entry["before"] is not None,
                            colours=entry["colours"] is not None,
                        )
                        for number, entry in enumerate(record["tiles"][level])
                    ]
                    for level in BLURRED_LEVELS
                    if level in record["tiles"]
                },
                {
                    level: {
                        name: plot_file(level, name)
                        for name in PLOTS
                        if name in record["plots"][level]
                    }
                    for level in BLURRED_LEVELS
                    if level in record["plots"]
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{folder}: no record of pictures ({error!r}).") from error
        if asdict(made) != record:
            raise DatasetError(f"{folder}: its record names other pictures than report draws.")
        return made


def overview_file(level: str) -> str:
    """Name of the picture of a whole frame."""
    return f"{level}.jpg"


def plot_file(level: str, plot: str) -> str:
    """Name of one of `PLOTS`."""
    return f"{level}-{plot.replace(' ', '-')}.svg"


def _tile_from(record: Mapping[str, Any]) -> Tile:
    """TypeError or ValueError unless it has whole numbers, and words that can be written."""
    tile = Tile(**record)
    numbers = (tile.x, tile.y, tile.width, tile.height)
    if not all(type(number) is int and 0 <= number <= _MOST_PX for number in numbers):
        raise ValueError(f"a tile of {numbers}")
    if not isinstance(tile.why, str):
        raise TypeError("a tile that is shown for no reason")
    tile.why.encode()
    return tile


def scene_section(
    number: int, pairs: Sequence[PairView], figures: Sequence[Figure], pictures: ScenePictures
) -> str:
    """One scene; its contents are a template, which the page fills in when it comes near.

    Args:
        number: of the scene on the page.
        pairs: of this scene, at least one.
        figures: numbers to write beside each pair.
        pictures: files of the scene.

    Returns:
        A ``<section>``.
    """
    scene = pairs[0].scene
    by_level = {pair.level: pair for pair in pairs}
    size = next((pair.size for pair in pairs if min(pair.size) > 0), (3, 2))
    thumbnails = "".join(
        _image(
            pictures,
            name,
            f"{scene}, {level}",
            caption=level,
            over=_outline(by_level[level]) if level in by_level else "",
            ratio=size,
        )
        for level in Level
        if (name := pictures.overviews.get(level))
    )
    parts = [_pair(number, pair, figures, pictures) for pair in pairs]
    return (
        f'<section class="scene" id="s{number}" data-folder="{escape(pictures.folder)}">'
        f"<h2>{escape(scene)} "
        '<a class="up" href="#pairs">to the table</a></h2>'
        f'<template><div class="thumbs">{thumbnails}</div>{"".join(parts)}</template></section>'
    )


def _pair(number: int, pair: PairView, figures: Sequence[Figure], pictures: ScenePictures) -> str:
    numbers = ", ".join(f"{f.name} {text}" for f in figures if (text := f.text(pair)) is not None)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in (*pair.reasons, *pair.flags))
    tiles = "".join(
        _tile(entry, f"{pair.name}, {entry.tile.why}")
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
            pictures.plots.get(pair.level, {}).items(), key=lambda item: PLOTS.index(item[0])
        )
    )
    colour = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pair.colour)
    if colour:
        colour = f'<section class="colour"><h4>Colour</h4><dl>{colour}</dl></section>'
    name = escape(pair.name)
    return (
        f'<article id="s{number}-{pair.level}" data-pair="{name}" tabindex="-1" '
        f'aria-label="{name}"><h3>{name} {verdict_label(pair)}</h3>'
        f"<p>{escape(numbers)}</p>{f'<ul>{reasons}</ul>' if reasons else ''}"
        f'<div class="decide">{decision_buttons(pair)}<label class="note">Note '
        '<textarea rows="1" maxlength="4000"></textarea></label></div>'
        f'<div class="row">{tiles}</div><div class="row">{plots}{colour}</div></article>'
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
    ratio: tuple[int, int] | None = None,
) -> str:
    source = escape(f"{pictures.folder}/{name}")
    # room for the picture before it is loaded, so that nothing below it jumps
    room = ""
    if ratio:
        room = f' width="{OVERVIEW_PX}" height="{round(OVERVIEW_PX * ratio[1] / ratio[0])}"'
    shown = f'<img loading="lazy" src="{source}" alt="{escape(alt)}"{room}>{over}'
    if not name.endswith(".svg"):  # one that is opened by itself may run scripts, in a page not
        shown = f'<a href="{source}">{shown}</a>'
    return f'<figure class="{kind}">{shown}<figcaption>{escape(caption)}</figcaption></figure>'


def _tile(entry: TilePictures, label: str) -> str:
    """A tile without its pictures, which `TILE` is filled with; a page has thousands of them."""
    tile = entry.tile
    # no file name of ours holds a space
    files = (
        entry.sharp,
        entry.model,
        entry.before or "-",
        entry.colours or "-",
        entry.blurred,
        entry.edges,
    )
    return (
        f'<figure class="tile" style="--w:{tile.width};--h:{tile.height}" '
        f'data-files="{escape(" ".join(files))}" data-label="{escape(label)}">'
        f"<figcaption>{escape(tile.why)}, at {tile.x}, {tile.y}</figcaption></figure>"
    )
