"""``review.csv``: what a person decided about the pairs of a dataset, on the report's page."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from defocus_ds.dataset.pairs import BuiltPair, LeftOut
from defocus_ds.errors import DatasetError
from defocus_ds.frames import BLURRED_LEVELS, Pair
from defocus_ds.store import sha256_file
from defocus_ds.wording import counted, first_names

__all__ = ["COLUMNS", "DECISIONS", "Decision", "Review", "read_review"]

COLUMNS = ("scene", "level", "decision", "note", "image_sha256")
DECISIONS = ("accept", "reject", "")
_MAX_BYTES = 1 << 26
_LEVELS = {level.value: level for level in BLURRED_LEVELS}
_BY_HAND = (COLUMNS[:3], COLUMNS[:4])  # what may be left out of a table written by hand
_SHA256 = re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of a pair, and of which pixels.

    Attributes:
        decision: "accept", "reject" or "".
        note: text; may be empty.
        image_sha256: of the blurred image that was looked at, 64 hex digits; "" of any.
    """

    decision: str = ""
    note: str = ""
    image_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """Decisions and notes by pair.

    Attributes:
        path, sha256: of the file.
        decisions: by pair.
    """

    path: Path
    sha256: str
    decisions: dict[Pair, Decision]

    def applied(
        self, pairs: Sequence[BuiltPair], left_out: Sequence[LeftOut]
    ) -> tuple[list[BuiltPair], list[LeftOut]]:
        """The pairs of one level that a person did not reject, and the others with the reason.

        A person leaves pairs out; what the build rejected stays out, also when it is accepted
        here.

        Args:
            pairs, left_out: from `defocus_ds.dataset.pairs.built_pairs`.

        Raises:
            DatasetError: a decision about a scene that the dataset lacks, or about other pixels
                than a pair has now.
        """
        known = {built.pair.scene for built in pairs} | {item.pair.scene for item in left_out}
        if strange := sorted({pair.scene for pair in self.decisions} - known):
            near = difflib.get_close_matches(strange[0], known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " The review must be of this dataset."
            raise DatasetError(f"{self.path}: not in the dataset: {first_names(strange)}.{hint}")
        if old := [str(built.pair) for built in pairs if not self._is_of(built)]:
            raise DatasetError(
                f"{self.path}: {counted(len(old), 'decision')} about other images than the dataset "
                f"has now: {first_names(old)}. They were built anew, or are of another dataset. "
                "Load the file on a new page of `defocus-ds report`, look at these pairs, and save "
                "it."
            )
        kept, out = [], list(left_out)
        for built in pairs:
            found = self.decisions.get(built.pair, Decision())
            if found.decision == "reject":
                reason = f"review: {found.note}" if found.note else "review: rejected by a person"
                out.append(LeftOut(built.pair, "reject", (reason,)))
            else:
                kept.append(built)
        return kept, sorted(out, key=lambda item: item.pair.scene)

    def overruled(self, left_out: Sequence[LeftOut]) -> list[Pair]:
        """The pairs that are accepted here and stay out all the same: the build left them out."""
        return [
            item.pair
            for item in left_out
            if self.decisions.get(item.pair, Decision()).decision == "accept"
        ]

    def _is_of(self, built: BuiltPair) -> bool:
        found = self.decisions.get(built.pair, Decision())
        return not found.decision or found.image_sha256 in ("", built.blurred_sha256)


def read_review(path: Path) -> Review:
    """Read a ``review.csv``.

    Args:
        path: UTF-8 CSV with the columns scene, level, decision, note and image_sha256; a decision
            is accept, reject or empty. The last column says which blurred image was looked at; it
            may be missing, and so may both it and the notes.

    Raises:
        DatasetError: not such a table; every bad line is named, up to five.
    """
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DatasetError(f"{path}: {size} bytes, limit {_MAX_BYTES}.")
    decisions: dict[Pair, Decision] = {}
    problems = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = tuple(reader.fieldnames or ())
            if columns not in (COLUMNS, *_BY_HAND):
                raise DatasetError(
                    f"{path}: columns {', '.join(columns) or 'none'}; need "
                    f"{', '.join(COLUMNS[:3])}, and may have {' and '.join(COLUMNS[3:])}. "
                    "Separate columns by commas, or save it on the page that `defocus-ds report` "
                    "makes."
                )
            for row in reader:
                try:
                    pair, decided = _decided(row, columns)
                    if pair in decisions:
                        raise ValueError(f"{pair} is there twice")
                    decisions[pair] = decided
                except ValueError as error:
                    problems.append(f"line {reader.line_num}: {error}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a CSV table in UTF-8 ({error}).") from error
    if problems:
        raise DatasetError(f"{path}: {first_names(problems, between='; ')}.")
    return Review(path, sha256_file(path), decisions)


def _decided(row: dict[str, str], columns: Sequence[str]) -> tuple[Pair, Decision]:
    """The pair of a line and what was decided; ValueError says what is wrong."""
    if any(not isinstance(row.get(name), str) for name in columns) or len(row) != len(columns):
        raise ValueError(f"need {len(columns)} cells")
    if not row["scene"]:
        raise ValueError("no scene")
    if row["level"] not in _LEVELS:
        raise ValueError(f"level {row['level']!r}: one of {', '.join(_LEVELS)}")
    if row["decision"] not in DECISIONS:
        raise ValueError(f"decision {row['decision']!r}: accept, reject or empty")
    sha256 = row.get("image_sha256", "")
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"image_sha256 {sha256[:80]!r}: 64 hex digits or empty")
    found = Decision(row["decision"], row.get("note", "").strip(), sha256)
    return Pair(row["scene"], _LEVELS[row["level"]]), found
