"""Registration recovers known maps and tells how well; its records are whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import TruePair, true_pair

from defocus_ds.config import RegisterConfig
from defocus_ds.errors import ConfigError, DatasetError, InputError, RegistrationFailed
from defocus_ds.frames import Keep
from defocus_ds.optics import Transfer, Warp
from defocus_ds.stages.register import Alignment, ResidualGrid, register
from defocus_ds.stages.register.alignment import shift_confidence, thin
from defocus_ds.stages.register.multimodal import multimodal

# the strategy's full length costs seconds and the refinement does not need it on these frames
QUICK = RegisterConfig(iterations=150)
SIZE = (640, 480)


@cache
def pair() -> TruePair:
    return true_pair(
        SIZE,
        radius_px=3.0,
        scale=1.01,
        rotation_deg=0.15,
        shift_px=(6.0, -4.0),
        radial=5e-4,
        gains=(1.1, 1.0, 0.9),
    )


@cache
def aligned() -> Alignment:
    return register(pair().sharp, pair().blurred, config=QUICK)


def error_px(alignment: Alignment, truth: Warp) -> float:
    return alignment.warp.mean_difference_px(truth)


def in_sharp_frame_px(truth: TruePair) -> float:
    """The disk as the sharp frame sees it: the warp's scale taken out."""
    return truth.radius_px / float(np.sqrt(np.linalg.det(np.asarray(truth.warp.matrix)[:, :2])))


def test_recovers_map_and_radius() -> None:
    found = aligned()
    assert isinstance(found.verdict, Keep)
    assert error_px(found, pair().warp) < 0.01
    assert found.blur_radius_px == pytest.approx(in_sharp_frame_px(pair()), abs=0.05)
    assert found.radial == pytest.approx(5e-4, abs=1e-4)
    assert found.model == "affine+radial"
    assert found.ncc > 0.99 > found.ncc_before


def test_residual_is_of_the_order_of_the_error() -> None:
    error = error_px(aligned(), pair().warp)
    assert error / 3 < aligned().residual_px < 4 * error


@pytest.mark.parametrize(
    ("radius_px", "scale", "rotation_deg", "shift_px", "gains", "limit_px"),
    [
        (1.2, 0.99, -0.3, (-8.0, 3.0), (0.9, 0.9, 0.9), 0.01),
        (6.0, 1.01, 0.15, (15.0, -9.0), (1.1, 1.0, 0.9), 0.02),
        (12.0, 1.02, -0.15, (-15.0, 9.0), (1.0, 1.1, 1.0), 0.04),
        (5.0, 1.08, 2.0, (30.0, -20.0), (0.8, 0.8, 0.8), 0.03),
        (4.0, 0.92, -2.0, (-30.0, 20.0), (1.0, 1.0, 1.0), 0.03),
    ],
)
def test_recovers_across_the_range(
    radius_px: float,
    scale: float,
    rotation_deg: float,
    shift_px: tuple[float, float],
    gains: tuple[float, float, float],
    limit_px: float,
) -> None:
    truth = true_pair(
        SIZE,
        radius_px=radius_px,
        scale=scale,
        rotation_deg=rotation_deg,
        shift_px=shift_px,
        gains=gains,
        seed=3,
    )
    found = register(truth.sharp, truth.blurred, config=QUICK)
    assert isinstance(found.verdict, Keep)
    assert error_px(found, truth.warp) < limit_px
    assert found.blur_radius_px == pytest.approx(in_sharp_frame_px(truth), rel=0.05, abs=0.1)


def test_small_frames_get_the_affine_model() -> None:
    truth = true_pair((256, 256), radius_px=6.0, scale=1.008, shift_px=(5.0, -4.0), seed=4)
    found = register(truth.sharp, truth.blurred, config=QUICK)
    assert found.model == "affine"
    assert found.radial == 0
    assert isinstance(found.verdict, Keep)
    assert error_px(found, truth.warp) < 0.1


def test_gray_and_float_frames_and_another_transfer() -> None:
    truth = true_pair((320, 240), shift_px=(3.0, 2.0), transfer=Transfer.BT709)
    options = {"config": QUICK, "transfer": Transfer.BT709}
    from_bytes = register(truth.sharp[..., 1], truth.blurred[..., 1], **options)  # type: ignore[arg-type]
    from_floats = register(
        truth.sharp.astype(np.float64) / 255,
        truth.blurred.astype(np.float64) / 255,
        **options,  # type: ignore[arg-type]
    )
    assert error_px(from_bytes, truth.warp) < 0.05
    assert from_bytes.warp.mean_difference_px(from_floats.warp) < 1e-3


def test_frames_already_aligned_stay_where_they_are() -> None:
    found = register(pair().sharp, pair().sharp, config=QUICK)
    assert found.warp.mean_difference_px(Warp.identity(SIZE)) < 1e-3
    assert found.blur_radius_px < 0.8
    assert isinstance(found.verdict, Keep)


def test_resample_brings_the_capture_into_the_sharp_frame() -> None:
    found = aligned()
    x0, y0, x1, y1 = found.valid_area
    ours = found.resample(pair().blurred)
    true = Alignment.from_record(found.to_record() | _as_record(pair().warp)).resample(
        pair().blurred
    )
    difference = np.abs(ours.astype(int) - true.astype(int))[y0:y1, x0:x1]
    assert difference.mean() < 0.05


def test_local_grid_sees_a_moved_object() -> None:
    moved = pair().blurred.copy()
    moved[140:340, 220:420] = np.roll(pair().blurred, (2, 3), (0, 1))[140:340, 220:420]
    found = register(pair().sharp, moved, config=QUICK)
    grid = found.residual_grid
    m = np.asarray(found.matrix)[:, :2]
    xy = found.map_points(np.stack([grid.x.ravel(), grid.y.ravel()], -1)).reshape(*grid.x.shape, 2)
    deep = (np.abs(xy[..., 0] - 320) < 60) & (np.abs(xy[..., 1] - 240) < 60)
    away = (np.abs(xy[..., 0] - 320) > 160) | (np.abs(xy[..., 1] - 240) > 160)
    assert deep.sum() >= 1
    assert grid.dx[deep] == pytest.approx(3.0, abs=0.2)
    assert grid.dy[deep] == pytest.approx(2.0, abs=0.2)
    assert np.nanmax(grid.shift_px[away]) < 0.5
    assert np.linalg.det(m) == pytest.approx(1.01**2, abs=2e-3)


def test_cells_without_texture_say_so() -> None:
    truth = true_pair(SIZE, radius_px=2.0, seed=0)
    flat_sharp, flat_blurred = truth.sharp.copy(), truth.blurred.copy()
    flat_sharp[150:330, 200:440] = flat_blurred[150:330, 200:440] = 120
    grid = register(flat_sharp, flat_blurred, config=QUICK).residual_grid
    inside = (grid.x > 245) & (grid.x < 395) & (grid.y > 195) & (grid.y < 285)
    assert inside.any()
    assert np.isnan(grid.dx[inside]).all()
    assert (grid.confidence[inside] == 0).all()


def test_unusable_input_is_refused() -> None:
    sharp = pair().sharp
    with pytest.raises(RegistrationFailed, match="blurred frame is empty"):
        register(sharp, np.zeros_like(sharp))
    with pytest.raises(RegistrationFailed, match="at least 64 px"):
        register(sharp[:40, :40], sharp[:40, :40])
    with pytest.raises(InputError, match="640x480 and the blurred one 639x480"):
        register(sharp, sharp[:, 1:])
    with pytest.raises(InputError, match="uint16"):
        register(sharp.astype(np.uint16), sharp.astype(np.uint16))
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        register(sharp.astype(np.float32), sharp.astype(np.float32))
    with pytest.raises(InputError, match="shape"):
        register(sharp[..., :2], sharp[..., :2])
    with pytest.raises(ConfigError, match="accurate, paper"):
        register(sharp, sharp, preset="exact")


def test_paper_preset_follows_mutual_information_only() -> None:
    truth = true_pair((320, 240), radius_px=3.0, scale=1.01, shift_px=(4.0, -3.0))
    config = RegisterConfig(iterations=500, sampling=0.1, start_scale=1.0, refine=False)
    found = register(truth.sharp, truth.blurred, preset="paper", config=config)
    assert found.preset == "paper"
    assert found.radial == 0
    assert [name for name in found.trace if name.startswith("multimodal")] == [
        "multimodal 1",
        "multimodal 2",
        "multimodal 3",
    ]
    assert all(len(values) <= 200 for values in found.trace.values())
    error = error_px(found, truth.warp)
    assert error < 1.0
    assert error / 2 < found.residual_px < 2 * error


def test_the_record_names_the_model_that_was_fitted() -> None:
    truth = true_pair((640, 480), radius_px=3.0)
    rough = RegisterConfig(iterations=20, refine=False)
    assert register(truth.sharp, truth.blurred, config=rough).model == "affine"
    with pytest.raises(ConfigError, match=r"register\.refine: true"):
        register(truth.sharp, truth.blurred, preset="paper", config=QUICK)


def test_a_confidence_states_its_deviation() -> None:
    known = np.isfinite(aligned().residual_grid.dx)
    deviation = aligned().residual_grid.deviation_px
    np.testing.assert_allclose(
        shift_confidence(deviation)[known], aligned().residual_grid.confidence[known]
    )
    assert np.isinf(deviation[~known]).all()


def test_multimodal_is_seeded() -> None:
    planes = [image[..., 1].astype(np.float32) / 255 for image in (pair().sharp, pair().blurred)]

    def run(seed: int) -> Warp:
        start = Warp.identity(SIZE)
        options = {"start": start, "iterations": 30, "sampling": (0.02,), "shrink": (1,)}
        return multimodal(*planes, seed=seed, **options).warp  # type: ignore[arg-type]

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_same_bytes_whatever_the_threads(tmp_path: Path) -> None:
    truth = true_pair((256, 192), radius_px=2.5, shift_px=(3.0, 1.0))
    np.savez(tmp_path / "pair.npz", sharp=truth.sharp, blurred=truth.blurred)
    program = (
        "import sys, json, numpy as np\n"
        "from defocus_ds.config import RegisterConfig\n"
        "from defocus_ds.stages.register import register\n"
        "d = np.load(sys.argv[1])\n"
        "a = register(d['sharp'], d['blurred'], config=RegisterConfig(iterations=60))\n"
        "sys.stdout.write(json.dumps(a.to_record(), sort_keys=True))\n"
    )
    here = register(truth.sharp, truth.blurred, config=RegisterConfig(iterations=60))
    threads = {
        "OMP_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "3",
    }
    there = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "pair.npz")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | threads,
        cwd=Path(__file__).parent.parent,
    ).stdout
    assert there == json.dumps(here.to_record(), sort_keys=True)
    again = register(truth.sharp, truth.blurred, config=RegisterConfig(iterations=60))
    assert again.to_record() == here.to_record()


def test_record_round_trip() -> None:
    record = json.loads(json.dumps(aligned().to_record(), allow_nan=False))
    again = Alignment.from_record(record)
    assert again.warp == aligned().warp
    assert again.verdict == aligned().verdict
    assert again.valid_area == aligned().valid_area
    assert again.trace == aligned().trace
    for name in ("x", "y", "dx", "dy", "radius_px", "confidence", "unexplained"):
        ours, theirs = getattr(again.residual_grid, name), getattr(aligned().residual_grid, name)
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert again.to_record() == record
    for row in record["residual_grid"]:
        assert len(row) == 5


def test_damaged_record_is_refused() -> None:
    record = aligned().to_record()
    del record["matrix"]
    with pytest.raises(DatasetError, match="matrix"):
        Alignment.from_record(record)
    with pytest.raises(DatasetError, match="damaged"):
        Alignment.from_record(aligned().to_record() | {"size": "large"})
    huge = {"columns": list(range(2000)), "rows": list(range(2000))}
    with pytest.raises(DatasetError, match="2000x2000 cells"):
        Alignment.from_record(aligned().to_record() | {"grid": huge})


def test_thin_keeps_both_ends_and_drops_what_json_cannot_hold() -> None:
    values = tuple(float(v) for v in range(1000))
    assert len(thin(values)) == 200
    assert thin(values)[0] == 0 and thin(values)[-1] == 999
    assert thin((1.0, float("inf"), 2.0)) == (1.0, 2.0)


def test_empty_grid_has_no_rows() -> None:
    nothing = np.full((2, 3), np.nan)
    zero = np.zeros((2, 3))
    grid = ResidualGrid(zero, zero, nothing, nothing, nothing, zero, nothing)
    assert grid.to_rows() == grid.radius_rows() == grid.unexplained_rows() == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("keyboard1_lbc_crop.png", (3.7, -4.1)),
        ("soda2_lbC_crop.png", (-4.5, -1.1)),
        ("peppermintTea3_lbC_crop.png", (6.9, 0.2)),
    ],
)
def test_published_crops_are_as_misaligned_as_two_other_methods_found(
    name: str, expected: tuple[float, float]
) -> None:
    folder = os.environ.get("DEFOCUS_DS_DATA")
    if folder is None:
        pytest.skip("DEFOCUS_DS_DATA is not set: no published quadruples")
    examples = Path(folder) / "mmsp2024" / "Dataset_Examples"
    present = {path.name.lower(): path for path in examples.iterdir()}
    images = []
    for wanted in (name.split("_")[0] + "_original_crop.png", name):
        path = present.get(wanted.lower())
        assert path is not None, f"{wanted} is missing in {examples}"
        images.append(cv2.imread(str(path))[..., ::-1])
    found = register(*images)
    assert isinstance(found.verdict, Keep)
    centre = np.array([[127.5, 127.5]])
    shift = (found.map_points(centre) - centre)[0]
    assert shift == pytest.approx(expected, abs=0.8)
    assert found.ncc > found.ncc_before


def _as_record(warp: Warp) -> dict[str, object]:
    return {"matrix": [list(row) for row in warp.matrix], "radial": warp.radial}
