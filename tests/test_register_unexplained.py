"""Content that the pair's one map and one blur cannot explain does not become training crops."""

from __future__ import annotations

import json
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scenes import TruePair, textured, true_pair

from defocus_ds.config import RegisterConfig, TileConfig
from defocus_ds.frames import Reject
from defocus_ds.optics import blur_disk, to_encoded
from defocus_ds.stages.register import Alignment, register
from defocus_ds.stages.register.unexplained import _moments, _noise, unexplained_share
from defocus_ds.stages.tile import CODES, Tiles, judge, luma, positions

UInt8 = npt.NDArray[np.uint8]
SIZE = (768, 512)
SMALL = (320, 240)
SIDE = 128  # of the part that is replaced: more than a cell of the local checks, four crops
CELL = (384, 192)  # its top-left pixel
QUICK = RegisterConfig(iterations=50)
TILE = TileConfig(size=64, stride=64)
NO = CODES.index("unexplained"), CODES.index("misaligned")


@cache
def pair(size: tuple[int, int] = SIZE) -> TruePair:
    return true_pair(size, radius_px=4.0, scale=1.004, shift_px=(1.5, -1.0))


@cache
def stranger(size: tuple[int, int] = SIZE) -> UInt8:
    return true_pair(size, radius_px=4.0, seed=9).blurred


def with_part(blurred: UInt8, other: UInt8, *, side: tuple[int, int] = (SIDE, SIDE)) -> UInt8:
    """``blurred`` with a rectangle of ``side`` (width, height) at CELL taken from ``other``."""
    (x, y), (w, h) = CELL, side
    mixed = blurred.copy()
    mixed[y : y + h, x : x + w] = other[y : y + h, x : x + w]
    return mixed


def built(blurred: UInt8, sharp: UInt8 | None = None) -> tuple[Alignment, Tiles]:
    """Register and tile, as a build and a crop do, with the record as the only link."""
    sharp = pair().sharp if sharp is None else sharp
    found = register(sharp, blurred, config=QUICK)
    assert found.verdict
    record = json.loads(json.dumps(found.to_record(), allow_nan=False))
    return found, judge(
        luma(sharp),
        luma(found.resample(blurred)),
        valid_area=tuple(record["valid_area"]),
        residual_grid=record["residual_grid"],
        unexplained_grid=record["unexplained_grid"],
        residual_px=record["residual_px"],
        config=TILE,
    )


def inside(tiles: Tiles, side: tuple[int, int] = (SIDE, SIDE)) -> npt.NDArray[np.bool_]:
    """Crops that the replaced part covers wholly, give or take the pair's own shift."""
    (x, y), (w, h) = CELL, side
    left, top = tiles.xy[:, 0], tiles.xy[:, 1]
    return (left >= x) & (left + 64 <= x + w) & (top >= y) & (top + 64 <= y + h)


def away(tiles: Tiles) -> npt.NDArray[np.bool_]:
    """Crops that lie inside the valid area and further than a crop from the replaced cell."""
    (x, y), reach = CELL, 64
    left, top = tiles.xy[:, 0], tiles.xy[:, 1]
    near = (left + 64 > x - reach) & (left < x + SIDE + reach)
    near &= (top + 64 > y - reach) & (top < y + SIDE + reach)
    return ~near & (tiles.code != CODES.index("outside"))


def moved(shift_px: int, size: tuple[int, int] = SIZE) -> UInt8:
    return np.roll(pair(size).blurred, shift_px, axis=1)


@pytest.mark.parametrize("kind", ["another scene", "moved by 20 px", "moved by 3 px", "flat grey"])
def test_a_replaced_cell_gives_no_crops(kind: str) -> None:
    other = {
        "another scene": stranger(),
        "moved by 20 px": moved(20),
        "moved by 3 px": moved(3),
        "flat grey": np.full_like(stranger(), 110),
    }[kind]
    _, tiles = built(with_part(pair().blurred, other))
    hit = inside(tiles)
    assert hit.sum() == 4
    assert np.isin(tiles.code[hit], NO).all()
    assert tiles.kept[away(tiles)].mean() >= 0.9  # a cell next to it may not know its shift


@pytest.mark.parametrize("side", [(32, 32), (16, 64), (64, 16)])
def test_foreign_content_in_a_part_of_a_crop_is_enough(side: tuple[int, int]) -> None:
    _, tiles = built(with_part(pair().blurred, stranger(), side=side))
    hit = (tiles.xy == CELL).all(axis=1)
    assert hit.sum() == 1
    assert [CODES[code] for code in tiles.code[hit]] == ["unexplained"]
    assert tiles.value[hit] > tiles.limit[hit]
    assert tiles.limit[hit] == TILE.max_unexplained
    assert tiles.kept[away(tiles)].all()


@pytest.mark.parametrize("radius_px", [0.0, 1.5, 4.0, 9.0, 20.0])
def test_no_clean_crop_is_lost(radius_px: float) -> None:
    """Twice the margin: no crop reaches half the limit, whatever the blur."""
    truth = true_pair((512, 384), radius_px=radius_px, seed=3)
    sharp, blurred = luma(truth.sharp), luma(truth.blurred)
    # 32 px inside: nearer to the edge the disk gathers light from beyond the sharp frame
    xy = positions((448, 320), size=128, stride=32) + np.int32(32)
    assert unexplained_share(sharp, blurred, xy, size=128).max() < TILE.max_unexplained / 2


@cache
def planes() -> tuple[UInt8, UInt8]:
    """A near part at a radius of 7 px before a far one at 3 px, split along a slanted edge."""
    linear = textured(SIZE, seed=5)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    near = (x + 0.3 * y > 460).astype(np.float32)[..., None]
    covered = blur_disk(near[..., 0], 7.0)[..., None]
    # the far plane goes on behind the near one: its own texture, so that the edge is honest
    behind = textured(SIZE, seed=6)
    sharp = near * linear + (1 - near) * behind
    mixed = blur_disk(near * linear, 7.0) + (1 - covered) * blur_disk(behind, 3.0)
    return tuple(  # type: ignore[return-value]
        np.asarray(np.round(to_encoded(image) * 255).clip(0, 255), np.uint8)
        for image in (sharp, mixed)
    )


def test_two_depth_planes_are_both_explained() -> None:
    sharp, blurred = planes()
    found, tiles = built(blurred, sharp)
    assert found.explained > 0.9
    assert tiles.counts().keys() <= {"outside", "flat"}
    assert tiles.kept.sum() > 50


def test_noise_is_not_foreign() -> None:
    """Weak texture under noise of 5 levels, far above a camera's at base ISO."""
    linear = 0.2 + 0.03 * (textured((512, 384), seed=2) - 0.2)
    rng = np.random.default_rng(0)
    sharp, blurred = (
        np.asarray(np.round(to_encoded(x[..., 1]) * 255 + rng.normal(0, 5, x.shape[:2])), np.uint8)
        for x in (linear, blur_disk(linear, 4.0))
    )
    share = unexplained_share(sharp, blurred, positions((512, 384), size=128, stride=64), size=128)
    assert share.max() < TILE.max_unexplained


@pytest.mark.parametrize("size", [32, 64, 128])
def test_crops_of_any_size_are_told_apart(size: int) -> None:
    sharp, own, other = (luma(x) for x in (pair().sharp, pair().uncast, stranger()))
    own = cv2.warpAffine(
        own, np.asarray(pair().warp.matrix), SIZE, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    xy = positions(SIZE, size=size, stride=size)
    xy = xy[((xy >= 16) & (xy + size <= np.array(SIZE) - 16)).all(axis=1)]
    assert (unexplained_share(sharp, own, xy, size=size) > TILE.max_unexplained).mean() < 0.01
    foreign = unexplained_share(sharp, other, xy, size=size)
    assert (foreign > TILE.max_unexplained).mean() > 0.95


def test_no_crops_no_shares() -> None:
    empty = np.empty((0, 2), np.int32)
    assert unexplained_share(*(luma(x) for x in planes()), empty, size=128).shape == (0,)


def test_the_record_names_the_cells_that_are_not_explained() -> None:
    found, _ = built(with_part(pair().blurred, stranger()))
    grid = found.residual_grid
    centre = np.array(CELL) + SIDE / 2
    deep = (np.abs(grid.x - centre[0]) < 45) & (np.abs(grid.y - centre[1]) < 45)
    far = (np.abs(grid.x - centre[0]) > 128) | (np.abs(grid.y - centre[1]) > 128)
    assert deep.any()
    assert (grid.unexplained[deep] > 0.5).all()
    assert np.nanmax(grid.unexplained[far]) < 0.1
    record = json.loads(json.dumps(found.to_record(), allow_nan=False))
    again = Alignment.from_record(record).residual_grid.unexplained
    np.testing.assert_allclose(again, grid.unexplained, atol=1e-5)
    del record["unexplained_grid"]  # datasets of earlier versions have none
    assert np.isnan(Alignment.from_record(record).residual_grid.unexplained).all()


def test_cells_without_texture_have_no_share() -> None:
    sharp, blurred = pair().sharp.copy(), pair().blurred.copy()
    sharp[150:350, 250:500] = blurred[150:350, 250:500] = 120
    grid = register(sharp, blurred, config=QUICK).residual_grid
    deep = (np.abs(grid.x - 375) < 70) & (np.abs(grid.y - 250) < 45)
    assert deep.any()
    assert np.isnan(grid.unexplained[deep]).all()


@pytest.mark.parametrize("kind", ["another scene", "moved apart", "flat grey"])
def test_a_pair_of_which_most_cells_run_off_is_rejected(kind: str) -> None:
    """A third of the frame fits well; it must not speak for the rest."""
    third = SMALL[0] // 3
    apart = moved(20, SMALL)
    apart[:, 2 * third :] = moved(-20, SMALL)[:, 2 * third :]
    grey = np.full_like(apart, 110)
    rest = {"another scene": stranger(SMALL), "moved apart": apart, "flat grey": grey}[kind]
    blurred = rest.copy()
    blurred[:, :third] = pair(SMALL).blurred[:, :third]
    found = register(pair(SMALL).sharp, blurred, config=QUICK)
    assert isinstance(found.verdict, Reject)
    assert any(reason.split(":")[0] in ("unexplained", "ncc") for reason in found.verdict.reasons)


def test_sums_over_windows_are_those_of_numpy() -> None:
    rng = np.random.default_rng(5)
    model, seen = rng.random((2, 40, 50), np.float32)
    corner = np.array([[0, 0], [34, 24], [7, 11]])
    found = _moments(model, seen, corner, 16)
    for index, (x, y) in enumerate(corner):
        one, two = (p[y : y + 16, x : x + 16].astype(np.float64) * 255 for p in (model, seen))
        product = ((one - one.mean()) * (two - two.mean())).mean()
        expected = one.var(), two.var(), product
        assert [values[index] for values in found] == pytest.approx(expected, rel=1e-9)


def test_noise_is_the_mean_response_of_immerkaers_mask() -> None:
    rng = np.random.default_rng(6)
    image = rng.integers(100, 110, (60, 70)).astype(np.uint8)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(image, cv2.CV_32F, mask))
    corner = np.array([[0, 0], [38, 28], [5, 9]], np.int32)
    means = np.array([response[y : y + 32, x : x + 32].mean() for x, y in corner])
    expected = 4 * (np.sqrt(np.pi / 2) / 6 * means / 4) ** 2
    assert _noise(image, corner, 32, 4) == pytest.approx(expected, rel=1e-6)
