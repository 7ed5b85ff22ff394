"""Restoration end to end: the closed form comes out, bad photos stay alone, nothing is lost."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner, Result
from toy_network import random_network, save_network, scene_rgb, unsharp_network

from defocus_ds.errors import InputError
from defocus_ds.stages.tile import luma
from defocus_ds.store import write_png
from defocus_ds_cli import restore as restore_command
from defocus_ds_cli.main import cli
from defocus_ds_train import restore as restore_module
from defocus_ds_train import restore_memory
from defocus_ds_train.restore import (
    NotRestored,
    Restored,
    RestoreJob,
    Tiles,
    plan_restore,
    restore,
    restore_luma,
)
from defocus_ds_train.restore_network import ResidualNet

FILTERS = (2, 2, 4)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_network(tmp_path / "toy.safetensors", random_network(FILTERS), FILTERS)


def photo(path: Path, *, size: tuple[int, int] = (130, 75), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.uint8(np.round(255 * scene_rgb(size, seed=seed))))
    return path


def read(path: Path) -> npt.NDArray[np.uint8 | np.uint16]:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["restore", *map(str, arguments)])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
def test_restores_what_the_network_computes(tmp_path: Path, bits: int, grey: bool) -> None:
    white = 2**bits - 1
    before = np.asarray(np.round(white * scene_rgb((131, 76))), f"uint{bits}")
    stored = before[..., 1] if grey else before
    source = tmp_path / "blurred.png"
    assert cv2.imwrite(str(source), stored if grey else stored[..., ::-1])
    weights = save_network(tmp_path / "w.safetensors", unsharp_network(0.5), (2,))
    done = run(source, "-o", tmp_path / "sharp.png", "--weights", weights, "--device", "cpu")
    assert done.exit_code == 0, done.output

    if grey:
        y = stored / white
    elif bits == 8:
        y = luma(stored) / 255
    else:
        y = stored @ np.array([0.299, 0.587, 0.114]) / white
    mean = cv2.blur(y, (3, 3), borderType=cv2.BORDER_CONSTANT)  # zeros beyond, as in the network
    change = np.clip(y + 0.5 * (y - mean), 0, 1) - y
    expected = stored + white * (change if grey else change[..., None])
    found = read(tmp_path / "sharp.png")
    assert found.dtype == stored.dtype
    assert found.shape == stored.shape
    assert np.abs(change).max() > 0.05
    error = np.abs(found - np.clip(expected, 0, white))
    assert error[:, :-1].max() <= 0.5 + 0.01 * white / 255  # the last column meets the padding


def test_tile_memory_and_time_do_not_change_a_byte(tmp_path: Path, weights: Path) -> None:
    source = photo(tmp_path / "in" / "a.png", size=(700, 500))
    results = []
    for number, options in enumerate(
        ([], [], ["--tile", "352"], ["--memory-limit", "35"], ["--memory-limit", "500"])
    ):
        out = tmp_path / f"{number}.png"
        done = run(source, "-o", out, "--weights", weights, "--device", "cpu", "--json", *options)
        assert done.exit_code == 0, done.output
        (image,) = json.loads(done.stdout)["images"]
        assert image["exact"]
        results.append((image["tiles"], out.read_bytes()))
    assert [tiles for tiles, _ in results] == [1, 1, results[2][0], results[3][0], 1]
    assert results[2][0] > 1
    assert results[3][0] > 1
    assert len({data for _, data in results}) == 1


def test_a_folder_keeps_its_shape_and_a_bad_file_stays_alone(tmp_path: Path, weights: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png")
    photo(folder / "below" / "b.png", size=(40, 33))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff garbage")
    done = run(folder, "-o", out, "--weights", weights, "--device", "cpu")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    (failed,) = (line for line in lines if line.startswith("failed"))
    assert failed.startswith(f"failed {folder / 'broken.jpg'}: ")
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "a.png",
        "below/b.png",
    ]
    assert read(out / "below" / "b.png").shape == (33, 40, 3)


def test_raws_are_restored_at_their_developed_size(
    small_shoot: Path, tmp_path: Path, weights: Path
) -> None:
    raw = sorted(small_shoot.rglob("*.CR2"))[0]
    done = run(raw, "-o", tmp_path / "out", "--weights", weights, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    (image,) = json.loads(done.stdout)["images"]
    assert (image["width"], image["height"], image["bits"]) == (744, 496, 8)
    assert read(tmp_path / "out" / f"{raw.stem}.png").shape == (496, 744, 3)


def test_nothing_is_overwritten_unasked(tmp_path: Path, weights: Path) -> None:
    source = photo(tmp_path / "a.png")
    target = tmp_path / "out.png"
    target.write_bytes(b"mine")
    done = run(source, "-o", target, "--weights", weights)
    assert done.exit_code == 1
    assert "out.png exists; give --overwrite to replace it." in done.stdout
    assert target.read_bytes() == b"mine"
    assert run(source, "-o", target, "--weights", weights, "--overwrite").exit_code == 0
    assert read(target).shape == (75, 130, 3)


def test_a_photo_never_replaces_itself_or_another(tmp_path: Path) -> None:
    one, other = photo(tmp_path / "a.png"), photo(tmp_path / "below" / "a.tiff.png")
    other = other.rename(tmp_path / "a.tiff")
    itself, *_ = plan_restore([one], tmp_path, overwrite=True)
    assert isinstance(itself, NotRestored)
    assert "is the photo itself" in itself.reason
    first, second = plan_restore([one, other], tmp_path / "out", overwrite=True)
    assert first == RestoreJob(one, tmp_path / "out" / "a.png")
    assert isinstance(second, NotRestored)
    assert f"already the result of {one}" in second.reason


def test_one_file_is_for_one_photo(tmp_path: Path) -> None:
    one, other = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    with pytest.raises(InputError, match="one file for 2 photos; give -o a folder"):
        plan_restore([one, other], tmp_path / "out.png")


def test_results_are_png(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sharp\.jpg: results are PNG"):
        plan_restore([photo(tmp_path / "a.png")], tmp_path / "sharp.jpg")


def test_results_inside_the_folder_are_not_restored_again(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    photo(tmp_path / "restored" / "a.png")
    plan = plan_restore([tmp_path], tmp_path / "restored", overwrite=True)
    assert plan == [RestoreJob(source, tmp_path / "restored" / "a.png")]
    above = plan_restore([tmp_path / "restored"], tmp_path / "new" / "..", overwrite=False)
    assert len(above) == 1


def test_a_folder_without_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photos in it"):
        plan_restore([tmp_path], tmp_path / "out")


def test_a_failure_writes_nothing(tmp_path: Path) -> None:
    class Broken(ResidualNet):
        def __call__(self, blurred: torch.Tensor) -> torch.Tensor:
            return blurred / 0

    plan = plan_restore([photo(tmp_path / "a.png")], tmp_path / "out")
    (result,) = restore(plan, Broken(random_network(FILTERS)))
    assert isinstance(result, NotRestored)
    assert "not finite" in result.reason
    assert not (tmp_path / "out").exists()


class Small(ResidualNet):
    """A device that holds so many pixels at once."""

    holds = 0

    def __call__(self, blurred: torch.Tensor) -> torch.Tensor:
        if blurred.numel() > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(blurred)


def test_tiles_shrink_when_memory_is_out() -> None:
    model = random_network((2, 4))
    frame = np.uint8(np.round(255 * scene_rgb((900, 640))[..., 1]))
    small = Small(model)
    small.holds = 150_000
    change, tiling = restore_luma(frame, small)
    whole, single = restore_luma(frame, ResidualNet(model))
    assert len(single) == 1
    assert len(tiling) > 3
    assert np.abs(change - whole).max() < 1e-5
    small.holds = 100
    with pytest.raises(InputError, match=r"cpu: out of memory with tiles|memory allows"):
        restore_luma(frame, small)


class Held(torch.Tensor):
    """Memory that one can see being given back."""


class Crowded(ResidualNet):
    """Runs out of memory once, with tiles in its hands; notes what is held when it cleans up."""

    alive: weakref.ref[object] | None = None
    held_when_freed: bool | None = None

    def __call__(self, blurred: torch.Tensor) -> torch.Tensor:
        if self.alive is None:
            features = Held()
            self.alive = weakref.ref(features)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(blurred)

    def free_cache(self) -> None:
        if self.alive is not None:
            self.held_when_freed = self.alive() is not None


def test_what_the_failed_tiles_held_is_given_back_before_the_next_try() -> None:
    network = Crowded(random_network((2, 4)))
    frame = np.uint8(np.round(255 * scene_rgb((300, 200))[..., 1]))
    restore_luma(frame, network)
    assert network.held_when_freed is False


class Caching(ResidualNet):
    """Keeps memory for later, as torch does on a GPU, until it is told to give it back."""

    kept = 0

    def __call__(self, blurred: torch.Tensor) -> torch.Tensor:
        self.kept = 2**29
        return super().__call__(blurred)

    def free_cache(self) -> None:
        self.kept = 0


def test_tiles_do_not_depend_on_the_photo_before(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Caching(random_network((2, 4)))
    frame = np.uint8(np.round(255 * scene_rgb((300, 200))[..., 1]))
    monkeypatch.setattr(restore_memory, "free_memory", lambda _device: 2**29 + 2**23 - network.kept)
    first, second = (restore_luma(frame, network)[1] for _ in range(2))
    assert first == second


def test_the_memory_limit_decides_the_tiles() -> None:
    network = ResidualNet(random_network((2, 4)))
    frame = np.zeros((500, 600), np.uint8)
    own = 40 * frame.size / 2**20
    limits = (own + 4, own + 12, own + 100)
    tilings = [
        restore_luma(frame, network, tiles=Tiles(memory_limit_mb=limit))[1] for limit in limits
    ]
    for limit, tiling in zip(limits, tilings, strict=True):
        pixels = tiling.rows.tile * tiling.columns.tile
        assert pixels * network.bytes_per_pixel <= (limit - own) * 2**20
    assert len(tilings[0]) > len(tilings[1]) > len(tilings[2]) == 1
    with pytest.raises(InputError, match=r"600x500 alone takes 11 MB; the memory allows 9"):
        restore_luma(frame, network, tiles=Tiles(memory_limit_mb=9))


def test_free_memory_respects_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    free = restore_memory.free_memory(torch.device("cpu"))
    assert 2**20 < free < 2**50
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self: (
            {"memory.max": "1000", "memory.current": "300"}[self.name]
            if self.name.startswith("memory.")
            else "MemAvailable: 5 kB"
        ),
    )
    assert restore_memory.free_memory(torch.device("cpu")) == 700


def test_weights_are_asked_for(tmp_path: Path) -> None:
    done = run(photo(tmp_path / "a.png"), "-o", tmp_path / "b.png")
    assert done.exit_code == 2
    assert "none are shipped" in done.stderr
    assert "defocus-ds train fit real-l1" in done.stderr


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    wrong = save_network(tmp_path / "w.safetensors", random_network((2, 4)), (2, 8))
    text = tmp_path / "text.safetensors"
    text.write_text("weights")
    for file, words in (
        (wrong, "not weights of this network"),
        (text, "not weights that this tool saved"),
        (source.parent, "no best.safetensors in it"),
    ):
        done = run(source, "-o", tmp_path / "b.png", "--weights", file)
        assert done.exit_code == 2
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "b.png").exists()


def test_json_tells_what_was_done(tmp_path: Path, weights: Path) -> None:
    source = photo(tmp_path / "a.png")
    out = tmp_path / "b.png"
    done = run(source, "-o", out, "--weights", weights, "--device", "cpu", "--json")
    report = json.loads(done.stdout)
    assert report["weights"]["recipe_digest"] == "0" * 16
    assert (report["device"], report["precision"]) == ("cpu", "fp32")
    (image,) = report["images"]
    assert (image["source"], image["output"]) == (str(source), str(out))
    assert (image["width"], image["height"], image["channels"]) == (130, 75, 3)
    changed = np.abs(luma(np.ascontiguousarray(read(out))) - luma(read(source)).astype(float))
    assert image["change_levels"] == pytest.approx(changed.mean(), rel=0.1)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_was_done_before_an_error_is_told(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    folder = tmp_path / "in"
    for name in "ab":
        photo(folder / f"{name}.png")
    write = restore_module.write_bytes

    def full(path: Path, data: bytes) -> None:
        if path.name == "b.png":
            raise OSError(28, "No space left on device", str(path))
        write(path, data)

    monkeypatch.setattr(restore_module, "write_bytes", full)
    done = run(folder, "-o", tmp_path / "out", "--weights", weights, "--device", "cpu", *options)
    assert done.exit_code == 2
    assert "No space left" in done.stderr
    if options:
        (image,) = json.loads(done.stdout)["images"]
        assert image["output"] == str(tmp_path / "out/a.png")
    else:
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"{tmp_path / 'out/a.png'}: 130x75")


def test_every_photo_has_its_line_as_soon_as_it_is_done(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    for name in "ab":
        photo(folder / f"{name}.png")
    told: list[str] = []
    line = restore_command._line

    def printed(result: Restored | NotRestored) -> str:
        told.append(line(result))
        return told[-1]

    monkeypatch.setattr(restore_command, "_line", printed)
    seen: list[int] = []
    read = restore_module.read_photo

    def noted(*arguments: object, **options: object) -> object:
        seen.append(len(told))
        return read(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(restore_module, "read_photo", noted)
    run(folder, "-o", tmp_path / "out", "--weights", weights, "--device", "cpu")
    assert seen == [0, 1]


def test_results_are_values(tmp_path: Path) -> None:
    plan = plan_restore([photo(tmp_path / "a.png")], tmp_path / "out")
    seen: list[tuple[str, int, int]] = []
    (result,) = restore(
        plan,
        ResidualNet(random_network(FILTERS)),
        tiles=Tiles(tile=64, overlap=16),
        progress=lambda *now: seen.append(now),
    )
    assert isinstance(result, Restored)
    assert not result.exact
    assert result.tiles > 1
    assert seen[-1] == ("a.png", result.tiles, result.tiles)


def test_help_ends_with_an_example() -> None:
    last = run("--help").stdout.strip().splitlines()[-1]
    assert last.strip().startswith("Example: defocus-ds restore") or "--weights" in last
