"""What restoring a full frame costs on the CPU, and what tiles change.

    python benchmarks/restore.py                                  # cost, 5796x3870, one thread
    python benchmarks/restore.py --weights runs/real-q --images FOLDER     # and what tiles change

The cost does not depend on what the weights are, so without ``--weights`` they are random, of the
published size.  The floor is the bare network: its forward pass in evaluation mode on one crop of
512x512, scaled to the frame's pixels.  Costs are measured in a process for each way.  What tiles
change is the largest difference from the whole image computed at once, in 8-bit levels.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from isolated import Stopwatch, run_isolated
from results import machine, note, number, table, write_json, write_text

__all__ = ["run"]

_FULL_SIZE = "5796x3870"
_CROP = 512
_PACKAGES = ("torch", "numpy", "opencv-python-headless")
_OVERLAPS = (512, 256, 128, 64, 32, 16, 0)
_TILE = 160  # px computed beyond what is shared


def main() -> None:
    given = _parse()
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = {"machine": machine(_PACKAGES), "size": given.size}
        result["cost"] = _costs(given, Path(folder))
    if given.weights is not None and given.images is not None:
        result["changes"] = _changes(given.weights, given.images)
    write_json(given.out / "restore.json", result)
    write_text(given.out / "restore.md", _report(result))
    note(f"written: {given.out / 'restore.md'}")


def run(method: str, task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """One way of `_costs`, for `run_isolated`."""
    import torch

    torch.set_num_threads(1)
    from defocus_ds_train.checkpoint import load_model

    model = load_model(task["weights"])
    if method == "floor":
        crop = torch.rand(1, 1, _CROP, _CROP)
        with torch.inference_mode():
            model(crop)
            with watch("network"):
                model(crop)
        return {"megapixels": _CROP**2 / 1e6}
    from defocus_ds_train.restore import Restored, Tiles, plan_restore, restore
    from defocus_ds_train.restore_network import ResidualNet

    photo, output = Path(task["photo"]), Path(task["photo"]).with_name("restored.png")
    with watch("all"):
        network = ResidualNet(model, precision=task["precision"])
        tiles = Tiles(overlap=task["overlap"], memory_limit_mb=task["memory_mb"])
        (result,) = restore(plan_restore([photo], output, overwrite=True), network, tiles=tiles)
    if not isinstance(result, Restored):
        raise RuntimeError(result.reason)
    return {
        "megapixels": result.width * result.height / 1e6,
        "tiles": result.tiles,
        "tile": result.tile,
        "computed": result.computed,
        "exact": result.exact,
    }


def _costs(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from defocus_ds.store import write_png

    width, height = (int(side) for side in given.size.split("x"))
    rng = np.random.default_rng(0)
    photo = folder / "photo.png"
    write_png(photo, rng.integers(0, 256, (height, width, 3), np.uint8))
    weights = given.weights or _random_weights(folder / "random.safetensors")
    ways: list[tuple[str, dict[str, Any]]] = [("floor", {})]
    for memory in given.memory:
        ways.append(("restore", {"memory_mb": memory, "overlap": None, "precision": "fp32"}))
    first = given.memory[0]
    ways.append(("restore", {"memory_mb": first, "overlap": 256, "precision": "fp32"}))
    ways.append(("restore", {"memory_mb": first, "overlap": None, "precision": "bf16"}))
    rows = []
    for method, options in ways:
        note(f"{method} {options}")
        task = {"weights": str(weights.resolve()), "photo": str(photo), **options}
        rows.append(
            {"method": method, **options}
            | run_isolated("restore", method, task, folder=folder, timeout_s=6 * 3600)
        )
    return rows


def _random_weights(path: Path) -> Path:
    import torch

    from defocus_ds_train.checkpoint import save_model
    from defocus_ds_train.recipe import Recipe
    from defocus_ds_train.unet import UNet

    torch.manual_seed(0)
    filters = Recipe().filters
    save_model(path, UNet(filters), {"filters": list(filters)})
    return path


def _changes(weights: Path, images: Path) -> list[dict[str, Any]]:
    """Largest differences from the whole over the first three images, blurred as in training."""
    import torch

    from defocus_ds.config import BuildConfig
    from defocus_ds_train.checkpoint import load_model
    from defocus_ds_train.degrade import Blur, blur_crop
    from defocus_ds_train.restore import Tiles, plan_restore, restore_luma
    from defocus_ds_train.restore_network import ResidualNet
    from defocus_ds_train.restore_photo import read_photo

    torch.set_num_threads(1)
    model = load_model(weights)
    network = ResidualNet(model)
    plan = plan_restore([images], Path("unused"))[:3]
    frames = [
        blur_crop(np.uint8(read_photo(job.source, config=BuildConfig()).luma), Blur("average", 5))
        for job in plan
    ]
    wholes = [restore_luma(frame, network)[0] for frame in frames]
    rows: list[dict[str, Any]] = []
    for overlap in _OVERLAPS:
        worst, shares = 0.0, []
        for frame, whole in zip(frames, wholes, strict=True):
            tile = min(max(frame.shape), overlap + _TILE)
            change, tiling = restore_luma(frame, network, tiles=Tiles(tile, overlap))
            if len(tiling) > 1:
                worst = max(worst, 255 * float(np.abs(change - whole).max()))
                shares.append(len(tiling))
        rows.append({"what": f"overlap {overlap} px", "levels": worst, "tiles": sum(shares)})
    half = ResidualNet(model, precision="bf16")
    worst = max(
        255 * float(np.abs(restore_luma(frame, half)[0] - whole).max())
        for frame, whole in zip(frames, wholes, strict=True)
    )
    changed = np.mean([255 * np.abs(whole).mean() for whole in wholes])
    rows.append({"what": "bf16, whole", "levels": worst, "tiles": len(frames)})
    rows.append({"what": "mean change by the network", "levels": float(changed), "tiles": 0})
    return rows


def _report(result: dict[str, Any]) -> str:
    floor, *ways = result["cost"]
    frame = ways[0]["megapixels"]
    least = floor["cpu_s"]["network"] / floor["megapixels"] * frame
    rows = [("network alone, scaled from a crop", "", "", number(least), "1.00", "")]
    for way in ways:
        options = f"{way['memory_mb']} MB" + (
            "" if way["overlap"] is None else f", overlap {way['overlap']}"
        )
        seconds = way["cpu_s"]["all"]
        rows.append(
            (
                f"restore, {way['precision']}, {options}",
                f"{way['tiles']} of {way['tile'][0]}x{way['tile'][1]}",
                f"{way['computed']:.2f}",
                number(seconds),
                f"{seconds / least:.2f}",
                f"{way['peak_mb']:.0f}",
            )
        )
    header = ("way", "tiles", "pixels computed", "CPU s", "of the floor", "peak MB")
    text = f"# Restoring {result['size']}\n\n{table(header, rows)}"
    if "changes" in result:
        changes = [
            (row["what"], str(row["tiles"] or "–"), f"{row['levels']:.4f}")
            for row in result["changes"]
        ]
        text += "\nLargest differences from the whole, in 8-bit levels (of trained weights):\n\n"
        text += table((f"tiles of {_TILE} px beside what they share", "tiles", "levels"), changes)
    versions = ", ".join(f"{name} {what}" for name, what in result["machine"].items())
    return f"{text}\nOne thread. {versions}.\n"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default=_FULL_SIZE, metavar="WxH")
    parser.add_argument("--memory", type=int, nargs="+", default=[2000, 4000], metavar="MB")
    parser.add_argument("--weights", type=Path, metavar="RUN")
    parser.add_argument("--images", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), metavar="DIR")
    return parser.parse_args()


if __name__ == "__main__":
    main()
