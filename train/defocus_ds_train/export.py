"""Trained networks for other programs: safetensors with their record, and ONNX."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import defocus_ds
from defocus_ds.errors import DefocusError, InputError
from defocus_ds.frames import FloatImage
from defocus_ds.store import atomic_path
from defocus_ds.wording import INSTALL_EXPORT
from defocus_ds_train.checkpoint import load_model, save_model, weights_record
from defocus_ds_train.export_graph import INPUT, METADATA, OUTPUT, build_graph
from defocus_ds_train.restore_network import receptive_radius
from defocus_ds_train.unet import UNet, count_parameters

__all__ = ["PARITY_SIZES", "TOLERANCE", "Exported", "ParityFailed", "export", "onnx_difference"]

# odd and even sides, below and above the stride, more than one image: what the padding must bear
PARITY_SIZES = ((1, 128, 128), (2, 75, 117), (1, 9, 33))
TOLERANCE = 1e-5  # of values in [0, 1]: a 400th of an 8-bit level


class ParityFailed(DefocusError):
    """The exported graph does not compute what the network computes."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written; ``difference`` is the largest of the check, None without one."""

    path: Path
    format: str
    record: dict[str, Any]
    difference: float | None = None


def export(
    weights: Path | str, output: Path, *, check: bool = False, overwrite: bool = False
) -> Exported:
    """Write a trained network for other programs.

    Args:
        weights: a run's folder (its best weights) or a .safetensors file.
        output: ends in .safetensors (the network of `UNet`, for `load_model`) or .onnx.
        check: read the file again and compare it with the network on random images of
            `PARITY_SIZES`; ONNX is run by onnxruntime.
        overwrite: replace a file that exists.

    Returns:
        What was written; nothing is when the check fails.

    Raises:
        InputError: unusable weights (not finite, of another network), another suffix, a file
            that exists, or a package is missing.
        ParityFailed: the largest difference exceeds `TOLERANCE`.
    """
    suffix = output.suffix.lower()
    if suffix not in (".safetensors", ".onnx"):
        raise InputError(f"{output}: give a name ending in .safetensors or .onnx.")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; give --overwrite to replace it.")
    if suffix == ".onnx":
        _require("onnx", *(["onnxruntime"] if check else []))
    model = load_model(weights)
    record = _record(model, weights_record(weights))
    difference = None
    # the name of the result appears after the check
    with atomic_path(output) as unchecked:
        if suffix == ".onnx":
            unchecked.write_bytes(_onnx_bytes(model, record))
        else:
            save_model(unchecked, model, record)
        if check:
            difference = (onnx_difference if suffix == ".onnx" else _difference)(unchecked, model)
            if not difference <= TOLERANCE:
                raise ParityFailed(
                    f"{output}: differs from the network by {difference:.3g} (limit "
                    f"{TOLERANCE:g} of [0, 1]), so it was not written. Try other versions of "
                    "onnx and onnxruntime, or report it with the weights."
                )
    return Exported(output, suffix[1:], record, difference)


def onnx_difference(path: Path, model: UNet) -> float:
    """Largest difference of an ONNX file, run by onnxruntime on the CPU, from a network.

    Args:
        path: written by `export`.
        model: in evaluation mode, on the CPU; compared on random images of `PARITY_SIZES`.

    Raises:
        InputError: onnxruntime is missing.
    """
    _require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    return _largest(lambda image: session.run([OUTPUT], {INPUT: image})[0], model)


def _difference(path: Path, model: UNet) -> float:
    read = load_model(path)
    return _largest(lambda image: _restored(read, image), model)


def _largest(other: Callable[[FloatImage], FloatImage], model: UNet) -> float:
    rng = np.random.default_rng(0)
    differences = []
    for count, height, width in PARITY_SIZES:
        image = rng.random((count, 1, height, width), np.float32)
        expected, found = _restored(model, image), other(image)
        if found.shape != expected.shape:
            raise ParityFailed(f"a batch of {expected.shape} comes back as {found.shape}.")
        differences.append(float(np.abs(found - expected).max()))
    return float(np.max(differences))  # unlike max(), not a number if one is not


def _restored(model: UNet, image: FloatImage) -> FloatImage:
    with torch.inference_mode():
        restored: FloatImage = model(torch.from_numpy(image)).numpy()
    return restored


def _onnx_bytes(model: UNet, record: Mapping[str, Any]) -> bytes:
    text = json.dumps(dict(record), sort_keys=True, separators=(",", ":"))
    data: bytes = build_graph(model, metadata={METADATA: text}).SerializeToString(
        deterministic=True
    )
    return data


def _record(model: UNet, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **record,
        "architecture": "residual U-Net of MMSP 2024",
        "parameters": count_parameters(model),
        "stride": model.stride,
        "receptive_radius_px": receptive_radius(len(model.up)),
        "input": "luma (Y of Pillow's YCbCr) / 255, float32, (batch, 1, height, width)",
        "output": "restored luma, the same shape and range, not clipped",
        "defocus_ds": defocus_ds.__version__,
    }


def _require(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} not installed; ONNX needs the extra: {INSTALL_EXPORT}"
        )
