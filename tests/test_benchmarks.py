"""The benchmarks measure what they say: truth, error, cost, and peers that are not there."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # where `python benchmarks/registration.py` finds them

import adversarial  # noqa: E402
import adversarial_report  # noqa: E402
import colour  # noqa: E402
import colour_report  # noqa: E402
import peers_colour  # noqa: E402
import peers_registration  # noqa: E402
import real_stacks_report  # noqa: E402
import registration  # noqa: E402
import registration_error  # noqa: E402
import registration_report  # noqa: E402
from casts import CASTS, make_cast  # noqa: E402
from isolated import (  # noqa: E402
    Stopwatch,
    remember,
    remembered,
    run_isolated,
    work_folder,
)
from results import Check, check_lines, frame_size, machine, number, shortened, table  # noqa: E402
from second_opinions import Opinions  # noqa: E402
from start_pairs import draw_starts  # noqa: E402
from truth_pairs import (  # noqa: E402
    PairTruth,
    aperture_psf,
    capture,
    draw_pairs,
    scene_for,
    see_blurred,
    see_sharp,
)

from defocus_ds.errors import InputError, RegistrationFailed  # noqa: E402
from defocus_ds.frames import FloatImage, UInt8Image  # noqa: E402
from defocus_ds.optics import Warp, blur_disk, disk_psf, to_linear  # noqa: E402
from defocus_ds.resample import resample  # noqa: E402
from defocus_ds.simulate.scene import SceneLayers  # noqa: E402

SIZE = (512, 384)


@cache
def drawn() -> dict[str, PairTruth]:
    pairs = draw_pairs(0, size=SIZE)
    return {p.name: dataclasses.replace(p, radius_px=3.0) for p in pairs}


@cache
def scene() -> SceneLayers:
    return scene_for(list(drawn().values()))


@cache
def sharp() -> FloatImage:
    return see_sharp(scene(), SIZE)


def seen(name: str) -> FloatImage:
    return see_blurred(scene(), drawn()[name])


def explained(light: FloatImage, truth: PairTruth, warp: Warp, area: tuple[slice, slice]) -> float:
    """Root mean square of what the sharp image, blurred by the truth's disk, leaves."""
    target = blur_disk(sharp(), truth.radius_px)
    back = resample(np.ascontiguousarray(light), warp)
    return float(np.sqrt(np.mean((back[area] - target[area]) ** 2)))


MIDDLE = (slice(40, -40), slice(40, -40))


def test_pairs_have_the_stated_parameters() -> None:
    pairs = draw_pairs(3)
    assert [p.name for p in pairs] == [
        "scene3-low",
        "scene3-medium",
        "scene3-medium-hard",
        "scene3-high",
        "scene3-high-hard",
        "scene3-medium-aperture",
    ]
    assert [p.radius_px for p in pairs] == [3, 6, 6, 12, 12, 6]
    for truth, scale in zip(pairs, (0.004, 0.01, 0.01, 0.02, 0.02, 0.01), strict=True):
        (a, b, _), (c, d, _) = truth.warp.matrix
        assert abs(np.sqrt(a * d - b * c) - 1) == pytest.approx(scale, rel=1e-6)
        assert abs(np.rad2deg(np.arctan2(c, a))) <= 0.15
        centre = truth.warp.map_points([truth.warp.centre])[0] - truth.warp.centre
        assert 4 <= np.hypot(*centre) <= 15
        corner = abs(truth.warp.radial) * truth.warp.half_diagonal_px
        assert (2 <= corner <= 3) if truth.kind == "hard" else corner == 0
        parallax = np.hypot(*truth.foreground_shift_px)
        assert parallax == pytest.approx(3.0 if truth.kind == "hard" else 0.0)


def test_pairs_differ_by_scene_and_repeat_by_seed() -> None:
    assert draw_pairs(0) == draw_pairs(0)
    assert draw_pairs(0)[0].warp != draw_pairs(1)[0].warp
    assert draw_pairs(0, seed=1)[0].warp != draw_pairs(0)[0].warp


def test_the_plain_pair_is_the_forward_model() -> None:
    truth = drawn()["scene0-medium"]
    light = seen(truth.name)
    exact = explained(light, truth, truth.warp, MIDDLE)
    (a, b, c), second = truth.warp.matrix
    off = dataclasses.replace(truth.warp, matrix=((a, b, c + 0.2), second))
    assert exact < 0.002
    assert explained(light, truth, off, MIDDLE) > 2 * exact
    assert explained(light, truth, Warp.identity(SIZE), MIDDLE) > 10 * exact


def test_the_hard_pair_blurs_more_to_the_right_and_darkens_the_corners() -> None:
    truth = drawn()["scene0-high-hard"]
    back = resample(np.ascontiguousarray(seen(truth.name)), truth.warp)
    for place, factor in ((slice(30, 90), 0.75), (slice(-90, -30), 1.25)):
        area = (slice(100, -100), place)
        left = [
            float(np.abs(back[area] - blur_disk(sharp(), truth.radius_px * f)[area]).mean())
            for f in (factor, 2 - factor)
        ]
        assert left[0] < left[1]
    plain = blur_disk(sharp(), truth.radius_px)
    corner, middle = (slice(20, 60), slice(20, 60)), (slice(160, 220), slice(200, 300))
    fall = (back[corner].sum() / plain[corner].sum()) / (back[middle].sum() / plain[middle].sum())
    assert 1 - 1.3 * truth.vignetting < fall < 1 - 0.4 * truth.vignetting


def test_the_foreground_of_the_hard_pair_moves_on_its_own() -> None:
    truth = dataclasses.replace(drawn()["scene0-medium-hard"], foreground_shift_px=(9.0, 0.0))
    still = dataclasses.replace(truth, foreground_shift_px=(0.0, 0.0))
    layers = scene_for([truth])
    moved = np.abs(see_blurred(layers, truth) - see_blurred(layers, still)).max(axis=2) > 0.02
    margin = layers.margin
    covered = layers.planes[1][margin:-margin, margin:-margin, 3] > 0
    near = blur_disk(covered.astype(np.float32), 30.0) > 0
    assert moved.any()
    assert moved[~near].mean() < 0.001


def test_the_aperture_is_centred_and_no_disk() -> None:
    psf = aperture_psf(6.0).astype(np.float64)
    half = psf.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    assert psf.sum() == pytest.approx(1, abs=1e-6)
    assert abs((psf * x).sum()) < 5e-4
    assert abs((psf * y).sum()) < 5e-4
    # a disk with such a rim: r^2 (1/2 + 1/3) / (1 + 1/2)
    assert (psf * (x**2 + y**2)).sum() == pytest.approx(36 * 5 / 9, rel=0.05)
    disk = np.pad(disk_psf(6.0), half - disk_psf(6.0).shape[0] // 2)
    assert np.abs(psf - disk).sum() > 0.1


def test_the_aperture_pair_keeps_the_map() -> None:
    truth = drawn()["scene0-medium-aperture"]
    light = seen(truth.name)
    exact = explained(light, truth, truth.warp, MIDDLE)
    (a, b, c), second = truth.warp.matrix
    for off in (-0.3, 0.3):
        moved = dataclasses.replace(truth.warp, matrix=((a, b, c + off), second))
        assert explained(light, truth, moved, MIDDLE) > 1.1 * exact


@pytest.mark.parametrize("name", CASTS)
def test_a_known_cast_can_be_undone(name: str) -> None:
    cast = make_cast(name, np.random.default_rng(4))
    light = np.random.default_rng(0).uniform(0.05, 0.8, (64, 64, 3)).astype(np.float32)
    with_cast, without = capture(light, cast, [1]), capture(light, None, [1])
    left = np.abs(cast.undo(with_cast).astype(int) - without).mean()
    assert left < 0.8
    assert (np.abs(with_cast.astype(int) - without).mean() > 1) == (name != "none")


def test_an_unknown_cast_is_refused() -> None:
    with pytest.raises(ValueError, match="known casts are none, gains"):
        make_cast("sepia", np.random.default_rng(0))


def test_noise_has_the_stated_variance() -> None:
    light = np.full((256, 256, 3), 0.25, np.float32)
    stored = to_linear(capture(light, None, [2])).astype(np.float64)
    rounding = (1 / 255 / 2.6) ** 2 / 12  # sRGB has a slope of about 1.1 there; an upper bound
    expected = 3.6e-5 * 0.25 + 6e-4**2
    assert stored.mean() == pytest.approx(0.25, abs=5e-4)
    assert expected * 0.9 < stored.var() < expected * 1.1 + 10 * rounding


def test_error_is_the_mean_distance_on_the_grid() -> None:
    truth = drawn()["scene0-low"]
    (a, b, c), (d, e, f) = truth.warp.matrix
    moved = dataclasses.replace(truth.warp, matrix=((a, b, c + 0.3), (d, e, f - 0.4)))
    assert registration_error.error_px(truth.warp, truth) == 0
    assert registration_error.error_px(moved, truth) == pytest.approx(0.5)


def test_best_affine_map_is_the_floor_of_affine_methods() -> None:
    assert registration_error.best_affine_px(drawn()["scene0-high"]) < 1e-9
    truth = drawn()["scene0-high-hard"]
    floor = registration_error.best_affine_px(truth)
    without = dataclasses.replace(truth.warp, radial=0.0)
    assert 0 < floor < registration_error.error_px(without, truth)


def test_noise_floor_follows_the_noise() -> None:
    light, warp = seen("scene0-medium")[..., 1], drawn()["scene0-medium"].warp
    floor = registration_error.noise_floor_px(light, warp)
    assert 1e-4 < floor < 0.01
    # a quarter of the contrast on the same pedestal: four times the deviation
    flat = (light - light.mean()) / 4 + light.mean()
    assert 2.5 < registration_error.noise_floor_px(flat, warp) / floor < 6


def test_peers_find_the_map() -> None:
    """What the image formats and conventions of the peers are mapped to is the true map."""
    truth = drawn()["scene0-low"]
    images = [capture(sharp(), None, [0]), capture(seen(truth.name), truth.cast, [1])]
    before = registration_error.error_px(Warp.identity(SIZE), truth)
    for name, limit in (
        ("OpenCV ECC, full", 0.1),
        ("OpenCV ECC, quarter", 0.2),
        ("SIFT + RANSAC", 0.4),
        ("SimpleITK Mattes, gradient", 0.4),
    ):
        found = peers_registration.METHODS[name].find(*images, Stopwatch())
        error = registration.scored(found, truth)["error_px"]
        assert error < limit < before, name


def test_methods_that_are_not_installed_are_left_out(tmp_path: Path) -> None:
    absent = peers_registration.Method(peers_registration.METHODS["accurate"].find, "no_such_pkg")
    program = dataclasses.replace(absent, needs="$no-such-program")
    assert not absent.installed
    assert not program.installed
    assert peers_registration.METHODS["accurate"].installed
    truth = drawn()["scene0-low"]
    (tmp_path / f"{truth.name}.json").write_text('{"noise_floor_px": 0.001}')
    runs = registration.run_methods(truth, {"absent": absent}, tmp_path, first=True)
    assert [r["method"] for r in runs] == ["unregistered", "best affine map", "noise alone"]


def test_a_pair_is_registered_in_a_process_of_its_own(tmp_path: Path) -> None:
    truth = drawn()["scene0-low"]
    registration.make_pairs([truth], tmp_path, 0)
    task = registration.task(truth, tmp_path)
    found = run_isolated("peers_registration", "es 40", task, folder=tmp_path)
    assert "failed" not in found
    assert found["cpu_s"]["all"] >= found["cpu_s"]["evolution strategy"] > 0
    assert found["peak_mb"] > 50
    assert registration.scored(found, truth)["error_px"] < registration_error.error_px(
        Warp.identity(SIZE), truth
    )
    before = (tmp_path / f"{truth.name}.npy").stat().st_mtime_ns
    registration.make_pairs([truth], tmp_path, 0)
    assert (tmp_path / f"{truth.name}.npy").stat().st_mtime_ns == before


def test_a_failing_method_is_a_value(tmp_path: Path) -> None:
    task = {"sharp": str(tmp_path / "missing.npy"), "blurred": str(tmp_path / "missing.npy")}
    found = run_isolated("peers_registration", "SIFT + RANSAC", task, folder=tmp_path)
    assert "FileNotFoundError" in found["failed"]
    late = run_isolated("peers_registration", "accurate", task, folder=tmp_path, timeout_s=0.01)
    assert late == {"failed": "no result within 0.01 s"}


def test_stopwatch_counts_nested_parts() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch("all"), watch("part"):
            sum(i * i for i in range(200_000))
    assert watch.seconds["all"] >= watch.seconds["part"] > 0


def registration_run(level: str, kind: str, **found: object) -> dict[str, object]:
    return {"method": "accurate", "pair": "x", "level": level, "kind": kind} | found


def test_registration_tables_and_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = {"cpu_s": {"all": 5.0, "refinement": 3.5}, "peak_mb": 900.0, "verdict": "keep"}
    runs = [
        registration_run("low", "plain", error_px=0.004, residual_px=0.006, **cost),
        registration_run("low", "plain", error_px=0.012, residual_px=0.006, **cost),
        registration_run("medium", "plain", failed="no reason"),
    ]
    checks = {c.name: c for c in registration_report.checks(runs, [])}
    assert not checks["accurate, low: worst pair, px"].passed
    assert checks["accurate, low: worst pair, px"].measured == 0.012
    assert not checks["accurate, medium: worst pair, px"].passed
    assert checks["accurate, plain pairs: median CPU s, all"].passed
    assert not checks["accurate, plain pairs: median CPU s, refinement"].passed
    row = registration_report.summary(runs)[0]
    assert row["low"] == pytest.approx(0.008)
    assert (row["succeeded"], row["pairs"]) == (2, 3)
    absent = {"gone": peers_registration.Method(lambda *_: {}, "no_such_pkg")}
    registration_report.write(tmp_path, [drawn()["scene0-low"]], runs, [], [], absent)
    text = (tmp_path / "registration.md").read_text()
    assert "Not installed: gone." in text
    assert "**missed**" in text
    assert text.strip() == capsys.readouterr().out.strip()
    kept = json.loads((tmp_path / "registration.json").read_text())
    assert kept["not_installed"] == ["gone"]
    assert len(kept["runs"]) == 3
    assert "| all | 2 | 3 | 1 | 0 |" in text


def certificate_checks(*certificate: dict[str, object]) -> tuple[float | None, float | None]:
    checks = {c.name: c.measured for c in registration_report.checks([], list(certificate))}
    return (
        checks["certificate: share within a factor 2"],
        checks["certificate: least claimed / true"],
    )


def test_the_certificate_counts_rejected_pairs_and_fails_by_failed_ones() -> None:
    kept = {"kind": "raw", "error_px": 0.012, "residual_px": 0.006, "verdict": "keep"}
    rejected = kept | {"residual_px": 0.003, "verdict": "ncc: 0.7, needs 0.8"}
    silent = rejected | {"residual_px": 1e6}
    boundless = kept | {"residual_px": float("nan")}
    failed = {"kind": "raw", "failed": "no result within 3600 s"}
    assert certificate_checks(kept) == (1, 0.5)
    assert certificate_checks(kept, rejected) == (0.5, 0.25)
    assert certificate_checks(kept, silent) == (1, 0.5)
    assert certificate_checks(kept, boundless) == (0.5, 0.5)
    assert certificate_checks(kept, failed) == (None, None)
    assert certificate_checks(failed) == (None, None)
    text = registration_report.certificate_text([], [kept, rejected, silent, failed])
    assert "| raw | 2 |" not in text
    assert "| raw | 1 | 4 | 1 | 1 | 0.0120 to 0.0120 | 0.250 | 0.375 | 0.500 | 50% | – |" in text


def test_the_largest_cost_stands_beside_the_median() -> None:
    runs = [
        registration_run("low", kind, error_px=0.004, peak_mb=900.0, verdict="keep")
        | {"residual_px": 0.004, "cpu_s": {"all": seconds, "refinement": 1.0, "doubts": 0.5}}
        for kind, seconds in (("plain", 4.0), ("plain", 5.0), ("hard", 9.0))
    ]
    row = registration_report.summary(runs)[0]
    assert (row["cpu_s"], row["most_cpu_s"]) == (5.0, 9.0)
    text = registration_report.cost_text(runs)
    assert "| all | 4.50 | 5.00 | 9.00 | 9.00 |" in text
    assert "| doubts | 0.500 | 0.500 | 0.500 | 0.500 |" in text


def test_a_work_folder_holds_the_runs_of_one_key(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    for _ in range(2):  # the same key again goes on
        with work_folder(folder, seed=0, size=SIZE) as work:
            assert work == folder
            remember(work, "paper, quarter size", "scene0-low", {"error_px": 0.1})
    assert remembered(folder, "paper, quarter size", "scene0-low") == {"error_px": 0.1}
    assert remembered(folder, "paper", "scene0-low") is None
    for other in ({"seed": 1, "size": SIZE}, {"seed": 0, "size": (1449, 967)}):
        with (
            pytest.raises(SystemExit, match=r"work: holds runs of seed 0.*Delete the folder"),
            work_folder(folder, **other),
        ):
            pass
    with work_folder(None, seed=0) as temporary:
        assert temporary.is_dir()
    assert not temporary.exists()


def test_a_work_folder_without_a_key_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "scene0-low-ANTs.json").write_text('{"error_px": 0.2}')
    with work_folder(tmp_path, seed=3) as work:
        assert remembered(work, "ANTs", "scene0-low") == {"error_px": 0.2}
    with (
        pytest.raises(SystemExit, match="seed 3; asked for are seed 4"),
        work_folder(tmp_path, seed=4),
    ):
        pass


def test_a_failed_run_is_not_remembered(tmp_path: Path) -> None:
    remember(tmp_path, "ANTs", "scene0-low", {"failed": "killed"})
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "scene0-low-ANTs.json").write_text('{"failed": "killed"}')
    assert remembered(tmp_path, "ANTs", "scene0-low") is None


def test_the_refinement_is_that_of_the_fit() -> None:
    truth = drawn()["scene0-low"]
    images = [capture(sharp(), None, [0]), capture(seen(truth.name), truth.cast, [1])]
    watch = Stopwatch()
    peers_registration.METHODS["accurate"].find(*images, watch)
    seconds = dict(watch.seconds)
    whole = seconds.pop("all")
    assert set(seconds) == {
        "start",
        "evolution strategy",
        "refinement",
        "checks",
        "doubts",
        "radius map",
    }
    # no part counts what another does
    assert 0.5 * whole < sum(seconds.values()) <= whole


def test_only_a_failed_registration_counts_as_not_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    pair = adversarial.WrongPair("black", 0, image, image)

    def raising(error: Exception) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(adversarial, "register", fail)

    raising(RegistrationFailed("an empty frame"))
    assert not adversarial.judge_wrong([pair])[0]["accepted"]
    raising(InputError("two sizes"))
    with pytest.raises(InputError):
        adversarial.judge_wrong([pair])


def test_unscaled_starts_keep_their_shift_and_radius() -> None:
    size = (1449, 967)
    scaled = draw_starts(24, size=size)
    unscaled = draw_starts(24, size=size, full_scale=True)
    assert max(p.radius_px for p in scaled) < 25 / 3.9
    assert max(p.radius_px for p in unscaled) > 23
    for pair in unscaled:
        assert pair.unscaled
        centre = np.array([[724.0, 483.0]])
        shift = np.linalg.norm(pair.warp.map_points(centre) - centre)
        assert shift == pytest.approx(pair.drawn["shift, px"], abs=0.2)
        assert pair.radius_px == pair.drawn["radius, px"]


def start_run(*, unscaled: bool) -> dict[str, object]:
    (pair,) = draw_starts(1, size=SIZE, full_scale=unscaled)
    found = {"accepted": True, "error_px": 0.01, "residual_px": 0.01, "reasons": [], "cpu_s": 1.0}
    about = {"number": 0, "size": list(SIZE), "drawn": pair.drawn, "unscaled": unscaled}
    return about | found


def test_the_adversarial_tables_tell_unscaled_pairs_apart(tmp_path: Path) -> None:
    starts = [start_run(unscaled=False), start_run(unscaled=True), start_run(unscaled=True)]
    adversarial_report.write(tmp_path, [], starts)
    text = (tmp_path / "adversarial.md").read_text()
    assert "| 512x384 px | 1 | 1 | 0 |" in text
    assert "| 512x384 px, unscaled | 2 | 2 | 0 |" in text
    assert text.index("In proportion to the frame:") < text.index("\nUnscaled:")
    lost = [run | {"accepted": False, "error_px": 5.0} for run in starts[1:]]
    limits = {c.name: c.measured for c in adversarial_report.checks([], [*starts[:1], *lost])}
    assert limits["share found of those in proportion to the frame"] == 1
    wrong = [run | {"error_px": 5.0} for run in starts[1:]]
    limits = {c.name: c.measured for c in adversarial_report.checks([], wrong)}
    assert limits["share found of those in proportion to the frame"] is None
    assert limits["right pairs accepted with a wrong map or claim"] == 2


def test_real_stacks_are_listed_with_every_opinion(tmp_path: Path) -> None:
    shifts = real_stacks_report.Shifts
    results = [
        real_stacks_report.Result(
            "ring/low",
            "keep",
            (),
            shifts(1.92, 30),
            shifts(0.05, 28),
            0.06,
            2.5,
            Opinions(0.04, 0.3),
        ),
        real_stacks_report.Result(
            "tree/low", "reject", ("ncc: 0.2, needs 0.8",), shifts(9.0, 4), shifts(), 1e6, 3.0
        ),
        real_stacks_report.Result("poster", "failed", ("OUT/poster: no frames",)),
    ]
    real_stacks_report.write(tmp_path, results, preset="accurate")
    text = (tmp_path / "real_stacks.md").read_text()
    assert "3 pairs, 1 kept" in text
    assert "| ring/low | 1.92 (30) | 0.050 (28) | 0.040 | 0.300 | 0.060 | 2.50 | keep |" in text
    assert "| tree/low | 9.00 (4) | – (0) | – | – | – | 3.00 | reject; ncc: 0.2" in text
    assert "parallax" in text
    assert "processor" in text
    kept = json.loads((tmp_path / "real_stacks.json").read_text())
    assert kept["pairs"][0]["opinions"] == {"forward_backward_px": 0.04, "features_px": 0.3}


def test_options_and_records_read_alike_everywhere() -> None:
    assert frame_size("5796x3870") == (5796, 3870)
    with pytest.raises(ValueError, match="invalid literal"):
        frame_size("5796")
    record = {"a": 0.123456789, "b": {"c": 1 / 3, "wall_s": 2.0}, "wall_s": 1.0, "d": "x"}
    assert shortened(record, without=("wall_s",)) == {"a": 0.12346, "b": {"c": 0.33333}, "d": "x"}


def test_colours_are_compared_with_the_capture_without_the_cast() -> None:
    truth, _, blurred, uncast = colour.make_pair(0, radius_px=3.0, cast="gains", size=(256, 192))
    assert blurred.shape == uncast.shape == (192, 256, 3)
    same = colour.compare(uncast, uncast)
    assert same["ciede2000"] == same["ciede2000_8px"] == same["contrast_percent"] == 0
    cast = colour.compare(blurred, uncast)
    undone = colour.compare(truth.cast.undo(blurred), uncast)
    assert undone["ciede2000_8px"] < 0.4 * cast["ciede2000_8px"]
    assert undone["ciede2000"] < cast["ciede2000"]
    stretched = np.clip((uncast.astype(float) - 100) * 1.1 + 100, 0, 255).astype(np.uint8)
    assert colour.compare(stretched, uncast)["contrast_percent"] > 5


def colour_pair() -> tuple[UInt8Image, UInt8Image, UInt8Image]:
    _, plain, blurred, uncast = colour.make_pair(
        1, radius_px=3.0, cast="gain+gamma+3x3", size=(384, 256)
    )
    return plain, blurred, uncast


def test_colour_methods_run_through_one_door(tmp_path: Path) -> None:
    plain, blurred, uncast = colour_pair()
    task = {name: str(tmp_path / f"{name}.npy") for name in ("sharp", "blurred", "result")}
    np.save(task["sharp"], plain)
    np.save(task["blurred"], blurred)
    task |= run_isolated("peers_colour", "register", task, folder=tmp_path)
    errors = {}
    for name in ("uncorrected", "mkl", "scikit-image match_histograms"):
        found = run_isolated("peers_colour", name, task, folder=tmp_path)
        assert found["cpu_s"]["all"] > 0
        errors[name] = colour.compare(np.load(task["result"]), uncast)["ciede2000"]
    assert errors["mkl"] < 0.5 * errors["uncorrected"]
    assert errors["mkl"] < 0.5 * errors["scikit-image match_histograms"]


def test_lut_error_falls_with_the_nodes() -> None:
    plain, blurred, _ = colour_pair()
    found = peers_colour.lut_error(blurred, plain, places=20_000)
    assert 0 < found["65"]["mean"] < found["33"]["mean"] < 2
    assert found["65"]["p99.9"] < found["33"]["p99.9"]


def test_colour_tables_and_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        {"method": "response", "cast": cast, "radius_px": radius, "scene": scene_number}
        | {"ciede2000": value + 0.1 * scene_number, "ciede2000_8px": 0.1, "contrast_percent": -0.4}
        for cast, value in (("none", 0.02), ("gains", 0.4))
        for radius in colour.RADII_PX
        for scene_number in (0, 1)
    ]
    costs = {"idt": {"cpu_s": {"all": 1.2, "fit": 1.0, "apply": 0.2}, "peak_mb": 1200.0}}
    checks = {c.name: c for c in colour_report.checks(colour_report.summary(runs), costs)}
    assert checks["response, none: CIEDE2000, worst radius"].passed
    assert checks["response, gains: CIEDE2000, worst radius"].measured == pytest.approx(0.45)
    assert not checks["response, gains: CIEDE2000, worst radius"].passed
    assert not checks["response, tone curve: CIEDE2000, worst radius"].passed
    assert checks["idt with a 65³ LUT, all, CPU s"].passed
    assert not checks["idt, peak memory, MB"].passed
    absent = {"gone": peers_colour.Method(lambda *_: runs, "no_such_pkg")}  # type: ignore[arg-type]
    colour_report.write(tmp_path, (256, 192), (256, 192), runs, costs, absent)
    text = (tmp_path / "colour.md").read_text()
    assert "Not installed: gone." in text
    assert "0.07 / 0.07 / 0.07" in text
    assert text.strip() == capsys.readouterr().out.strip()


def test_results_read_well() -> None:
    assert number(None) == "–"
    assert [number(v) for v in (0.00123, 0.1234, 1.234, 123.4)] == [
        "0.0012",
        "0.123",
        "1.23",
        "123",
    ]
    assert table(("a", "b"), [("x", "1")]).splitlines() == ["| a | b |", "|---|---:|", "| x | 1 |"]
    assert not Check("x", None, 1).passed
    assert Check("x", 0.95, 0.9, least=True).passed
    assert "≥ 0.9" in check_lines([Check("x", 0.5, 0.9, least=True)])


def test_the_machine_is_described_without_naming_it() -> None:
    found = machine(("numpy", "no-such-distribution"), ("no-such-program",))
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["no-such-distribution"] == found["no-such-program"] == "not installed"
    import platform

    assert platform.node() not in " ".join(found.values()) or not platform.node()


def test_the_visible_error_counts_the_foreground_as_seen() -> None:
    truth = drawn()["scene0-medium-hard"]
    points = registration_error.covered_points(scene())
    assert 0 < len(points) < 441 / 2
    assert registration_error.visible_error_px(truth.warp, truth, []) == 0
    parallax = float(np.hypot(*truth.foreground_shift_px))
    found = registration_error.visible_error_px(truth.warp, truth, points)
    assert found == pytest.approx(parallax * len(points) / 441)
