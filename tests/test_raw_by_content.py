"""What a file holds decides whether it is a raw, not its suffix; nobody gets its thumbnail."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rawpy
from PIL import Image

from defocus_ds.config import load_config
from defocus_ds.dataset.importers.images import read_image
from defocus_ds.dataset.released_images import Unusable
from defocus_ds.errors import DevelopFailed, InputError
from defocus_ds.measure.luma import luma_of_file
from defocus_ds.stages.decoding import run_decoder
from defocus_ds.stages.ingest import scan
from defocus_ds.stages.ingest.header import looks_like, read_header
from defocus_ds_train.restore_photo import read_photo

REAL = ("DC0008L.KDC", "P003908.KDC", "CRW_0117.CRW", "canon_eos_6d.dng")
NAMES = ("photo.tif", "photo.jpg", "photo.xyz", "photo", "photo.KDC", "photo.nef")
DEFAULTS = load_config(settings=["develop.recipe=libraw-defaults"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", REAL)
def test_a_real_raw_is_a_raw_whatever_its_name(
    real_data: Path, tmp_path: Path, file: str, name: str
) -> None:
    path = tmp_path / name
    path.symlink_to(real_data / "raw" / file)
    assert looks_like(path) == "raw"
    assert read_header(path).info.kind == "raw"


@pytest.mark.parametrize("file", REAL)
def test_restoring_a_raw_develops_it(real_data: Path, tmp_path: Path, file: str) -> None:
    path = tmp_path / "photo.tif"
    path.symlink_to(real_data / "raw" / file)
    with rawpy.imread(str(path.resolve())) as raw:
        expected = raw.postprocess().shape
    told = run_decoder("inspect", path, limits=DEFAULTS.limits)
    assert (told["height"], told["width"], 3) == expected
    assert read_photo(path, config=DEFAULTS).pixels.shape == expected
    if file == "P003908.KDC":  # LibRaw knows no white balance of this camera
        with pytest.raises(DevelopFailed, match="develop.recipe=libraw-defaults"):
            read_photo(path, config=load_config())


@pytest.mark.parametrize("name", ["photo.tif", "photo.CR2"])
def test_the_preview_of_a_cr2_is_nobodys_picture(
    small_shoot: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.symlink_to(small_shoot / "scene01/IMG_0001.CR2")
    assert read_header(path).raw_size is not None
    with pytest.raises(InputError, match="raw"):
        luma_of_file(path)
    with pytest.raises(Unusable, match="a raw, not a picture"):
        read_image(path)


def test_a_bracket_of_raws_without_their_suffix_is_a_scene(
    small_shoot: Path, tmp_path: Path
) -> None:
    (tmp_path / "lamp").mkdir()
    for at, path in enumerate(sorted((small_shoot / "scene01").glob("*.CR2"))):
        shutil.copy(path, tmp_path / "lamp" / f"IMG_{at}.bin")
        Image.new("RGB", (32, 32)).save(tmp_path / "lamp" / f"IMG_{at}.JPG")
    (tmp_path / "lamp" / "notes.txt").write_text("a note")
    (tmp_path / "lamp" / "sound.wav").write_bytes(b"RIFF" + bytes(40))
    shoot = scan(tmp_path)
    assert [c.path.suffix for c in shoot.brackets[0]] == [".bin"] * 4
    (complaint,) = shoot.complaints
    assert "4 files beside a raw of the same name" in complaint.message


def test_pictures_of_unknown_kinds_are_named_once(tmp_path: Path) -> None:
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8))
    for at in range(3):
        (tmp_path / f"IMG_{at}.HEIC").write_bytes(b"x")
        pixels.save(tmp_path / f"odd{at}.picture", "png")
    pixels.save(tmp_path / "bare", "jpeg")
    found = [str(c) for c in scan(tmp_path).complaints if c.severity == "warning"]
    assert found == [
        "bare: images without a suffix are not read. "
        "Save as PNG, TIFF or JPEG what belongs to a scene.",
        "IMG_0.HEIC: .heic files are not read (so with 3 files). "
        "Save as PNG, TIFF or JPEG what belongs to a scene.",
        "odd0.picture: images named .picture are not read (so with 3 files). "
        "Save as PNG, TIFF or JPEG what belongs to a scene.",
    ]
