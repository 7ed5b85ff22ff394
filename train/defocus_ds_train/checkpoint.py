"""Files of a run: weights anyone can load, and the state to go on from.

recipe.toml        the recipe in full; `train fit RUN/recipe.toml` repeats it
run.json           digests of recipe, data and first weights; precision, threads, versions
metrics.csv        a row every log_every steps and one an epoch
best.safetensors   weights of the epoch with the lowest validation loss
last.safetensors   weights of the last epoch
resume.pt          weights, optimiser, place in the epoch; read with weights_only
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from defocus_ds.errors import InputError
from defocus_ds.store import atomic_path, read_json, write_bytes, write_json
from defocus_ds_train.recipe import Recipe, load_recipe
from defocus_ds_train.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMAT", "RunFolder", "load_model", "save_model", "weights_record"]

FORMAT = 1
_KEY = "defocus_ds"
_MAX_WIDTH = 4096
_TYPES = {torch.float32: "F32", torch.int64: "I64"}  # as safetensors calls them


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths and records of one run."""

    path: Path

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def resume(self) -> Path:
        return self.path / "resume.pt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return self._info.is_file()

    @property
    def _info(self) -> Path:
        return self.path / "run.json"

    def begin(self, recipe: Recipe, info: Mapping[str, Any]) -> None:
        """Write recipe.toml and run.json.

        Raises:
            InputError: the folder holds something else.
        """
        there = {p.name for p in self.path.iterdir()} if self.path.is_dir() else set()
        # a recipe alone is what a run leaves that was killed between its first two files
        if any(not name.startswith(".") for name in there - {"recipe.toml"}):
            raise InputError(f"{self.path}: not empty and not a run; give another folder with -o.")
        write_bytes(self.path / "recipe.toml", recipe.as_toml().encode())
        write_json(self._info, {"format": FORMAT, **info})

    def recipe(self) -> Recipe:
        """The recipe that the run was begun with.

        Raises:
            ConfigError: missing or damaged.
        """
        return load_recipe(self.path / "recipe.toml")

    def info(self) -> dict[str, Any]:
        """run.json.

        Raises:
            InputError: missing, damaged or of another format.
        """
        info = read_json(self._info)
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise InputError(f"{self._info}: not a run of format {FORMAT}; start a new one.")
        return info

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write resume.pt atomically: tensors, numbers, texts, and lists and dicts of them."""
        with atomic_path(self.resume) as temporary:
            torch.save({"format": FORMAT, **state}, temporary)

    def load_state(self) -> dict[str, Any] | None:
        """What `save_state` wrote, on the CPU; None when nothing was saved yet.

        Raises:
            InputError: damaged, of another format, or holding anything but plain values.
        """
        if not self.resume.is_file():
            return None
        try:
            if not zipfile.is_zipfile(self.resume):
                raise ValueError("not a torch archive")  # torch would try it as a bare pickle
            state = torch.load(self.resume, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged pickle can fail in nearly any way
            raise InputError(
                f"{self.resume}: cannot be read ({_one_line(error)}). Start again in another "
                "folder, or delete this one."
            ) from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise InputError(f"{self.resume}: not a state of format {FORMAT}; start again.")
        return state


def save_model(path: Path, model: nn.Module, record: Mapping[str, Any]) -> None:
    """Write weights as safetensors, atomically; the same weights and record, the same bytes.

    Args:
        path: ends in .safetensors.
        model: a `UNet`; its parameters and statistics are written.
        record: what `weights_record` returns; must hold ``filters``.
    """
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    # one entry: the order of several is not fixed
    text = json.dumps(dict(record), sort_keys=True, separators=(",", ":"))
    write_bytes(path, save(tensors, metadata={_KEY: text}))


def load_model(path: Path | str) -> UNet:
    """A trained network, in evaluation mode, on the CPU, in float32.

    Args:
        path: weights that `save_model` wrote, or the folder of a run: then its best weights.

    Raises:
        InputError: missing, damaged, or not the weights of this network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = _weights_file(Path(path))
    # without memory: the record may claim any size, the file must hold it first
    with torch.device("meta"):
        model = UNet(_filters(weights_record(file), file))
    try:
        _check_header(file, model)
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        model.load_state_dict(tensors, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{file}: not weights of this network ({_one_line(error)}).") from error
    if not all(bool(t.isfinite().all()) for t in model.state_dict().values()):
        raise InputError(f"{file}: holds weights that are not finite; use another checkpoint.")
    return model.eval()


def weights_record(path: Path | str) -> dict[str, Any]:
    """What a weights file says of itself: filters, recipe, digests, epoch, validation scores.

    Raises:
        InputError: missing, damaged, or not written by `save_model`.
    """
    from safetensors import SafetensorError, safe_open

    file = _weights_file(Path(path))
    try:
        with safe_open(file, framework="pt") as opened:
            record = json.loads((opened.metadata() or {})[_KEY])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file}: not weights that this tool saved ({_one_line(error)})."
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{file}: its record is not an object.")
    return record


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        run = RunFolder(path)
        if not run.best.is_file():
            raise InputError(
                f"{path}: no {run.best.name} in it. Is it the folder of a run, and has that run "
                "finished its first epoch?"
            )
        return run.best
    if not path.is_file():
        raise InputError(f"{path}: no such weights; give a .safetensors file or a run's folder.")
    return path


def _filters(record: Mapping[str, Any], file: Path) -> tuple[int, ...]:
    filters = record.get("filters")
    if (
        not isinstance(filters, list)
        or not 1 <= len(filters) <= 8
        or not all(type(f) is int and 1 <= f <= _MAX_WIDTH for f in filters)
    ):
        raise InputError(f"{file}: filters = {filters!r}; need 1 to 8 whole numbers.")
    return tuple(filters)


def _check_header(file: Path, model: nn.Module) -> None:
    """Whether the file holds the tensors of the model and no others; only its header is read.

    Raises:
        RuntimeError: a tensor is missing, unknown, or of another shape or type.
    """
    from safetensors import safe_open

    needed = {name: (_TYPES[t.dtype], list(t.shape)) for name, t in model.state_dict().items()}
    with safe_open(file, framework="pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        held = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
    for name in sorted(needed.keys() | held.keys()):
        if needed.get(name) != held.get(name):
            has, needs = (
                " ".join(map(str, of[name])) if name in of else "absent" for of in (held, needed)
            )
            raise RuntimeError(f"{name} is {has}, need {needs}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
