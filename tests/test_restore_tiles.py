"""Tiles cover the frame, fit the memory and equal the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_network import random_network, scene_rgb

from defocus_ds.errors import InputError
from defocus_ds_train.restore_network import ResidualNet
from defocus_ds_train.restore_tiles import (
    FEATHER,
    NotFinite,
    Tiling,
    change_by_tiles,
    plan_tiling,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Echo(ResidualNet):
    """A network that looks nowhere and returns its input; counts what it is given."""

    def __init__(self, stride: int = 16) -> None:
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.stride = stride
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, blurred: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(blurred.shape))
        return blurred.clone()


sides = st.integers(1, 3000)


@given(
    frame=st.tuples(sides, sides),
    radius=st.integers(0, 250),
    budget=st.floats(3e4, 4e6),
    stride=st.sampled_from([2, 8, 16]),
    overlap=st.none() | st.integers(0, 300),
    tile=st.none() | st.integers(16, 1500),
)
@settings(max_examples=150, deadline=None)
def test_tiles_cover_the_frame_share_enough_and_fit(
    frame: tuple[int, int],
    radius: int,
    budget: float,
    stride: int,
    overlap: int | None,
    tile: int | None,
) -> None:
    try:
        tiling = plan_tiling(
            frame,
            stride=stride,
            radius=radius,
            budget_pixels=budget,
            tile=tile,
            overlap=overlap,
            batches=True,
        )
    except InputError:
        return
    assert tiling.batch * tiling.rows.tile * tiling.columns.tile <= budget
    assert tiling.overlap >= (2 * radius + FEATHER if overlap is None else overlap)
    assert tiling.exact == (len(tiling) == 1 or tiling.overlap >= 2 * radius + FEATHER)
    for side, axis in zip(frame, (tiling.rows, tiling.columns), strict=True):
        padded = -(-side // stride) * stride
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.tile == padded
        assert all(start % stride == 0 for start in (*axis.starts, axis.tile))
        if tile is not None:
            assert axis.tile <= -(-tile // stride) * stride
        for before, after in itertools.pairwise(axis.starts):
            assert before + axis.tile - after >= tiling.overlap
        feather = min(FEATHER, tiling.overlap)
        kept = [axis.kept(index, feather) for index in range(len(axis))]
        for (_, full, end), (fade, _, _) in itertools.pairwise(kept):
            assert full <= fade <= end  # a pixel is of one tile, or between two


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    tile=st.integers(16, 96),
    overlap=st.integers(0, 48),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_equal_tiles_give_the_frame_back_to_the_bit(
    height: int, width: int, tile: int, overlap: int, seed: int
) -> None:
    luma = np.random.default_rng(seed).random((height, width), np.float32)
    try:
        tiling = plan_tiling(
            luma.shape,  # type: ignore[arg-type]
            stride=16,
            radius=0,
            budget_pixels=3e4,
            tile=tile,
            overlap=overlap,
            batches=True,
        )
    except InputError:
        return
    network = Echo()
    seen: list[tuple[int, int]] = []
    back = change_by_tiles(luma, network, tiling, progress=lambda *now: seen.append(now))
    assert np.array_equal(back, luma)
    assert sum(size[0] for size in network.sizes) == len(tiling)
    assert seen == [(done, len(tiling)) for done in range(1, len(tiling) + 1)]


def plan(network: ResidualNet, frame: tuple[int, int], **options: int | bool) -> Tiling:
    return plan_tiling(
        frame,
        stride=network.stride,
        radius=network.radius,
        budget_pixels=1e9,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def deep() -> tuple[ResidualNet, np.ndarray, np.ndarray]:
    """A network of the published depth, a luma of odd sides, and the change of the whole."""
    torch.set_num_threads(1)
    network = ResidualNet(random_network((2, 4, 4, 8)))
    luma = np.uint8(np.round(255 * scene_rgb((1101, 903))[..., 1]))
    return network, luma, change_by_tiles(luma, network, plan(network, luma.shape))


def test_tiles_equal_the_whole(deep: tuple[ResidualNet, np.ndarray, np.ndarray]) -> None:
    network, luma, whole = deep
    tiling = plan(network, luma.shape, tile=720)
    assert tiling.exact
    assert len(tiling) == 6
    assert np.abs(whole).max() > 50 / 255  # so equality means something
    assert np.abs(change_by_tiles(luma, network, tiling) - whole).max() < 0.01 / 255


def test_tiles_in_batches_equal_tiles_one_by_one(
    deep: tuple[ResidualNet, np.ndarray, np.ndarray],
) -> None:
    network, luma, whole = deep
    tiling = plan(network, luma.shape, tile=720, batches=True)
    assert tiling.batch == 6
    assert np.abs(change_by_tiles(luma, network, tiling) - whole).max() < 0.01 / 255


def test_what_overlap_does_not_cover_shows(
    deep: tuple[ResidualNet, np.ndarray, np.ndarray],
) -> None:
    network, luma, whole = deep
    errors = []
    for overlap in (0, 64):
        tiling = plan(network, luma.shape, tile=400, overlap=overlap)
        assert not tiling.exact
        change = change_by_tiles(luma, network, tiling)
        errors.append(np.abs(change - whole).max() * 255)
    assert errors[0] > 1
    assert errors[1] < errors[0] / 10


def test_the_network_pads_a_frame_as_the_tiles_do() -> None:
    model = random_network((4, 8))
    luma = scene_rgb((61, 43))[..., 1].copy()
    network = ResidualNet(model)
    tensor = torch.from_numpy(luma)[None, None]
    with torch.inference_mode():
        expected = (model(tensor) - tensor)[0, 0].numpy()
    found = change_by_tiles(luma, network, plan(network, (43, 61)))
    assert np.abs(found - expected).max() < 1e-5


def test_fewest_pixels_are_computed_twice() -> None:
    tiling = plan_tiling((3870, 5796), stride=16, radius=245, budget_pixels=6e6)
    # 3x3 tiles of 2272x1632 would be possible, too: 1.49 times the frame
    assert len(tiling) <= 9
    assert tiling.computed < 1.5
    assert len(plan_tiling((3870, 5796), stride=16, radius=245, budget_pixels=3e7)) == 1


def test_refuses_tiles_smaller_than_what_they_share() -> None:
    with pytest.raises(InputError, match="tiles of 512 px cannot share 512 px .* 528 px or more"):
        plan_tiling((2000, 2000), stride=16, radius=245, budget_pixels=1e9, tile=512)


def test_refuses_a_budget_below_the_smallest_tile() -> None:
    with pytest.raises(InputError, match=r"allows 0.2 megapixels at once; the smallest tiles .*"):
        plan_tiling((2000, 2000), stride=16, radius=245, budget_pixels=2e5)


def test_output_that_is_not_a_number_is_an_error() -> None:
    class Broken(Echo):
        def __call__(self, blurred: torch.Tensor) -> torch.Tensor:
            return blurred / 0

    luma = np.zeros((20, 40), np.float32)
    with pytest.raises(NotFinite, match="not finite in tile 1, 1 of 1 x 1"):
        change_by_tiles(
            luma, Broken(), plan_tiling((20, 40), stride=16, radius=0, budget_pixels=1e6)
        )
