"""A whole shoot with known truth: folders of CR2 files and ``truth.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from defocus_ds.errors import CaptureUnreadable, InputError, ShootError
from defocus_ds.frames import FloatImage, Level, UInt8Image
from defocus_ds.optics import Transfer
from defocus_ds.simulate.cr2 import CaptureTags, cr2_bytes, write_cr2
from defocus_ds.simulate.draw import FULL_SIZE, CaptureTruth, draw_captures, stream
from defocus_ds.simulate.lens import margin_px, view
from defocus_ds.simulate.scene import (
    SceneLayers,
    dead_leaves_scene,
    label_planes,
    photograph_scene,
)
from defocus_ds.simulate.sensor import DAYLIGHT, Sensor, expose, preview, read_out
from defocus_ds.stages.pictures import picture_header, read_picture
from defocus_ds.store import atomic_path, inside, read_json, sha256_file, write_json

__all__ = ["SMALLEST_SIZE", "simulate"]

SMALLEST_SIZE = (240, 160)
FORMAT = 1
_MOST_DEPTH = 4.0
_START = datetime(2024, 5, 1, 10, 0, 0)
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What decides the bytes of a shoot."""

    scenes: int
    size: tuple[int, int]
    seed: int
    references: bool
    images: tuple[Path, ...]
    depth: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        parameters = {
            "format": FORMAT,
            "scenes": self.scenes,
            "size": list(self.size),
            "seed": self.seed,
            "references": self.references,
            "images": [[path.name, sha256_file(path)] for path in self.images],
        }
        # absent at its default: shoots begun before it existed can be finished
        return parameters if self.depth == 1 else parameters | {"depth": self.depth}


def simulate(
    out: Path,
    *,
    scenes: int = 3,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    images: Path | None = None,
    references: bool = False,
    depth: float = 1.0,
    progress: Progress | None = None,
) -> Path:
    """Write a focus-bracketed shoot as 5D Mark III raw files, with every parameter known.

    A scene is four captures (sharp, low, medium, high) in a folder of its own, taken seconds
    apart.  An interrupted call, repeated with the same arguments, goes on where it stopped.

    Args:
        out: folder to write; new, empty, or begun by a call with the same arguments.
        scenes: number of scenes, 1 to 999.
        size: (width, height) of the developed frame in pixels; the width a multiple of 4, the
            height of 2, from 240x160 to the full 5796x3870, which None stands for.
        seed: of every random choice; each scene has streams of its own.
        images: folder of photographs to use instead of dead leaves, in order of name.
        references: also write each blurred capture as it would be without its change of light.
        depth: how far the depth planes lie apart, 0 to 4: multiplies their differences of radius
            and their parallax.
        progress: called with (steps done, steps in all, what was done).

    Returns:
        Path of ``truth.json``.

    Raises:
        InputError: an argument is out of range, or ``images`` has no picture that can be read.
        ShootError: ``out`` holds something else.
    """
    if not 1 <= scenes <= 999:
        raise InputError(f"--scenes {scenes}: give 1 to 999.")
    if not 0 <= depth <= _MOST_DEPTH:
        raise InputError(f"--depth {depth:g}: give 0 to {_MOST_DEPTH:g}.")
    plan = _Plan(
        scenes, _checked_size(size), seed, references, _pictures(images, scenes), float(depth)
    )
    _claim(out, plan.as_dict())
    steps = 1 + len(Level) + (len(Level) - 1) * references
    report = progress or (lambda _done, _total, _what: None)
    entries = []
    for index in range(scenes):
        name = f"scene{index + 1:02d}"
        entry = _finished(out, name)
        if entry is None:
            report(index * steps, scenes * steps, f"{name}: drawing the scene")
            entry = _write_scene(out, plan, index, name, report, steps)
        report((index + 1) * steps, scenes * steps, f"{name}: done")
        entries.append(entry)
    truth = {
        "format": FORMAT,
        "seed": seed,
        "size": list(plan.size),
        "transfer": str(Transfer.BT709),
        "sensor": asdict(Sensor()),
        "scenes": entries,
    }
    write_json(out / "truth.json", truth)
    return out / "truth.json"


def _checked_size(size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        return FULL_SIZE
    width, height = size
    fits = SMALLEST_SIZE[0] <= width <= FULL_SIZE[0] and SMALLEST_SIZE[1] <= height <= FULL_SIZE[1]
    if not fits or width % 4 or height % 2:
        raise InputError(
            f"--size {width}x{height}: the width must be a multiple of 4 and the height of 2, "
            f"from {SMALLEST_SIZE[0]}x{SMALLEST_SIZE[1]} to {FULL_SIZE[0]}x{FULL_SIZE[1]} (full)."
        )
    developed = _developed_size(size)
    if developed != size:
        raise InputError(
            f"--size {width}x{height}: LibRaw takes it for another camera's and would develop "
            f"{developed[0]}x{developed[1]}. Choose a width 4 pixels wider or narrower."
        )
    return size


def _developed_size(size: tuple[int, int]) -> tuple[int, int]:
    """What LibRaw makes of a blank file of this size: it knows many cameras by theirs."""
    import rawpy

    width, height = size
    dark = read_out(np.zeros((height, width), np.float32), stream(0, "", ""), sensor=Sensor())
    with rawpy.imread(BytesIO(cr2_bytes(dark, info=CaptureTags(taken=_START)))) as raw:
        return raw.sizes.width, raw.sizes.height


def _pictures(folder: Path | None, wanted: int) -> tuple[Path, ...]:
    """The first pictures of a folder by name, the header of every one checked."""
    if folder is None:
        return ()
    if not folder.is_dir():
        raise InputError(f"--images {folder}: not a folder.")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
    if not found:
        raise InputError(f"--images {folder}: no picture in it ({', '.join(_PICTURES)}).")
    chosen = tuple(found[:wanted])
    broken = []
    for path in chosen:
        try:
            picture_header(path)
        except CaptureUnreadable:
            broken.append(path.name)
    if broken:
        raise InputError(
            f"--images {folder}: {', '.join(broken)} cannot be read as a picture. Take it out."
        )
    return chosen


def _claim(out: Path, parameters: dict[str, Any]) -> None:
    """Mark the folder as this shoot's, or refuse it."""
    marker = out / "_truth" / "parameters.json"
    if marker.is_file():
        if read_json(marker) != parameters:
            raise ShootError(
                f"{out}: holds a shoot simulated with other parameters "
                f"(see {marker}). Choose another folder or delete this one."
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ShootError(f"{out}: exists and is not a simulated shoot. Choose an empty folder.")
    write_json(marker, parameters)


def _finished(out: Path, name: str) -> dict[str, Any] | None:
    """The scene's entry if it was completed and all its files are as they were written."""
    record = out / "_truth" / f"{name}.json"
    if not record.is_file():
        return None
    found = read_json(record)
    entry: dict[str, Any] = found["entry"]
    paths = {inside(out, file): digest for file, digest in found["sha256"].items()}
    whole = all(p.is_file() and sha256_file(p) == digest for p, digest in paths.items())
    return entry if whole else None


def _write_scene(
    out: Path, plan: _Plan, index: int, name: str, report: Progress, steps: int
) -> dict[str, Any]:
    taken = _START + timedelta(minutes=index)
    truths = draw_captures(plan.seed, name, plan.size, taken=taken, depth=plan.depth)
    margin = margin_px([each for truth in truths for each in truth.planes])
    layers, source = _layers(plan, index, name, margin)
    labels = f"_truth/{name}_planes.png"
    _write_png(out / labels, label_planes(layers))
    written = [labels]
    captures: list[dict[str, Any]] = []
    done = index * steps + 1
    for order, truth in enumerate(truths):
        number = (index * len(truths) + order) % 9999 + 1
        file = f"{name}/IMG_{number:04d}.CR2"
        report(done, plan.scenes * steps, f"{name}: {truth.level}")
        light = view(layers, truth.planes)
        files = {file: truth}
        reference = None
        if plan.references and truth.level is not Level.SHARP:
            reference = f"_truth/{name}_{truth.level}_reference.CR2"
            uncast = replace(truth.light, gains=(1.0, 1.0, 1.0))
            files[reference] = replace(truth, light=uncast, white_balance=DAYLIGHT)
        for path, variant in files.items():
            noise = stream(plan.seed, name, f"noise {truth.level}")
            _write_capture(out / path, light, variant, number, noise)
            done += 1
        written += files
        captures.append(_capture_entry(truth, file, reference))
    entry = {"scene": name, "source": source, "planes_file": labels, "captures": captures}
    digests = {path: sha256_file(out / path) for path in written}
    write_json(out / "_truth" / f"{name}.json", {"entry": entry, "sha256": digests})
    return entry


def _layers(plan: _Plan, index: int, name: str, margin: int) -> tuple[SceneLayers, str]:
    rng = stream(plan.seed, name, "scene")
    if not plan.images:
        return dead_leaves_scene(rng, plan.size, margin=margin), "dead leaves"
    path = plan.images[index % len(plan.images)]
    return photograph_scene(rng, _read_picture(path), plan.size, margin=margin), path.name


def _write_capture(
    path: Path, linear: FloatImage, truth: CaptureTruth, number: int, noise: np.random.Generator
) -> None:
    sensor = Sensor()
    raw = read_out(expose(linear, light=truth.light, sensor=sensor), noise, sensor=sensor)
    red, green, blue = truth.white_balance
    tags = CaptureTags(
        taken=truth.taken,
        file_number=number,
        white_balance=(red, green, green, blue),
        black=sensor.black,
        white=sensor.white,
        focus_distance_upper_m=truth.focus_distance_m[0],
        focus_distance_lower_m=truth.focus_distance_m[1],
    )
    write_cr2(path, raw, info=tags, preview=preview(linear, light=truth.light))


def _capture_entry(truth: CaptureTruth, file: str, reference: str | None) -> dict[str, Any]:
    return {
        "file": file,
        "level": str(truth.level),
        "offset": truth.level.offset,
        "planes": [
            {
                "matrix": [list(row) for row in each.warp.matrix],
                "radial": each.warp.radial,
                "blur_radius_px": each.blur_radius_px,
            }
            for each in truth.planes
        ],
        "gains": list(truth.light.gains),
        "exposure": truth.light.exposure,
        "vignetting": truth.light.vignetting,
        "white_balance": list(truth.white_balance),
        "focus_distance_m": list(truth.focus_distance_m),
        "taken": truth.taken.isoformat(),
        "reference": reference,
    }


def _read_picture(path: Path) -> UInt8Image:
    try:
        return read_picture(path).as_uint8_rgb()
    except CaptureUnreadable as error:
        raise InputError(f"--images: {error} Or take it out.") from error


def _write_png(path: Path, labels: UInt8Image) -> None:
    import cv2

    with atomic_path(path) as temporary:
        done = cv2.imwrite(str(temporary), labels)
        assert done, "writing an 8-bit array as PNG cannot fail short of a full disk"
