"""Exported networks compute what the trained one does, at any size, and say what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_network import random_network, save_network

from defocus_ds.errors import InputError
from defocus_ds_cli.main import cli
from defocus_ds_train import export as exporting
from defocus_ds_train.checkpoint import load_model, weights_record
from defocus_ds_train.export import PARITY_SIZES, ParityFailed, export, onnx_difference
from defocus_ds_train.export_graph import METADATA, OPSET

FILTERS = (4, 8, 8, 8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_network(tmp_path / "toy.safetensors", random_network(FILTERS), FILTERS)


@pytest.mark.parametrize(
    "size", [(1, 128, 128), (1, 400, 608), (3, 75, 117), (1, 1, 1), (1, 16, 17), (2, 15, 250)]
)
def test_onnx_equals_the_network_at_any_size(
    tmp_path: Path, weights: Path, size: tuple[int, int, int]
) -> None:
    import onnxruntime

    path = export(weights, tmp_path / "toy.onnx").path
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    count, height, width = size
    image = np.random.default_rng(0).random((count, 1, height, width), np.float32)
    with torch.inference_mode():
        expected = load_model(weights)(torch.from_numpy(image)).numpy()
    (found,) = session.run(None, {"blurred": image})
    assert found.shape == expected.shape
    assert height * width < 300 or np.abs(expected - image).max() > 0.2
    assert np.abs(found - expected).max() < 2e-5


def test_onnx_declares_its_shape_and_says_what_it_is(tmp_path: Path, weights: Path) -> None:
    import onnx

    model = onnx.load(export(weights, tmp_path / "toy.onnx").path)
    (blurred,), (restored,) = model.graph.input, model.graph.output
    for value in (blurred, restored):
        shape = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        assert shape == ["batch", 1, "height", "width"]
    assert [entry.version for entry in model.opset_import] == [OPSET]
    (entry,) = model.metadata_props
    assert entry.key == METADATA
    record = json.loads(entry.value)
    assert record["recipe_digest"] == "0" * 16
    assert record["filters"] == list(FILTERS)
    assert record["architecture"].startswith("residual U-Net")
    assert record["defocus_ds"]


def test_equal_weights_give_equal_bytes(tmp_path: Path, weights: Path) -> None:
    for suffix in (".onnx", ".safetensors"):
        one, other = (export(weights, tmp_path / f"{n}{suffix}").path for n in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_safetensors_hold_the_network_and_its_record(tmp_path: Path, weights: Path) -> None:
    exported = export(weights, tmp_path / "out.safetensors", check=True)
    assert exported.difference == 0
    before, after = (load_model(p).state_dict() for p in (weights, exported.path))
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert weights_record(exported.path) == exported.record
    assert exported.record["parameters"] == sum(p.numel() for p in load_model(weights).parameters())


def test_check_tells_the_largest_difference(tmp_path: Path, weights: Path) -> None:
    assert len({size[1:] for size in PARITY_SIZES}) >= 2
    assert any(height % 16 and width % 16 for _, height, width in PARITY_SIZES)
    exported = export(weights, tmp_path / "toy.onnx", check=True)
    assert exported.difference is not None
    assert 0 < exported.difference < 1e-5
    other = random_network(FILTERS, seed=1)
    assert onnx_difference(exported.path, other) > 0.1


def test_a_graph_that_differs_is_not_written(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(_model: object, *, metadata: dict[str, str]) -> object:
        return build(random_network(FILTERS, seed=1), metadata=metadata)

    build = exporting.build_graph
    monkeypatch.setattr(exporting, "build_graph", other)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ParityFailed, match="differs from the network by .* was not written"):
        export(weights, tmp_path / "toy.onnx", check=True)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, suffix: str) -> None:
    model = random_network(FILTERS)
    with torch.no_grad():
        model.output.weight[0, 0] = torch.nan
    bad = save_network(tmp_path / "bad.safetensors", model, FILTERS)
    with pytest.raises(InputError, match="not finite"):
        export(bad, tmp_path / f"out{suffix}")
    assert not (tmp_path / f"out{suffix}").exists()


def test_refuses_other_names_and_files_that_exist(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(InputError, match=r"ending in \.safetensors or \.onnx"):
        export(weights, tmp_path / "toy.pt")
    (tmp_path / "toy.onnx").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists; give --overwrite"):
        export(weights, tmp_path / "toy.onnx")
    assert (tmp_path / "toy.onnx").read_bytes() == b"mine"
    export(weights, tmp_path / "toy.onnx", overwrite=True)
    assert (tmp_path / "toy.onnx").read_bytes() != b"mine"


def test_a_missing_package_is_named(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"onnx and onnxruntime .* '\.\[export\]'"):
        export(weights, tmp_path / "toy.onnx", check=True)


def test_command_prints_the_difference(tmp_path: Path, weights: Path) -> None:
    arguments = ["train", "export", str(weights), "-o", str(tmp_path / "a.onnx"), "--check"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "differs from the network by" in done.stdout
    done = CliRunner().invoke(cli, [*arguments, "--overwrite", "--json"])
    report = json.loads(done.stdout)
    assert 0 < report["difference"] < report["tolerance"]
    assert CliRunner().invoke(cli, arguments).exit_code == 2
