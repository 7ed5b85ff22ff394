"""The table as text: ours, the paper's beside it, and what every column means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from defocus_ds_train.baselines.protocol import PROTOCOLS
from defocus_ds_train.benchmark.published import CITATION, PublishedTable, published_table
from defocus_ds_train.benchmark.results import BenchReport, Score, SetInfo
from defocus_ds_train.benchmark.run import MEAN_OF_SETS, paper_table

__all__ = ["Cells", "footnotes", "table_cells", "table_text", "tables"]

Cells = list[list[str]]
_NONE = "n/a"


def tables(report: BenchReport, *, beside: str = "auto") -> list[tuple[str, PublishedTable | None]]:
    """What to print: (name of a set or of the mean of the sets, the paper's table beside it).

    Args:
        report: what was found.
        beside: "auto" takes the table of the paper that was measured on the same images, a Roman
            numeral takes that one for all, "none" takes none.
    """

    def chosen(automatic: str | None) -> PublishedTable | None:
        name = automatic if beside == "auto" else beside
        return None if name in (None, "none") else published_table(str(name))

    found = [(of.name, chosen(paper_table([of.released]))) for of in report.sets]
    if len(report.sets) > 1:
        found.append((MEAN_OF_SETS, chosen(paper_table([of.released for of in report.sets]))))
    return found


def table_cells(
    report: BenchReport, name: str, table: PublishedTable | None
) -> tuple[list[str], Cells]:
    """Headings and rows of one table.

    Args:
        report: what was found.
        name: of the set, or `MEAN_OF_SETS`.
        table: of the paper; its rows that were not run come last.

    Returns:
        Headings, and rows of as many texts.  Every metric has a column of ours and one of the
        paper's.
    """
    scores = [score for score in report.scores if score.set == name]
    headings = ["method", "protocol"]
    for metric in report.metrics:
        headings += [metric, "paper"]
    headings += ["s/image", "paper"]
    cells, found = [], set()
    for score in scores:
        row = None if table is None else table.row(*score.rows)
        found |= {row.name} if row is not None else set()
        line = [score.method, score.protocol]
        for metric in report.metrics:
            digits = report.digits[metric]
            line += [
                _figure(score.means.get(metric), digits, none="absent"),
                _figure(None if row is None else row.value(metric), digits),
            ]
        line += [_seconds(score), _figure(None if row is None else row.seconds, 3)]
        cells.append(line)
    for row in [] if table is None else table.rows.values():
        if row.name not in found:
            line = [row.name, "not run"]
            for metric in report.metrics:
                line += ["", _figure(row.value(metric), report.digits[metric])]
            cells.append([*line, "", _figure(row.seconds, 3)])
    return headings, cells


def table_text(report: BenchReport, *, beside: str = "auto") -> str:
    """All tables with their footnotes, for a terminal."""
    parts = []
    for name, table in tables(report, beside=beside):
        headings, cells = table_cells(report, name, table)
        parts.append(_heading(report.sets, name, table))
        parts.append(_aligned([headings, *cells]) + "\n")
    return "\n".join([*parts, *footnotes(report, beside=beside)])


def footnotes(report: BenchReport, *, beside: str = "auto") -> list[str]:
    """What the columns, protocols and methods are, and how the times were taken."""
    notes = [f"{name}: {full}" for name, full in report.metrics.items()]
    used = {score.protocol for score in report.scores}
    notes += [f"{p.name}: {p.full_name}" for p in PROTOCOLS.values() if p.name in used]
    notes += _unique(f"{score.method}: {score.full_name}" for score in report.scores)
    times = _unique(
        f"{score.times.device}, batches of {score.times.batch}"
        for score in report.scores
        if score.times is not None
    )
    if times:
        notes.append(
            "s/image: median over batches, with transfers and rounding to 8 bits, after a "
            f"warm-up, the device synchronised; {'; '.join(times)}. The paper names no batch size"
        )
    if len(report.sets) > 1:
        notes.append(f"{MEAN_OF_SETS}: every set counts once, whatever its number of images")
    if any(table is not None for _, table in tables(report, beside=beside)):
        notes.append(
            f"paper: {CITATION}. Its LPIPS stands beside lpips-vgg: the network is not named "
            "there and was inferred from its own images. Its classical rows are of `authors`"
        )
    return notes


def _heading(sets: Sequence[SetInfo], name: str, table: PublishedTable | None) -> str:
    of = next((one for one in sets if one.name == name), None)
    what = name if of is None else f"{name}: {of.images} images, digest {of.digest}"
    return what if table is None else f"{what}; beside Table {table.name} ({table.images})"


def _aligned(lines: Cells) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _figure(value: float | None, digits: int, *, none: str = _NONE) -> str:
    return none if value is None else f"{value:.{digits}f}"


def _seconds(score: Score) -> str:
    if score.times is None:
        return "–"
    return f"{score.times.seconds:.3g}"


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
