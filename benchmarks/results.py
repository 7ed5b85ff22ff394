"""What the benchmarks write: Markdown tables, JSON, and the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = [
    "NO_CLAIM_PX",
    "Check",
    "check_lines",
    "frame_size",
    "machine",
    "note",
    "number",
    "shortened",
    "table",
    "write_json",
    "write_text",
]


NO_CLAIM_PX = 1e6  # what a record holds in place of a residual that is not finite


class Check:
    """A target and what was measured; a missing figure is a miss."""

    def __init__(self, name: str, measured: float | None, limit: float, *, least: bool = False):
        self.name, self.measured, self.limit, self.least = name, measured, limit, least

    @property
    def passed(self) -> bool:
        if self.measured is None:
            return False
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "measured": self.measured,
            "at_least" if self.least else "at_most": self.limit,
            "passed": self.passed,
        }


def check_lines(checks: Iterable[Check]) -> str:
    """The targets as a Markdown table."""
    rows = [
        (
            c.name,
            number(c.measured),
            f"{'≥' if c.least else '≤'} {c.limit:g}",
            "met" if c.passed else "**missed**",
        )
        for c in checks
    ]
    return table(("target", "measured", "limit", ""), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join("---" if i == 0 else "---:" for i in range(len(header))) + "|")
    for row in rows:
        assert len(row) == len(header), row
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Three decimals below 1, fewer above; a dash for nothing."""
    if value is None:
        return "–"
    digits = 4 if abs(value) < 0.02 else 3 if abs(value) < 1 else 2 if abs(value) < 20 else 0
    return f"{value:.{digits}f}"


def shortened(value: Any, *, without: Sequence[str] = ()) -> Any:
    """A record for JSON: numbers with five digits, nested dictionaries less the keys named."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: shortened(v, without=without) for k, v in value.items() if k not in without}
    return value


def frame_size(text: str) -> tuple[int, int]:
    """Width and height from an option like ``5796x3870``."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def machine(distributions: Sequence[str], programs: Sequence[str] = ()) -> dict[str, str]:
    """Processor, system and versions; no name of a host or a user."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        processor = lines[0].partition(":")[2].strip() if lines else processor
    found = {
        "processor": f"{processor}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
    }
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    for name in programs:
        found[name] = _program_version(name)
    return found


def note(message: object) -> None:
    print(message, file=sys.stderr, flush=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _program_version(name: str) -> str:
    if shutil.which(name) is None:
        return "not installed"
    done = subprocess.run([name, "-h"], capture_output=True, text=True)
    lines = [x for x in (done.stdout + done.stderr).splitlines() if "version" in x.lower()]
    return lines[0].split("version")[-1].strip() if lines else "installed"
