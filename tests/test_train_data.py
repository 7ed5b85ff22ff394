"""Training data: decoded once, verified, chosen without leaks, batched the same everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from built_dataset import make_dataset
from PIL import Image
from scenes import textured
from toy_crops import toy_data

from defocus_ds import load_crops
from defocus_ds.dataset.crop import crop
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.stages.tile import luma
from defocus_ds.store import sha256_file
from defocus_ds_train.data import batches as batches_module
from defocus_ds_train.data import cache as cache_module
from defocus_ds_train.data import pairs as pairs_module
from defocus_ds_train.data import sharp_images
from defocus_ds_train.data.batches import Batches, dihedral, epoch_order, evaluation_batches
from defocus_ds_train.data.cache import default_cache
from defocus_ds_train.data.pairs import open_pairs, rows_digest
from defocus_ds_train.data.sharp_images import find_images
from defocus_ds_train.data.source import TrainingData, open_training_data
from defocus_ds_train.degrade import Blur, blur_crop
from defocus_ds_train.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes, one in test; crops of 32 px."""
    root = make_dataset(tmp_path_factory.mktemp("data") / "dataset", scenes=5, size=(160, 128))
    crop(root, level="low", size=32, stride=16)
    return root


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of two kinds, a small one and a broken one."""
    root = tmp_path_factory.mktemp("sharp")
    (root / "more").mkdir()
    for index in range(6):
        pixels = np.asarray(np.round(textured((96, 80), seed=index) * 255), np.uint8)
        name = f"{index}.png" if index % 2 else f"more/{index}.jpg"
        Image.fromarray(pixels).save(root / name)
    Image.fromarray(pixels[:20]).save(root / "small.png")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (root / "notes.txt").write_text("no image")
    return root


def pairs(**changes: object) -> Recipe:
    settings: dict[str, object] = {"size": 32, "batch": 4, "held_out": 0.3}
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


def images(**changes: object) -> Recipe:
    settings: dict[str, object] = {
        "source": "images",
        "blur": "average",
        "blur_px": 5.0,
        "size": 32,
        "batch": 4,
        "crops_per_image": 8,
    }
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


def scenes_of(data: TrainingData) -> tuple[set[str], set[str]]:
    train, validation = (
        {part.cache.scenes[i] for i in part.cache.scene[part.index]}
        for part in (data.train, data.validation)
    )
    return train, validation


def test_pairs_are_those_of_the_shards(dataset: Path, tmp_path: Path) -> None:
    found = open_pairs(dataset, level="low", split="train", size=32, cache=tmp_path)
    expected = load_crops(dataset, level="low", split="train")
    assert len(found) == len(expected) > 50
    for i in range(0, len(expected), 9):
        assert np.array_equal(found.sharp[i], expected[i].sharp)
        assert found.blurred is not None
        assert np.array_equal(found.blurred[i], expected[i].blurred)
        assert found.scenes[found.scene[i]] == expected[i].row["scene"]


def test_pairs_are_decoded_once(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    options = {"level": "low", "split": "train", "size": 32, "cache": tmp_path}
    first = open_pairs(dataset, progress=lambda done, _total, _label: seen.append(done), **options)  # type: ignore[arg-type]
    assert seen == list(range(1, len(first) + 1))
    monkeypatch.setattr(pairs_module, "_decoded", None)
    again = open_pairs(dataset, **options)  # type: ignore[arg-type]
    assert np.array_equal(again.sharp, first.sharp)


@pytest.mark.parametrize("damage", ["flip", "truncate", "info", "missing", "other"])
def test_a_damaged_cache_is_made_again(dataset: Path, tmp_path: Path, damage: str) -> None:
    options = {"level": "low", "split": "train", "size": 32, "cache": tmp_path}
    first = open_pairs(dataset, **options).sharp.copy()  # type: ignore[arg-type]
    (folder,) = (p for p in tmp_path.iterdir() if p.is_dir())
    pixels, info = folder / "sharp.u8", folder / "cache.json"
    data = bytearray(pixels.read_bytes())
    data[1000] ^= 1
    if damage == "flip":
        pixels.write_bytes(data)
    elif damage == "truncate":
        pixels.write_bytes(data[:1000])
    elif damage == "info":
        info.write_text("{")
    elif damage == "missing":
        pixels.unlink()
    else:
        info.write_text(json.dumps(json.loads(info.read_text()) | {"digest": "0" * 64}))
    assert np.array_equal(open_pairs(dataset, **options).sharp, first)  # type: ignore[arg-type]


def test_a_failure_while_decoding_leaves_no_cache(dataset: Path, tmp_path: Path) -> None:
    def fail(done: int, _total: int, _label: str) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pairs(dataset, level="low", split="train", size=32, cache=tmp_path, progress=fail)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_a_full_disk_is_said_before_anything_is_decoded(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"GB are free.*--cache"):
        open_pairs(dataset, level="low", split="train", size=32, cache=tmp_path)


def test_the_digest_follows_the_crops_and_not_their_place(dataset: Path, tmp_path: Path) -> None:
    original = rows_digest(dataset, level="low", split="train")
    copy = tmp_path / "copy"
    shutil.copytree(dataset / "crops", copy / "crops")
    assert rows_digest(copy, level="low", split="train") == original
    assert rows_digest(dataset, level="low", split="test") != original
    other = make_dataset(tmp_path / "other", scenes=5, size=(160, 128))
    crop(other, level="low", size=32, stride=32)
    assert rows_digest(other, level="low", split="train") != original


def test_wrong_data_is_refused_with_the_way_out(dataset: Path, tmp_path: Path) -> None:
    cases = [
        (pairs(level="high"), dataset, "no crops of level 'high'"),
        (pairs(size=64), dataset, "crops of 32 px, the recipe trains on 64 px.*--set size=32"),
        (pairs(batch=4096), dataset, "fewer than one batch of 4096"),
        (images(), tmp_path / "absent", "not a folder"),
        (images(), tmp_path, "no image of 32x32"),
    ]
    for recipe, path, expected in cases:
        with pytest.raises(DatasetError, match=expected):
            open_training_data(recipe, path, cache=tmp_path / "cache")


def test_without_a_val_split_whole_scenes_are_held_out(dataset: Path, tmp_path: Path) -> None:
    data = open_training_data(pairs(), dataset, cache=tmp_path)
    train, validation = scenes_of(data)
    assert len(train) == 3
    assert len(validation) == 1
    assert not train & validation
    test = {item.row["scene"] for item in load_crops(dataset, level="low", split="test")}
    assert not (train | validation) & test
    assert "held out" in data.notes[0]
    own = "splits: those that crop gave by the scenes' names; a release decides its own"
    for path, said in ((dataset, True), (dataset / "crops", True), (tmp_path / "copied", False)):
        if not path.exists():
            shutil.copytree(dataset / "crops", path / "crops")
        notes = open_training_data(pairs(), path, cache=tmp_path).notes
        assert any(note.startswith(own) for note in notes) is said
    other = open_training_data(pairs(seed=3, held_out=0.5), dataset, cache=tmp_path)
    assert len(scenes_of(other)[1]) == 2


def test_a_val_split_is_validated_on(tmp_path: Path) -> None:
    tile = {"val_share": 0.5, "test_share": 0.2}
    root = make_dataset(tmp_path / "dataset", scenes=6, size=(160, 128), tile=tile)
    crop(root, level="low", size=32, stride=16)
    data = open_training_data(pairs(), root, cache=tmp_path / "cache")
    expected = {item.row["scene"] for item in load_crops(root, level="low", split="val")}
    assert scenes_of(data)[1] == expected
    assert len(data.train) == len(load_crops(root, level="low", split="train"))


def test_one_scene_cannot_be_validated(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=1, size=(160, 128), tile={"test_share": 0.0})
    crop(root, level="low", size=32, stride=16)
    with pytest.raises(DatasetError, match=r"one training scene.*val_share"):
        open_training_data(pairs(), root, cache=tmp_path / "cache")


def test_limits_spread_evenly(dataset: Path, tmp_path: Path) -> None:
    whole = open_training_data(pairs(), dataset, cache=tmp_path)
    data = open_training_data(pairs(crops=12, validation_crops=5), dataset, cache=tmp_path)
    assert (len(data.train), len(data.validation)) == (12, 5)
    assert set(data.train.index) < set(whole.train.index)
    assert scenes_of(data)[0] == scenes_of(whole)[0]
    more = open_training_data(pairs(crops=10_000), dataset, cache=tmp_path)
    assert any("the recipe names 10000" in note for note in more.notes)


def test_image_crops_are_cut_from_their_image(photographs: Path, tmp_path: Path) -> None:
    data = open_training_data(images(), photographs, cache=tmp_path)
    assert (len(data.train), len(data.validation)) == (5 * 8, 8)
    assert any("2 images left out" in note for note in data.notes)
    assert not scenes_of(data)[0] & scenes_of(data)[1]
    cache = data.train.cache
    assert cache.blurred is None
    for i in (*data.train.index[::7], *data.validation.index[::3]):
        path = photographs / cache.scenes[cache.scene[i]]
        with Image.open(path) as file:
            whole = luma(np.asarray(file.convert("RGB")))
        windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32))
        assert (windows == cache.sharp[i]).all(axis=(2, 3)).any()


def test_an_images_crops_do_not_depend_on_the_others(photographs: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("1.png", "3.png", "5.png"):
        shutil.copy(photographs / name, few / name)
    found = [
        open_training_data(images(), root, cache=tmp_path / "cache").train.cache
        for root in (photographs, few)
    ]
    for name in ("1.png", "3.png", "5.png"):
        one, other = (c.sharp[c.scene == c.scenes.index(name)] for c in found)
        assert np.array_equal(one, other)
    other_seed = open_training_data(images(seed=1), few, cache=tmp_path / "cache").train.cache
    assert not np.array_equal(other_seed.sharp, found[1].sharp)


def test_unusable_images_say_why(photographs: Path) -> None:
    found = find_images(photographs, size=32, seed=0)
    assert len(found.names) == 6
    assert "smaller than a crop of 32" in found.rejected["small.png"]
    assert "not readable" in found.rejected["broken.png"]
    assert sorted(found.names) != list(found.names)


def test_a_truncated_image_is_named(photographs: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "copy"))
    data = (root / "1.png").read_bytes()
    (root / "1.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=r"1\.png"):
        open_training_data(images(), root, cache=tmp_path / "cache")


@pytest.mark.parametrize("inner", [".", "images", ".."])
def test_a_built_dataset_is_no_folder_of_sharp_images(
    photographs: Path, tmp_path: Path, inner: str
) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(photographs, dataset / "images")
    for name in ("dataset.json", "scenes.parquet"):
        (dataset / name).touch()
    with pytest.raises(DatasetError, match=r"a built dataset, with blurred images.*real-l1"):
        find_images(dataset / inner, size=32, seed=0)


def test_images_of_a_released_test_split_are_not_trained_on(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "copy"))
    with Image.open(root / "3.png") as image:
        size = image.size
    released = {size: {sha256_file(root / "3.png"): "kodak24 test"}}
    monkeypatch.setattr(sharp_images, "released_test_images", lambda: released)
    data = open_training_data(images(), root, cache=tmp_path / "cache")
    used = scenes_of(data)[0] | scenes_of(data)[1]
    assert len(used) == 5
    assert "3.png" not in used
    assert "1 images left out, which are those of kodak24 test." in data.notes
    for other in root.rglob("*.*"):
        if other.name != "3.png":
            other.unlink()
    with pytest.raises(DatasetError, match=r"to train on \(3\.png: an image of kodak24 test\)"):
        open_training_data(images(), root, cache=tmp_path / "cache")


def test_released_test_images_saved_again_are_not_trained_on(
    real_data: Path, tmp_path: Path
) -> None:
    with Image.open(real_data / "kodak24/kodim01.png") as image:
        image.save(tmp_path / "saved again.png", compress_level=1)
        image.save(tmp_path / "bitmap.bmp")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "another.png")
    found = find_images(tmp_path, size=128, seed=0)
    assert found.tests == dict.fromkeys(("saved again.png", "bitmap.bmp"), "kodak24 test")
    assert found.names == ("another.png",)


def test_the_folder_of_bsd500_yields_its_training_images(real_data: Path) -> None:
    found = find_images(real_data / "bsds500", size=128, seed=0)
    assert len(found.tests) == 200
    assert set(found.tests.values()) == {"bsd500 test"}
    assert len(found.names) == 300
    assert not set(found.names) & set(found.tests)


def test_the_number_of_images_is_the_recipes(photographs: Path, tmp_path: Path) -> None:
    data = open_training_data(images(images=3), photographs, cache=tmp_path)
    assert (len(data.train), len(data.validation)) == (3 * 8, 8)
    more = open_training_data(images(images=2100), photographs, cache=tmp_path)
    assert len(more.train) == 5 * 8
    assert any("training: 5 images, the recipe names 2100" in note for note in more.notes)


def test_the_cache_is_under_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFOCUS_DS_CACHE", "/mine")  # the same rule as for weights
    assert default_cache() == Path("/mine/crops")
    monkeypatch.delenv("DEFOCUS_DS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/defocus-ds/crops")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_cache() == Path("/home/me/.cache/defocus-ds/crops")


def all_pairs(batches: Batches, epoch: int, first_step: int = 0) -> torch.Tensor:
    return torch.stack(
        [torch.cat([p.blurred, p.sharp], 1) for p in batches.epoch(epoch, first_step=first_step)]
    )


def batches(data: TrainingData, **options: object) -> Batches:
    settings: dict[str, object] = {"device": CPU, "batch": 4, "seed": 0, "augment": True}
    return Batches(data.train, **(settings | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("resident", [False, True])
def test_an_epoch_is_a_permutation_and_can_be_entered_anywhere(resident: bool) -> None:
    data = toy_data(30)
    source = batches(data, resident=resident, augment=False)
    assert source.steps_per_epoch == 7
    assert source.resident is resident
    whole = all_pairs(source, epoch=2)
    assert torch.equal(whole[5:], all_pairs(source, epoch=2, first_step=5))
    order, _ = epoch_order(30, seed=0, epoch=2)
    assert sorted(order) == list(range(30))
    sharp = torch.from_numpy(data.train.cache.sharp[data.train.index[order[:28]]] / 255).float()
    assert torch.equal(whole[:, :, 1].reshape(28, 32, 32), sharp)
    assert not torch.equal(whole, all_pairs(source, epoch=3))
    assert torch.equal(whole, all_pairs(batches(data, resident=not resident, augment=False), 2))


def test_processes_and_parts_cover_the_batch_in_order() -> None:
    data = toy_data(30)
    whole = all_pairs(batches(data, batch=8), epoch=1)
    shares = [
        all_pairs(batches(data, batch=8, rank=rank, world=2, accumulate=2), epoch=1)
        for rank in range(2)
    ]
    assert [len(share) for share in shares] == [3 * 2] * 2
    steps = torch.stack([s.reshape(3, 4, 2, 32, 32) for s in shares], 1).reshape(whole.shape)
    assert torch.equal(steps, whole)


def test_dihedral_gives_the_eight_symmetries_and_moves_channels_together() -> None:
    crop_pair = torch.arange(2 * 9, dtype=torch.uint8).reshape(1, 2, 3, 3)
    turned = dihedral(crop_pair.expand(8, -1, -1, -1), torch.arange(8, dtype=torch.uint8))
    square = crop_pair[0, 0]
    expected = {
        tuple(torch.rot90(s, k).flatten().tolist()) for s in (square, square.T) for k in range(4)
    }
    assert {tuple(t[0].flatten().tolist()) for t in turned} == expected
    assert len(expected) == 8
    assert torch.equal(turned[:, 1], turned[:, 0] + 9)
    assert torch.equal(turned[0], crop_pair[0])


def test_augmentation_keeps_pairs_together_and_uses_all_turns() -> None:
    data = toy_data(64)
    turned = all_pairs(batches(data), epoch=0)[:, :, 0].reshape(-1, 32, 32)
    plain = all_pairs(batches(data, augment=False), epoch=0)[:, :, 0].reshape(-1, 32, 32)
    _, turns = epoch_order(64, seed=0, epoch=0)
    assert set(turns) == set(range(8))
    assert torch.equal(turned, dihedral(plain[:, None], torch.from_numpy(turns))[:, 0])
    pair = next(iter(batches(data).epoch(0)))
    for blurred, sharp in zip(pair.blurred, pair.sharp, strict=True):
        pixels = (sharp[0] * 255).round().to(torch.uint8).numpy()
        # the average commutes with every symmetry
        expected = blur_crop(pixels, Blur("average", 5))
        assert np.array_equal((blurred[0] * 255).round().to(torch.uint8).numpy(), expected)


def test_image_batches_are_blurred_on_the_device(photographs: Path, tmp_path: Path) -> None:
    data = open_training_data(images(), photographs, cache=tmp_path)
    for pair in (
        *batches(data).epoch(0),
        *evaluation_batches(data.validation, device=CPU, batch=3),
    ):
        for blurred, sharp in zip(pair.blurred, pair.sharp, strict=True):
            pixels = (sharp[0] * 255).round().to(torch.uint8).numpy()
            expected = blur_crop(pixels, Blur("average", 5)) / np.float32(255)
            assert np.array_equal(blurred[0].numpy(), expected)


def test_the_reader_pins_memory_for_the_gpu_of_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread starts with the first GPU as its current one, whatever its process chose."""
    current: list[torch.device] = []
    pinned: list[list[torch.device]] = []

    @contextmanager
    def chosen(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    def pin(pixels: torch.Tensor) -> torch.Tensor:
        pinned.append(list(current))
        return pixels

    monkeypatch.setattr(torch.cuda, "device", chosen)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    second = torch.device("cuda", 1)
    pixels = batches_module._Pixels(toy_data(8).train, second, resident=False)
    pixels._pinned(np.arange(4))
    assert pinned == [[second]]


def test_evaluation_sees_every_crop_once_as_it_is() -> None:
    data = toy_data(10, validation=7)
    parts = [
        torch.cat([p.sharp for p in evaluation_batches(data.validation, device=CPU, batch=3, **s)])
        for s in ({"rank": 0, "world": 2}, {"rank": 1, "world": 2})
    ]
    whole = torch.cat([p.sharp for p in evaluation_batches(data.validation, device=CPU, batch=3)])
    expected = data.validation.cache.sharp[data.validation.index]
    assert np.array_equal((whole[:, 0] * 255).round().numpy(), expected)
    assert torch.equal(parts[0], whole[::2])
    assert torch.equal(parts[1], whole[1::2])
