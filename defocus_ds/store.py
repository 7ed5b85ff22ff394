"""Files that are whole or absent: atomic writes, SHA-256, receipts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from defocus_ds.errors import DatasetError, InputError, NotWritten
from defocus_ds.frames import UInt8Image

__all__ = [
    "JsonObject",
    "Receipt",
    "atomic_path",
    "canonical_json",
    "inside",
    "read_json",
    "read_receipt",
    "sha256_bytes",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_png",
    "write_receipt",
    "writing",
]


# what stands before the result in a receipt: no text holds a line break, no inner key this indent
_RESULT, _END = b',\n  "result": ', b"\n}\n"


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder that replaces the target if the block succeeds.

    The file is flushed to disk before the rename, so after a power cut ``target`` is the old
    file, the new one, or absent; never a part.  Folders are not flushed: a rename that is lost
    leaves the old file or none, which no receipt vouches for.  Temporary names start with
    ``.tmp-``.

    Raises:
        OSError: it cannot be written; the text names the target, the reason and the free space.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Errors of the disk in the block name the target; those of files elsewhere pass as they are.

    Raises:
        NotWritten: the target, the reason, the free space and the way out.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, NotWritten) or _is_elsewhere(error, target):
            raise
        raise NotWritten(_not_written(target, error)) from error


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
    except RecursionError as error:
        raise DatasetError(f"{path}: nested too deeply to be read.") from error
    except (OSError, ValueError) as error:
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
    if _without_links(root, relative):
        return path
    try:
        resolved = path.resolve()
    except RuntimeError as error:
        raise DatasetError(f"{path}: a link that leads in a circle; remove it.") from error
    if Path(relative).is_absolute() or not resolved.is_relative_to(root.resolve()):
        raise DatasetError(f"{root}: the path {relative!r} leads outside the dataset.")
    return path


class JsonObject(Mapping[str, Any]):
    """A JSON object that is parsed when it is first looked into.

    Raises:
        DatasetError: on that look, the text is no object.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._value: dict[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        return self._parsed()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())

    def _parsed(self) -> dict[str, Any]:
        if self._value is None:
            try:
                found = json.loads(self.text)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"a receipt whose result is not JSON ({error}).") from error
            if not isinstance(found, dict):
                raise DatasetError(f"a receipt whose result is {self.text[:40]!r}, need an object.")
            self._value = found
        return self._value


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """What is hashed: keys sorted, on one line; as it is where it was not parsed."""
    if isinstance(value, JsonObject):
        return value.text
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a stage was done: inputs and outputs by hash, so staleness is decidable.

    ``inputs`` and ``outputs`` map names to SHA-256; ``result`` is what later stages and the
    manifest need; ``written_ns`` and ``sizes`` are the outputs' modification times and bytes, so
    that untouched files need not be hashed again.  Times, ``seconds``, ``cpu_seconds`` and
    ``peak_memory_mb`` vary between runs and stay out of the dataset's own files.
    """

    stage: str
    scene: str
    config_digest: str
    versions: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    result: Mapping[str, Any] = field(default_factory=dict)
    written_ns: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)


def write_receipt(dataset: Path, receipt: Receipt) -> None:
    """Write ``receipts/<scene>/<stage>.json`` atomically: with the sizes of the outputs, a
    checksum of its own, and the result on one line at the end."""
    sizes = {name: (dataset / name).stat().st_size for name in receipt.outputs}
    head = asdict(replace(receipt, sizes=sizes, result={}))
    result = canonical_json(receipt.result)
    del head["result"]
    head["sha256"] = _record_digest(head, result)
    text = json.dumps(head, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    data = text.removesuffix("\n}").encode() + _RESULT + result + _END
    write_bytes(_receipt_path(dataset, receipt.scene, receipt.stage), data)


def read_receipt(dataset: Path, scene: str, stage: str) -> Receipt | None:
    """The receipt, or None when absent, damaged or another's: then it proves nothing.

    The result, nearly all of a receipt, is compared with the checksum but not yet parsed.
    """
    try:
        data = _receipt_path(dataset, scene, stage).read_bytes()
        cut = data.index(_RESULT)
        record = json.loads(data[:cut] + b"\n}")
        result = data[cut + len(_RESULT) : -len(_END)]
        stated = record.pop("sha256")
        whole = stated == _record_digest(record, result)
        found = Receipt(**record, result=JsonObject(result))
    except (OSError, DatasetError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None
    return found if whole and (found.scene, found.stage) == (scene, stage) else None


def _record_digest(head: dict[str, Any], result: bytes) -> str:
    """SHA-256 of the canonical JSON of a receipt, its result in the place of its name."""
    before = {key: value for key, value in head.items() if key < "result"}
    after = {key: value for key, value in head.items() if key > "result"}
    digest = hashlib.sha256(canonical_json(before)[:-1] + b', "result": ')
    digest.update(result)
    digest.update(b", " + canonical_json(after)[1:])
    return digest.hexdigest()


def _without_links(root: Path, relative: str) -> bool:
    """Whether the path goes down from the root by plain names none of which is a link."""
    names = relative.split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        return False
    here = str(root)
    for name in names:
        here = f"{here}/{name}"
        try:
            if stat.S_ISLNK(os.lstat(here).st_mode):
                return False
        except FileNotFoundError:
            return True
        except OSError:
            return False
    return True


def _is_elsewhere(error: OSError, target: Path) -> bool:
    """Whether the error names a file that is neither the target, nor above it, nor temporary."""
    if not isinstance(error.filename, str):
        return False
    path, folder = Path(error.filename), target.parent
    if target.is_relative_to(path):
        return False
    names = path.relative_to(folder).parts if path.is_relative_to(folder) else ()
    return not (names and names[0].startswith(".tmp-"))


def _not_written(target: Path, error: OSError) -> str:
    try:
        free = f"{shutil.disk_usage(target.parent).free / 2**20:.1f} MB are free there"
    except OSError:  # the folder is gone or hidden
        free = "its folder cannot be looked into"
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return (
        f"{target}: could not be written ({reason}; {free}). Make room or give permission, then "
        "run the same command again."
    )


def _receipt_path(dataset: Path, scene: str, stage: str) -> Path:
    return inside(dataset, f"receipts/{scene}/{stage}.json")
