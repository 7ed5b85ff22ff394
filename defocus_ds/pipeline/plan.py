"""Which stages a scene still needs, decided from its receipts without touching a pixel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from defocus_ds.config import BuildConfig
from defocus_ds.frames import Bracket, Pair
from defocus_ds.store import Receipt, canonical_json, inside, sha256_file

__all__ = [
    "STAGES",
    "ScenePlan",
    "chain_digest",
    "colour_first",
    "current_versions",
    "doubted_by",
    "file_stamps",
    "outputs_hold",
    "pair_seed",
    "plan_scene",
    "stage_config_digest",
]

# The paper matched colours first and registered the result; blur-matched colour needs the
# alignment first.
STAGES = {
    "accurate": ("ingest", "develop", "register", "colour", "render"),
    "paper": ("ingest", "develop", "colour", "register", "render"),
}

_SECTIONS = {
    "ingest": ("none",),
    "develop": ("develop",),
    "register": ("preset", "seed", "register"),
    "colour": ("preset", "seed", "colour"),
    "render": ("none",),
}

_LIBRARIES = {
    "ingest": (),
    "develop": ("rawpy", "pillow", "tifffile", "imagecodecs"),
    "register": ("SimpleITK", "opencv-python-headless", "numpy", "numba"),
    "colour": ("opencv-python-headless", "numpy", "numba"),
    "render": ("opencv-python-headless", "numpy", "numba"),
    "assemble": ("pyarrow", "pillow"),
}


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """The stages to do, in order, and why the first of them is not done."""

    scene: str
    todo: tuple[str, ...]
    why: str = ""


def pair_seed(seed: int, pair: Pair) -> int:
    """A stream per pair, so that no pair's numbers depend on which others are built.

    Args:
        seed: of the configuration.
    """
    digest = hashlib.sha256(f"{seed}/{pair}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % (2**31 - 1)


def plan_scene(
    bracket: Bracket,
    receipts: Mapping[str, Receipt | None],
    *,
    config: BuildConfig,
    shoot: Path,
    dataset: Path,
) -> ScenePlan:
    """Compare a scene's receipts with its files and the configuration.

    A stage is done when its receipt names the same inputs, configuration and versions as now
    and its output files are those it wrote: of the recorded size and modification time, or else
    with the recorded hash.  Times are only ever compared for equality, so a clock that was set
    back changes nothing.
    Everything after the first stage that is not done is to do.
    """
    stages = STAGES[config.preset]
    stale, why = _first_stale(bracket, receipts, config, shoot)
    if stale == len(stages) and outputs_hold(receipts[stages[-1]], dataset):
        return ScenePlan(bracket.scene, ())
    for index, stage in enumerate(stages[:stale]):  # work files are gone once it is rendered
        if not outputs_hold(receipts[stage], dataset):
            lost = f"files of {stage} are missing or changed"
            return ScenePlan(bracket.scene, stages[index:], why or lost)
    return ScenePlan(bracket.scene, stages[stale:], why)


def outputs_hold(receipt: Receipt | None, dataset: Path) -> bool:
    """Whether a receipt's files are there as it left them: by size and time, or else by hash."""
    if receipt is None:
        return False
    for name, digest in receipt.outputs.items():
        path = inside(dataset, name)
        if not path.is_file():
            return False
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        untouched = stamp == (receipt.written_ns.get(name), receipt.sizes.get(name))
        if not untouched and sha256_file(path) != digest:
            return False
    return True


def colour_first(config: BuildConfig) -> bool:
    """Whether the blurred capture is recoloured before it is registered."""
    stages = STAGES[config.preset]
    return stages.index("colour") < stages.index("register")


def file_stamps(bracket: Bracket, shoot: Path) -> dict[str, str]:
    """``{path in the shoot: "level size mtime_ns"}``: changed when a capture may have changed."""
    stamps = {}
    for capture in bracket:
        stat = capture.path.stat()
        name = capture.path.relative_to(shoot).as_posix()
        stamps[name] = f"{capture.level} {stat.st_size} {stat.st_mtime_ns}"
    return stamps


def chain_digest(receipt: Receipt) -> str:
    """SHA-256 of what later stages depend on; file stamps are left out of it."""
    inputs = {} if receipt.stage == "ingest" else receipt.inputs
    parts = [inputs, receipt.config_digest, receipt.versions, receipt.outputs]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True)[:-1].encode() + b", ")
    digest.update(canonical_json(receipt.result))
    digest.update(b"]")
    return digest.hexdigest()


@cache
def stage_config_digest(config: BuildConfig, stage: str) -> str:
    """Digest of the configuration sections that the stage reads."""
    return config.digest(*_SECTIONS[stage])


def doubted_by(bracket: Bracket, alignments: Mapping[str, Any]) -> list[str]:
    """The pairs that speak against the sharp capture, which all pairs of the scene share.

    Args:
        bracket: whose pairs they are; theirs is the order of the answer.
        alignments: level -> record of its alignment; absent where there is none.
    """
    return [
        str(pair)
        for pair in bracket.pairs
        if any(
            reason.startswith("roles:")
            for reason in alignments.get(pair.level, {}).get("reasons", ())
        )
    ]


@cache
def current_versions(stage: str) -> dict[str, str]:
    """Versions of this package and of the libraries whose results the stage's bytes depend on."""
    return {name: _version(name) for name in ("defocus-ds", *_LIBRARIES[stage])}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _first_stale(
    bracket: Bracket, receipts: Mapping[str, Receipt | None], config: BuildConfig, shoot: Path
) -> tuple[int, str]:
    """Index of the first stage whose receipt does not hold any more, and why."""
    stages = STAGES[config.preset]
    inputs = file_stamps(bracket, shoot)
    for index, stage in enumerate(stages):
        receipt = receipts.get(stage)
        why = _why_stale(receipt, stage, inputs, config)
        if receipt is None or why:
            return index, why
        inputs = {"previous": chain_digest(receipt)}
    return len(stages), ""


def _why_stale(
    receipt: Receipt | None, stage: str, inputs: dict[str, str], config: BuildConfig
) -> str:
    if receipt is None:
        return f"no receipt of {stage} that this version wrote"
    if receipt.inputs != inputs:
        return f"input of {stage} changed"
    if receipt.config_digest != stage_config_digest(config, stage):
        return f"configuration of {stage} changed"
    if receipt.versions != current_versions(stage):
        return f"library versions of {stage} changed"
    return ""
