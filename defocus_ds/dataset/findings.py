"""What `verify` finds: file, expected, found, repair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["MADE_AGAIN", "Finding", "Findings", "Kind", "VerifyReport", "repair"]

Kind = Literal["dataset", "release", "import", "split", "export"]

# what is done where no file of a folder can be made by itself
MADE_AGAIN: dict[Kind, str] = {
    "release": "make the release again",
    "import": "import it again with `defocus-ds import` into a new folder",
    "split": "build the split again with `defocus-ds split build` into a new folder",
    "export": "export again with `defocus-ds export` into a new folder",
}
_SHOWN_PER_FILE = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; ``file`` is relative to the root."""

    file: str
    expected: str
    found: str
    repair: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, found {self.found}. {self.repair}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        root: the folder.
        findings: all of them, by file.
        checked: how much was looked at: "files", "images", "pairs", "crops".
        kind: what made the folder: build or crop, release, import, `split build`, or export.
    """

    root: Path
    findings: tuple[Finding, ...]
    checked: dict[str, int]
    kind: Kind

    @property
    def clean(self) -> bool:
        return not self.findings


class Findings:
    """Collects findings; a file with very many of them is cut short, with their number.

    Args:
        kind: of the folder; each is repaired in its own way.
    """

    def __init__(self, *, kind: Kind = "dataset") -> None:
        self.kind = kind
        self.checked: Counter[str] = Counter()
        self._found: list[Finding] = []
        self._per_file: Counter[str] = Counter()

    def add(self, file: str, expected: str, found: str, advice: str | None = None) -> None:
        """Record a finding; ``advice`` replaces the usual repair for such a file."""
        file, expected, found = map(_printable, (file, expected, found))
        self._per_file[file] += 1
        if self._per_file[file] <= _SHOWN_PER_FILE:
            self._found.append(Finding(file, expected, found, advice or self.repair(file)))

    def names(self, file: str) -> bool:
        """Whether anything was found wrong with this file."""
        return _printable(file) in self._per_file

    def all(self) -> tuple[Finding, ...]:
        """Every finding, by file, with a closing line for each file that was cut short."""
        rest = [
            Finding(file, "no further findings", f"{more} more", self.repair(file))
            for file, count in self._per_file.items()
            if (more := count - _SHOWN_PER_FILE) > 0
        ]
        return tuple(sorted([*self._found, *rest], key=lambda finding: finding.file))

    def repair(self, file: str, *, missing: bool = False) -> str:
        """How to get a damaged or missing file back."""
        return repair(file, missing=missing, kind=self.kind)


def repair(file: str, *, missing: bool = False, kind: Kind = "dataset") -> str:
    """How to get a damaged or missing file of a dataset, or of another kind of folder, back.

    >>> repair("crops/low/train-00000-of-00001.parquet")
    'Run `defocus-ds verify --repair`, or copy the file again.'
    >>> repair("crops/low/manifest.parquet", kind="release")
    'Copy the file again, or make the release again.'
    """
    parts = file.split("/")
    if kind == "release" and parts[0] == "crops" and "-of-" in parts[-1]:
        return (
            "Run `defocus-ds verify --repair --images DATASET` with the dataset that it was "
            "made of, copy the file again, or make the release again."
        )
    if kind != "dataset":
        return f"Copy the file again, or {MADE_AGAIN[kind]}."
    if parts[0] == "crops" and "-of-" in parts[-1]:
        return "Run `defocus-ds verify --repair`, or copy the file again."
    if parts[0] == "crops" and len(parts) > 2:
        return f"Crop level {parts[1]} again with `defocus-ds crop`, or copy the file again."
    if parts[0] in ("images", "rejected"):
        # build trusts a file of the right size and time: a damaged one must go first
        first = "Run" if missing else "Delete it, then run"
        return f"{first} the same `defocus-ds build` again, or copy the file again."
    if file in ("dataset.json", "scenes.parquet"):
        return "Run the same `defocus-ds build` again, or copy the file again."
    return "Copy the file again."


def _printable(text: str) -> str:
    """The text with everything escaped that a terminal would act on or could not show."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
