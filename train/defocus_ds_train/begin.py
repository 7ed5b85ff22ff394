"""Begin a run or go on with it: what must agree, checked before anything is computed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from defocus_ds.errors import ConfigError, DatasetError, InputError
from defocus_ds.store import sha256_file
from defocus_ds_train.checkpoint import RunFolder, load_model, weights_record
from defocus_ds_train.data.source import TrainingData
from defocus_ds_train.device import choose_precision
from defocus_ds_train.recipe import Recipe, recipe_differences
from defocus_ds_train.unet import UNet, count_parameters

__all__ = [
    "begin",
    "check_start",
    "computed_with",
    "first_model",
    "resume_notes",
    "running_precision",
    "start_notes",
    "weights_sha256",
]

_SAME_TASK = ("source", "level", "blur", "blur_px")


def running_precision(recipe: Recipe, run: RunFolder, device: torch.device) -> str:
    """The precision to compute in: a run that chose one itself goes on with it.

    Raises:
        InputError: the device cannot.
    """
    if recipe.precision == "auto" and run.started:
        return choose_precision(run.info()["precision"], device)
    return choose_precision(recipe.precision, device)


def check_start(recipe: Recipe, start: Path | None) -> None:
    """Whether the first weights are given as the recipe needs them; nothing large is read.

    Args:
        recipe: its ``start`` says whether weights are needed.
        start: a run's folder (its best weights) or a weights file.

    Raises:
        ConfigError: needed and not given, given and not wanted, of a network of another size, of
            other data or another blur, or trained with Q already.
        InputError: not weights that this tool saved.
    """
    if recipe.start != "best":
        if start is not None:
            raise ConfigError(
                f"recipe {recipe.name} starts from {recipe.start}; leave --from {start} out, or "
                "give --set start=best."
            )
        return
    if start is None:
        raise ConfigError(
            f"recipe {recipe.name} starts from the best weights of another run; give --from RUN. "
            f"If there is none yet: defocus-ds train fit {recipe.name.partition('-q')[0]}-l1."
        )
    record = weights_record(start)
    filters = tuple(record.get("filters") or ())
    if filters != recipe.filters:
        raise ConfigError(
            f"{start}: a network of filters {filters}, the recipe has {recipe.filters}; set width "
            "and depth to match."
        )
    other = [
        f"{key} {record[key]!r}, the recipe {getattr(recipe, key)!r}"
        for key in _SAME_TASK
        if key in record and record[key] != getattr(recipe, key)
    ]
    if record.get("beta", 0.0) > 0:
        other.append(f"beta {record['beta']!r}, the first stage has 0")
    if other:
        raise ConfigError(
            f"{start}: weights of recipe {record.get('recipe')} do not begin {recipe.name} "
            f"({'; '.join(other)}). Give --from an L1 run of the same task, or --set the "
            "same task."
        )


def start_notes(recipe: Recipe, data: TrainingData, start: Path | None) -> tuple[str, ...]:
    """What a person should know of the first weights: whether they may have been trained on
    what is now held out."""
    if start is None:
        return ()
    record = weights_record(start)
    if record.get("validation_scenes", data.validation_scenes) == data.validation_scenes:
        return ()
    now = {"seed": recipe.seed, "held_out": recipe.held_out}
    changed = [
        f"{key} {record.get(key)}, now {value}"
        for key, value in now.items()
        if record.get(key) != value
    ]
    why = "; ".join(changed) or "other data"
    return (
        f"first weights: their run held out other scenes or images ({why}), and may have trained "
        "on those held out now; validation may look too good.",
    )


def resume_notes(run: RunFolder) -> tuple[str, ...]:
    """Why a run that goes on may end in other last bits than one that was never stopped: threads
    or versions that are not those it was begun with."""
    info, now = run.info(), computed_with()
    before = {"threads": info.get("threads"), **dict(info.get("versions") or {})}
    here = {"threads": now["threads"], **now["versions"]}
    changed = [
        f"{name} {before[name]}, now {value}"
        for name, value in here.items()
        if before.get(name) not in (None, value)
    ]
    if not changed:
        return ()
    return (f"going on with other {'; '.join(changed)}: the last bits may differ.",)


def first_model(recipe: Recipe, start: Path | None) -> UNet:
    """The network before the first step: drawn from the seed, or the weights of ``start``.

    Raises:
        InputError: as in `check_start`, or the weights cannot be loaded.
    """
    check_start(recipe, start)
    if start is not None:
        return load_model(start)
    torch.manual_seed(recipe.seed)
    model = UNet(recipe.filters)
    if recipe.start == "identity":
        torch.nn.init.zeros_(model.output.weight)
    return model


def begin(
    recipe: Recipe,
    data: TrainingData,
    run: RunFolder,
    *,
    model: UNet,
    precision: str,
    device: torch.device,
    start: Path | None,
) -> None:
    """Write a new run's recipe and record, or check that a begun one is the same.

    Raises:
        ConfigError: begun with another recipe; every key that differs is named.
        DatasetError: begun with other data.
        InputError: begun from other weights, or the folder holds something else.
    """
    weights = weights_sha256(start)
    if not run.started:
        run.begin(
            recipe,
            {
                "recipe_digest": recipe.digest(),
                "data_digest": data.digest,
                "training_crops": len(data.train),
                "validation_crops": len(data.validation),
                "notes": [*data.notes, *start_notes(recipe, data, start)],
                "start_sha256": weights,
                "parameters": count_parameters(model),
                "precision": precision,
                "device": device.type,
                **computed_with(),
            },
        )
        return
    info = run.info()
    if differences := recipe_differences(run.recipe(), recipe):
        raise ConfigError(
            f"{run.path}: begun with another recipe ({'; '.join(differences)}). Give the same "
            "settings to go on, or another folder with -o."
        )
    if info.get("data_digest") != data.digest:
        raise DatasetError(
            f"{run.path}: begun with other data (manifest digest "
            f"{str(info.get('data_digest'))[:12]}..., now {data.digest[:12]}...). Give the same "
            "data to go on, or another folder with -o."
        )
    if start is not None and info.get("start_sha256") != weights:
        raise InputError(
            f"{run.path}: begun from other weights than {start}. Leave --from out to go on, or "
            "give another folder with -o."
        )


def weights_sha256(start: Path | None) -> str | None:
    """SHA-256 of the first weights' file; None without."""
    if start is None:
        return None
    return sha256_file(RunFolder(start).best if start.is_dir() else start)


def computed_with() -> dict[str, Any]:
    """What the last bits depend on beside recipe, data and device: threads and versions."""
    return {"threads": torch.get_num_threads(), "versions": _versions()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("defocus-ds", "torch", "numpy", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
