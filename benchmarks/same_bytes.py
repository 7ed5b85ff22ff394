"""What of a dataset must be the same however it was made, and what shows that a stage ran again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from defocus_ds.store import sha256_bytes, sha256_file

__all__ = ["VARYING", "contents", "signed"]

# fields of receipts that are measured, and cannot be the same twice
# what a stage cost, when its files were written, and the sum over these
VARYING = ("cpu_seconds", "peak_memory_mb", "seconds", "sha256", "written_ns")


def contents(root: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of everything that must not depend on how a folder was made.

    Of receipts, the JSON without `VARYING`; a folder without files is named too.
    """
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            found |= {} if any(path.iterdir()) else {name: "an empty folder"}
        elif name.startswith("receipts/"):
            record = json.loads(path.read_text())
            kept = {key: value for key, value in record.items() if key not in VARYING}
            found[name] = sha256_bytes(json.dumps(kept, sort_keys=True).encode())
        elif name != ".lock":
            found[name] = sha256_file(path)
    return found


def signed(dataset: Path) -> dict[str, tuple[int, int]]:
    """Receipt of a stage -> what changes when it is written again."""
    found = {}
    for path in dataset.glob("receipts/*/[!.]*.json"):
        with suppress(FileNotFoundError):  # a build is running
            stat = path.stat()
            found[path.relative_to(dataset).as_posix()] = stat.st_ino, stat.st_mtime_ns
    return found
