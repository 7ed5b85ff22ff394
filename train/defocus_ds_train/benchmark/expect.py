"""Stored results, and drift from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from defocus_ds.errors import InputError
from defocus_ds.store import write_json
from defocus_ds_train.benchmark.results import BenchReport

__all__ = [
    "TOLERANCES",
    "Drift",
    "Expected",
    "Expectations",
    "expectation_names",
    "find_drift",
    "load_expectations",
    "save_expectations",
]

FORMAT = 1
# what other versions of numpy, torch and the processor may move: half of a table's last digit
TOLERANCES: Mapping[str, float] = MappingProxyType(
    {
        "psnr": 0.005,
        "ssim": 0.0005,
        "ssim-gaussian": 0.0005,
        "q": 0.0005,
        "q-training": 0.0005,
        "q-zhu-milanfar": 0.0005,
        "lpips": 0.0005,
        "lpips-vgg": 0.0005,
    }
)


@dataclass(frozen=True, slots=True)
class Expected:
    """One method on one set: metric -> (mean, tolerance)."""

    set: str
    method: str
    protocol: str
    identity: Mapping[str, Any]
    values: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Expectations:
    """Results of an earlier run; ``sets`` maps names to digests."""

    name: str
    sets: Mapping[str, str]
    results: tuple[Expected, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(result.method for result in self.results))

    @property
    def protocols(self) -> tuple[str, ...]:
        """Those of the methods that depend on one."""
        found = dict.fromkeys(result.protocol for result in self.results)
        return tuple(name for name in found if name != "as given")

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for result in self.results for name in result.values))

    @property
    def figures(self) -> int:
        return sum(len(result.values) for result in self.results)


@dataclass(frozen=True, slots=True)
class Drift:
    """A figure that is not what was stored; ``measured`` is None where there is none."""

    set: str
    method: str
    protocol: str
    metric: str
    measured: float | None
    expected: float
    tolerance: float

    def __str__(self) -> str:
        found = "not measured" if self.measured is None else f"measured {self.measured:.6g}"
        return (
            f"{self.set}, {self.method} ({self.protocol}): {self.metric} {found}, expected "
            f"{self.expected:.6g}, tolerance {self.tolerance:g}"
        )


def find_drift(report: BenchReport, expected: Expectations) -> tuple[Drift, ...]:
    """Every stored figure that the report does not have, within the tolerance.

    Methods that the report has beside the stored ones are not looked at.

    Raises:
        InputError: a set of other crops, or a method of the same name that is another one.
    """
    digests = {of.name: of.digest for of in report.sets}
    for name, digest in expected.sets.items():
        if digests.get(name, digest) != digest:
            raise InputError(
                f"{expected.name}: {name} has digest {digest} there and {digests[name]} here; "
                "these are other crops, and their figures cannot be compared."
            )
    scores = {(s.set, s.method, s.protocol): s for s in report.scores}
    drift = []
    for result in expected.results:
        score = scores.get((result.set, result.method, result.protocol))
        if score is not None and dict(score.identity) != dict(result.identity):
            changed = sorted(
                key
                for key in score.identity.keys() | result.identity.keys()
                if score.identity.get(key) != result.identity.get(key)
            )
            raise InputError(
                f"{expected.name}: {result.method} was run there with other {', '.join(changed)}; "
                "give the same, or give this one another name: NAME=METHOD."
            )
        for metric, (value, tolerance) in result.values.items():
            measured = None if score is None else score.means.get(metric)
            if measured is None or not abs(measured - value) <= tolerance:
                place = (result.set, result.method, result.protocol)
                drift.append(Drift(*place, metric, measured, value, tolerance))
    return tuple(drift)


def expectation_names() -> tuple[str, ...]:
    """Results that come with this version."""
    files = resources.files("defocus_ds_train").joinpath("benchmark", "expected").iterdir()
    return tuple(sorted(f.name.removesuffix(".json") for f in files if f.name.endswith(".json")))


def load_expectations(source: str | Path) -> Expectations:
    """Stored results by name or file.

    Args:
        source: one of `expectation_names`, or a file that `save_expectations` wrote.

    Raises:
        InputError: not there, damaged or of another format.
    """
    text = str(source)
    try:
        if text in expectation_names():
            folder = resources.files("defocus_ds_train").joinpath("benchmark", "expected")
            content = folder.joinpath(f"{text}.json").read_text(encoding="utf-8")
        else:
            content = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(expectation_names()) or "none"
        raise InputError(
            f"{text}: cannot be read ({error}). Give a file, or one of {known}."
        ) from error
    try:
        table = json.loads(content)
        if table["format"] != FORMAT:
            raise ValueError(f"format {table['format']}, need {FORMAT}")
        results = tuple(_expected(entry) for entry in table["results"])
        sets = {str(name): str(digest) for name, digest in table["sets"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{text}: not stored results ({error}); write them with --store."
        ) from error
    return Expectations(Path(text).stem, sets, results)


def save_expectations(path: Path, report: BenchReport) -> None:
    """Store the means of a report, each with its tolerance; infinite ones are left out."""
    results = [
        {
            "set": score.set,
            "method": score.method,
            "protocol": score.protocol,
            "identity": dict(score.identity),
            "values": {
                name: {"mean": round(value, 6), "tolerance": TOLERANCES[name]}
                for name, value in score.means.items()
                if math.isfinite(value)
            },
        }
        for score in report.scores
    ]
    sets = {of.name: of.digest for of in report.sets}
    write_json(path, {"format": FORMAT, "sets": sets, "results": results})


def _expected(entry: Mapping[str, Any]) -> Expected:
    values = {
        str(name): (float(value["mean"]), float(value["tolerance"]))
        for name, value in entry["values"].items()
    }
    of, method, protocol = (str(entry[key]) for key in ("set", "method", "protocol"))
    return Expected(of, method, protocol, dict(entry["identity"]), values)
