"""Pickles of arrays: what is read, and what is refused before it runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from defocus_ds.errors import DatasetError
from defocus_ds.measure.plain_pickle import load_arrays

KERNEL = np.random.default_rng(0).random((3, 2, 5)).astype(np.float32)


def test_nested_arrays_come_back_as_they_are() -> None:
    table = {"one": {"kernel": KERNEL, "deeper": {"bias": KERNEL[0, 0]}}, "two": KERNEL[:0]}
    found = load_arrays(pickle.dumps(table, 3))
    assert np.array_equal(found["one"]["kernel"], KERNEL)
    assert np.array_equal(found["one"]["deeper"]["bias"], KERNEL[0, 0])
    assert found["two"].shape == (0, 2, 5)
    assert found["one"]["kernel"].dtype == np.float32


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_that_would_run_something_is_refused_unrun(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "hit"
    pickle.loads(pickle.dumps(Bomb(target), protocol))  # it works,
    target.rmdir()
    table = {"kernel": KERNEL, "extra": Bomb(target)}
    with pytest.raises(DatasetError, match="refused"):
        load_arrays(pickle.dumps(table, protocol))
    assert not target.exists()  # but not here


@pytest.mark.parametrize(
    "name", [b"builtins\neval", b"numpy\nload", b"numpy.core.multiarray\nscalar", b"os\nsystem"]
)
def test_only_the_names_of_an_array_resolve(name: bytes) -> None:
    with pytest.raises(DatasetError, match="refused"):
        load_arrays(b"\x80\x03c" + name + b"\nX\x01\x00\x00\x00x\x85R.")


@pytest.mark.parametrize(
    "array", [np.zeros(3, np.float64), np.zeros(3, ">f4"), np.array([{}], object), KERNEL.T]
)
def test_arrays_of_other_types_are_refused(array: npt.NDArray[Any]) -> None:
    with pytest.raises(DatasetError, match="refused"):
        load_arrays(pickle.dumps({"kernel": array}, 3))


@pytest.mark.parametrize("value", [[1], "text", 7, {"a": 1}, {"a": "text"}, {"a": None}, None])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(DatasetError, match="refused|need a dictionary"):
        load_arrays(pickle.dumps(value, 3))


def test_a_dictionary_inside_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(DatasetError, match="refused"):
        load_arrays(pickle.dumps(endless, 3))


def test_a_shape_that_its_bytes_do_not_fill_allocates_nothing() -> None:
    whole = pickle.dumps({"kernel": np.zeros(7, np.float32)}, 3)
    size = b"K\x07\x85"  # the shape (7,), once for the constructor's and once for the state
    assert size in whole
    with pytest.raises(DatasetError, match="damaged"):
        load_arrays(whole.replace(size, b"J\xff\xff\xff\x7f\x85"))  # 8 GB


def test_every_truncation_and_many_flips_are_one_clean_error_or_harmless() -> None:
    whole = pickle.dumps({"one": {"kernel": KERNEL}, "two": {"bias": KERNEL[0]}}, 3)
    for length in range(len(whole)):
        with pytest.raises(DatasetError):
            load_arrays(whole[:length])
    rng = np.random.default_rng(1)
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            load_arrays(bytes(damaged))
        except DatasetError:
            refused += 1
    assert refused > 50  # the rest changed a value or a name
