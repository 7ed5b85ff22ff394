"""The capture files of a folder and their headers, with a complaint for each bad one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from defocus_ds.config import LimitsConfig
from defocus_ds.errors import StageFailed
from defocus_ds.frames import Complaint
from defocus_ds.stages.decoding import Decoder
from defocus_ds.stages.ingest.groups import Found, natural_key
from defocus_ds.stages.ingest.header import (
    IMAGE_SUFFIXES,
    RAW_SUFFIXES,
    UNREAD_SUFFIXES,
    Header,
    looks_like,
    read_header,
)

__all__ = ["Progress", "find_captures", "list_remarks", "read_headers", "without_twins"]

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


def find_captures(root: Path) -> tuple[list[str], list[Complaint]]:
    """Capture files under the root, relative to it, in natural order.

    Names that start with a dot are hidden, folders also with an underscore (cameras begin
    the names of Adobe RGB files with one).  Linked folders are not entered.  A file of another
    suffix is a capture where its first bytes are those of a raw.
    """
    complaints: list[Complaint] = []
    rels: list[str] = []
    unread: dict[str, list[str]] = {}

    def refuse(error: OSError) -> None:
        complaints.append(
            Complaint(
                "error",
                str(error.filename),
                f"the folder cannot be read ({error.strerror}). Check its permissions.",
            )
        )

    for folder, below, names in os.walk(root, onerror=refuse):
        below[:] = sorted(n for n in below if not n.startswith((".", "_")))
        for name in names:
            path = Path(folder, name)
            suffix = path.suffix.lower()
            rel = path.relative_to(root).as_posix()
            if name.startswith("."):
                continue
            if path.is_dir():
                continue
            if suffix in RAW_SUFFIXES | IMAGE_SUFFIXES:
                rels.append(rel)
            elif suffix in UNREAD_SUFFIXES:
                unread.setdefault(f"{suffix} files are", []).append(rel)
            elif (held := looks_like(path)) == "raw":
                rels.append(rel)
            elif held == "image":
                named = f"images named {suffix}" if suffix else "images without a suffix"
                unread.setdefault(f"{named} are", []).append(rel)
    for names in unread.values():
        names.sort(key=natural_key)
    for what, names in sorted(unread.items(), key=lambda item: natural_key(item[1][0])):
        more = f" (so with {len(names)} files)" if len(names) > 1 else ""
        complaints.append(
            Complaint(
                "warning",
                names[0],
                f"{what} not read{more}. Save as PNG, TIFF or JPEG what belongs to a scene.",
            )
        )
    return sorted(rels, key=natural_key), complaints


def without_twins(rels: list[str], listed: Set[str]) -> tuple[list[str], list[Complaint]]:
    """Leave out the JPEG a camera writes beside a raw of the same name."""
    raws = {Path(r).with_suffix("").as_posix() for r in rels if _is_raw(r) and r not in listed}
    raws |= {Path(r).with_suffix("").as_posix() for r in listed if _is_raw(r)}
    twins = [
        r
        for r in rels
        if r not in listed and not _is_raw(r) and Path(r).with_suffix("").as_posix() in raws
    ]
    if not twins:
        return rels, []
    message = f"{len(twins)} files beside a raw of the same name are left out; the raws are used."
    out = set(twins)
    return [r for r in rels if r not in out], [Complaint("warning", twins[0], message)]


def _is_raw(rel: str) -> bool:
    return Path(rel).suffix.lower() not in IMAGE_SUFFIXES


def read_headers(
    root: Path, rels: Sequence[str], limits: LimitsConfig, tell: Progress, decoder: Decoder
) -> tuple[list[Found], list[Complaint]]:
    """Read every header; a file that cannot be read has a complaint and no header."""
    found: list[Found] = []
    complaints: list[Complaint] = []
    for done, rel in enumerate(rels):
        tell("headers", done, len(rels))
        header: Header | None = None
        try:
            header = read_header(root / rel, limits=limits)
            if header.needs_libraw:
                header = _complete(root / rel, header, decoder)
        except StageFailed as error:
            header = None
            # the message starts with the file's name, which the complaint has already
            complaints.append(
                Complaint("error", rel, str(error).removeprefix(f"{Path(rel).name}: "))
            )
        found.append(Found(rel, header))
    tell("headers", len(rels), len(rels))
    return found, complaints


def _complete(path: Path, header: Header, decoder: Decoder) -> Header:
    """What only LibRaw knows of a raw; what the header says itself goes first."""
    answer: dict[str, Any] = decoder.run("inspect", path, raw_size=header.raw_size)
    known = {
        name: value
        for name in header.info.__dataclass_fields__
        if (value := getattr(header.info, name)) not in (None, 0)
    }
    if answer["white_balance"] is not None:
        answer["white_balance"] = tuple(answer["white_balance"])
    return replace(header, info=replace(header.info, **(answer | known)))


def list_remarks(found: Sequence[Found]) -> list[Complaint]:
    """One warning a remark, however many files share it."""
    files: dict[str, list[str]] = {}
    for item in found:
        for remark in item.header.remarks if item.header is not None else ():
            files.setdefault(remark, []).append(item.rel)
    return [
        Complaint(
            "warning",
            rels[0],
            f"{remark}." if len(rels) == 1 else f"{remark} (so in {len(rels)} files).",
        )
        for remark, rels in files.items()
    ]
