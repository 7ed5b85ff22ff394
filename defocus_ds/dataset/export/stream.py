"""The tars of a WebDataset export, in a folder or behind a URL, each read from front to back."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from defocus_ds.dataset.export.record import (
    EXPORT_NAME,
    MAX_RECORD_BYTES,
    ExportedTar,
    read_record,
    record_of,
)
from defocus_ds.dataset.remote import is_url, read_url, streamed_url
from defocus_ds.errors import DatasetError
from defocus_ds.store import inside
from defocus_ds.wording import counted

__all__ = ["recorded_tars", "samples"]

_MAGIC = b"ustar"
_MAGIC_AT = 257
_BLOCK = 512
_PLAIN_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
# a name with a scheme, a second URL behind "::", a query or "..": none of them is ours
_TAR_NAME = re.compile(r"\w[\w.-]*/\w+-\d{5}\.tar")


def recorded_tars(out: Path | str, *, level: str, split: str) -> dict[str, ExportedTar]:
    """Absolute path or URL -> record of the tars of a level and split.

    Those of a folder are present and of their length; of those behind a URL nothing is read yet.

    Raises:
        DatasetError: not such an export, no such level or split, or a tar that is missing or of
            another length.
    """
    url = str(out).rstrip("/") if is_url(out) else None
    if url is None:
        folder = Path(out).resolve()
        record = read_record(folder)
        out = folder
    else:
        where = f"{url}/{EXPORT_NAME}"
        record = record_of(read_url(where, max_bytes=MAX_RECORD_BYTES), where=where)
        out = url
    if record.to != "webdataset":
        raise DatasetError(
            f"{out}: an export to {record.to}; make one with `defocus-ds export --to webdataset`."
        )
    found = [s for s in record.streams if (s.level, s.split) == (level, split)]
    if not found:
        there = ", ".join(f"{stream.level} {stream.split}" for stream in record.streams)
        raise DatasetError(f"{out}: no crops of {level} {split}; there: {there or 'none'}.")
    if not found[0].tars:
        raise DatasetError(f"{out}/{EXPORT_NAME}: no tar of {level} {split}. Export again.")
    if url is None:
        return {str(_present(folder, tar)): tar for tar in found[0].tars}
    return {f"{url}/{_plain(url, tar.file)}": tar for tar in found[0].tars}


def samples(
    urls: Iterable[Mapping[str, str]], *, tars: Mapping[str, ExportedTar]
) -> Iterator[dict[str, Any]]:
    """The samples of these tars: name of each file -> its bytes.

    The library's own reader takes an unreadable header inside a tar for its end, and a compressed
    tar for a plain one, and fills the holes of sparse files: crops would be lost in silence, and a
    small file could fill the memory.

    Raises:
        DatasetError: a tar that cannot be read, or holds other crops than its record says.
    """
    from webdataset.tariterators import group_by_keys

    for item in urls:
        url, count = item["url"], 0
        tar = tars[url]
        with streamed_url(url) if is_url(url) else Path(url).open("rb") as file:
            files = _files(_TarStream(file, url, tar.bytes), url, tar.bytes)
            for sample in group_by_keys(files, handler=_unreadable):
                yield sample
                count += 1
        if count != tar.crops:
            raise DatasetError(
                f"{url}: {counted(count, 'crop')} can be read, {EXPORT_NAME} says {tar.crops}. "
                "Copy it again, or export again."
            )


def _files(stream: Any, url: str, size: int) -> Iterator[dict[str, Any]]:
    """Name and bytes of every file of a tar, as the library's next stage takes them."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if member.type not in _PLAIN_FILES or member.issparse() or member.size > size:
                    raise DatasetError(
                        f"{url}: {member.name!r} is no plain file of at most {size} bytes."
                    )
                file = tar.extractfile(member)
                assert file is not None
                yield {"fname": member.name, "data": file.read(), "__url__": url}
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DatasetError(
            f"{url}: not a readable tar ({error}). Copy it again, or export again."
        ) from error


class _TarStream:
    """What `tarfile` reads: a plain tar of the recorded length, which cannot be sought in."""

    def __init__(self, file: Any, url: str, size: int) -> None:
        self._file, self._url, self._size, self._count = file, url, size, 0
        self._first = b""
        while len(self._first) < _BLOCK and (more := self._next(_BLOCK - len(self._first))):
            self._first += more
        # the first file's name is a number: nothing compressed begins with a digit
        if not (self._first[:1].isdigit() and self._first.startswith(_MAGIC, _MAGIC_AT)):
            raise DatasetError(f"{url}: not a plain tar. Copy it again, or export again.")

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, at least one before the end."""
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._next(size)

    def _next(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self._count += len(data)
        if self._count > self._size or (not data and self._count < self._size):
            found = f"more than {self._size}" if data else str(self._count)
            raise DatasetError(
                f"{self._url}: {found} bytes, {EXPORT_NAME} says {self._size}. "
                "Copy it again, or export again."
            )
        return data


def _present(folder: Path, tar: ExportedTar) -> Path:
    path = inside(folder, tar.file)
    found = path.stat().st_size if path.is_file() else None
    if found != tar.bytes:
        state = "missing" if found is None else f"{found} bytes, {EXPORT_NAME} says {tar.bytes}"
        raise DatasetError(f"{path}: {state}. Copy it again, or export again.")
    return path


def _plain(url: str, name: str) -> str:
    if not _TAR_NAME.fullmatch(name):
        raise DatasetError(f"{url}/{EXPORT_NAME}: {name!r} is no tar of an export.")
    return name


def _unreadable(error: Exception) -> NoReturn:
    """Handler of the library's stage, which adds the tar's name to the error's arguments."""
    words = " ".join(str(word) for word in error.args if isinstance(word, str))
    raise DatasetError(f"not a readable tar ({words}). Copy it again, or export again.") from error
