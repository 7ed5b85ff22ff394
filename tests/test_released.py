"""Released splits: the authors' pixels, the same bytes for everyone, every complaint at once."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from defocus_ds import load_crops, verify
from defocus_ds.dataset.checksums import list_files
from defocus_ds.dataset.released import build_released, cut_released
from defocus_ds.dataset.released_images import blurred_crop, centre, decode_rgb
from defocus_ds.dataset.released_make import make_released
from defocus_ds.dataset.released_manifest import (
    LEVEL,
    Released,
    read_released,
    released_names,
)
from defocus_ds.errors import DatasetError
from defocus_ds.measure.fidelity import peak_signal_to_noise_ratio, structural_similarity
from defocus_ds.measure.sharpness import sharpness_q
from defocus_ds_cli.main import cli

SIZE = 32


def photographs(folder: Path, *, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """Three textured RGB images of different sizes in each split."""
    for number, split in enumerate(splits):
        rng = np.random.default_rng(number)
        (folder / split).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (40 + 3 * index, 51 - index, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{split}_{index}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return photographs(tmp_path / "images")


@pytest.fixture
def released(images: Path, tmp_path: Path) -> Released:
    return make_released("toy", images, tmp_path / "toy.parquet", origin="here", size=SIZE)


def digests(folder: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in list_files(folder)
    }


def test_the_released_splits_are_those_of_the_paper() -> None:
    assert released_names() == ("bsd500", "kodak24")
    assert read_released("kodak24").counts == {"test": 24}
    assert read_released("bsd500").counts == {"train": 200, "val": 100, "test": 200}
    for name in released_names():
        for row in read_released(name).rows:
            assert (row["x"], row["y"]) == centre(row["width"], row["height"], size=128)
            assert row["size"] == 128


@pytest.mark.parametrize("name", ["kodim01", "kodim19"])
def test_the_authors_blurred_files_are_reproduced_in_every_pixel(
    real_data: Path, name: str
) -> None:
    folder = "MMSP_Comparisons" if name == "kodim19" else "Beta_Value_Comp"
    with Image.open(real_data / "mmsp2024" / folder / f"{name}_blurry.png") as image:
        published = np.asarray(image)
    rgb = decode_rgb(real_data / "kodak24" / f"{name}.png")
    x, y = centre(rgb.shape[1], rgb.shape[0], size=128)
    _, blurred = blurred_crop(rgb, x=x, y=y, size=128)
    assert np.array_equal(blurred, published)
    row = next(row for row in read_released("kodak24").rows if row["scene"] == name)
    assert row["sha256_blurred"] == hashlib.sha256(published.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "folder", "published"),
    [("kodak24", "kodak24", (25.504, 0.685, 0.083)), ("bsd500", "bsds500", (24.067, 0.667, 0.093))],
)
def test_blurred_inputs_score_what_was_measured(
    real_data: Path, name: str, folder: str, published: tuple[float, float, float]
) -> None:
    released = read_released(name)
    cut = cut_released(released, real_data / folder)
    assert not cut.problems
    assert len(cut.crops) == len(released.rows)
    psnr, ssim, q = np.mean(
        [
            (
                peak_signal_to_noise_ratio(crop.blurred, crop.sharp),
                structural_similarity(crop.blurred, crop.sharp),
                sharpness_q(crop.blurred),
            )
            for crop in cut.crops
        ],
        axis=0,
    )
    assert psnr == pytest.approx(published[0], abs=0.0006)
    assert ssim == pytest.approx(published[1], abs=0.0006)
    assert q == pytest.approx(published[2], abs=0.0006)
    assert q == pytest.approx(np.mean([row["q_blurred"] for row in released.rows]), rel=1e-12)


def test_build_makes_shards_that_load_and_verify(
    images: Path, released: Released, tmp_path: Path
) -> None:
    report = build_released(released.path, images, tmp_path / "out")
    assert report.kept == {"train": 3, "test": 3}
    crops = load_crops(tmp_path / "out", level=LEVEL, split="train", check=True)
    assert [crop.row["scene"] for crop in crops] == ["train_0", "train_1", "train_2"]
    with Image.open(images / "train" / "train_1.png") as image:
        expected = np.asarray(image.convert("YCbCr"))[..., 0]
    x, y = (50 - SIZE) // 2, (43 - SIZE) // 2
    assert np.array_equal(crops[1].sharp, expected[y : y + SIZE, x : x + SIZE])
    found = verify(tmp_path / "out")
    assert found.clean, found.findings
    assert found.checked["crops"] == 6


def test_any_layout_name_case_and_container_gives_the_same_bytes(
    images: Path, released: Released, tmp_path: Path
) -> None:
    build_released(released.path, images, tmp_path / "one")
    other = tmp_path / "other" / "deep"
    other.mkdir(parents=True)
    for path in images.rglob("*.png"):
        with Image.open(path) as image:
            image.save(other / f"{path.stem.upper()}.bmp")
    build_released(released.path, tmp_path / "other", tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    build_released(released.path, images, tmp_path / "two")  # again, in place
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_of_files_with_one_name_the_right_one_is_taken(
    images: Path, released: Released, tmp_path: Path
) -> None:
    (images / "a_resized_copy").mkdir()
    with Image.open(images / "train" / "train_0.png") as image:
        image.resize((20, 20)).save(images / "a_resized_copy" / "train_0.png")
        image.rotate(180).save(images / "train_0.png")
    assert not cut_released(released, images).problems


def test_one_split_alone(images: Path, released: Released, tmp_path: Path) -> None:
    shutil.rmtree(images / "train")
    report = build_released(released.path, images, tmp_path / "out", splits=["test"])
    assert report.kept == {"test": 3}
    with pytest.raises(DatasetError, match="no split val"):
        cut_released(released, images, splits=["val"])


def spoil(images: Path) -> None:
    (images / "train" / "train_0.png").unlink()
    with Image.open(images / "train" / "train_1.png") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(images / "train" / "train_1.png")
    with Image.open(images / "train" / "train_2.png") as image:
        pixels = np.array(image)
    pixels[0, 0, 0] ^= 1  # one bit, outside the crop
    Image.fromarray(pixels).save(images / "train" / "train_2.png")
    Image.fromarray(pixels[..., 0]).save(images / "test" / "test_0.png")
    with Image.open(images / "test" / "test_0.png") as grey:
        grey.resize((51, 40)).save(images / "test" / "test_0.png")
    (images / "test" / "test_1.png").write_bytes(b"no image")


def test_every_complaint_comes_at_once(images: Path, released: Released, tmp_path: Path) -> None:
    spoil(images)
    cut = cut_released(released, images)
    assert [crop.row["scene"] for crop in cut.crops] == ["test_2"]
    shapes = ["43x50 px, need 50x43", "holds other pixels", "grey, need 8-bit RGB"]
    words = ["missing", *shapes, "cannot be decoded"]
    assert len(cut.problems) == len(words)
    for problem, expected in zip(cut.problems, words, strict=True):
        assert expected in problem
    heard: list[str] = []
    with pytest.raises(DatasetError, match="5 of 6 images of toy") as caught:
        build_released(released.path, images, tmp_path / "out", on_problem=heard.append)
    assert heard == list(cut.problems)
    assert "here" in str(caught.value)  # where to get them
    assert not (tmp_path / "out").exists()


def test_the_published_file_with_another_decoder_is_told_apart(
    images: Path, released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    from defocus_ds.dataset import released_images

    def another_decoder(path: Path, *, size: tuple[int, int]) -> object:
        return decode_rgb(path, size=size) ^ np.uint8(1)

    monkeypatch.setattr(released_images, "decode_rgb", another_decoder)
    problems = cut_released(released, images).problems
    assert len(problems) == 6
    assert all("JPEG decoder" in problem for problem in problems)


def test_a_folder_with_something_else_is_left_alone(
    images: Path, released: Released, tmp_path: Path
) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.tex").write_text("...")
    with pytest.raises(DatasetError, match="give a new folder"):
        build_released(released.path, images, other)
    build_released(released.path, images, tmp_path / "out")
    second = make_released("second", images, tmp_path / "second.parquet", origin="-", size=SIZE)
    with pytest.raises(DatasetError, match="not a built second"):
        build_released(second.path, images, tmp_path / "out")


def test_what_is_no_released_split_is_refused(
    images: Path, released: Released, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="known: bsd500, kodak24"):
        read_released("imagenet")
    build_released(released.path, images, tmp_path / "out")
    with pytest.raises(DatasetError, match="column"):
        read_released(tmp_path / "out" / "crops" / LEVEL / "manifest.parquet")
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(released.path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"damaged\.parquet"):
        read_released(damaged)
    with pytest.raises(DatasetError, match="no such folder"):
        cut_released(released, tmp_path / "absent")


def test_make_refuses_what_cannot_be_cropped(images: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="smaller than a crop of 64"):
        make_released("toy", images, tmp_path / "toy.parquet", origin="-", size=64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no images"):
        make_released("toy", tmp_path / "empty", tmp_path / "toy.parquet", origin="-")
    (images / "test" / "broken.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(DatasetError, match=r"broken\.jpg"):
        make_released("toy", images, tmp_path / "toy.parquet", origin="-", size=SIZE)
    assert not (tmp_path / "toy.parquet").exists()


def test_the_commands_list_make_and_build(images: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(cli, ["split", "list", "--json"])
    assert [row["name"] for row in json.loads(done.stdout)] == ["bsd500", "kodak24"]
    manifest, out = str(tmp_path / "toy.parquet"), str(tmp_path / "out")
    arguments = ["toy", "--images", str(images), "-o", manifest, "--origin", "-", "--size", "32"]
    assert run(cli, ["split", "make", *arguments]).exit_code == 0
    build = ["split", "build", manifest, "--images", str(images), "-o", out]
    done = run(cli, build)
    assert done.exit_code == 0, done.output
    assert "6 crops (train 3, test 3)" in done.stdout
    spoil(images)
    done = run(cli, build)
    assert done.exit_code == 2
    assert "train_0.png: missing\n" in done.stderr
    assert "test_1.png: test/test_1.png: cannot be decoded" in done.stderr
    assert verify(tmp_path / "out").clean  # the earlier build is untouched


def test_the_committed_manifests_come_from_the_images(real_data: Path, tmp_path: Path) -> None:
    committed = read_released("kodak24")
    made = make_released(
        "kodak24",
        real_data / "kodak24",
        tmp_path / "kodak24.parquet",
        origin=committed.record["images"],
    )
    for row, known in zip(made.rows, committed.rows, strict=True):
        for name, value in known.items():
            # Q is a sum of floats, and may differ in its last digit on another machine
            assert row[name] == (pytest.approx(value) if isinstance(value, float) else value)
