"""The page itself: one HTML file with its style and script inside, and every string escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from defocus_ds.frames import BLURRED_LEVELS
from defocus_ds.report.figures import Figure, figures_of
from defocus_ds.report.histograms import histogram
from defocus_ds.report.pairs import PairView
from defocus_ds.report.scene import TILE, ScenePictures, scene_section
from defocus_ds.report.table import pair_table
from defocus_ds.wording import command_line, counted

__all__ = ["render_page"]

_STYLES = ("page.css", "scene.css")
# in this order: each uses the names of those before it
_SCRIPTS = ("csv.js", "decisions.js", "table.js", "tiles.js", "page.js")

# value, label, what to look for
_VIEWS = (
    (
        "slide",
        "Sharp | blurred",
        "The slider uncovers the blurred image, registered and recoloured, over the sharp one. "
        "Blink: nothing may move.",
    ),
    (
        "before",
        "Before registration",
        "The same with the blurred image where the camera had it.",
    ),
    (
        "colours",
        "Colour before | after",
        "The blurred image with the colours as shot (the recorded map taken back) and as matched. "
        "The figures are below the tiles.",
    ),
    (
        "model",
        "Model | blurred",
        "The model is the sharp image blurred in linear light by the disk that was measured. "
        "Blink: the two should look the same.",
    ),
    (
        "difference",
        "Difference × 4",
        "Model against blurred. A shift shows as a bright rim, a wrong radius as a halo, a cast "
        "as a tint; black means that the pair is explained.",
    ),
    (
        "anaglyph",
        "Red / cyan",
        "Model red, blurred cyan. A shift shows as a coloured rim; grey without colours means "
        "that the pair is explained.",
    ),
    (
        "edges",
        "Edges",
        "Edges of the sharp image at the scale of the blur orange, of the blurred one blue, "
        "white where both run. Orange beside blue, always to the same side, is a shift.",
    ),
)

_KEYS = (
    ("j or →", "next pair, in the table's order"),
    ("k or ←", "previous pair"),
    ("a", "accept; again: take it back"),
    ("r", "reject; again: take it back"),
    ("n", "note; Enter ends it, Shift+Enter begins a line"),
    ("u", "undo"),
    ("b", "blink the tiles between both images; Esc ends it"),
    ("1 to 7", "what the tiles show"),
    ("?", "these keys"),
)


def render_page(
    title: str,
    facts: Mapping[str, Any],
    pairs: Sequence[PairView],
    pictures: Mapping[str, ScenePictures],
    *,
    limit_px: float | None = None,
    stale: Mapping[str, str],
    again: Sequence[str],
) -> str:
    """The whole page.

    Args:
        title: name of the dataset.
        facts: the contents of dataset.json.
        pairs: in the order to show.
        pictures: scene -> its pictures.
        limit_px: residual shift above which crops are rejected, marked in its distribution.
        stale: level -> what is wrong with its crops.
        again: the commands that cut these again.

    Returns:
        HTML5 text that loads nothing but the pictures beside it.
    """
    scenes: dict[str, list[PairView]] = {}
    for pair in pairs:
        scenes.setdefault(pair.scene, []).append(pair)
    figures = figures_of(pairs)
    body = [
        _header(title, facts, pairs, len(scenes)),
        _how_to(title, pairs),
        _stale_crops(stale, again),
        _distributions(figures, pairs, limit_px),
        pair_table(
            pairs, figures, {scene: number for number, scene in enumerate(scenes)}, stale=stale
        ),
        _view_bar(),
        *(
            scene_section(number, own, figures, pictures[scene])
            for number, (scene, own) in enumerate(scenes.items())
        ),
        TILE,
        _DECISIONS,
        _keys(),
    ]
    assets = resources.files("defocus_ds.report")
    style, script = (
        "\n".join(assets.joinpath(name).read_text(encoding="utf-8") for name in names)
        for names in (_STYLES, _SCRIPTS)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src 'self' file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}: review</title>\n<style>\n{style}</style>\n</head>\n"
        f'<body data-dataset="{escape(title)}" '
        f'data-config="{escape(str(facts.get("config_digest") or ""))}" data-view="slide">\n'
        + "\n".join(body)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


_DECISIONS = """<aside class="decisions" aria-label="Review">
<div class="walk"><button type="button" id="previous" aria-label="Previous pair">‹</button>
<button type="button" id="next" aria-label="Next pair">›</button> <span id="place"></span></div>
<p id="counts"></p>
<p id="status" role="status"></p>
<div class="acts"><button type="button" id="undo" disabled>Undo</button>
<button type="button" id="save" class="main">Save review.csv</button>
<button type="button" id="help" aria-label="Keys">?</button></div>
<div id="trouble" role="alert" hidden></div>
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
        f'<span class="verdict failed">{counts["failed"]} failed</span>; '
        f"{sum(bool(p.flags) for p in pairs)} flagged as tinted or near-duplicates</p>"
        f"<details><summary>How it was built</summary><dl>{items}</dl></details>"
        "<noscript><p><strong>Scenes, filters and decisions need JavaScript, which is off in "
        "this browser.</strong></p></noscript></header>"
    )


def _how_to(title: str, pairs: Sequence[PairView]) -> str:
    levels = [level.value for level in BLURRED_LEVELS if any(p.level == level for p in pairs)]
    first, *others = levels or ["low"]
    command = command_line("crop", title, "--level", first, "--review", "review.csv")
    again = f"<span>The same again for {' and '.join(others)}.</span>" if others else ""
    return (
        '<section class="howto"><p>Look at each pair, accept or reject it'
        '<span class="by-key"> (<kbd>a</kbd>, <kbd>r</kbd>; <kbd>j</kbd> goes on, <kbd>?</kbd> '
        "shows all keys)</span>, then "
        "save review.csv and cut crops of what is left:</p>"
        f'<p class="command"><code id="command">{escape(command)}</code> '
        '<button type="button" id="copy">Copy</button>'
        f"{again}</p>"
        '<p class="hint">Decisions stay in this browser until you clear them. '
        '<button type="button" id="load">Load review.csv</button> '
        '<input type="file" id="file" accept=".csv,text/csv" hidden aria-label="File to load">'
        '<button type="button" id="clear">Clear all decisions</button></p></section>'
    )


def _stale_crops(stale: Mapping[str, str], again: Sequence[str]) -> str:
    """That Q is not shown where it is unknown, or of pixels that are no longer there."""
    if not stale:
        return ""
    commands = "".join(
        f'<p class="command"><code>{escape(command)}</code></p>' for command in again
    )
    said = " ".join(
        f"The crops of {', '.join(level for level in stale if stale[level] == why)} {why}, so "
        "their Q is left out."
        for why in dict.fromkeys(stale.values())
    )
    return (
        f'<section class="stale" role="note"><p>{said} Cut them again, then make this page '
        f"again:</p>{commands}</section>"
    )


def _distributions(
    figures: Sequence[Figure], pairs: Sequence[PairView], limit_px: float | None
) -> str:
    charts = "".join(
        f'<figure class="spread"><figcaption title="{escape(figure.meaning)}">'
        f"{escape(figure.name)}</figcaption>"
        f"{histogram(figure, pairs, limit=limit_px if figure.attribute == 'residual_px' else None)}"
        "</figure>"
        for figure in figures
        if figure.spread
    )
    return (
        '<section><h2>Distributions</h2><p class="hint">Press a bar to see only its pairs, in the '
        "table and below; press it again to see all. "
        '<span class="by-key">With Shift, bars add up. By keyboard: Tab to a chart, arrows between '
        "its bars, Enter.</span></p>"
        f'<div class="spreads">{charts}</div></section>'
    )


def _view_bar() -> str:
    labels = "".join(
        f'<label title="{escape(hint)}"><input type="radio" name="view" value="{value}"'
        f"{' checked' if value == 'slide' else ''}><span>{escape(label)}</span></label>"
        for value, label, hint in _VIEWS
    )
    hints = "".join(
        f'<p class="hint" data-of="{value}">{escape(hint)}</p>' for value, _, hint in _VIEWS
    )
    return (
        '<div class="views"><div class="strip"><fieldset><legend>Tiles show</legend>'
        f'{labels}</fieldset><button type="button" id="blink" aria-pressed="false">Blink</button>'
        f"</div>{hints}</div>"
    )


def _keys() -> str:
    rows = "".join(f"<dt><kbd>{key}</kbd></dt><dd>{escape(what)}</dd>" for key, what in _KEYS)
    return (
        '<dialog id="keys" aria-labelledby="keys-title"><h2 id="keys-title">Keys</h2>'
        f'<dl>{rows}</dl><form method="dialog"><button>Close</button></form></dialog>'
    )
