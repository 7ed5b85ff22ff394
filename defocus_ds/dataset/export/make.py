"""Export: read every crop once, write it in another layout, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import defocus_ds
from defocus_ds.dataset.checksums import SUMS_NAME
from defocus_ds.dataset.export import basicsr, dpdd, webdataset
from defocus_ds.dataset.export.record import (
    EXPORT_NAME,
    ExportedStream,
    ExportedTar,
    ExportRecord,
    read_record,
)
from defocus_ds.dataset.export.source import StoredCrop, Stream, open_streams
from defocus_ds.dataset.export.target import Target, refuse_foreign
from defocus_ds.dataset.folders import replaced_folder
from defocus_ds.dataset.steps import Progress, Steps
from defocus_ds.errors import InputError

__all__ = ["FORMATS", "ExportReport", "Writer", "export"]

Writer = Callable[[Target, str, str, Iterable[StoredCrop]], tuple[ExportedTar, ...]]

FORMATS: dict[str, Writer] = {
    "webdataset": webdataset.write,
    "basicsr": basicsr.write,
    "dpdd": dpdd.write,
}
# what makes a crop: `defocus_ds_train` keys its cache by the same digest
_IDENTITY = ("scene", "level", "split", "x", "y", "size", "sha256_sharp", "sha256_blurred")
_STEP = 64


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export` wrote.

    Attributes:
        out: the folder.
        to: the format.
        crops: level -> split -> crops.
        files, bytes: written, SHA256SUMS left out.
    """

    out: Path
    to: str
    crops: dict[str, dict[str, int]]
    files: int
    bytes: int


def export(
    source: Path | str,
    out: Path | str,
    *,
    to: str,
    levels: Sequence[str] | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the crops of a dataset in another layout; every crop is checked on the way.

    The PNG bytes are those of the shards.  The same crops give the same bytes.  ``out`` appears
    when everything is written; an earlier export of the same in its place is then replaced.

    Args:
        source: a built dataset, a release, or a ``crops`` folder.
        out: folder to make.
        to: "webdataset", "basicsr" or "dpdd".
        levels: which to export; None is all that have crops.
        replace: also an export of another layout, source or levels.
        progress: called with (done, total, label).

    Raises:
        InputError: no such format, or ``out`` lies in the source or holds something else, be it
            another export.
        DatasetError: no crops, or a damaged shard; the text names shard and row.
    """
    if to not in FORMATS:
        raise InputError(f"format {to!r}: one of {', '.join(FORMATS)}.")
    folder = Path(out).resolve()
    _refuse_inside(folder, Path(source))
    refuse_foreign(folder)
    streams = open_streams(Path(source), levels)
    if not replace:
        _refuse_other(folder, to, streams)
    step = Steps(progress, sum(stream.count for stream in streams), every=_STEP)
    exported = []
    with replaced_folder(folder) as fresh, Target(fresh) as target:
        for stream in streams:
            crops = _Counted(stream, step)
            tars = FORMATS[to](target, stream.level, stream.split, crops)
            exported.append(crops.record(tars))
        if not replace:
            _refuse_other_rows(folder, exported)
        versions = {"defocus-ds": defocus_ds.__version__}
        target.add(EXPORT_NAME, ExportRecord(to, tuple(exported), versions).as_json())
    counts: dict[str, dict[str, int]] = {}
    for done in exported:
        counts.setdefault(done.level, {})[done.split] = done.crops
    return ExportReport(Path(out), to, counts, target.files, target.bytes)


class _Counted:
    """The crops of a stream, once; counted and digested as they pass."""

    def __init__(self, stream: Stream, step: Steps) -> None:
        self._stream = stream
        self._step = step
        self._digest = hashlib.sha256()
        self._count = 0

    def __iter__(self) -> Iterator[StoredCrop]:
        label = f"{self._stream.level} {self._stream.split}"
        for crop in self._stream.crops():
            yield crop
            self._digest.update(repr(tuple(crop.row[name] for name in _IDENTITY)).encode())
            self._count += 1
            self._step(label)

    def record(self, tars: tuple[ExportedTar, ...]) -> ExportedStream:
        """What export.json says of them."""
        return ExportedStream(
            self._stream.level,
            self._stream.split,
            self._count,
            self._digest.hexdigest(),
            self._stream.dataset_digest,
            tars,
        )


def _refuse_other(out: Path, to: str, streams: Sequence[Stream]) -> None:
    """Pass where there is no export, or one of this layout, of these levels, from these images."""
    if not (out / EXPORT_NAME).is_file():
        return
    there = read_record(out)
    old, new = ({(s.level, s.dataset_digest) for s in each} for each in (there.streams, streams))
    if (there.to, old) == (to, new):
        return
    levels = ", ".join(dict.fromkeys(stream.level for stream in there.streams))
    wanted = ", ".join(dict.fromkeys(stream.level for stream in streams))
    other = "" if there.to != to or levels != wanted else ", of another dataset or build"
    raise InputError(
        f"{out}: holds a {there.to} export of {levels}{other}; this one is {to}, of {wanted}. "
        "Choose another -o, or give --replace to let it go."
    )


def _refuse_other_rows(out: Path, exported: Sequence[ExportedStream]) -> None:
    """Pass where there is no export, or one of the very same crops in the same splits."""
    if not (out / EXPORT_NAME).is_file():
        return
    old, new = (
        {(s.level, s.split, s.rows_sha256) for s in each}
        for each in (read_record(out).streams, exported)
    )
    if old != new:
        raise InputError(
            f"{out}: holds an export of other crops, or of these in other splits, as of a release "
            "or from before they were cut again. Choose another -o, or give --replace to let it go."
        )


def _refuse_inside(out: Path, source: Path) -> None:
    root = source.resolve()
    if root.name == "crops" and (root.parent / SUMS_NAME).is_file():
        root = root.parent
    if out.is_relative_to(root):
        raise InputError(
            f"{out}: lies in the dataset {root}, whose SHA256SUMS does not know it; give a folder "
            "outside of it."
        )
