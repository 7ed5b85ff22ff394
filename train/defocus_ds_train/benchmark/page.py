"""Tables, scatter and crops on one page that needs nothing else, and the pictures as files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from defocus_ds.dataset.pixels import encode_png
from defocus_ds.store import write_bytes, write_png
from defocus_ds_train.benchmark.results import BenchReport
from defocus_ds_train.benchmark.scatter import plan_scatter, scatter_png, scatter_svg
from defocus_ds_train.benchmark.sheet import contact_sheet
from defocus_ds_train.benchmark.table import footnotes, table_cells, tables

__all__ = ["render_bench_page", "write_pictures"]


def write_pictures(report: BenchReport, output: Path, *, beside: str = "auto") -> None:
    """Write ``index.html``, and of every set ``crops-N.png`` and ``scatter-N.png``.

    Args:
        report: what `defocus_ds_train.benchmark.run.bench` found.
        output: folder, made if it is absent.
        beside: as for `defocus_ds_train.benchmark.table.tables`.
    """
    sheets = {}
    for number, of in enumerate(report.sets, 1):
        if samples := [sample for sample in report.samples if sample.set == of.name]:
            sheets[of.name] = encode_png(contact_sheet(samples))
            write_bytes(output / f"crops-{number}.png", sheets[of.name])
    for number, (name, table) in enumerate(tables(report, beside=beside), 1):
        if plan := plan_scatter([s for s in report.scores if s.set == name], table):
            write_png(output / f"scatter-{number}.png", scatter_png(plan))
    page = render_bench_page(report, sheets, beside=beside)
    write_bytes(output / "index.html", page.encode())


def render_bench_page(
    report: BenchReport, sheets: dict[str, bytes], *, beside: str = "auto"
) -> str:
    """The whole page.

    Args:
        report: what was found.
        sheets: set -> contact sheet as PNG.
        beside: as for `defocus_ds_train.benchmark.table.tables`.

    Returns:
        HTML5 text that loads nothing: pictures are inside.
    """
    body = ["<header><h1>Benchmark</h1></header>"]
    for name, table in tables(report, beside=beside):
        of = next((one for one in report.sets if one.name == name), None)
        told = f"{of.images} images, digest {of.digest}" if of is not None else ""
        if table is not None:
            told += f"; beside Table {table.name} of the paper ({table.images})"
        body.append(f"<section><h2>{escape(name)}</h2><p>{escape(told.lstrip('; '))}</p>")
        body.append(_table(*table_cells(report, name, table)))
        if plan := plan_scatter([s for s in report.scores if s.set == name], table):
            body.append(f'<figure class="scatter">{scatter_svg(plan)}</figure>')
        if (sheet := sheets.get(name)) is not None:
            data = base64.b64encode(sheet).decode()
            body.append(
                f'<div class="crops"><img alt="{escape(name)}, crops side by side" '
                f'src="data:image/png;base64,{data}"></div>'
            )
        body.append("</section>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in footnotes(report, beside=beside))
    body.append(f'<section><h2>Notes</h2><ul class="hint">{notes}</ul></section>')
    style = resources.files("defocus_ds.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>Benchmark</title>\n<style>\n{style}{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


_STYLE = """.scatter { width: min(640px, 100%); margin: 1rem 0; }
.crops { overflow-x: auto; }
.crops img { image-rendering: pixelated; }
td.paper { color: var(--soft); }
"""


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(
        f'<th scope="col"{_number(i)}>{escape(text)}</th>' for i, text in enumerate(headings)
    )
    lines = "\n".join(
        "<tr>" + "".join(_cell(i, text, headings[i]) for i, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>'
        "</table></div>"
    )


def _cell(index: int, text: str, heading: str) -> str:
    if index == 0:
        return f'<th scope="row">{escape(text)}</th>'
    if heading == "paper":
        return f'<td class="number paper">{escape(text)}</td>'
    return f"<td{_number(index)}>{escape(text)}</td>"


def _number(index: int) -> str:
    return ' class="number"' if index > 1 else ""
