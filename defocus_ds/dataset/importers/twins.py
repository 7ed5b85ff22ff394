"""Equal files under several names: no image may be on both sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from defocus_ds.store import sha256_file

__all__ = ["grouped", "twin_digests"]


def twin_digests(files: Iterable[Path]) -> dict[Path, str]:
    """File -> SHA-256 of those that have the bytes of another one; only equal sizes are hashed.

    Files that cannot be read are left out.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in dict.fromkeys(files):
        try:
            by_size[file.stat().st_size].append(file)
        except OSError:
            continue
    digests: dict[Path, str] = {}
    for alike in by_size.values():
        for file in alike if len(alike) > 1 else ():
            try:
                digests[file] = sha256_file(file)
            except OSError:
                continue
    times: dict[str, int] = defaultdict(int)
    for digest in digests.values():
        times[digest] += 1
    return {file: digest for file, digest in digests.items() if times[digest] > 1}


def grouped(images: Mapping[str, Iterable[Path]]) -> dict[str, str]:
    """Name -> the first name, sorted, of those that equal files tie together.

    Args:
        images: name -> its files.
    """
    files = {name: tuple(paths) for name, paths in sorted(images.items())}
    digests = twin_digests(path for paths in files.values() for path in paths)
    above: dict[str, str] = {}

    def first(name: str) -> str:
        while name in above:
            name = above[name]
        return name

    owner: dict[str, str] = {}
    for name, paths in files.items():
        for path in paths:
            if path not in digests:
                continue
            one, other = sorted((first(owner.setdefault(digests[path], name)), first(name)))
            if one != other:
                above[other] = one
    return {name: first(name) for name in files}
