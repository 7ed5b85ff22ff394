"""``.cube`` files: exact round trips, and a reason for every file that is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus_ds.errors import DatasetError
from defocus_ds.stages.colour.cube import (
    LUT_RANGE,
    bake_lut,
    cube_text,
    parse_cube,
    read_cube,
    save_cube,
)

CUBE = "LUT_3D_SIZE 2\n" + "\n".join(f"{i & 1} {i >> 1 & 1} {i >> 2}" for i in range(8)) + "\n"


@given(seed=st.integers(0, 1000), size=st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_a_baked_lut_survives_its_text_bit_for_bit(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    lut = bake_lut(lambda colours: rng.normal(0.5, 0.6, colours.shape), size)
    assert lut.dtype == np.float32
    assert LUT_RANGE[0] <= lut.min() and lut.max() <= LUT_RANGE[1]
    assert parse_cube(cube_text(lut)).tobytes() == lut.tobytes()


def test_red_varies_fastest() -> None:
    text = cube_text(bake_lut(lambda colours: colours, 3)).splitlines()
    assert text[1] == "LUT_3D_SIZE 3"
    assert text[4:8] == [
        "0.000000 0.000000 0.000000",
        "0.500000 0.000000 0.000000",
        "1.000000 0.000000 0.000000",
        "0.000000 0.500000 0.000000",
    ]
    lut = parse_cube(CUBE)
    assert np.array_equal(lut[1, 0, 0], [1, 0, 0])
    assert np.array_equal(lut[0, 0, 1], [0, 0, 1])


def test_comments_titles_and_blank_lines_are_skipped() -> None:
    dressed = '# made elsewhere\nTITLE "a"\n\nDOMAIN_MIN 0.0 0.0 0.0\nDOMAIN_MAX 1.0 1 1\n' + CUBE
    dressed = dressed.replace("0 1 0\n", "0 1 0\n# half way\n\n")
    assert np.array_equal(parse_cube(dressed), parse_cube(CUBE))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no table"),
        ("LUT_3D_SIZE 2\n", "no table"),
        (CUBE.replace("LUT_3D_SIZE 2\n", ""), "before LUT_3D_SIZE"),
        (CUBE.replace("LUT_3D_SIZE 2", "LUT_1D_SIZE 8"), "LUT_1D_SIZE"),
        (CUBE.replace("SIZE 2", "SIZE 3"), "8 colours, LUT_3D_SIZE 3 needs 27"),
        (CUBE.replace("SIZE 2", "SIZE 100000000"), "whole number in"),
        (CUBE.replace("SIZE 2", "SIZE 1"), "whole number in"),
        (CUBE.replace("SIZE 2", "SIZE 2.5"), "whole number in"),
        (CUBE.replace("SIZE 2", "SIZE nan"), "whole number in"),
        (CUBE.replace("1 1 1", "1 1"), "8 of 3 numbers"),
        (CUBE.replace("1 1 1", "1 1 x"), "could not convert .*'x'; need three numbers a line"),
        (CUBE.replace("1 1 1", "1 1 nan"), "colour 8 holds nan; .* not finite .* Export"),
        (CUBE.replace("1 1 1", "1 1 1e99"), r"colour 8 holds 1e\+99; .* not below 1e\+06"),
        ("DOMAIN_MAX 2 2 2\n" + CUBE, "only the domain 0 to 1"),
        ("\x89PNG\r\n", "starts with"),
    ],
)
def test_bad_files_are_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        parse_cube(text, name="x.cube")


def test_files_round_trip_and_bad_paths_are_named(tmp_path: Path) -> None:
    lut = bake_lut(lambda colours: colours**0.9, 17)
    save_cube(tmp_path / "deep" / "a.cube", lut)
    assert read_cube(tmp_path / "deep" / "a.cube").tobytes() == lut.tobytes()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.cube"]
    with pytest.raises(DatasetError, match=r"missing\.cube"):
        read_cube(tmp_path / "missing.cube")
    (tmp_path / "binary.cube").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DatasetError, match=r"binary\.cube"):
        read_cube(tmp_path / "binary.cube")


def test_a_file_larger_than_any_lut_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.cube"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no space, would take all memory
    with pytest.raises(DatasetError, match="at most"):
        read_cube(path)
