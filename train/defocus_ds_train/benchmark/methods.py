"""What a benchmark compares: the input itself, classical rows, networks, folders of results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.measure.luma import luma_of_file
from defocus_ds.store import sha256_file
from defocus_ds_train.baselines.protocol import (
    BASELINES,
    PROTOCOLS,
    Baseline,
    Protocol,
    float64_device,
    restore_classical,
)
from defocus_ds_train.benchmark.sets import TestCrop, TestSet
from defocus_ds_train.checkpoint import RunFolder, load_model, weights_record
from defocus_ds_train.device import autocast, full_fp32
from defocus_ds_train.restore import restore_luma
from defocus_ds_train.restore_network import ResidualNet
from defocus_ds_train.unet import UNet

__all__ = ["QUICK_METHODS", "Method", "parse_methods"]

# all that are not networks and take seconds, not minutes
QUICK_METHODS = ("sharp", "blurred", "al", "mrl", "mlm", "mw", "wiener", "rl")

Restore = Callable[[TestSet, Sequence[TestCrop]], list[UInt8Image]]
Setting = float | int | str

_WHOLE_PIXELS = 512 * 512  # larger frames go through a network in tiles
_GIVEN = "as given"


@dataclass(frozen=True, slots=True)
class Method:
    """One row of a table.

    Attributes:
        name: as on the command line, unless it was given another.
        full_name: for the footnote.
        protocol: a name of `PROTOCOLS`, or "as given" for images that nothing is done to.
        identity: everything that decides its output beside the set.
        rows: names under which the paper may have it.
        restore: crops of one shape -> images of that shape.
        timed: whether its time means anything.
        needs_blur: whether it must know the blur.
        device: where it computes; None is where it was asked to.
    """

    name: str
    full_name: str
    protocol: str
    identity: Mapping[str, Any]
    rows: tuple[str, ...]
    restore: Restore
    timed: bool = True
    needs_blur: bool = False
    device: torch.device | None = None


def parse_methods(
    specs: Iterable[str],
    *,
    protocols: Sequence[str] = ("honest",),
    settings: Iterable[str] = (),
    device: torch.device | None = None,
    precision: str = "fp32",
) -> tuple[Method, ...]:
    """Methods from texts ``[NAME=]WHAT``; each once for every protocol it depends on.

    WHAT is "blurred" (the input), "sharp" (the truth), a name of
    `defocus_ds_train.baselines.protocol.BASELINES`, a run's folder or a .safetensors file, a
    folder of images called like the crops, or a path with ``{name}`` in it.

    Args:
        specs: in the order of the rows.
        protocols: of `PROTOCOLS`; networks see the same input in all, but round differently.
        settings: ``METHOD.key=value`` for classical methods.
        device: where networks and classical methods compute; None is the CPU.
        precision: of networks.

    Raises:
        InputError: unknown or named twice, a setting that does not fit, or unusable weights.
    """
    place = device or torch.device("cpu")
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise InputError(f"protocol {protocol!r}; known: {', '.join(PROTOCOLS)}.")
    changed = _settings(settings)
    methods: list[Method] = []
    for spec in specs:
        label, what = _split(spec)
        chosen = [PROTOCOLS[name] for name in dict.fromkeys(protocols)]
        methods += _made(label, what, chosen, changed.pop(what, {}), place, precision)
    if changed:
        raise InputError(f"--set {next(iter(changed))}...: no classical method of that name runs.")
    seen: set[tuple[str, str]] = set()
    for method in methods:
        if (method.name, method.protocol) in seen:
            raise InputError(
                f"method {method.name!r} is given twice; name one of them: other={method.name}."
            )
        seen.add((method.name, method.protocol))
    return tuple(methods)


def _made(
    label: str | None,
    what: str,
    protocols: Sequence[Protocol],
    settings: Mapping[str, Setting],
    device: torch.device,
    precision: str,
) -> list[Method]:
    if what in BASELINES:
        baseline = BASELINES[what].set(**settings)
        return [_classical(label or what, baseline, protocol, device) for protocol in protocols]
    if what in ("blurred", "sharp"):
        return [_input(label or what, what)]
    path = Path(what)
    if "{name}" in what or (path.is_dir() and not RunFolder(path).best.is_file()):
        return [_files(label or path.name, what)]
    if not path.exists():
        known = ", ".join(("blurred", "sharp", *BASELINES))
        raise InputError(
            f"method {what!r}: neither one of {known} nor a path that exists; give a run's folder, "
            "weights, a folder of images, or a path with {name} in it."
        )
    model = load_model(path)
    return [_network(label, path, model, protocol, device, precision) for protocol in protocols]


def _input(name: str, which: str) -> Method:
    def restore(_set: TestSet, crops: Sequence[TestCrop]) -> list[UInt8Image]:
        return [crop.sharp if which == "sharp" else crop.blurred for crop in crops]

    full = {"blurred": "the blurred input itself", "sharp": "the sharp crop itself"}[which]
    return Method(name, full, _GIVEN, {"kind": which}, (name,), restore, timed=False)


def _classical(name: str, baseline: Baseline, protocol: Protocol, device: torch.device) -> Method:
    def restore(of: TestSet, crops: Sequence[TestCrop]) -> list[UInt8Image]:
        sharp, blurred = (
            np.stack([getattr(crop, kind) for crop in crops]) for kind in ("sharp", "blurred")
        )
        done = restore_classical(
            baseline,
            sharp=sharp,
            blurred=blurred,
            protocol=protocol,
            kernel=of.kernel,
            device=str(device),
        )
        return list(done)

    identity = {"kind": "classical", "method": baseline.name, **dict(baseline.settings)}
    settings = ", ".join(
        f"{key} {value:g}" if not isinstance(value, str) else f"{key} {value}"
        for key, value in baseline.settings.items()
    )
    full = f"{baseline.full_name} ({settings})"
    names = (name, baseline.name)
    return Method(
        name,
        full,
        protocol.name,
        identity,
        names,
        restore,
        needs_blur=True,
        device=float64_device(device),
    )


def _network(
    label: str | None,
    path: Path,
    model: UNet,
    protocol: Protocol,
    device: torch.device,
    precision: str,
) -> Method:
    record = weights_record(path)
    recipe = str(record.get("recipe", path.stem))
    name = label or recipe
    file = RunFolder(path).best if path.is_dir() else path
    sha256 = sha256_file(file)
    placed: list[UNet] = []  # on the device from its first use on

    @torch.inference_mode()
    def restore(_set: TestSet, crops: Sequence[TestCrop]) -> list[UInt8Image]:
        if not placed:
            placed.append(model.to(device))
        if crops[0].blurred.size > _WHOLE_PIXELS:
            network = ResidualNet(model, device=device, precision=precision)
            whole = [restore_luma(crop.blurred, network)[0] for crop in crops]
            units = [c.blurred / np.float32(255) + w for c, w in zip(crops, whole, strict=True)]
            return [_eight_bits(image, protocol) for image in units]
        blurred = torch.from_numpy(np.stack([crop.blurred for crop in crops]))
        with autocast(device, precision), full_fp32(precision):
            restored = placed[0](blurred[:, None].to(device, torch.float32) / 255)
        return [_eight_bits(image, protocol) for image in restored[:, 0].float().cpu().numpy()]

    epoch = record.get("epoch")
    full = f"network {'x'.join(map(str, record['filters']))}, recipe {recipe}" + (
        f", epoch {epoch}" if epoch is not None else ""
    )
    identity = {"kind": "network", "sha256": sha256, "precision": precision}
    return Method(name, full, protocol.name, identity, (name, recipe), restore)


def _files(name: str, pattern: str) -> Method:
    def place(crop: TestCrop) -> Path:
        if "{name}" in pattern:
            return Path(pattern.replace("{name}", crop.name))
        found = sorted(p for p in Path(pattern).iterdir() if p.stem == crop.name)
        return found[0] if found else Path(pattern) / f"{crop.name}.png"

    def restore(_set: TestSet, crops: Sequence[TestCrop]) -> list[UInt8Image]:
        images = []
        for crop in crops:
            path = place(crop)
            if not path.is_file():
                raise InputError(
                    f"{path}: method {name} has no image for the crop {crop.name}; add it, or "
                    "benchmark fewer crops with --only."
                )
            image = luma_of_file(path)
            if image.shape != crop.sharp.shape:
                raise InputError(
                    f"{path}: {image.shape[1]}x{image.shape[0]} px, the crop has "
                    f"{crop.sharp.shape[1]}x{crop.sharp.shape[0]}."
                )
            images.append(image)
        return images

    full = f"images {Path(pattern).name}"
    return Method(name, full, _GIVEN, {"kind": "files"}, (name,), restore, timed=False)


def _eight_bits(image: Any, protocol: Protocol) -> UInt8Image:
    """The paper's networks were rounded down; `honest` rounds to the nearest."""
    levels = image * np.float32(255)
    levels = np.floor(levels) if protocol.name == "authors" else np.rint(levels)
    return np.asarray(levels.clip(0, 255), np.uint8)


def _split(spec: str) -> tuple[str | None, str]:
    label, equals, what = spec.partition("=")
    if not equals:
        return None, spec
    if not re.fullmatch(r"[^\x00-\x1f|/\\]{1,60}", label) or label != label.strip() or not what:
        raise InputError(f"method {spec!r}: write NAME=WHAT, a name of 1 to 60 characters.")
    return label, what


def _settings(texts: Iterable[str]) -> dict[str, dict[str, Setting]]:
    found: dict[str, dict[str, Setting]] = {}
    for text in texts:
        match = re.fullmatch(r"([a-z-]+)\.([a-z_]+)=(.+)", text)
        if match is None:
            raise InputError(f"--set {text}: write METHOD.key=value, e.g. red-fp.iterations=50.")
        method, key, value = match.groups()
        found.setdefault(method, {})[key] = _value(value)
    return found


def _value(text: str) -> Setting:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
