"""Simulated shoots: what is written, that the truth holds in developed pixels, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rawpy
from click.testing import CliRunner

from defocus_ds.errors import InputError, ShootError
from defocus_ds.optics import Transfer, Warp, blur_disk, to_linear
from defocus_ds.resample import resample
from defocus_ds.simulate import simulate
from defocus_ds.store import sha256_file
from defocus_ds_cli.main import cli
from defocus_ds_cli.simulate import command

TINY = (240, 160)


def truth_of(shoot: Path) -> Any:
    return json.loads((shoot / "truth.json").read_text(encoding="utf-8"))


def tree(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): sha256_file(p) for p in files}


def developed_green(path: Path, white_balance: list[int]) -> np.ndarray:
    """Linear green of a file developed by the fixed recipe."""
    red, green, blue = white_balance
    with rawpy.imread(str(path)) as raw:
        image = raw.postprocess(
            user_wb=[red, green, blue, green],
            no_auto_bright=True,
            adjust_maximum_thr=0,
            user_black=2048,
            user_cblack=[0] * 4,
            user_sat=15488 - 2048,
            gamma=(2.222, 4.5),
        )
    return to_linear(image, Transfer.BT709)[..., 1]


def test_a_scene_is_a_folder_of_four_raw_files(small_shoot: Path) -> None:
    truth = truth_of(small_shoot)
    assert (truth["format"], truth["seed"], truth["size"]) == (1, 5, [744, 496])
    assert [scene["scene"] for scene in truth["scenes"]] == ["scene01", "scene02"]
    files = [c["file"] for scene in truth["scenes"] for c in scene["captures"]]
    assert files == [f"scene{1 + i // 4:02d}/IMG_{i + 1:04d}.CR2" for i in range(8)]
    visible = [p for p in small_shoot.rglob("*.CR2") if not p.parent.name.startswith("_")]
    assert sorted(str(p.relative_to(small_shoot)) for p in visible) == files
    for scene in truth["scenes"]:
        assert [c["level"] for c in scene["captures"]] == ["sharp", "low", "medium", "high"]
        assert [c["offset"] for c in scene["captures"]] == [0, 2, 4, 6]
        times = [c["taken"] for c in scene["captures"]]
        assert times == sorted(set(times))
        assert all(len(c["planes"]) == 3 for c in scene["captures"])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_truth_holds_in_developed_pixels(small_shoot: Path, level: int) -> None:
    """The residual shift of the true map, by least squares over the farthest plane."""
    scene = truth_of(small_shoot)["scenes"][0]
    _residual(small_shoot, scene, level, shift_px=0.02, radius_share=0.08)


@pytest.mark.slow
def test_the_truth_holds_at_full_size(tmp_path: Path) -> None:
    shoot = tmp_path / "shoot"
    simulate(shoot, scenes=1, seed=2)
    scene = truth_of(shoot)["scenes"][0]
    for level in (1, 3):
        _residual(shoot, scene, level, shift_px=0.02, radius_share=0.03)


def _residual(
    shoot: Path, scene: dict[str, Any], level: int, *, shift_px: float, radius_share: float
) -> None:
    sharp_entry, entry = scene["captures"][0], scene["captures"][level]
    balance = sharp_entry["white_balance"]
    sharp = developed_green(shoot / sharp_entry["file"], balance)
    blurred = developed_green(shoot / entry["file"], balance)
    size = (sharp.shape[1], sharp.shape[0])
    plane = entry["planes"][0]
    (a, b, c), (d, e, f) = plane["matrix"]
    warp = Warp(((a, b, c), (d, e, f)), plane["radial"], size)
    radius = plane["blur_radius_px"]
    aligned = resample(np.ascontiguousarray(blurred), warp)
    labels = cv2.imread(str(shoot / scene["planes_file"]), cv2.IMREAD_UNCHANGED)
    assert labels is not None
    reach = 2 * int(2 * radius + 6) + 1
    known = (labels == 0) & (resample(np.ones_like(sharp), warp) > 0)
    known[[0, -1]] = known[:, [0, -1]] = False
    box = np.ones((reach, reach), np.uint8)
    alone = (
        cv2.erode(known.astype(np.uint8), box, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    )
    where = np.nonzero(alone.ravel())[0]
    assert where.size > 0.05 * alone.size
    where = where[:: max(1, where.size // 400_000)]
    y, x = np.divmod(where, size[0])
    u, v = (x - size[0] / 2) / size[0], (y - size[1] / 2) / size[0]
    errors, shifts, ratios = [], [], np.linspace(0.85, 1.15, 7)
    for ratio in ratios:
        model = blur_disk(sharp, ratio * radius / np.sqrt(a * e - b * d))
        gy, gx = np.gradient(model)
        m, gx, gy = (image.ravel()[where].astype(np.float64) for image in (model, gx, gy))
        # shift, gain with a vignette, offset; twice the affine terms reach the frame's edge
        normal = np.stack([gx, gy, gx * u, gx * v, gy * u, gy * v, m, m * (u**2 + v**2), m**0], 1)
        difference = aligned.ravel()[where] - m
        found = np.linalg.lstsq(normal, difference, rcond=None)[0]
        errors.append(((difference - normal @ found) ** 2).mean())
        shifts.append(found[:6])
    best = shifts[int(np.argmin(errors))]
    assert np.abs(best[:2]).max() < shift_px
    assert np.abs(best[2:]).max() / 2 < 3 * shift_px  # at the left and right edge of the frame
    curve = np.polyfit(ratios, errors, 2)
    assert -curve[1] / (2 * curve[0]) == pytest.approx(1, abs=radius_share)


def test_a_reference_differs_by_the_change_of_light_alone(small_shoot: Path) -> None:
    for entry in truth_of(small_shoot)["scenes"][1]["captures"]:
        if entry["level"] == "sharp":
            assert entry["reference"] is None
            continue
        with rawpy.imread(str(small_shoot / entry["file"])) as raw:
            cast = raw.raw_image_visible.astype(float) - 2048
            noted = raw.camera_whitebalance
        with rawpy.imread(str(small_shoot / entry["reference"])) as raw:
            plain = raw.raw_image_visible.astype(float) - 2048
            assert raw.camera_whitebalance[:3] == [1956, 1024, 1626]
        red, green, blue = entry["white_balance"]
        assert noted == [red, green, blue, green]
        for (row, column), gain in zip(((0, 0), (0, 1), (1, 1)), entry["gains"], strict=True):
            site = (slice(row, None, 2), slice(column, None, 2))
            below = (cast[site] < 13000) & (plain[site] < 13000)
            assert cast[site][below].sum() / plain[site][below].sum() == pytest.approx(
                gain, abs=0.001
            )
            # the same noise: what remains after the gain is far below the noise of one capture
            left = (cast[site] - gain * plain[site])[below].std()
            assert left < 0.25 * np.sqrt(plain[site].mean() / 2.5 + 6.3**2)


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_scenes(tmp_path: Path) -> None:
    simulate(tmp_path / "one", scenes=1, size=TINY, seed=9)
    simulate(tmp_path / "two", scenes=2, size=TINY, seed=9)
    simulate(tmp_path / "other", scenes=1, size=TINY, seed=10)
    one, two, other = (tree(tmp_path / name) for name in ("one", "two", "other"))
    raws = [name for name in one if name.endswith((".CR2", ".png"))]
    assert len(raws) == 5
    assert {name: one[name] for name in raws} == {name: two[name] for name in raws}
    assert not {one[name] for name in raws} & {other[name] for name in raws}
    assert len({digest for name, digest in two.items() if name.endswith("CR2")}) == 8


def test_an_interrupted_shoot_goes_on(tmp_path: Path) -> None:
    shoot = tmp_path / "shoot"
    simulate(shoot, scenes=2, size=TINY)
    before = tree(shoot)
    kept = (shoot / "scene01/IMG_0002.CR2").stat().st_mtime_ns
    (shoot / "scene02/IMG_0007.CR2").write_bytes(b"half a file")
    (shoot / "truth.json").unlink()
    steps: list[str] = []
    simulate(shoot, scenes=2, size=TINY, progress=lambda _d, _t, what: steps.append(what))
    assert tree(shoot) == before
    assert (shoot / "scene01/IMG_0002.CR2").stat().st_mtime_ns == kept
    assert "scene01: drawing the scene" not in steps
    assert "scene02: drawing the scene" in steps


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/holiday.jpg").write_bytes(b"precious")
    with pytest.raises(ShootError, match="not a simulated shoot"):
        simulate(tmp_path / "mine", scenes=1, size=TINY)
    simulate(tmp_path / "shoot", scenes=1, size=TINY, seed=1)
    with pytest.raises(ShootError, match="other parameters"):
        simulate(tmp_path / "shoot", scenes=1, size=TINY, seed=2)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("size", [(238, 160), (242, 160), (240, 161), (5800, 3870), (240, 4000)])
def test_sizes_the_camera_file_cannot_have_are_refused(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match="multiple of 4"):
        simulate(tmp_path / "shoot", scenes=1, size=size)
    assert not (tmp_path / "shoot").exists()


def test_a_depth_out_of_range_is_refused(tmp_path: Path) -> None:
    for depth in (-1.0, 4.5, float("nan")):
        with pytest.raises(InputError, match=r"--depth .*: give 0 to 4"):
            simulate(tmp_path / "s", scenes=1, size=TINY, depth=depth)


def test_depth_is_a_parameter_of_the_shoot(tmp_path: Path) -> None:
    simulate(tmp_path / "a", scenes=1, size=TINY, depth=2.0)
    parameters = json.loads((tmp_path / "a/_truth/parameters.json").read_text())
    assert parameters["depth"] == 2.0
    with pytest.raises(ShootError, match="other parameters"):
        simulate(tmp_path / "a", scenes=1, size=TINY)


def test_a_size_of_another_camera_is_refused(tmp_path: Path) -> None:
    """3596x2360 raw pixels are an EOS 20D's: LibRaw would cut off that camera's border."""
    with pytest.raises(InputError, match="another camera"):
        simulate(tmp_path / "shoot", scenes=1, size=(3596 - 124, 2360 - 80))
    assert not (tmp_path / "shoot").exists()


def test_photographs_become_scenes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, tint in (("a.png", (0.2, 0.5, 1.0)), ("b.jpg", (1.0, 0.5, 0.2))):
        grain = cv2.GaussianBlur(rng.uniform(0, 255, (300, 400)), (0, 0), 2)[..., None]
        assert cv2.imwrite(str(photos / name), (128 + 3 * (grain - 128)).clip(0, 255) * tint)
    (photos / "notes.txt").write_text("not a picture")
    simulate(tmp_path / "shoot", scenes=2, size=TINY, images=photos)
    scenes = truth_of(tmp_path / "shoot")["scenes"]
    assert [scene["source"] for scene in scenes] == ["a.png", "b.jpg"]
    ratios = []
    for scene in scenes:
        with rawpy.imread(str(tmp_path / "shoot" / scene["captures"][0]["file"])) as raw:
            means = raw.postprocess(use_camera_wb=True).mean(axis=(0, 1))
        ratios.append(means[0] / means[2])
    assert ratios[0] > 2  # OpenCV's order is B, G, R: the first picture is red
    assert ratios[1] < 0.5


def test_pictures_that_cannot_be_read_are_all_named_first(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with pytest.raises(InputError, match="no picture in it"):
        simulate(tmp_path / "shoot", scenes=1, size=TINY, images=photos)
    for name in ("x.jpg", "y.png"):
        (photos / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.jpg, y\.png"):
        simulate(tmp_path / "shoot", scenes=2, size=TINY, images=photos)
    assert not (tmp_path / "shoot").exists()


def test_the_command_prints_results_on_stdout_and_progress_on_stderr(tmp_path: Path) -> None:
    out = tmp_path / "shoot"
    arguments = [str(out), "--scenes", "1", "--size", "240x160", "--seed", "4", "--json"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert result["truth"] == str(out / "truth.json")
    assert result["files"] == [f"scene01/IMG_{i:04d}.CR2" for i in range(1, 5)]
    assert "[5/5] scene01: done" in done.stderr
    assert truth_of(out)["seed"] == 4


@pytest.mark.parametrize("size", ["744", "744x", "-744x496", "fuller", "744X496"])
def test_the_command_explains_a_size_it_cannot_read(tmp_path: Path, size: str) -> None:
    done = CliRunner().invoke(command, [str(tmp_path / "shoot"), f"--size={size}"])
    assert done.exit_code == 2
    assert "full or WIDTHxHEIGHT" in done.stderr


def test_an_interrupted_simulation_says_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("defocus_ds.simulate.simulate", interrupted)
    done = CliRunner().invoke(cli, ["simulate", str(tmp_path / "shoot")])
    assert done.exit_code == 130
    assert "the same command goes on" in done.stderr
