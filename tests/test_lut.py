"""Applying 3-D LUTs: exact where it must be, tetrahedral elsewhere."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus_ds.errors import OpticsError
from defocus_ds.lut import apply_lut, lut_table, recolour_rows

FloatImage = npt.NDArray[np.float32]


def nodes(size: int) -> FloatImage:
    axis = np.linspace(0, 1, size, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def tetrahedral_reference(lut: FloatImage, colour: FloatImage) -> npt.NDArray[np.float64]:
    """From the low corner to the high one, one axis at a time, largest fraction first."""
    at = colour.astype(np.float64) * (lut.shape[0] - 1)
    corner = np.minimum(at.astype(int), lut.shape[0] - 2)
    fraction = at - corner
    value = lut[tuple(corner)].astype(np.float64)
    result = value
    for axis in np.argsort(-fraction, kind="stable"):
        corner[axis] += 1
        step = lut[tuple(corner)].astype(np.float64)
        result, value = result + fraction[axis] * (step - value), step
    return result


@pytest.mark.parametrize("size", [2, 3, 17, 33, 65, 129])
def test_identity_returns_every_colour_unchanged(size: int) -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    image = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(52, -1, 3)
    assert np.array_equal(apply_lut(image, nodes(size)), image)


@given(seed=st.integers(0, 1000), size=st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_definition(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    lut = rng.random((size, size, size, 3), dtype=np.float32)
    image = rng.integers(0, 256, (1, 40, 3), dtype=np.uint8)
    exact = np.array([tetrahedral_reference(lut, c / np.float32(255)) for c in image[0]])
    floats = apply_lut(image.astype(np.float32) / np.float32(255), lut)[0]
    assert np.abs(floats - exact).max() < 1e-5
    # node values in sixteenths of a level, weights in 256ths of nodes up to 255 levels apart
    assert np.abs(apply_lut(image, lut)[0] - exact * 255).max() < 0.5 + 1 / 16 + 3 * 255 / 512


def test_is_exact_for_affine_maps_that_leave_the_range() -> None:
    """Nodes beyond [0, 1] let the LUT clip where the map does, not a whole cell earlier."""
    matrix = np.array([[1.2, -0.1, 0.0], [0.05, 0.9, 0.02], [0.0, -0.2, 1.15]])
    lut = (nodes(17) @ matrix.T - 0.02).astype(np.float32)
    image = np.random.default_rng(2).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    exact = ((image / 255) @ matrix.T - 0.02).clip(0, 1) * 255
    assert np.abs(apply_lut(image, lut) - exact).max() < 0.5 + 1 / 8


def test_floats_outside_the_range_are_clipped() -> None:
    image = np.array([[[-0.5, 0.5, 1.5]]], np.float32)
    assert np.allclose(apply_lut(image, nodes(5)), [[[0, 0.5, 1]]])


@pytest.mark.parametrize("rows", [1, 3])
def test_every_pixel_is_recoloured_on_its_own(rows: int) -> None:
    """Pixels are worked on in chunks: none may depend on where a chunk begins or ends."""
    rng = np.random.default_rng(rows)
    lut = rng.random((65, 65, 65, 3), dtype=np.float32) * 2 - np.float32(0.5)
    image = rng.integers(0, 256, (rows, 777, 3), dtype=np.uint8)
    whole = apply_lut(image, lut)
    for x in (0, 300, 511, 512, 513, 776):
        assert np.array_equal(apply_lut(image[:, x : x + 1], lut), whole[:, x : x + 1])


def test_rows_of_levels_go_through_as_their_image_does() -> None:
    rng = np.random.default_rng(8)
    lut = rng.random((129, 129, 129, 3), dtype=np.float32)
    image = rng.integers(0, 256, (5, 640, 3), dtype=np.uint8)
    out = np.empty_like(image)
    recolour_rows(image.astype(np.float32), out, lut_table(lut, np.uint8))
    assert np.abs(out.astype(int) - apply_lut(image, lut)).max() <= 1


def test_pixels_off_the_image_become_black_and_overshoot_is_clipped() -> None:
    values = np.full((2, 600, 3), 300, np.float32)
    values[0, ::7, 0] = np.nan
    values[1] = -40
    out = np.empty(values.shape, np.uint8)
    recolour_rows(values, out, lut_table(1 - nodes(9), np.uint8))
    assert (out[1] == 255).all()
    assert not out[0].any()  # overshoot counts as white, which this LUT makes black
    recolour_rows(values, out, lut_table(nodes(9), np.uint8))
    assert not out[0, ::7].any()
    assert (np.delete(out[0], np.s_[::7], axis=0) == 255).all()


@pytest.mark.parametrize(
    "shape", [(4, 4, 3), (4, 4, 4, 4), (4, 4, 5, 3), (1, 1, 1, 3), (130, 130, 130, 3)]
)
def test_wrong_luts_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(OpticsError, match="colour LUT has shape"):
        apply_lut(np.zeros((2, 2, 3), np.uint8), np.zeros(shape, np.float32))


def test_wrong_images_are_refused() -> None:
    for image in (np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint16)):
        with pytest.raises(OpticsError, match="uint8 or float32"):
            apply_lut(image, nodes(3))


def test_all_six_tetrahedra_meet_without_a_seam() -> None:
    lut = np.random.default_rng(5).random((3, 3, 3, 3), dtype=np.float32)
    for order in itertools.permutations((0.2, 0.2 + 1e-6, 0.6)):
        colour = np.array([[order]], np.float32)
        near = np.array([[[round(v, 3) for v in order]]], np.float32)
        assert np.abs(apply_lut(colour, lut) - apply_lut(near, lut)).max() < 1e-4
