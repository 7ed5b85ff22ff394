"""Pickles that hold nothing but dictionaries of float32 arrays, read without running them."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import DatasetError

__all__ = ["load_arrays"]

# all that a nest of dictionaries and arrays needs; each of these allocates no more than it brings
# fmt: off
_OPCODES = frozenset((
    "PROTO", "MARK", "STOP", "GLOBAL", "REDUCE", "BUILD", "NONE", "NEWTRUE", "NEWFALSE", "BININT",
    "BININT1", "BININT2", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINPUT", "BINGET",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
))
# fmt: on


def load_arrays(data: bytes) -> dict[str, Any]:
    """The dictionary in a pickle of protocol 3, dictionaries inside it included.

    Opcodes are held against a list before anything is loaded; the three names of a plain array
    resolve to stand-ins of this module and no other name resolves at all.

    Args:
        data: the whole file; memory is bounded by its length.

    Returns:
        Arrays are little-endian float32, C order, read-only.

    Raises:
        DatasetError: damaged, another type of array, or anything that is not an array.
    """
    try:
        for opcode, _, _ in pickletools.genops(data):
            if opcode.name not in _OPCODES:
                raise DatasetError(f"the pickle uses {opcode.name}, which no array needs; refused.")
        table = _ArraysOnly(io.BytesIO(data)).load()
        if not isinstance(table, dict):
            raise DatasetError(f"the pickle holds a {type(table).__name__}, need a dictionary.")
        return {name: _values(value) for name, value in table.items()}
    except DatasetError:
        raise
    except Exception as error:  # a damaged pickle raises almost anything
        raise DatasetError(f"damaged pickle ({type(error).__name__}: {error}).") from error


class _PlainArray:
    """Stands in for an array: keeps its state, allocates nothing."""

    def __init__(self, *_: object) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def values(self) -> npt.NDArray[np.float32]:
        _, shape, kind, fortran, data = self._state
        if not isinstance(kind, _PlainType) or not isinstance(data, bytes) or fortran:
            raise DatasetError("the pickle holds an array that is not plain float32; refused.")
        return np.frombuffer(data, "<f4").reshape(shape)


class _PlainType:
    """Stands in for the float32 dtype; any other is refused."""

    def __init__(self, code: object, *_: object) -> None:
        if code != "f4":
            raise DatasetError(f"the pickle holds an array of type {code!r}, need f4; refused.")

    def __setstate__(self, state: Any) -> None:
        if state[1] != "<":
            raise DatasetError(
                f"the pickle holds an array of byte order {state[1]!r}, need '<'; refused."
            )


class _ArraysOnly(pickle.Unpickler):
    """Resolves the three names of a pickled array to stand-ins, and no other name at all."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _PlainArray,
            ("numpy._core.multiarray", "_reconstruct"): _PlainArray,
            ("numpy", "ndarray"): None,
            ("numpy", "dtype"): _PlainType,
        }
        if (module_name, global_name) not in known:
            raise DatasetError(
                f"the pickle asks for {module_name}.{global_name}, which is not an array; refused."
            )
        return known[module_name, global_name]


def _values(value: Any, depth: int = 0) -> Any:
    """Stand-ins replaced by the arrays they stand for."""
    if isinstance(value, dict) and depth < 8:
        return {name: _values(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, _PlainArray):
        return value.values()
    raise DatasetError(f"the pickle holds a {type(value).__name__}, need arrays; refused.")
