"""3-D look-up tables: bake a colour map into one, write and read the ``.cube`` format."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds import store
from defocus_ds.errors import DatasetError
from defocus_ds.frames import FloatImage

__all__ = ["LUT_RANGE", "bake_lut", "cube_text", "parse_cube", "read_cube", "save_cube"]

LUT_RANGE = (-0.5, 1.5)  # of node values; outside [0, 1] so that interpolation does not clip early

_MAX_SIZE = 129
_LARGEST = 1e6  # magnitude of a number in a table
_LINE_BYTES = 200  # no honest line of a .cube file is longer


def bake_lut(function: Callable[[FloatImage], npt.NDArray[Any]], size: int) -> FloatImage:
    """Tabulate a colour map on a regular grid of stored values.

    Args:
        function: takes (N, 3) float32 colours in [0, 1] and returns (N, 3).
        size: nodes per axis, >= 2.

    Returns:
        (size, size, size, 3) float32 indexed [r, g, b], values in ``LUT_RANGE``, whole
        millionths so that a ``.cube`` file holds them exactly.
    """
    axis = np.linspace(0, 1, size, dtype=np.float32)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    values = np.clip(np.asarray(function(nodes), np.float64), *LUT_RANGE)
    lut = np.round(values * 1e6) / 1e6 + 0.0  # + 0.0 turns -0 into 0
    return lut.astype(np.float32).reshape(size, size, size, 3)


def cube_text(lut: FloatImage, *, title: str = "defocus-ds") -> str:
    """The LUT as the text of a ``.cube`` file (Adobe, Cube LUT Specification 1.0), red fastest."""
    size = lut.shape[0]
    rows = lut.transpose(2, 1, 0, 3).reshape(-1)
    head = f'TITLE "{title}"\nLUT_3D_SIZE {size}\nDOMAIN_MIN 0 0 0\nDOMAIN_MAX 1 1 1\n'
    table: str = ("%.6f %.6f %.6f\n" * size**3) % tuple(rows.tolist())
    return head + table


def read_cube(path: Path) -> FloatImage:
    """Read a ``.cube`` file; see `parse_cube`.

    Raises:
        DatasetError: missing, larger than any valid file, or not a 3-D LUT.
    """
    limit = _LINE_BYTES * (_MAX_SIZE**3 + 100)
    try:
        if path.stat().st_size > limit:
            raise DatasetError(
                f"{path}: {path.stat().st_size} bytes; a LUT has at most {limit}. Is it a .cube?"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as a .cube file ({error}).") from error
    return parse_cube(text, name=str(path))


def parse_cube(text: str, *, name: str = ".cube text") -> FloatImage:
    """Parse a 3-D LUT over the domain [0, 1].

    Args:
        text: content of the file.
        name: what errors call it.

    Returns:
        (N, N, N, 3) float32 indexed [r, g, b].

    Raises:
        DatasetError: unknown keyword, other domain, wrong count, values that are not finite.
    """
    size = 0
    lines = text.splitlines()
    for number, line in enumerate(lines):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] == "TITLE":
            continue
        if words[0] == "LUT_3D_SIZE":
            size = _parse_size(words, name)
        elif words[0] in ("DOMAIN_MIN", "DOMAIN_MAX"):
            expected = 0.0 if words[0] == "DOMAIN_MIN" else 1.0
            if [_number(word) for word in words[1:]] != [expected] * 3:
                raise DatasetError(
                    f"{name}: {line.strip()}; only the domain 0 to 1 is supported. Export it so."
                )
        elif words[0][0] in "+-.0123456789":
            return _parse_table(lines[number:], size, name)
        else:
            raise DatasetError(
                f"{name}: line {number + 1} starts with {words[0][:40]!r}; "
                "need a 3-D LUT with LUT_3D_SIZE and three numbers a line."
            )
    raise DatasetError(f"{name}: no table of colours in {len(lines)} lines. Is the file whole?")


def _parse_size(words: list[str], name: str) -> int:
    size = _number(words[1]) if len(words) == 2 else None
    if size is None or size != int(size) or not 2 <= size <= _MAX_SIZE:
        raise DatasetError(
            f"{name}: {' '.join(words)[:60]}; the size must be a whole number in [2, {_MAX_SIZE}]."
        )
    return int(size)


def _parse_table(lines: list[str], size: int, name: str) -> FloatImage:
    if size == 0:
        raise DatasetError(f"{name}: colours come before LUT_3D_SIZE. Is it a 3-D LUT?")
    rows = [words for line in lines if (words := line.split()) and not words[0].startswith("#")]
    if len(rows) != size**3 or any(len(row) != 3 for row in rows):
        raise DatasetError(
            f"{name}: {len(rows)} colours, LUT_3D_SIZE {size} needs {size**3} of 3 numbers. "
            "Is the file whole?"
        )
    try:
        values = np.fromiter(chain.from_iterable(rows), np.float64, 3 * len(rows))
    except ValueError as error:
        raise DatasetError(
            f"{name}: {error}; need three numbers a line. Is the file damaged? Export it again."
        ) from error
    wild = ~(np.abs(values) < _LARGEST)
    if wild.any():
        first = int(wild.argmax())
        raise DatasetError(
            f"{name}: colour {first // 3 + 1} holds {values[first]:g}; numbers that are not finite "
            f"or not below {_LARGEST:g} are no colours. Export it again."
        )
    table = values.astype(np.float32).reshape(size, size, size, 3)
    return np.ascontiguousarray(table.transpose(2, 1, 0, 3))


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if abs(value) < _LARGEST else None


def save_cube(path: Path, lut: FloatImage) -> None:
    """Write a ``.cube`` file atomically; the same LUT gives the same bytes.

    It holds the nodes, six decimals each, and nothing else: `read_cube` gives a LUT of `bake_lut`
    back bit for bit, and any other one rounded to millionths.
    """
    store.write_bytes(path, cube_text(lut).encode("ascii"))
