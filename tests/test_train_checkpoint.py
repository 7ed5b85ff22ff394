"""Weights that load anywhere and nothing else; states that hold nothing that runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from defocus_ds.errors import InputError
from defocus_ds_train.checkpoint import RunFolder, load_model, save_model, weights_record
from defocus_ds_train.recipe import Recipe
from defocus_ds_train.unet import UNet

RECORD = {"filters": [2, 4], "recipe": "toy", "epoch": 3}


def network() -> UNet:
    torch.manual_seed(3)
    return UNet((2, 4))


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    model = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_model(tmp_path / "best.safetensors", model, RECORD)
    for path in (tmp_path / "best.safetensors", tmp_path):
        loaded = load_model(path)
        assert not loaded.training
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, model.state_dict()[name])
        assert weights_record(path) == RECORD


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_model(tmp_path / f"{name}.safetensors", network(), RECORD)
    first, second = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert first == second


def stored(path: Path, tensors: dict[str, torch.Tensor], record: object) -> Path:
    save_file(tensors, path, metadata={"defocus_ds": json.dumps(record)})
    return path


def test_other_files_are_refused(tmp_path: Path) -> None:
    weights = {k: v.contiguous() for k, v in network().state_dict().items()}
    fewer = dict(list(weights.items())[1:])
    infinite = weights | {"output.weight": torch.full_like(weights["output.weight"], torch.inf)}
    foreign = tmp_path / "foreign.safetensors"
    save_file(weights, foreign)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    cases = [
        (tmp_path / "absent.safetensors", "no such weights"),
        (tmp_path, r"no best\.safetensors"),
        (text, "not weights that this tool saved"),
        (foreign, "not weights that this tool saved"),
        (stored(tmp_path / "1.safetensors", fewer, RECORD), "not weights of this network"),
        (stored(tmp_path / "2.safetensors", weights, {"filters": [2, 8]}), "not weights of this"),
        (stored(tmp_path / "3.safetensors", weights, {"filters": [10**9]}), "filters ="),
        (stored(tmp_path / "4.safetensors", weights, {}), "filters = None"),
        (stored(tmp_path / "5.safetensors", weights, []), "not an object"),
        (stored(tmp_path / "6.safetensors", infinite, RECORD), "not finite"),
    ]
    for path, expected in cases:
        with pytest.raises(InputError, match=expected):
            load_model(path)


def test_a_small_file_that_claims_a_huge_network_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {k: v.contiguous() for k, v in network().state_dict().items()}
    path = stored(tmp_path / "huge.safetensors", weights, {"filters": [4096] * 8})
    largest = 0
    init = torch.nn.Conv2d.__init__

    def counted(self: torch.nn.Conv2d, *arguments: object, **options: object) -> None:
        nonlocal largest
        init(self, *arguments, **options)  # type: ignore[arg-type]
        held = 0 if self.weight.is_meta else self.weight.numel() * 4
        largest = max(largest, held)
        assert held < 2**20, "61 GiB are about to be taken"

    monkeypatch.setattr(torch.nn.Conv2d, "__init__", counted)
    with pytest.raises(InputError, match=r"not weights of this network .*decoder.* need F32"):
        load_model(path)
    assert largest == 0


def test_loaded_weights_can_be_trained_on_without_touching_their_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_model(path, network(), RECORD)
    before = path.read_bytes()
    model = load_model(path)
    assert all(p.requires_grad and not p.is_meta for p in model.parameters())
    with torch.no_grad():
        model.output.weight.add_(1)
    assert path.read_bytes() == before


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_state_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    victim = tmp_path / "victim"
    torch.save({"format": 1, "model": Payload(victim)}, run.resume)
    with pytest.raises(InputError, match="cannot be read"):
        run.load_state()
    run.resume.write_bytes(pickle.dumps(Payload(victim)))
    with pytest.raises(InputError, match="cannot be read"):
        run.load_state()
    assert not victim.exists()


def test_damaged_states_and_records_are_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.load_state() is None
    run.save_state({"step": 3})
    assert run.load_state() == {"format": 1, "step": 3}
    data = run.resume.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"text"):
        run.resume.write_bytes(broken)
        with pytest.raises(InputError, match="cannot be read"):
            run.load_state()
    torch.save({"format": 99}, run.resume)
    with pytest.raises(InputError, match="format 1"):
        run.load_state()
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match="format 1"):
        run.info()


def test_a_run_keeps_its_recipe_and_record(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "new")
    recipe = Recipe(name="mine", epochs=7, first_rate=3e-4)
    assert not run.started
    run.begin(recipe, {"data_digest": "abc"})
    assert run.started
    assert run.recipe() == recipe
    assert run.info() == {"format": 1, "data_digest": "abc"}


def test_a_kill_between_the_first_two_files_leaves_a_folder_that_can_be_begun(
    tmp_path: Path,
) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "recipe.toml").write_text("cut sho")
    run.begin(Recipe(name="mine"), {})
    assert run.started
    assert run.recipe().name == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/recipe.toml").write_text("")
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and not a run"):
        RunFolder(tmp_path / "other").begin(Recipe(), {})
