"""Files that are whole or absent: atomic writes, SHA-256, receipts."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import UInt8Image

__all__ = [
    "Receipt",
    "atomic_path",
    "inside",
    "read_json",
    "read_receipt",
    "sha256_bytes",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_png",
    "write_receipt",
]


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder that replaces the target if the block succeeds.

    The file is flushed to disk before the rename, so after a power cut ``target`` is the old
    file, the new one, or absent; never a part.  Temporary names start with ``.tmp-``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_json(target: Path, value: Any) -> None:
    """Write canonical JSON (sorted keys, two-space indent, final newline) atomically."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(target, (text + "\n").encode())


def write_png(target: Path, image: UInt8Image) -> None:
    """Write (H, W, 3) uint8 RGB as a PNG, atomically; equal pixels give equal bytes.

    Raises:
        InputError: the name does not end in .png.
        OSError: the file cannot be written; the text names it.
    """
    from defocus_ds.png import encode

    if target.suffix.lower() != ".png":
        raise InputError(f"{target}: pictures are written as PNG; give a name ending in .png.")
    write_bytes(target, encode(image))


def read_json(path: Path) -> Any:
    """Parse a JSON file of a dataset.

    Raises:
        DatasetError: missing or not JSON; the text names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error}).") from error


def sha256_bytes(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits, constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(root: Path, relative: str) -> Path:
    """The path of ``relative`` under ``root``.

    Raises:
        DatasetError: absolute, it leads outside the root, or no file can have the name.
    """
    if "\0" in relative:
        raise DatasetError(f"{root}: the path {relative!r} cannot be a file's name.")
    path = root / relative
    try:
        resolved = path.resolve()
    except RuntimeError as error:
        raise DatasetError(f"{path}: a link that leads in a circle; remove it.") from error
    if Path(relative).is_absolute() or not resolved.is_relative_to(root.resolve()):
        raise DatasetError(f"{root}: the path {relative!r} leads outside the dataset.")
    return path


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a stage was done: inputs and outputs by hash, so staleness is decidable.

    ``inputs`` and ``outputs`` map names to SHA-256; ``result`` is what later stages and the
    manifest need; ``written_ns`` are the outputs' modification times, so that untouched files
    need not be hashed again.  Times, ``seconds``, ``cpu_seconds`` and ``peak_memory_mb`` vary
    between runs and stay out of the dataset's own files.
    """

    stage: str
    scene: str
    config_digest: str
    versions: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    result: dict[str, Any] = field(default_factory=dict)
    written_ns: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0


def write_receipt(dataset: Path, receipt: Receipt) -> None:
    """Write ``receipts/<scene>/<stage>.json`` atomically, with a checksum of its own."""
    record = asdict(receipt)
    path = _receipt_path(dataset, receipt.scene, receipt.stage)
    write_json(path, record | {"sha256": _record_digest(record)})


def read_receipt(dataset: Path, scene: str, stage: str) -> Receipt | None:
    """The receipt, or None when absent, damaged or another's: then it proves nothing."""
    try:
        record = read_json(_receipt_path(dataset, scene, stage))
        stated = record.pop("sha256")
        found = Receipt(**record)
        whole = stated == _record_digest(record)
    except (DatasetError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None
    return found if whole and (found.scene, found.stage) == (scene, stage) else None


def _record_digest(record: dict[str, Any]) -> str:
    return sha256_bytes(json.dumps(record, sort_keys=True, allow_nan=False).encode())


def _receipt_path(dataset: Path, scene: str, stage: str) -> Path:
    return inside(dataset, f"receipts/{scene}/{stage}.json")
