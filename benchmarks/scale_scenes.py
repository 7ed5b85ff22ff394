"""Many small scenes as a shoot and a built dataset, for the benchmark of scale.

The pictures are dead leaves of the simulator, every scene drawn anew, and their blurs by disks in
linear light; every hundredth scene is the one before it, shifted: a near-duplicate that a release
must find.  Nothing is registered: the captures are aligned by construction, and the receipts, which
the library's own writer signs, hold records of the form and size that `build` leaves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.config import BuildConfig
from defocus_ds.frames import Bracket, Level
from defocus_ds.optics import blur_disk, to_encoded
from defocus_ds.pipeline.plan import (
    STAGES,
    chain_digest,
    current_versions,
    file_stamps,
    stage_config_digest,
)
from defocus_ds.png import encode
from defocus_ds.simulate.leaves import draw_leaves, paint, textures
from defocus_ds.stages.ingest import scan
from defocus_ds.stages.register.radius_map import RadiusMap, node_shape
from defocus_ds.store import Receipt, sha256_file, write_receipt

__all__ = ["RADII_PX", "SIZE", "lay_out", "make_scenes", "planted", "sign_scenes"]

SIZE = (384, 256)  # 3x2 crops of 128 px a level
RADII_PX = {Level.SHARP: 0.0, Level.LOW: 1.2, Level.MEDIUM: 2.0, Level.HIGH: 3.2}
CONFIG = BuildConfig.from_preset("accurate")
_EVERY = 100  # scenes, of which the last is the one before it again
_SHIFT_PX = 24
_ATLAS_SCENES = 250
_GRID_PX = 255


def make_scenes(shoot: Path, count: int) -> None:
    """Draw scenes until there are ``count``; those that are whole already stay."""
    atlas: Any = None
    for index in range(count):
        folder = shoot / _name(index)
        if (folder / f"{Level.HIGH}.png").is_file():
            continue
        if atlas is None or index % _ATLAS_SCENES == 0:
            atlas = textures(np.random.default_rng([1, index // _ATLAS_SCENES]))
        again = index % _EVERY == _EVERY - 1
        linear = _drawn(index - again, atlas)
        start = _SHIFT_PX if again else 0
        linear = np.ascontiguousarray(linear[:, start : start + SIZE[0]])
        folder.mkdir(parents=True, exist_ok=True)
        for level, radius_px in RADII_PX.items():
            pixels = np.round(to_encoded(blur_disk(linear, radius_px)) * 255).clip(0, 255)
            (folder / f"{level}.png").write_bytes(encode(np.asarray(pixels, np.uint8)))


def planted(count: int) -> int:
    """Near-duplicate pairs among the first ``count`` scenes."""
    return count // _EVERY


def sign_scenes(shoot: Path, dataset: Path, *, record_size: tuple[int, int] = SIZE) -> None:
    """Link the pictures of a shoot into a dataset as its images, and sign every stage.

    Args:
        shoot: from `make_scenes`.
        dataset: to make; it then is what a build leaves before it assembles its tables.
        record_size: (width, height) of the frame whose records the alignments have.
    """
    for number, bracket in enumerate(scan(shoot, confirm=False).brackets):
        if (dataset / f"receipts/{bracket.scene}/render.json").is_file():
            continue
        for capture in bracket:
            target = dataset / f"images/{bracket.scene}/{capture.level}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(capture.path, target)
        _sign(bracket, shoot, dataset, np.random.default_rng([2, number]), record_size)


def lay_out(
    source: Path,
    target: Path,
    count: int,
    *,
    parts: Sequence[str] = ("shoot", "dataset/images", "dataset/receipts"),
) -> None:
    """The first ``count`` scenes of ``source/shoot`` and ``source/dataset`` again, as links."""
    for index in range(count):
        for part in parts:
            folder = target / part / _name(index)
            folder.mkdir(parents=True)
            for path in (source / part / _name(index)).iterdir():
                os.link(path, folder / path.name)


def _drawn(index: int, atlas: Any) -> npt.NDArray[np.float32]:
    """Linear light, wider than the frame by the shift of a near-duplicate."""
    rng = np.random.default_rng([0, index])
    size = SIZE[0] + _SHIFT_PX, SIZE[1]
    colour = np.full((size[1], size[0], 3), 0.1, np.float32)
    for smallest_px, coverage in ((24.0, 2.0), (3.0, 2.0)):
        leaves = draw_leaves(rng, size, smallest_px=smallest_px, largest_px=80.0, coverage=coverage)
        paint(colour, None, leaves, atlas)
    return colour


def _sign(
    bracket: Bracket,
    shoot: Path,
    dataset: Path,
    rng: np.random.Generator,
    record_size: tuple[int, int],
) -> None:
    """A receipt for every stage; the developed pixels are gone, as after any render."""
    images = {c.level: f"images/{bracket.scene}/{c.level}.png" for c in bracket}
    hashes = {level: sha256_file(dataset / name) for level, name in images.items()}
    width, height = record_size
    results: dict[str, dict[str, Any]] = {
        "ingest": {"captures": [{"level": c.level, "sha256": hashes[c.level]} for c in bracket]},
        "develop": {
            "development": {"transfer": "srgb"},
            "captures": {c.level: {"width": SIZE[0], "height": SIZE[1]} for c in bracket},
        },
        "register": {
            "alignments": {
                pair.level: _alignment(rng, RADII_PX[pair.level], width, height)
                for pair in bracket.pairs
            }
        },
        "colour": {
            "colour": {
                pair.level: {"method": "none", "ciede2000": {"before": 2.0, "after": 0.4}}
                for pair in bracket.pairs
            }
        },
        "render": {
            "images": {
                level: {"image": name, "verdict": "keep", "reasons": []}
                for level, name in images.items()
            }
        },
    }
    inputs = file_stamps(bracket, shoot)
    for stage in STAGES[CONFIG.preset]:
        outputs = {images[level]: hashes[level] for level in images} if stage == "render" else {}
        receipt = Receipt(
            stage=stage,
            scene=bracket.scene,
            config_digest=stage_config_digest(CONFIG, stage),
            versions=current_versions(stage),
            inputs=inputs,
            outputs=outputs,
            result=results[stage],
            written_ns={name: (dataset / name).stat().st_mtime_ns for name in outputs},
        )
        write_receipt(dataset, receipt)
        inputs = {"previous": chain_digest(receipt)}


def _alignment(
    rng: np.random.Generator, radius_px: float, width: int, height: int
) -> dict[str, Any]:
    """The record of an alignment that found no motion, with grids and map of the frame's size."""
    x, y = (np.arange(_GRID_PX / 2, n + _GRID_PX / 2, _GRID_PX) for n in (width, height))
    nodes = np.stack([a.ravel() for a in np.meshgrid(x, y)], axis=1)
    shape = node_shape((width, height))

    def around(mean: float, deviation: float, size: tuple[int, ...]) -> npt.NDArray[np.float64]:
        return np.round(np.abs(rng.normal(mean, deviation, size)), 5)

    count = len(nodes)
    sure, found = around(0.97, 0.01, (count, 1)).clip(0, 1), around(radius_px, 0.1, (count, 1))
    moved, share = around(0, 0.02, (count, 2)), around(0, 1e-3, (count, 1))
    radii = RadiusMap(around(radius_px, 0.1, shape), around(0, 0.05, shape), around(0, 0.02, shape))
    return {
        "matrix": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        "radial": 0.0,
        "size": [width, height],
        "blur_radius_px": radius_px,
        "residual_px": 0.02,
        "valid_area": [0, 0, *SIZE],
        "verdict": "keep",
        "reasons": [],
        "trace": {"multimodal 1": rng.normal(-1.6, 0.1, 400).tolist()},
        "residual_grid": np.hstack([nodes, moved, sure]).tolist(),
        "radius_grid": np.hstack([nodes, found, sure]).tolist(),
        "unexplained_grid": np.hstack([nodes, share]).tolist(),
        "radius_map": radii.to_record(),
    }


def _name(index: int) -> str:
    return f"scene{index + 1:06}"
