"""Shards behind a URL: found by SHA256SUMS, which needs no listing, and read in parts."""

from __future__ import annotations

import re
from typing import Any

from defocus_ds.dataset.checksums import SUMS_NAME
from defocus_ds.errors import DatasetError, InputError

__all__ = ["filesystem_of", "is_url", "remote_shards"]

_MAX_BYTES = 1 << 28
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z0-9+.-]+::")
_LINE = re.compile(r"[0-9a-f]{64} [ *]((?:crops/)?(\w[\w.-]*)/(\w+)-(\d{5})-of-(\d{5})\.parquet)")
_INSTALL = "pip install fsspec (for http also aiohttp, for s3 s3fs)"


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
    filesystem, path = filesystem_of(f"{root}/{SUMS_NAME}")
    try:
        with filesystem.open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except Exception as error:  # of any library behind fsspec; those of http are no OSError
        reason = str(error) or type(error).__name__
        raise DatasetError(f"{root}/{SUMS_NAME}: cannot be read ({reason}).") from error
    if len(data) > _MAX_BYTES:
        raise DatasetError(f"{root}/{SUMS_NAME}: more than {_MAX_BYTES} bytes.")
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
