"""Tiles: luma as published, a grid that depends on the frame alone, and a reason for each no."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from defocus_ds.config import TileConfig
from defocus_ds.errors import InputError
from defocus_ds.frames import Keep, Reject
from defocus_ds.stages.tile import Tiles, judge, local_residual, luma, positions

WHOLE = (0, 0, 256, 192)
TILE = TileConfig(size=64, stride=64)


def noise(shape: tuple[int, int] = (192, 256), *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 236, shape, np.uint8)


def judged(sharp: np.ndarray, blurred: np.ndarray | None = None, **changes: object) -> Tiles:
    options = {
        "valid_area": WHOLE,
        "residual_grid": [],
        "residual_px": 0.1,
        "config": TILE,
    } | changes
    return judge(sharp, sharp if blurred is None else blurred, **options)


def codes(tiles: Tiles) -> dict[tuple[int, int], str]:
    """(x, y) -> code of the rejected tiles."""
    return {
        (x, y): tiles.verdict(i).reasons[0].split(":")[0]
        for i, (x, y) in enumerate(tiles.xy.tolist())
        if not tiles.verdict(i)
    }


def test_luma_is_the_full_range_jpeg_matrix_rounded_down() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    exact = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-T T.871, full range
    error = luma(rgb) - exact
    assert error.min() > -1.02  # weights in 64ths add up to 0.02 to the rounding
    assert error.max() < 0.03
    assert luma(np.full((2, 2, 3), 255, np.uint8)).tolist() == [[255, 255], [255, 255]]


def test_luma_is_what_the_authors_published(real_data: Path) -> None:
    """The ground truth crop of kodim19 of MMSP 2024: equal in every pixel, unlike OpenCV's gray."""
    published = real_data / "mmsp2024/MMSP_Comparisons/kodim19_original.png"
    with Image.open(published) as image:
        truth = np.asarray(image)
    with Image.open(real_data / "kodak24/kodim19.png") as image:
        rgb = np.asarray(image.convert("RGB"))
    top, left = (rgb.shape[0] - 128) // 2, (rgb.shape[1] - 128) // 2
    crop = rgb[top : top + 128, left : left + 128]
    assert np.array_equal(luma(crop), truth)
    assert not np.array_equal(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), truth)


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_luma_refuses_what_is_not_8_bit_rgb(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        luma(bad)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(1, 64))
def test_positions_fill_the_frame_and_stay_inside(w: int, h: int, size: int, stride: int) -> None:
    xy = positions((w, h), size=size, stride=stride)
    count = [max(0, (extent - size) // stride + 1) for extent in (w, h)]
    assert len(xy) == count[0] * count[1]
    assert (xy % stride == 0).all()
    assert (xy >= 0).all()
    assert (xy + size <= (w, h)).all()


def test_all_of_a_textured_pair_is_kept() -> None:
    tiles = judged(noise())
    assert len(tiles) == 12
    assert tiles.kept.all()
    assert tiles.counts() == {}
    assert isinstance(tiles.verdict(0), Keep)


def test_outside_is_any_crop_that_the_valid_area_cuts() -> None:
    tiles = judged(noise(), valid_area=(1, 0, 256, 191))
    expected = {(0, y) for y in (0, 64, 128)} | {(x, 128) for x in (0, 64, 128, 192)}
    assert codes(tiles) == dict.fromkeys(expected, "outside")
    assert tiles.counts() == {"outside": 6}
    assert tiles.verdict(0) == Reject(("outside: 1, 0",))


def test_flat_is_the_standard_deviation_of_the_sharp_crop() -> None:
    sharp = noise()
    sharp[:64, :64] = 100
    sharp[:64, 0:64:2] = 107  # standard deviation 3.5
    sharp[:64, 64:128] = 100
    sharp[:64, 64:128:2] = 109  # 4.5
    tiles = judged(sharp)
    assert codes(tiles) == {(0, 0): "flat"}
    assert tiles.value[0] == pytest.approx(3.5)
    assert tiles.limit[0] == 4.0


@pytest.mark.parametrize("end", [0, 255])
@pytest.mark.parametrize("where", ["sharp", "blurred"])
def test_clipped_counts_both_ends_in_both_images(end: int, where: str) -> None:
    images = {"sharp": noise(), "blurred": noise(seed=1)}
    images[where][:17, 64:128] = end  # 17 of 64 rows: above a quarter
    images[where][:16, 128:192] = end  # exactly a quarter is allowed
    any_content = TileConfig(size=64, stride=64, max_unexplained=1000.0, max_sharpness_ratio=1000.0)
    tiles = judged(images["sharp"], images["blurred"], config=any_content)
    assert codes(tiles) == {(64, 0): "clipped"}
    assert tiles.value[1] == pytest.approx(17 / 64)


def test_unexplained_is_what_no_blur_of_the_sharp_crop_shows() -> None:
    """One tile is another image's; the others are the sharp ones under a small blur."""
    sharp = cv2.GaussianBlur(noise(), (0, 0), 2)
    sharp = cv2.normalize(sharp, None, 20, 235, cv2.NORM_MINMAX)
    blurred = cv2.blur(sharp, (5, 5))
    blurred[64:128, 128:192] = cv2.blur(sharp[::-1, ::-1], (5, 5))[64:128, 128:192]
    tiles = judged(sharp, blurred)
    assert codes(tiles) == {(128, 64): "unexplained"}
    index = int(np.flatnonzero(~tiles.kept)[0])
    assert tiles.value[index] > tiles.limit[index] == TILE.max_unexplained
    wide = TileConfig(size=64, stride=64, max_unexplained=2.0)
    assert judged(sharp, blurred, config=wide).kept.all()


def test_reversed_is_where_the_sharp_capture_is_out_of_focus() -> None:
    sharp = cv2.GaussianBlur(noise(), (0, 0), 2)
    sharp = cv2.normalize(sharp, None, 20, 235, cv2.NORM_MINMAX)
    blurred = cv2.blur(sharp, (5, 5))
    here = np.s_[64:128, 128:192]
    sharp[here], blurred[here] = blurred[here].copy(), sharp[here].copy()
    tiles = judged(sharp, blurred)
    assert codes(tiles) == {(128, 64): "reversed"}
    index = int(np.flatnonzero(~tiles.kept)[0])
    assert tiles.value[index] > 1.5 > tiles.limit[index] == TILE.max_sharpness_ratio


def test_misaligned_is_local() -> None:
    """One node of the grid has moved by 3 px: only the crops around it go."""
    grid = [
        [x, y, 3.0 if (x, y) == (96, 96) else 0.0, 0.0, 1.0]
        for x in range(32, 256, 64)
        for y in range(32, 192, 64)
    ]
    tiles = judged(noise(), residual_grid=grid)
    assert codes(tiles) == {(64, 64): "misaligned"}


def test_a_cell_that_nothing_explains_takes_its_crops_along() -> None:
    """Where a shift is known, the crop speaks for itself; around the foreign node nothing is."""
    nodes = [(x, y) for x in range(32, 256, 64) for y in range(32, 192, 64)]
    shares = [[x, y, 0.8 if (x, y) == (96, 96) else 0.0] for x, y in nodes]
    known = [[x, y, 0.0, 0.0, 1.0] for x, y in nodes]
    assert judged(noise(), residual_grid=known, unexplained_grid=shares).kept.all()
    unknown = [row for row in known if row[:2] != [96, 96]]
    tiles = judged(noise(), residual_grid=unknown, unexplained_grid=shares)
    assert codes(tiles) == {(64, 64): "unexplained"}
    assert tiles.value[~tiles.kept] == pytest.approx(0.8)


def test_misaligned_by_the_whole_pair_without_a_grid() -> None:
    assert judged(noise(), residual_px=0.6).counts() == {"misaligned": 12}
    assert judged(noise(), residual_px=float("nan")).counts() == {"misaligned": 12}


def test_the_first_reason_counts() -> None:
    black = np.zeros((192, 256), np.uint8)
    assert judged(black, residual_px=9.0).counts() == {"flat": 12}
    assert judged(black, valid_area=(0, 0, 10, 10)).counts() == {"outside": 12}


def test_judge_refuses_two_shapes() -> None:
    with pytest.raises(InputError, match="one shape"):
        judged(noise(), noise((64, 64)))


@given(st.floats(0, 5), st.floats(0, 5), st.floats(0, 1))
def test_local_residual_is_linear_between_nodes(a: float, b: float, t: float) -> None:
    grid = [[0, 0, a, 0, 1], [100, 0, 0, -b, 1]]
    found = local_residual(grid, [[100 * t, 7.0]], fallback_px=99.0)
    assert found[0] == pytest.approx((1 - t) * a + t * b, abs=1e-9)


def test_local_residual_does_not_let_opposite_shifts_cancel() -> None:
    grid = [[0, 0, 2, 0, 1], [100, 0, -2, 0, 1]]
    assert local_residual(grid, [[50, 0]], fallback_px=0.0)[0] == pytest.approx(2.0)


def test_local_residual_weighs_by_confidence_and_skips_the_unmeasured() -> None:
    grid = [[0, 0, 1, 0, 3], [100, 0, 2, 0, 1], [0, 100, np.nan, 0, 1], [100, 100, 9, 9, 0]]
    middle, far = local_residual(grid, [[50, 0], [5000, -70]], fallback_px=99.0)
    assert middle == pytest.approx((3 * 1 + 1 * 2) / 4)
    assert far == pytest.approx(2.0)  # the nearest node


def test_local_residual_falls_back_where_nothing_is_near() -> None:
    columns = [0, 100, 200, 300, 400]
    grid = [[x, 0, 1, 0, 1.0 if x in (0, 400) else 0.0] for x in columns]
    assert local_residual(grid[:1] + grid[1::3], [[250, 0]], fallback_px=0.25)[0] == 0.25
    assert local_residual(grid, [[200, 0]], fallback_px=0.25)[0] == 0.25
    assert local_residual([], [[1, 2]], fallback_px=0.5).tolist() == [0.5]
