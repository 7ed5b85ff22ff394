"""The table of all pairs, the filters above it, and what a decision may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from defocus_ds.frames import BLURRED_LEVELS
from defocus_ds.report.figures import Figure
from defocus_ds.report.pairs import PairView

__all__ = ["decision_buttons", "pair_table", "verdict_label"]

_NUMBER = ' class="number"'
_SKIPPED = "it was left out with --skip; build again without that to keep it"
_FAILED = "build could not make it; mend what the reason says and build again to keep it"
_RESIDUAL = (
    "build rejected it for its residual; build again with a higher --set register.max_residual_px "
    "and --replace to keep it"
)
_REJECTED = "build rejected it for the reasons that it names; mend those and build again to keep it"
_VERDICTS = ("keep", "reject", "failed")
_DECISIONS = (
    ("", "any"),
    ("accept", "accepted"),
    ("reject", "rejected"),
    ("none", "undecided"),
    ("note", "with a note"),
)


def pair_table(
    pairs: Sequence[PairView],
    figures: Sequence[Figure],
    numbers: Mapping[str, int],
    *,
    stale: Mapping[str, str],
) -> str:
    """Filters, and a row for each pair.

    Args:
        pairs: in the page's order.
        figures: the columns of numbers.
        numbers: scene -> its number on the page.
        stale: level -> what is wrong with its crops.

    Returns:
        A ``<section>``.
    """
    meanings = {figure.name: figure.meaning for figure in figures}
    headings = ("Pair", "Level", "Verdict", *meanings, "Decision", "Reasons and flags")
    head = "".join(
        f'<th scope="col" aria-sort="none" title="{escape(meanings.get(name, ""))}"'
        f"{_NUMBER if name in meanings else ''}>"
        f'<button type="button">{escape(name)}</button></th>'
        for name in headings
    )
    rows = "\n".join(_row(pair, figures, numbers[pair.scene], stale) for pair in pairs)
    reasons = {
        _why_unknown(figure, pair, stale)
        for pair in pairs
        for figure in figures
        if figure.of(pair) is None
    }
    legend = f'<p class="hint">–: {"; or ".join(sorted(reasons))}.</p>' if reasons else ""
    return (
        f'<section><h2 id="pairs">Pairs</h2>{_filters(pairs)}'
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of pairs">'
        f'<table id="table"><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
        f"</div>{legend}</section>"
    )


def decision_buttons(pair: PairView) -> str:
    """Accept and reject; accept is disabled, and says why, where the build has no pair."""
    refusal = _refusal(pair)
    closed = f' disabled title="{refusal}"' if refusal else ""
    return (
        f'<button type="button" data-do="accept" aria-pressed="false"{closed}>Accept</button>'
        '<button type="button" data-do="reject" aria-pressed="false">Reject</button>'
    )


def verdict_label(pair: PairView) -> str:
    """What the build made of the pair."""
    return f'<span class="verdict {escape(pair.verdict)}">{escape(pair.verdict)}</span>'


def _refusal(pair: PairView) -> str:
    """Why a pair cannot be accepted; empty if it can."""
    if any(reason.startswith("skipped:") for reason in pair.reasons):
        return _SKIPPED
    if pair.verdict == "reject":
        alone = len(pair.reasons) == 1 and pair.reasons[0].startswith("residual:")
        return _RESIDUAL if alone and pair.residual_px is not None else _REJECTED
    return "" if pair.verdict == "keep" else _FAILED


def _filters(pairs: Sequence[PairView]) -> str:
    levels = [level for level in BLURRED_LEVELS if any(p.level == level for p in pairs)]
    verdicts = [v for v in _VERDICTS if any(p.verdict == v for p in pairs)]
    return (
        '<div class="filters"><label>Text <input type="search" id="filter" '
        'placeholder="scene, reason or note"></label>'
        + _choice("level", "Level", [("", "any"), *((v, v) for v in levels)])
        + _choice("verdict", "Verdict", [("", "any"), *((v, v) for v in verdicts)])
        + _choice("decision", "Decision", _DECISIONS)
        + '<label class="box"><input type="checkbox" id="undecided"> only undecided</label>'
        '<button type="button" id="unfilter" hidden>Show all</button>'
        '<output id="shown"></output></div>'
    )


def _choice(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<option value="{value}">{text}</option>' for value, text in options)
    return f'<label>{label} <select id="by-{name}">{items}</select></label>'


def _row(pair: PairView, figures: Sequence[Figure], number: int, stale: Mapping[str, str]) -> str:
    order = BLURRED_LEVELS.index(pair.level)
    cells = [
        f'<th scope="row"><a href="#s{number}-{pair.level}">{escape(pair.scene)}</a></th>',
        f'<td data-sort="{order}">{pair.level}</td>',
        f"<td>{verdict_label(pair)}</td>",
        *(_figure_cell(figure, pair, stale) for figure in figures),
        f'<td class="decide" data-sort="">{decision_buttons(pair)}<p class="said" hidden></p></td>',
        f'<td class="reasons">{escape("; ".join((*pair.reasons, *pair.flags)))}</td>',
    ]
    # pixels that a decision was made about; a pair built anew is decided anew
    made_of = pair.image_sha256 or ""
    return (
        f'<tr data-pair="{escape(pair.name)}" data-scene="{escape(pair.scene)}" '
        f'data-level="{pair.level}" data-verdict="{escape(pair.verdict)}" '
        f'data-made="{escape(made_of)}" data-at="s{number}-{pair.level}">{"".join(cells)}</tr>'
    )


def _why_unknown(figure: Figure, pair: PairView, stale: Mapping[str, str]) -> str:
    """What a dash in the place of a figure stands for."""
    if pair.verdict == "failed":
        return "the build could not make the pair"
    if not figure.of_crops:
        return "not measured"
    if pair.level in stale:
        return f"the crops of {pair.level} {stale[pair.level]}: cut them again"
    return "no crops of the pair"


def _figure_cell(figure: Figure, pair: PairView, stale: Mapping[str, str]) -> str:
    text = figure.text(pair)
    if text is None:
        return f'<td class="number" data-sort="" title="{_why_unknown(figure, pair, stale)}">–</td>'
    return f'<td class="number" data-sort="{figure.of(pair)!r}">{text}</td>'
