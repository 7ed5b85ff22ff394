"""Every way to match colours that the benchmark knows: ours, and the peers that are installed.

Ours get the registration that `defocus_ds.register` found.  The peers compare distributions and
get what their users would give them: the blurred capture and the sharp one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from isolated import Stopwatch

from defocus_ds.config import BuildConfig, ColourConfig
from defocus_ds.optics import Warp

__all__ = ["METHODS", "Alignment", "Method", "lut_error", "run"]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Alignment:
    """What colour matching reads of a registration."""

    warp: Warp
    blur_radius_px: float
    valid_area: tuple[int, int, int, int]

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Alignment:
        (a, b, c), (d, e, f) = record["matrix"]
        width, height = record["size"]
        x0, y0, x1, y1 = record["valid_area"]
        warp = Warp(((a, b, c), (d, e, f)), record["radial"], (width, height))
        return cls(warp, record["blur_radius_px"], (x0, y0, x1, y1))


Find = Callable[[Image, Image, Alignment | None, Stopwatch], Image]


@dataclass(frozen=True, slots=True)
class Method:
    """``needs`` names a module, ``bits`` is the depth of the captures it gets.

    ``dataset`` says that the result is in the sharp frame, as the build writes it.
    """

    find: Find
    needs: str = ""
    bits: int = 8
    dataset: bool = False

    @property
    def installed(self) -> bool:
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def run(method: str, task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """Recolour the .npy file ``task["blurred"]`` towards ``task["sharp"]``.

    Methods for 16 bits get ``blurred16`` and ``sharp16``.  The result goes to the file
    ``task["result"]``, if there is one.  ``each`` runs all of ``task["methods"]``, with results
    in the folder ``task["results"]``, and returns the reasons of those that failed.
    """
    if method == "register":
        return _register(task)
    if method == "lut against exact":
        return lut_error(_read(task, "blurred"), _read(task, "sharp"))
    if method == "each":
        return _run_each(task, watch)
    result = _run_one(method, task, watch)
    if task.get("result"):
        np.save(task["result"], result)
    return {}


def _run_each(task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    failed = {}
    for number, method in enumerate(task["methods"]):
        try:
            np.save(f"{task['results']}/{number}.npy", _run_one(method, task, watch))
        except Exception as error:  # whatever a peer raises is a result
            failed[method] = f"{type(error).__name__}: {error}"[:200]
    return {"failed_methods": failed}


def _run_one(method: str, task: dict[str, Any], watch: Stopwatch) -> Image:
    depth = "" if METHODS[method].bits == 8 else str(METHODS[method].bits)
    sharp, blurred = (_read(task, name + depth) for name in ("sharp", "blurred"))
    alignment = Alignment.from_record(task["alignment"]) if task.get("alignment") else None
    return METHODS[method].find(blurred, sharp, alignment, watch)


def lut_error(blurred: Image, sharp: Image, *, places: int = 500_000) -> dict[str, Any]:
    """Distance in levels between the distribution transfer and its look-up tables.

    Both are rounded to 8 bits, at random pixels of the blurred image.
    """
    from defocus_ds.lut import apply_lut
    from defocus_ds.stages.colour.cube import bake_lut
    from defocus_ds.stages.colour.transfer import fit_idt

    rng = np.random.default_rng(0)
    a, b = (
        (image.reshape(-1, 3)[rng.integers(0, image.size // 3, 200_000)]) / 255
        for image in (blurred, sharp)
    )
    dither = rng.uniform(-0.5, 0.5, a.shape) / 255
    transfer = fit_idt(np.clip(a + dither, 0, 1), np.clip(b + dither, 0, 1))
    seen = blurred.reshape(-1, 3)[rng.integers(0, blurred.size // 3, places)]
    exact = np.clip(transfer.apply(seen.astype(np.float32) / 255), 0, 1) * 255
    found = {}
    for size in (33, 65):
        table = apply_lut(seen[None], bake_lut(transfer.apply, size))[0]
        off = np.abs(table - exact)
        found[str(size)] = {
            "mean": float(np.abs(table - np.round(exact)).mean()),
            "mean_unrounded": float(off.mean()),
            "p99.9": float(np.percentile(off, 99.9)),
        }
    return found


def _read(task: dict[str, Any], name: str) -> npt.NDArray[Any]:
    return np.asarray(np.load(task[name], allow_pickle=False))


def _register(task: dict[str, Any]) -> dict[str, Any]:
    from defocus_ds import register

    found = register(_read(task, "sharp"), _read(task, "blurred"))
    record = found.to_record()
    keys = ("matrix", "radial", "size", "blur_radius_px", "valid_area", "verdict")
    return {"alignment": {key: record[key] for key in keys}}


def _ours(config: ColourConfig, *, dataset: bool = False) -> Find:
    def find(blurred: Image, sharp: Image, alignment: Alignment | None, watch: Stopwatch) -> Image:
        from defocus_ds import match_colour
        from defocus_ds.resample import resample

        tiny = sharp[:96, :96]
        match_colour(tiny, tiny, config=config).apply(tiny)  # loads what the peers have imported
        with watch("all"):
            with watch("fit"):
                found = match_colour(blurred, sharp, alignment=alignment, config=config)
            with watch("apply"):
                if dataset and alignment is not None:
                    return np.asarray(resample(blurred, alignment.warp, lut=found.lut))
                fixed = found.apply(blurred)
                return fixed if fixed.dtype == np.uint8 else np.rint(fixed / 257).astype(np.uint8)

    return find


def _color_matcher(name: str) -> Find:
    def find(blurred: Image, sharp: Image, _: Alignment | None, watch: Stopwatch) -> Image:
        from color_matcher import ColorMatcher

        with watch("all"):
            found = ColorMatcher().transfer(src=blurred, ref=sharp, method=name)
            return np.clip(np.round(found), 0, 255).astype(np.uint8)

    return find


def _pdf_transfer(blurred: Image, sharp: Image, _: Alignment | None, watch: Stopwatch) -> Image:
    from python_color_transfer.color_transfer import ColorTransfer

    with watch("all"):
        return np.asarray(ColorTransfer().pdf_transfer(img_arr_in=blurred, img_arr_ref=sharp))


def _histograms(blurred: Image, sharp: Image, _: Alignment | None, watch: Stopwatch) -> Image:
    from skimage.exposure import match_histograms

    with watch("all"):
        found = match_histograms(blurred, sharp, channel_axis=-1)
        return np.clip(np.round(found), 0, 255).astype(np.uint8)


def _none(blurred: Image, _: Image, __: Alignment | None, watch: Stopwatch) -> Image:
    with watch("all"):
        return blurred.copy()


METHODS = {
    "uncorrected": Method(_none),
    "response": Method(_ours(ColourConfig(method="response"))),
    "response, 16 bits": Method(_ours(ColourConfig(method="response")), bits=16),
    "response, in the dataset": Method(
        _ours(ColourConfig(method="response"), dataset=True), dataset=True
    ),
    "affine": Method(_ours(ColourConfig(method="affine"))),
    "idt": Method(_ours(ColourConfig(method="idt"))),
    "mkl": Method(_ours(ColourConfig(method="mkl"))),
    "idt, not blur-matched": Method(_ours(ColourConfig(method="idt", blur_matched=False))),
    "paper": Method(_ours(BuildConfig.from_preset("paper").colour)),
    "color-matcher mkl": Method(_color_matcher("mkl"), needs="color_matcher"),
    "color-matcher hm-mvgd-hm": Method(_color_matcher("hm-mvgd-hm"), needs="color_matcher"),
    "python-color-transfer pdf": Method(_pdf_transfer, needs="python_color_transfer"),
    "scikit-image match_histograms": Method(_histograms),
}
