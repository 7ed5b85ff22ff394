"""Configuration: frozen dataclasses, TOML in, digest out.

One way to configure everything: a preset, then a TOML file, then ``--set section.key=value``.
An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defocus_ds.errors import ConfigError

__all__ = [
    "PRESETS",
    "RULES",
    "BuildConfig",
    "ColourConfig",
    "DevelopConfig",
    "LimitsConfig",
    "RegisterConfig",
    "TileConfig",
    "config_from_dict",
    "load_config",
    "merged",
    "parse_toml",
    "parse_value",
]

C = typing.TypeVar("C")

PRESETS = ("accurate", "paper")


@dataclass(frozen=True, slots=True)
class DevelopConfig:
    """How a capture becomes an 8-bit RGB image.

    ``recipe``: "fixed" develops the whole bracket with the sharp frame's white balance and
    levels; "libraw-defaults" lets LibRaw adapt to each frame, as the paper's authors did.
    ``demosaic``: a LibRaw algorithm name: AHD, LINEAR, VNG, PPG, DCB, DHT, AAHD.
    ``white``: the sample that becomes 255 in PNG and TIFF files of 16 bits, e.g. 4095 where they
    hold 12 bits; 0: 65535, and captures whose samples stay below 16384 are refused.
    """

    recipe: str = "fixed"
    demosaic: str = "AHD"
    white: int = 0


@dataclass(frozen=True, slots=True)
class ColourConfig:
    """How the blurred capture gets the colours of the sharp one.

    ``method``: "response" (one curve a channel, then a robust 3x4 in linear light: the most exact
    and the most tolerant of misalignment), "affine" (the 3x4 alone), "idt" (Pitié 2007 iterative
    distribution transfer), "mkl" (linear Monge-Kantorovitch) or "none".  ``blur_matched``: the
    target is the sharp image blurred by the matching disk.  ``regrain``: Pitié's
    gradient-preserving second step.  ``iterations`` is for "idt", ``samples`` are the places
    compared, ``lut_size`` is the nodes per axis of the baked 3-D LUT.
    """

    method: str = "response"
    blur_matched: bool = True
    regrain: bool = False
    iterations: int = 20
    samples: int = 200_000
    lut_size: int = 65


@dataclass(frozen=True, slots=True)
class RegisterConfig:
    """How the blurred capture is aligned with the sharp one.

    ``iterations`` is the 1+1 evolution strategy's limit per pyramid level (MMSP 2024: 2300),
    ``sampling`` the share of pixels its metric reads (preset "accurate": at most 500 pixels),
    ``start_scale`` the resolution of its finest level as a share of the full one.  ``refine``
    turns the blur-matched refinement on (preset "accurate" only).
    """

    iterations: int = 2300
    sampling: float = 1.0
    start_scale: float = 0.125
    refine: bool = True
    samples: int = 300_000
    max_residual_px: float = 1.0


@dataclass(frozen=True, slots=True)
class TileConfig:
    """Which crops are kept; thresholds are on 8-bit luma unless a unit says otherwise.

    ``min_std``: below this standard deviation of the sharp crop it is "flat".
    ``max_clipped``: share of pixels at 0 or 255 above which it is "clipped".
    ``max_residual_px``: local residual shift above which it is "misaligned".
    ``max_sharpness_ratio``: gradient energy of the blurred crop over that of the sharp one, above
    which it is "reversed": there the sharp capture was the one out of focus.
    ``max_unexplained``: share of the contrast, in the worst part of the crop, that no blur of the
    sharp crop explains, above which it is "unexplained".
    ``test_share`` and ``val_share``: shares of the scenes, not of the crops.  The paper has no
    validation scenes, so ``val_share`` is 0 unless asked for.
    """

    size: int = 128
    stride: int = 128
    min_std: float = 4.0
    max_clipped: float = 0.25
    max_residual_px: float = 0.5
    max_sharpness_ratio: float = 1.0
    max_unexplained: float = 0.25
    test_share: float = 0.1
    val_share: float = 0.0


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one scene may cost: exceeding a limit fails it, not the build.

    ``stage_memory_mb``: what a worker may allocate in a stage; ``--jobs auto`` starts as many
    workers as have it free (Linux enforces it, other systems do not).  ``decode_memory_mb`` and
    ``decode_timeout_s``: the process that decodes a capture.  ``max_megapixels``: a capture whose
    header declares more is not decoded.
    """

    stage_memory_mb: int = 3000
    decode_memory_mb: int = 3000
    decode_timeout_s: float = 300.0
    max_megapixels: float = 200.0


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """Everything that decides the bytes of a dataset; ``digest`` names it."""

    preset: str = "accurate"
    seed: int = 0
    develop: DevelopConfig = field(default_factory=DevelopConfig)
    colour: ColourConfig = field(default_factory=ColourConfig)
    register: RegisterConfig = field(default_factory=RegisterConfig)
    tile: TileConfig = field(default_factory=TileConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        for path, message, holds in RULES:
            value: Any = self
            for name in path.split("."):
                value = getattr(value, name)
            if not holds(value):
                raise ConfigError(f"{path} = {value!r}: {message}.")

    @classmethod
    def from_preset(cls, name: str) -> BuildConfig:
        """The named preset; `ConfigError` lists the known ones."""
        if name == "accurate":
            return cls()
        if name == "paper":
            return cls(
                preset="paper",
                develop=DevelopConfig(recipe="libraw-defaults"),
                colour=ColourConfig(method="idt", blur_matched=False, regrain=True),
                register=RegisterConfig(start_scale=1.0, sampling=0.01, refine=False),
            )
        raise ConfigError(f"preset {name!r}: known presets are {', '.join(PRESETS)}.")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def digest(self, *sections: str) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON form of the sections.

        Without arguments: the sections that decide the images (not ``tile``, not ``limits``).
        """
        named = sections or ("preset", "seed", "develop", "colour", "register")
        table = {name: value for name, value in self.as_dict().items() if name in named}
        text = json.dumps(table, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_config(
    preset: str | None = None,
    path: Path | None = None,
    settings: Iterable[str] = (),
    seed: int | None = None,
) -> BuildConfig:
    """Preset, TOML file, ``section.key=value`` settings, seed: the later wins.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type or value out of range.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}.") from error
        table = parse_toml(text, str(path))
    if preset is None and table.get("preset", "accurate") not in PRESETS:
        raise ConfigError(f"{path}: preset {table['preset']!r}: one of {', '.join(PRESETS)}.")
    config = BuildConfig.from_preset(preset or table.get("preset", "accurate"))
    config = merged(config, {k: v for k, v in table.items() if k != "preset"}, str(path))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write section.key=value.")
        nested: Any = parse_value(text)
        for name in reversed(key.strip().split(".")):
            nested = {name: nested}
        config = merged(config, nested, f"--set {setting}")
    return config if seed is None else dataclasses.replace(config, seed=seed)


def config_from_dict(table: Mapping[str, Any]) -> BuildConfig:
    """Inverse of `BuildConfig.as_dict`; same errors as `load_config`."""
    config = BuildConfig.from_preset(table.get("preset", "accurate"))
    return merged(config, {k: v for k, v in table.items() if k != "preset"}, "dataset.json")


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The table of a TOML text.

    Raises:
        ConfigError: it is not TOML, is nested too deeply, or a number has too many digits;
            ``where`` is named.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: {error}.") from error


def parse_value(text: str) -> Any:
    """The value of ``--set key=value``: TOML where it is TOML, else the text itself."""
    try:
        return parse_toml(f"value = {text}", "--set")["value"]
    except ConfigError:
        return text.strip()


def merged(config: C, table: Mapping[str, Any], where: str) -> C:
    """A copy of a config dataclass with the values of a nested table.

    Args:
        config: a dataclass whose sections are dataclasses.
        table: the values to change, section by section.
        where: named in errors.

    Raises:
        ConfigError: an unknown key, naming the nearest one, or a value of another type.
    """
    known = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known or key == "preset":
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}."
            raise ConfigError(f"{where}: unknown key {key!r}{hint}")
        kind = known[key]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {key} is a section, got {value!r}.")
            changes[key] = merged(getattr(config, key), value, where)
            continue
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(f"{where}: {key} needs {kind.__name__}, got {value!r}.")
        changes[key] = value
    try:
        return dataclasses.replace(config, **changes)  # type: ignore[type-var]
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _one_of(*names: str) -> tuple[str, Callable[[Any], bool]]:
    return f"it must be one of {', '.join(names)}", lambda v: v in names


def _between(low: float, high: float) -> tuple[str, Callable[[Any], bool]]:
    return f"it must lie in [{low:.10g}, {high:.10g}]", lambda v: low <= v <= high


RULES = (
    ("preset", *_one_of(*PRESETS)),
    ("seed", *_between(0, 2**31 - 1)),
    ("develop.recipe", *_one_of("fixed", "libraw-defaults")),
    ("develop.demosaic", *_one_of("AHD", "LINEAR", "VNG", "PPG", "DCB", "DHT", "AAHD")),
    (
        "develop.white",
        "it must be 0 or lie in [255, 65535]",
        lambda v: v == 0 or 255 <= v <= 65535,
    ),
    ("colour.method", *_one_of("response", "affine", "idt", "mkl", "none")),
    ("colour.iterations", *_between(1, 200)),
    ("colour.samples", *_between(1000, 20_000_000)),
    ("colour.lut_size", *_between(2, 129)),
    ("register.iterations", *_between(1, 100_000)),
    ("register.sampling", *_between(1e-4, 1)),
    ("register.start_scale", *_between(1 / 64, 1)),
    ("register.samples", *_between(1000, 50_000_000)),
    ("register.max_residual_px", *_between(0.001, 1000)),
    ("tile.size", *_between(8, 4096)),
    ("tile.stride", *_between(1, 4096)),
    ("tile.min_std", *_between(0, 255)),
    ("tile.max_clipped", *_between(0, 1)),
    ("tile.max_residual_px", *_between(0.001, 1000)),
    ("tile.max_sharpness_ratio", *_between(0, 1000)),
    ("tile.max_unexplained", *_between(0.01, 1000)),
    ("tile.test_share", *_between(0, 1)),
    ("tile.val_share", *_between(0, 1)),
    (
        "tile",
        "test_share and val_share must not add up to more than 1",
        lambda v: v.test_share + v.val_share <= 1,
    ),
    ("limits.stage_memory_mb", *_between(500, 1_000_000)),
    ("limits.decode_memory_mb", *_between(200, 1_000_000)),
    ("limits.decode_timeout_s", *_between(1, 86_400)),
    ("limits.max_megapixels", *_between(0.01, 100_000)),
)
