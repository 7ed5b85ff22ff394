"""WebDataset: tars of crops that are read from end to end, by the library of that name."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator

from defocus_ds.dataset.export.record import ExportedTar, json_line
from defocus_ds.dataset.export.source import StoredCrop
from defocus_ds.dataset.export.target import HashedFile, Target

__all__ = ["write"]

TAR_CROPS = 4096
TAR_BYTES = 512 * 1024**2
_BLOCK = 512
_END = bytes(2 * _BLOCK)


def write(
    target: Target, level: str, split: str, crops: Iterable[StoredCrop]
) -> tuple[ExportedTar, ...]:
    """``<level>/<split>-00000.tar`` ...: ``<index>.blurred.png .json .sharp.png`` of each crop.

    A tar holds at most 4096 crops and 512 MiB.

    Raises:
        DatasetError: a row that JSON cannot hold.
    """
    tars: list[ExportedTar] = []
    samples = map(_sample, crops)
    sample = next(samples, None)
    while sample is not None:
        name = f"{level}/{split}-{len(tars):05}.tar"
        count = 0
        with target.opened(name) as file:
            while sample is not None and (not count or _fits(file, count, sample)):
                file.write(sample)
                count += 1
                sample = next(samples, None)
            file.write(_END)
            size = file.size
        tars.append(ExportedTar(name, count, size))
    return tuple(tars)


def _fits(file: HashedFile, count: int, sample: bytes) -> bool:
    return count < TAR_CROPS and file.size + len(sample) + len(_END) <= TAR_BYTES


def _sample(crop: StoredCrop) -> bytes:
    key = f"{crop.index:08}"
    row = json_line(crop.row, where=f"crop {crop.index} of {crop.row['split']}")
    parts = (("blurred.png", crop.blurred), ("json", row), ("sharp.png", crop.sharp))
    return b"".join(piece for end, data in parts for piece in _member(f"{key}.{end}", data))


def _member(name: str, data: bytes) -> Iterator[bytes]:
    """Header, content and padding; no time, no owner: the same file for everyone."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    header.mode = 0o644
    yield header.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    yield data
    yield bytes(-len(data) % _BLOCK)
