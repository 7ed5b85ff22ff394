"""Scores of a build against truth: exact where the error was put in by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scenes import true_pair

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.manifest import write_scenes
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level
from defocus_ds.measure.alignment import PairScore, registration_errors_px, score_build
from defocus_ds.measure.colour import colour_difference
from defocus_ds.measure.truth import read_truth
from defocus_ds.optics import Warp
from defocus_ds.resample import resample
from defocus_ds.store import sha256_file, write_json

SIZE = (320, 240)
FAR = Warp.similarity(SIZE, scale=1.01, shift_px=(2.0, -1.5), radial=1e-3)
NEAR = Warp.similarity(SIZE, scale=1.02, shift_px=(3.0, -1.5), radial=2e-3)
AREA = [8, 8, 300, 220]
Bytes = npt.NDArray[np.uint8]


def moved(warp: Warp, dx: float, dy: float) -> Warp:
    (a, b, c), (d, e, f) = warp.matrix
    return Warp(((a, b, c + dx), (d, e, f + dy)), warp.radial, warp.size)


def save(path: Path, image: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    assert cv2.imwrite(str(path), pixels)


def plane(warp: Warp, radius_px: float) -> dict[str, Any]:
    return {"matrix": warp.matrix, "radial": warp.radial, "blur_radius_px": radius_px}


def make_shoot(shoot: Path) -> Bytes:
    """One scene, two planes (the right half is near), one blurred level; its reference."""
    pair = true_pair(SIZE, radius_px=2.0, seed=1)
    save(shoot / "a" / "sharp.png", pair.sharp)
    save(shoot / "a" / "low.png", pair.blurred)
    save(shoot / "_truth" / "low.png", pair.uncast)
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[:, SIZE[0] // 2 :] = 1
    save(shoot / "_truth" / "planes.png", labels)
    (shoot / "shoot.csv").write_text(
        "file,scene,level,offset\na/sharp.png,a,sharp,0\na/low.png,a,low,2\n"
    )
    still = [plane(Warp.identity(SIZE), 0.0)] * 2
    captures = [
        {"file": "a/sharp.png", "level": "sharp", "planes": still, "reference": None},
        {
            "file": "a/low.png",
            "level": "low",
            "planes": [plane(FAR, 2.0), plane(NEAR, 3.0)],
            "reference": "_truth/low.png",
        },
    ]
    entry = {"scene": "a", "planes_file": "_truth/planes.png", "captures": captures}
    write_json(shoot / "truth.json", {"format": 1, "size": list(SIZE), "scenes": [entry]})
    return pair.uncast


def make_dataset(dataset: Path, pixels: Bytes, warp: Warp, **changes: Any) -> None:
    """A dataset whose low image is ``pixels``, with the given map in its manifest."""
    rows = []
    for level in (Level.SHARP, Level.LOW):
        name = f"images/a/{level}.png"
        save(dataset / name, pixels)
        rows.append(
            {
                "scene": "a",
                "level": str(level),
                "offset": level.offset,
                "image": name,
                "image_sha256": sha256_file(dataset / name),
                "width": SIZE[0],
                "height": SIZE[1],
                "verdict": "keep",
                "reasons": [],
            }
        )
    rows[1] |= {
        "matrix": [float(v) for line in warp.matrix for v in line],
        "radial": warp.radial,
        "blur_radius_px": 2.25,
        "residual_px": 0.125,
        "valid_area": AREA,
    } | changes
    write_scenes(dataset / "scenes.parquet", rows)
    config = BuildConfig.from_preset("accurate").as_dict()
    write_json(dataset / "dataset.json", {"format": 1, "config": config})


def score(dataset: Path, shoot: Path) -> PairScore:
    (only,) = score_build(dataset, shoot)
    return only


def test_an_error_put_in_by_hand_is_measured_exactly(tmp_path: Path) -> None:
    make_shoot(tmp_path / "shoot")
    truth = read_truth(tmp_path / "shoot")["a"]
    # 21 columns over 320 px: the first 10 are far, the other 11 near
    errors = registration_errors_px(moved(FAR, 0.3, -0.4), truth, Level.LOW).reshape(21, 21)
    assert errors[:, :10] == pytest.approx(0.5, abs=1e-9)
    grid_x, grid_y = np.meshgrid(np.linspace(0, 319, 21), np.linspace(0, 239, 21))
    points = np.stack([grid_x, grid_y], -1).reshape(-1, 2)
    off = np.linalg.norm(
        moved(FAR, 0.3, -0.4).map_points(points) - NEAR.map_points(points), axis=1
    ).reshape(21, 21)
    assert errors[:, 10:] == pytest.approx(off[:, 10:], abs=1e-9)


def test_score_takes_mean_and_largest_error_radius_and_claim(tmp_path: Path) -> None:
    reference = make_shoot(tmp_path / "shoot")
    make_dataset(tmp_path / "set", reference, moved(NEAR, 0.0, 0.2))
    result = score(tmp_path / "set", tmp_path / "shoot")
    errors = registration_errors_px(
        moved(NEAR, 0.0, 0.2), read_truth(tmp_path / "shoot")["a"], Level.LOW
    )
    assert result.registration_mean_px == pytest.approx(errors.mean())
    assert result.registration_max_px == pytest.approx(errors.max())
    assert errors.reshape(21, 21)[:, 10:] == pytest.approx(0.2, abs=1e-9)
    assert result.residual_px == 0.125
    assert result.true_blur_radius_px == pytest.approx((10 * 2.0 + 11 * 3.0) / 21)
    assert result.blur_radius_error_px == pytest.approx(abs(2.25 - (10 * 2.0 + 11 * 3.0) / 21))
    assert (result.verdict, result.reasons) == ("keep", ())


def test_colour_is_compared_with_the_reference_resampled_alike(tmp_path: Path) -> None:
    reference = make_shoot(tmp_path / "shoot")
    right = resample(reference, FAR)
    make_dataset(tmp_path / "right", right, FAR)
    assert score(tmp_path / "right", tmp_path / "shoot").colour_difference == 0
    cast = np.clip(right.astype(int) + [12, 0, -6], 0, 255).astype(np.uint8)
    make_dataset(tmp_path / "cast", cast, FAR)
    x0, y0, x1, y1 = AREA
    expected = colour_difference(cast, right, area=(x0, y0, x1, y1))
    assert expected > 2
    measured = score(tmp_path / "cast", tmp_path / "shoot").colour_difference
    assert measured == pytest.approx(expected)
    (without,) = score_build(tmp_path / "cast", tmp_path / "shoot", colour=False)
    assert without.colour_difference is None


def test_a_pair_without_alignment_has_its_reasons_and_no_figures(tmp_path: Path) -> None:
    reference = make_shoot(tmp_path / "shoot")
    nothing = dict.fromkeys(("matrix", "radial", "blur_radius_px", "residual_px", "valid_area"))
    make_dataset(
        tmp_path / "set",
        reference,
        FAR,
        **nothing,
        image=None,
        image_sha256=None,
        verdict="reject",
        reasons=["texture: 0 cells, needs 3"],
    )
    result = score(tmp_path / "set", tmp_path / "shoot")
    assert result == PairScore("a", Level.LOW, "reject", ("texture: 0 cells, needs 3",))
    assert result.blur_radius_error_px is None


def test_only_a_simulated_shoot_can_be_scored(tmp_path: Path) -> None:
    reference = make_shoot(tmp_path / "shoot")
    make_dataset(tmp_path / "set", reference, FAR)
    (tmp_path / "shoot" / "truth.json").unlink()
    with pytest.raises(DatasetError, match="defocus-ds simulate"):
        score_build(tmp_path / "set", tmp_path / "shoot")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 1"),
        ({"size": [320]}, "IndexError"),
        ({"size": [640, 480]}, "640x480"),
        ({"scenes": []}, "not in"),
        ({"scenes": [{"scene": "a"}]}, "KeyError"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    reference = make_shoot(tmp_path / "shoot")
    make_dataset(tmp_path / "set", reference, FAR)
    good = {"format": 1, "size": list(SIZE), "scenes": [read_entry(tmp_path / "shoot")]}
    write_json(tmp_path / "shoot" / "truth.json", good | change)
    with pytest.raises(DatasetError, match=words):
        score_build(tmp_path / "set", tmp_path / "shoot")


def read_entry(shoot: Path) -> Any:
    from defocus_ds.store import read_json

    return read_json(shoot / "truth.json")["scenes"][0]


def test_a_planes_file_outside_the_shoot_is_refused(tmp_path: Path) -> None:
    make_shoot(tmp_path / "shoot")
    entry = read_entry(tmp_path / "shoot") | {"planes_file": "../planes.png"}
    table = {"format": 1, "size": list(SIZE), "scenes": [entry]}
    write_json(tmp_path / "shoot" / "truth.json", table)
    with pytest.raises(DatasetError, match="outside"):
        read_truth(tmp_path / "shoot")


def test_reads_what_simulate_writes(tmp_path: Path) -> None:
    from defocus_ds.simulate import simulate

    simulate(tmp_path / "shoot", scenes=1, size=(240, 160), seed=3)
    (scene,) = read_truth(tmp_path / "shoot").values()
    assert scene.planes.shape == (160, 240)
    assert set(scene.captures) == set(Level)
    corners = np.array([[0.0, 0.0], [239.0, 159.0]])
    assert scene.map_points(Level.SHARP, corners) == pytest.approx(corners)
    shifts = [
        np.abs(scene.map_points(level, corners) - corners).max()
        for level in (Level.LOW, Level.MEDIUM, Level.HIGH)
    ]
    assert 0 < shifts[0] < shifts[1] < shifts[2] < 40
    radii = [scene.blur_radii_px(level, corners).mean() for level in Level]
    assert radii[0] < radii[1] < radii[2] < radii[3]
