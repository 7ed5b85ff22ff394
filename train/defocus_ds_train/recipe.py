"""Recipes: everything that decides a training run, as a frozen dataclass with a digest.

A recipe is a packaged name, a TOML file or a run's own snapshot; ``--set key=value`` goes on top.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from defocus_ds.config import merged, parse_toml, parse_value
from defocus_ds.errors import ConfigError

__all__ = ["EXECUTION_KEYS", "Recipe", "load_recipe", "recipe_differences", "recipe_names"]

# how a run is computed and logged, not what is learned: these may change when it goes on
EXECUTION_KEYS = ("precision", "channels_last", "compile", "log_every", "save_every")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run.

    Attributes:
        name: shown, and the default name of the run's folder.
        seed: of the initial weights, the crops, their order and their augmentation.
        width: filters of the U-Net's finest level, doubled at each of ``depth`` levels.
        source: "dataset" trains on the crop pairs of ``level``; "images" cuts
            ``crops_per_image`` random sharp crops from each image and blurs them with ``blur``.
        size: side of a crop in px.
        crops: at most this many training crops of a dataset, spread evenly; 0 takes all.
        images: at most this many training images; 0 takes all.
        blur: "average" (box of ``blur_px`` px on the 8-bit values), "disk" (radius) or
            "gaussian" (sigma), the last two in linear light; "none" for a dataset.
        held_out: share of the scenes or images kept for validation where there is no val split.
        validation_crops: at most this many crops are validated on, spread evenly; 0 takes all.
        augment: the eight flips and quarter turns, the same for both crops of a pair.
        beta: weight of the training Q in the loss.
        start: "scratch"; "identity": the same with a last layer of zeros, so that the network
            first returns its input; or "best": the best weights of another run, which must be
            given.
        epochs: passes over the crops; an incomplete last batch is left out of its epoch.
        batch: crops of one optimiser step, over all processes.
        accumulate: parts that a batch is computed in, to save memory; batch normalisation then
            sees the parts.
        first_rate, last_rate: Adam's learning rate at the start and at the last step.
        hold_epochs: epochs at ``first_rate`` before the rate falls.
        fall: "cosine", "exponential" or "linear".
        precision: "fp32", "bf16", "fp16", or "auto": bf16 where a GPU has it, else fp32.
        channels_last: memory layout of the network.
        compile: "off", "default" or "reduce-overhead" (with CUDA graphs), see `torch.compile`;
            "auto": off, but on a GPU that Triton generates code for reduce-overhead, or default
            where there are several processes.
        log_every: steps between two rows of metrics.csv.
        save_every: steps between two states to resume from; the end of an epoch always is one.
    """

    name: str = "unnamed"
    seed: int = 0
    width: int = 16
    depth: int = 4
    source: str = "dataset"
    level: str = "low"
    size: int = 128
    crops: int = 0
    images: int = 0
    crops_per_image: int = 64
    blur: str = "none"
    blur_px: float = 0.0
    held_out: float = 0.02
    validation_crops: int = 2000
    augment: bool = True
    beta: float = 0.0
    start: str = "scratch"
    epochs: int = 100
    batch: int = 32
    accumulate: int = 1
    first_rate: float = 1e-4
    last_rate: float = 1e-12
    hold_epochs: int = 0
    fall: str = "cosine"
    precision: str = "auto"
    channels_last: bool = True
    compile: str = "auto"
    log_every: int = 50
    save_every: int = 1000

    def __post_init__(self) -> None:
        for key, message, holds in _RULES:
            if not holds(value := getattr(self, key)):
                raise ConfigError(f"{key} = {value!r}: {message}.")
        self._check_together()

    @property
    def filters(self) -> tuple[int, ...]:
        """Channels of the encoder's levels, finest first."""
        return tuple(self.width * 2**level for level in range(self.depth))

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """16 hexadecimal digits that name what is learned: all keys but the name and
        `EXECUTION_KEYS`."""
        table = {k: v for k, v in self.as_dict().items() if k not in ("name", *EXECUTION_KEYS)}
        text = json.dumps(table, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_toml(self) -> str:
        """The recipe as a file that `load_recipe` reads back to an equal one."""
        # JSON's text, integers and booleans are TOML's, and so is repr of a finite float
        lines = [
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in self.as_dict().items()
        ]
        return "\n".join(lines) + "\n"

    def _check_together(self) -> None:
        if (self.source == "images") == (self.blur == "none"):
            way_out = (
                "give blur = average, disk or gaussian"
                if self.blur == "none"
                else "set blur = none"
            )
            raise ConfigError(f"source = {self.source!r} with blur = {self.blur!r}: {way_out}.")
        if self.blur == "average" and (self.blur_px % 2 != 1 or self.blur_px > 31):
            raise ConfigError(f"blur_px = {self.blur_px:g}: an average is an odd 1 to 31 px wide.")
        if self.hold_epochs >= self.epochs:
            raise ConfigError(
                f"hold_epochs = {self.hold_epochs} leaves none of {self.epochs} epochs for the "
                "rate to fall; set it lower too."
            )
        if self.batch % self.accumulate:
            raise ConfigError(
                f"accumulate = {self.accumulate} does not divide batch = {self.batch}."
            )
        if self.last_rate > self.first_rate:
            raise ConfigError(f"last_rate = {self.last_rate} exceeds first_rate.")


def recipe_names() -> list[str]:
    """The packaged recipes, in alphabetical order."""
    files = resources.files("defocus_ds_train").joinpath("recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_recipe(recipe: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """A recipe with ``key=value`` settings on top; the later wins.

    Args:
        recipe: a packaged name (`recipe_names`) or the path of a TOML file.
        settings: as ``--set`` takes them, e.g. "epochs=3".

    Raises:
        ConfigError: no such recipe, unreadable file, unknown key (the nearest known one is
            named), wrong type or value out of range.
    """
    text, origin = _read(str(recipe))
    table = parse_toml(text, origin)
    table.setdefault("name", Path(recipe).stem)
    where = origin
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write key=value.")
        # judged once, at the end: one setting may only make sense together with the next
        table[key.strip()] = parse_value(value)
        where = f"{origin} with --set"
    return merged(Recipe(), table, where)


def recipe_differences(one: Recipe, other: Recipe) -> list[str]:
    """``key: value -> value`` of every key that decides the digest and differs."""
    a, b = one.as_dict(), other.as_dict()
    decisive = [key for key in a if key not in ("name", *EXECUTION_KEYS)]
    return [f"{key}: {a[key]} -> {b[key]}" for key in decisive if a[key] != b[key]]


def _read(recipe: str) -> tuple[str, str]:
    """(text, what errors call it)."""
    path = Path(recipe)
    names = recipe_names()
    try:
        if recipe in names:
            packaged = resources.files("defocus_ds_train").joinpath("recipes", f"{recipe}.toml")
            return packaged.read_text(encoding="utf-8"), f"recipe {recipe}"
        if path.suffix == ".toml":
            return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    near = difflib.get_close_matches(recipe, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}, or a .toml file."
    raise ConfigError(f"recipe {recipe!r} is not there; {hint}")


def _one_of(*names: str) -> tuple[str, Callable[[Any], bool]]:
    return f"it must be one of {', '.join(names)}", lambda v: v in names


def _between(low: float, high: float) -> tuple[str, Callable[[Any], bool]]:
    return f"it must lie in [{low:g}, {high:g}]", lambda v: low <= v <= high


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RULES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    (
        "name",
        "it must be letters, digits, dots, dashes and underscores",
        lambda v: bool(_NAME.fullmatch(v)),
    ),
    ("seed", *_between(0, 2**31 - 1)),
    ("width", *_between(1, 1024)),
    ("depth", *_between(1, 6)),
    ("source", *_one_of("dataset", "images")),
    ("level", *_one_of("low", "medium", "high")),
    ("size", *_between(8, 4096)),
    ("crops", *_between(0, 1e9)),
    ("images", *_between(0, 1e7)),
    ("crops_per_image", *_between(1, 100_000)),
    ("blur", *_one_of("none", "average", "disk", "gaussian")),
    ("blur_px", *_between(0, 64)),
    ("held_out", *_between(0.001, 0.9)),
    ("validation_crops", *_between(0, 1e9)),
    ("beta", *_between(0, 100)),
    ("start", *_one_of("scratch", "identity", "best")),
    ("epochs", *_between(1, 1e6)),
    ("batch", *_between(1, 65_536)),
    ("accumulate", *_between(1, 65_536)),
    ("first_rate", *_between(1e-30, 10)),
    ("last_rate", *_between(1e-30, 10)),
    ("hold_epochs", *_between(0, 1e6)),
    ("fall", *_one_of("cosine", "exponential", "linear")),
    ("precision", *_one_of("auto", "fp32", "bf16", "fp16")),
    ("compile", *_one_of("auto", "off", "default", "reduce-overhead")),
    ("log_every", *_between(1, 1e9)),
    ("save_every", *_between(1, 1e9)),
)
