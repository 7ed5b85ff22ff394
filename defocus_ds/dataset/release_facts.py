"""release.json: what a release holds and how it was made, in figures from the manifest."""

from __future__ import annotations

import datetime
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from typing import Any

from defocus_ds.dataset.licence import find_licence, is_web_address
from defocus_ds.errors import ConfigError
from defocus_ds.frames import known_px

__all__ = ["RELEASE_FORMAT", "RELEASE_NAME", "About", "release_facts"]

RELEASE_FORMAT = 2
RELEASE_NAME = "release.json"
_TEXT = 200


@dataclass(frozen=True, slots=True)
class About:
    """What only a person can say of a release.

    Attributes:
        name: of the dataset.
        licence: SPDX identifier, "CC-BY-4.0"; or any name of a licence with ``licence_url``.
        authors: "Family, Given" or the name of a group; at least one.
        version: of the release.
        date: ISO 8601, "2026-11-30"; empty where it is not said.
        url: where it is published, http or https; empty where it is not.
        licence_url: of the licence's text; empty takes the page of SPDX.

    Raises:
        ConfigError: an empty or overlong name, licence or author, none of these, no date, no
            absolute address, or a licence that is not known and has no address.
    """

    name: str
    licence: str
    authors: tuple[str, ...]
    version: str = "1.0.0"
    date: str = ""
    url: str = ""
    licence_url: str = ""

    def __post_init__(self) -> None:
        named = [("name", self.name), ("licence", self.licence), ("version", self.version)]
        named += [("author", author) for author in self.authors or ("",)]
        optional = {"date": self.date, "url": self.url, "licence-url": self.licence_url}
        named += [(key, text) for key, text in optional.items() if text]
        for key, text in named:
            if not text.strip() or len(text) > _TEXT or not text.isprintable():
                raise ConfigError(f"{key} {text[:40]!r}: give one line of 1 to {_TEXT} characters.")
        if self.date and not _is_date(self.date):
            raise ConfigError(f"date {self.date!r}: give YYYY-MM-DD.")
        if self.url and not is_web_address(self.url):
            raise ConfigError(f"url {self.url!r}: give an absolute address, https://...")
        find_licence(self.licence, self.licence_url)


def release_facts(
    info: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    about: About,
    crops: Mapping[str, Mapping[str, int]],
    splits: Mapping[str, str],
    decisions: Mapping[str, Sized],
    seed: int | None,
    review: str | Mapping[str, str | None] | None,
) -> dict[str, Any]:
    """The contents of release.json; the card and the citation are written from it.

    Args:
        info: dataset.json.
        rows: of scenes.parquet, of the released captures.
        about: what a person says.
        crops: level -> split -> crops.
        splits: scene -> split.
        decisions: the contents of decisions.json, of which the numbers are told.
        seed: of the splits; None where they are those of a previous release.
        review: SHA-256 of the review.csv that was obeyed; by level where there were several.
    """
    licence = find_licence(about.licence, about.licence_url)
    return {
        "format": RELEASE_FORMAT,
        **asdict(about),
        "licence": licence.name,
        "licence_url": licence.url,
        "authors": list(about.authors),
        "dataset_digest": info.get("digest"),
        "preset": info.get("preset"),
        "config": info.get("config"),
        "versions": info.get("versions"),
        "crops": {level: dict(counts) for level, counts in crops.items()},
        "scenes": dict(sorted(Counter(splits.values()).items())),
        "cameras": _counted(_camera(row) for row in rows),
        "lenses": _counted(row["lens"] for row in rows),
        "levels": {level: _level(rows, level) for level in crops},
        "decisions": {name: len(entries) for name, entries in decisions.items()},
        "seed": seed,
        "review_sha256": review,
    }


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _camera(row: Mapping[str, Any]) -> str:
    """Make and model; many cameras begin the model with the make."""
    make, model = row["make"] or "", row["model"] or ""
    named = model.casefold().split()[:1] == make.casefold().split()[:1]
    return model if named else f"{make} {model}".strip()


def _counted(texts: Iterable[str | None]) -> dict[str, int]:
    """Text -> captures, the most frequent first; captures that do not say are left out."""
    found = Counter(text for text in texts if text)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _level(rows: Sequence[Mapping[str, Any]], level: str) -> dict[str, Any]:
    """Figures over the pairs of a level."""
    kept = [row for row in rows if row["level"] == level]
    before: list[float] = []
    after: list[float] = []
    for row in kept:
        difference = json.loads(row["colour"] or "{}").get("ciede2000")
        for name, values in (("before", before), ("after", after)):
            value = difference.get(name) if isinstance(difference, dict) else None
            if isinstance(value, float) and math.isfinite(value):
                values.append(value)
    return {
        "offsets": sorted({row["offset"] for row in kept}),
        "pairs": len(kept),
        "residual_px": _spread(known_px(row["residual_px"]) for row in kept),
        "blur_radius_px": _spread(row["blur_radius_px"] for row in kept),
        "ciede2000_before": _spread(before),
        "ciede2000_after": _spread(after),
    }


def _spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """Median, extremes and number of the values that are known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return {
        "median": statistics.median(known),
        "least": known[0],
        "most": known[-1],
        "pairs": len(known),
    }
