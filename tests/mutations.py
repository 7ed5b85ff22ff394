"""Damage to files for the tests named ``test_fuzz_*``: edits of bytes and of text.

``DEFOCUS_DS_FUZZ=N`` gives every such test N examples, and other ones each time; without it they
are few and always the same.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from defocus_ds.errors import DefocusError

_ASKED = os.environ.get("DEFOCUS_DS_FUZZ")
_RUNS = frozenset(
    (
        "os.system",
        "os.exec",
        "os.fork",
        "os.posix_spawn",
        "os.spawn",
        "subprocess.Popen",
        "pty.spawn",
    )
)
_HOSTILE = (
    b"../../outside",
    b"/etc/passwd",
    b"\0",
    b"\xff\xfe",
    b"NaN",
    b"1e999",
    b"-1",
    b"9" * 40,
    b"9" * 5000,
    b"[" * 100_000,
    b"{}",
    b"null",
    b'""',
    b"\n",
    b'"',
    b"\r",
)
# "1e999" is written without its quotes: a number that no float holds
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 2**70, 0.5, "1e999", float("nan"), float("inf"), -(2**31)),
    *("", "../../outside", "/etc/passwd", "a\0b", "\ud800", [], {}, [[]], {"a": {}}, ["x"]),
)
_ran: list[str] = []
_watching = False


def fuzzed(examples: int) -> Any:
    """Settings of a fuzzing test with so many examples unless the environment asks for more."""
    return settings(
        max_examples=int(_ASKED) if _ASKED else examples,
        derandomize=not _ASKED,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def edits(draw: st.DrawFn, most: int = 4) -> tuple[tuple[str, float, bytes], ...]:
    """What `edited` is to do: kind, place as a share of the file, new bytes."""
    edit = st.tuples(
        st.sampled_from(("flip", "write", "insert", "remove", "repeat", "cut", "hostile", "zero")),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    )
    return tuple(draw(st.lists(edit, min_size=1, max_size=most)))


def edited(whole: bytes, changes: tuple[tuple[str, float, bytes], ...]) -> bytes:
    """The file after the edits, one after the other."""
    data = bytearray(whole)
    for kind, share, new in changes:
        at = int(share * len(data))
        span = int.from_bytes(new[:2], "big") % 600
        if kind == "flip" and data:
            data[at] ^= 1 << new[0] % 8
        elif kind == "write":
            data[at : at + len(new)] = new
        elif kind == "insert":
            data[at:at] = new
        elif kind == "remove":
            del data[at : at + span]
        elif kind == "repeat":
            data[at:at] = data[at : at + span]
        elif kind == "cut":
            del data[at:]
        elif kind == "hostile":
            data[at : at + new[0] % 12] = _HOSTILE[new[-1] % len(_HOSTILE)]
        elif kind == "zero":
            data[at : at + span] = bytes(len(data[at : at + span]))
    return bytes(data)


def with_hostile_value(whole: bytes, share: float, which: int) -> bytes:
    """A JSON record in which one value, so far into the file, is one that nobody expects there."""
    record = json.loads(whole)
    places = list(_places(record))
    holder, key = places[int(share * len(places))]
    holder[key] = _VALUES[which % len(_VALUES)]
    return json.dumps(record).replace('"1e999"', "1e999").encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value in a record, outer ones first."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def complaint(error: DefocusError) -> str:
    """The text of an error of ours, which is one line fit for a person."""
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    assert 10 < len(text) < 2000, text
    return text


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails when the block starts a process."""
    global _watching
    if "mutations" not in _hooked:
        sys.addaudithook(_note)
        _hooked.add("mutations")
    _ran.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert not _ran, f"started: {_ran}"


_hooked: set[str] = set()


def _note(event: str, _: Any) -> None:
    if _watching and event in _RUNS:
        _ran.append(event)
