"""Metrics by name: full names, the columns of the paper, the command that prints them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save_file
from test_weights import made_up

from defocus_ds.errors import InputError
from defocus_ds.measure import perceptual
from defocus_ds.measure.luma import luma_of_file
from defocus_ds.measure.metrics import DEFAULT_METRICS, METRIC_NAMES, metrics
from defocus_ds.measure.weights import NETWORKS
from defocus_ds.stages.tile import luma
from defocus_ds_cli.main import cli

PLAIN = tuple(name for name in METRIC_NAMES if not name.startswith("lpips"))


def two_files(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    paths = folder / "one.png", folder / "two.png"
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 48)).astype(np.uint8)).save(path)
    return paths


def test_every_full_name_says_channel_range_and_border() -> None:
    found = metrics(PLAIN)
    assert [metric.name for metric in found] == list(PLAIN)
    assert len({metric.full_name for metric in found}) == len(PLAIN)
    for metric in found:
        assert "luma" in metric.full_name
        assert "255" in metric.full_name or "[0, 1]" in metric.full_name
        assert any(word in metric.full_name for word in ("whole image", "border", "patches"))


def test_the_columns_of_the_paper_on_its_own_output(real_data: Path) -> None:
    folder = real_data / "mmsp2024" / "MMSP_Comparisons"
    sharp = luma_of_file(folder / "kodim19_original.png")
    restored = luma_of_file(folder / "kodim19_b_r_QSharp.png")
    found = metrics(lpips_weights=real_data / "lpips" / "alexnet.ckpt")
    assert tuple(metric.name for metric in found) == DEFAULT_METRICS
    values = {metric.name: metric(restored, sharp) for metric in found}
    assert values["psnr"] == pytest.approx(34.19, abs=0.006)
    assert values["ssim"] == pytest.approx(0.935, abs=0.0006)
    assert values["q"] == pytest.approx(0.150, abs=0.0006)
    assert [metric.higher_is_better for metric in found] == [True, True, True, False]
    blurred = luma_of_file(folder / "kodim19_blurry.png")
    assert 0 < values["lpips"] < found[-1](blurred, sharp)


def test_unknown_names_and_absent_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="ssim-gaussian"):
        metrics(["vmaf"])
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="weights --download"):
        metrics(["lpips"])


def test_a_file_of_weights_is_for_the_network_that_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other network's are those of the cache."""
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path / "cache"))
    taken: dict[str, Path] = {}

    def read(path: Path, network: str) -> dict[str, np.ndarray]:
        taken[network] = path
        return made_up(network=network)

    monkeypatch.setattr(perceptual, "read_weights", read)
    for held, other in (("alex", "vgg"), ("vgg", "alex")):
        given = tmp_path / f"{held}.safetensors"
        save_file(made_up(network=held), given)
        cached = tmp_path / "cache" / NETWORKS[other].cached_name
        cached.parent.mkdir(exist_ok=True)
        save_file(made_up(network=other), cached)
        found = metrics(["lpips", "psnr", "lpips-vgg"], lpips_weights=given)
        assert [metric.name for metric in found] == ["lpips", "psnr", "lpips-vgg"]
        assert taken == {held: given, other: cached}
    with pytest.raises(InputError, match=r"none of psnr, q takes them.*--metric lpips"):
        metrics(["psnr", "q"], lpips_weights=given)


def test_grey_is_taken_as_it_is_and_colour_as_its_luma(tmp_path: Path) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(luma_of_file(tmp_path / "rgb.png"), luma(rgb))
    assert np.array_equal(luma_of_file(tmp_path / "grey.png"), rgb[..., 0])


@pytest.mark.parametrize("kind", ["palette", "damaged", "text"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.png"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8))
    (image.convert("P") if kind == "palette" else image).save(path)
    if kind == "damaged":
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "text":
        path.write_text("hello")
    with pytest.raises(InputError, match=r"image\.png"):
        luma_of_file(path)


@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm"])
def test_16_bits_are_not_cut_silently(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    assert cv2.imwrite(str(path), np.full((8, 8, 3), 300, np.uint16))
    with pytest.raises(InputError, match="not of 8 bits; give an 8-bit image"):
        luma_of_file(path)


def test_the_preview_of_a_raw_file_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "capture.CR2"
    Image.new("RGB", (8, 8)).save(path, format="TIFF")
    with pytest.raises(InputError, match=r"capture\.CR2: a raw file; give an 8-bit"):
        luma_of_file(path)


def test_measure_prints_full_names_and_json(tmp_path: Path) -> None:
    one, two = map(str, two_files(tmp_path))
    done = CliRunner().invoke(cli, ["measure", one, two])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["psnr", "ssim", "q"]
    assert "7x7 uniform window" in lines[1]
    done = CliRunner().invoke(cli, ["measure", one, one, "--metric", "psnr", "--json"])
    assert [row["value"] for row in json.loads(done.stdout)] == [None]  # JSON has no infinity


def test_measure_refuses_images_of_two_sizes(tmp_path: Path) -> None:
    one, _ = two_files(tmp_path)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "small.png")
    done = CliRunner().invoke(cli, ["measure", str(one), str(tmp_path / "small.png")])
    assert done.exit_code == 2
    assert "agree" in done.stderr
