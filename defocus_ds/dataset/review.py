"""``review.csv``: what a person decided about the pairs of a dataset, on the report's page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from defocus_ds.dataset.pairs import BuiltPair, LeftOut
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Pair
from defocus_ds.store import sha256_file

__all__ = ["COLUMNS", "DECISIONS", "Review", "read_review"]

COLUMNS = ("scene", "level", "decision", "note")
DECISIONS = ("accept", "reject", "")
_MAX_BYTES = 1 << 26
_LEVELS = {level.value: level for level in BLURRED_LEVELS}


@dataclass(frozen=True, slots=True)
class Review:
    """Decisions and notes by pair.

    Attributes:
        path, sha256: of the file.
        decisions: pair -> "accept", "reject" or "", and the note.
    """

    path: Path
    sha256: str
    decisions: dict[Pair, tuple[str, str]]

    def applied(
        self, pairs: Sequence[BuiltPair], left_out: Sequence[LeftOut]
    ) -> tuple[list[BuiltPair], list[LeftOut]]:
        """The pairs of one level that a person did not reject, and the others with the reason.

        A person leaves pairs out; what the build rejected stays out, also when it is accepted
        here.

        Args:
            pairs, left_out: from `defocus_ds.dataset.pairs.built_pairs`.

        Raises:
            DatasetError: a decision about a scene that the dataset lacks.
        """
        known = {built.pair.scene for built in pairs} | {item.pair.scene for item in left_out}
        if strange := sorted({pair.scene for pair in self.decisions} - known):
            shown = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
            raise DatasetError(
                f"{self.path}: not in the dataset: {shown}. The review must be of this dataset."
            )
        kept, out = [], list(left_out)
        for built in pairs:
            decision, note = self.decisions.get(built.pair, ("", ""))
            if decision == "reject":
                reason = f"review: {note}" if note else "review: rejected by a person"
                out.append(LeftOut(built.pair, "reject", (reason,)))
            else:
                kept.append(built)
        return kept, sorted(out, key=lambda item: item.pair.scene)


def read_review(path: Path) -> Review:
    """Read a ``review.csv``.

    Args:
        path: UTF-8 CSV with the columns scene, level, decision and note; a decision is accept,
            reject or empty.

    Raises:
        DatasetError: not such a table; every bad line is named, up to ten.
    """
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {_MAX_BYTES}.")
    decisions: dict[Pair, tuple[str, str]] = {}
    problems = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DatasetError(
                    f"{path}: columns {', '.join(reader.fieldnames or ()) or 'none'}; need "
                    f"{', '.join(COLUMNS)}. Separate columns by commas, or save it on the page "
                    "that `defocus-ds report` makes."
                )
            for row in reader:
                try:
                    pair, decided = _decided(row)
                    if pair in decisions:
                        raise ValueError(f"{pair} is there twice")
                    decisions[pair] = decided
                except ValueError as error:
                    problems.append(f"line {reader.line_num}: {error}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a CSV table in UTF-8 ({error}).") from error
    if problems:
        shown = "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        raise DatasetError(f"{path}: {shown}.")
    return Review(path, sha256_file(path), decisions)


def _decided(row: dict[str, str]) -> tuple[Pair, tuple[str, str]]:
    """The pair of a line, its decision and note; ValueError says what is wrong."""
    if any(not isinstance(row.get(name), str) for name in COLUMNS) or len(row) != len(COLUMNS):
        raise ValueError(f"need {len(COLUMNS)} cells")
    if not row["scene"]:
        raise ValueError("no scene")
    if row["level"] not in _LEVELS:
        raise ValueError(f"level {row['level']!r}: one of {', '.join(_LEVELS)}")
    if row["decision"] not in DECISIONS:
        raise ValueError(f"decision {row['decision']!r}: accept, reject or empty")
    return Pair(row["scene"], _LEVELS[row["level"]]), (row["decision"], row["note"].strip())
