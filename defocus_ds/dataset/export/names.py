"""File names of crops: safe on every file system, and one for every place of every scene."""

from __future__ import annotations

import string
from typing import Any

from defocus_ds.store import sha256_bytes

__all__ = ["crop_name"]

_SAFE = frozenset((string.ascii_letters + string.digits + "-_.").encode())
_MAX_LENGTH = 160


def crop_name(row: dict[str, Any]) -> str:
    """``<scene>-<x>-<y>``, in letters, digits and ``-_.%~``; different places, different names.

    Other characters become ``%`` and two hexadecimal digits a byte of their UTF-8, as in URLs: no
    white space (lists of files are split at it), no separators, nothing outside ASCII.  A name
    that would be too long ends in ``~`` and 16 digits of its SHA-256.

    Args:
        row: of a crop; x and y >= 0.

    >>> crop_name({"scene": "red car", "x": 128, "y": 0})
    'red%20car-128-0'
    """
    scene = row["scene"].encode(errors="surrogatepass")
    safe = "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in scene)
    if safe[:1] in (".", "-"):  # hidden files, and options of commands
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    if len(safe) > _MAX_LENGTH or not safe:
        safe = f"{safe[: _MAX_LENGTH - 17]}~{sha256_bytes(scene)[:16]}"
    return f"{safe}-{row['x']}-{row['y']}"
