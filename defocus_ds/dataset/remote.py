"""Files behind a URL: shards found by SHA256SUMS, which needs no listing, and whole files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NoReturn

from defocus_ds.dataset.checksums import SUMS_NAME
from defocus_ds.errors import DatasetError, InputError

__all__ = [
    "filesystem_of",
    "is_url",
    "read_url",
    "remote_shards",
    "streamed_url",
    "why_unreachable",
]

_MAX_BYTES = 1 << 28
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z0-9+.-]+::")
_LINE = re.compile(r"[0-9a-f]{64} [ *]((?:crops/)?(\w[\w.-]*)/(\w+)-(\d{5})-of-(\d{5})\.parquet)")
_NO_RANGES = re.compile("range requests|seek streaming HTTP")  # as fsspec says it
_ABSENT = re.compile("answers 404|[Nn]o such file")
_INSTALL = "needs more to be installed: pip install fsspec (for http also aiohttp, for s3 s3fs)"


def is_url(root: object) -> bool:
    """Whether this is a URL that fsspec opens, and not a path.

    >>> is_url("https://example.org/release"), is_url("release"), is_url("c:/release")
    (True, False, False)
    """
    return isinstance(root, str) and _URL.match(root) is not None


def filesystem_of(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path there.

    Raises:
        DatasetError: no such kind of URL, or the server cannot be reached.
        InputError: fsspec, or what it needs for this kind of URL, is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{url}: {_INSTALL} ({error}).") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{url}: cannot be opened ({error or type(error).__name__}).") from error
    return filesystem, str(path)


def read_url(url: str, *, max_bytes: int) -> bytes:
    """The whole file behind a URL.

    Raises:
        DatasetError: it cannot be read, or is larger than ``max_bytes``.
    """
    data = bytearray()
    with streamed_url(url) as file:
        while len(data) <= max_bytes and (more := file.read(max_bytes + 1 - len(data))):
            data += more
    if len(data) > max_bytes:
        raise DatasetError(f"{url}: more than {max_bytes} bytes.")
    return bytes(data)


class UrlStream:
    """Reads a file behind a URL from its beginning; errors name the URL."""

    def __init__(self, file: Any, url: str) -> None:
        self._file = file
        self._url = url

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end.

        Raises:
            DatasetError: the server or the connection fails.
        """
        try:
            return bytes(self._file.read(size))
        except Exception as error:  # of any library behind fsspec; those of http are no OSError
            _fail(self._url, error)


@contextmanager
def streamed_url(url: str) -> Iterator[UrlStream]:
    """The file behind a URL, to read once from front to back; of a web server in one request.

    Raises:
        DatasetError: it cannot be opened.
    """
    filesystem, path = filesystem_of(url)
    # a server need not know ranges for this
    options = {"block_size": 0} if "http" in filesystem.protocol else {}
    try:
        file = filesystem.open(path, "rb", **options)
    except Exception as error:
        _fail(url, error)
    with file:
        yield UrlStream(file, url)


def why_unreachable(url: str, error: BaseException) -> str | None:
    """Why nothing came from behind a URL, without the URL; None where what came is at fault.

    Args:
        url: of a file.
        error: of fsspec or a library behind it, whose texts are often no more than the URL.
    """
    if (reason := _reason(error)) is not None or not isinstance(error, FileNotFoundError):
        return reason
    filesystem, path = filesystem_of(url)
    try:  # pyarrow calls whatever a server answers a file that is not there
        filesystem.info(path)
    except Exception as again:
        return _reason(again) or "there is no such file"
    return "there is no such file"


def _reason(error: BaseException) -> str | None:
    """What an error, or one that it came from, says of the server; None if nothing."""
    found: BaseException | None = error
    while found is not None:
        status = getattr(found, "status", None)
        if isinstance(status, int):
            known = status in HTTPStatus.__members__.values()
            return f"the server answers {status}{f' {HTTPStatus(status).phrase}' if known else ''}"
        if isinstance(found, TimeoutError):
            return "the server does not answer in time"
        if _NO_RANGES.search(str(found)):
            return (
                "its server sends no parts of files (byte ranges), and of Parquet files only parts "
                "are read. Copy the whole folder first (`wget -r -np -R 'index.html*'` and its "
                "URL) and name the copy, or put it on a server that sends parts, as nginx and "
                "object stores do"
            )
        if isinstance(found, OSError) and found.strerror:
            # aiohttp has words of its own for the numbers of the system
            number = found.errno or 0
            return os.strerror(number) if number > 0 else found.strerror
        found = found.__cause__
    return None


def _fail(url: str, error: Exception) -> NoReturn:
    reason = why_unreachable(url, error) or str(error).replace(url, "").strip()
    raise DatasetError(f"{url}: cannot be read: {reason or type(error).__name__}.") from error


def remote_shards(root: str, *, level: str, split: str) -> list[str]:
    """URLs of all shards of a split, in order.

    Args:
        root: of a release or dataset, as fsspec takes it; it must have SHA256SUMS.
        level: of the crops.
        split: of the crops.

    Raises:
        DatasetError: no SHA256SUMS, no such level or split, or not all of its shards are named.
    """
    root = root.rstrip("/")
    try:
        data = read_url(f"{root}/{SUMS_NAME}", max_bytes=_MAX_BYTES)
    except DatasetError as error:
        if not _ABSENT.search(str(error)):
            raise
        raise DatasetError(
            f"{error} A dataset or release has this file at its root; the tars of an export are "
            "read by `as_webdataset`."
        ) from error
    found = [
        m.groups()
        for line in data.decode("utf-8", "replace").splitlines()
        if (m := _LINE.fullmatch(line))
    ]
    there = sorted({f"{own}/{part}" for _, own, part, _, _ in found})
    shards = {
        int(index): (name, int(total))
        for name, own, part, index, total in found
        if (own, part) == (level, split)
    }
    if not shards:
        raise DatasetError(
            f"{root}: no crops of level {level!r}, split {split!r}; there: "
            f"{', '.join(there) or 'none'}."
        )
    total = next(iter(shards.values()))[1]
    if sorted(shards) != list(range(total)) or any(n != total for _, n in shards.values()):
        raise DatasetError(
            f"{root}/{SUMS_NAME}: {len(shards)} of {total} {split} shards are named."
        )
    return [f"{root}/{shards[index][0]}" for index in range(total)]
