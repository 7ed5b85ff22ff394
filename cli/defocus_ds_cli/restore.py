"""``defocus-ds restore``: sharpen photos with a trained network."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, existing_path, json_option, settings_options

if TYPE_CHECKING:
    from defocus_ds_train.restore import NotRestored, Restored

__all__ = ["command"]


@click.command(
    "restore",
    short_help="Sharpen photos with a trained network.",
    epilog="Example: defocus-ds restore photo.CR2 -o sharp.png --weights runs/real-q",
)
@click.argument("images", nargs=-1, required=True, type=existing_path, metavar="IMAGE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="A .png for one photo, else a folder.",
)
@click.option(
    "--weights",
    type=existing_path,
    metavar="RUN",
    help="Folder of a run of `train fit` (its best weights), or a .safetensors file.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "mps", "cpu"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU if there is one.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="bf16 and fp16 take about half the memory; bf16 can differ by a few levels.",
)
@click.option(
    "--tile",
    type=click.IntRange(min=16),
    metavar="PX",
    help="Longest side of a tile [default: what fits the memory].",
)
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    metavar="PX",
    help="Shared by neighbouring tiles [default: as much as the network sees, so that tiles "
    "equal the whole].",
)
@click.option(
    "--memory-limit",
    "memory_limit_mb",
    type=click.FloatRange(min=1),
    metavar="MB",
    help="For the restoration [default: half of the free memory, 4/5 on a GPU].",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@settings_options("develop.demosaic=DHT")
@json_option
def command(
    images: tuple[Path, ...],
    output: Path,
    weights: Path | None,
    device: str,
    precision: str,
    tile: int | None,
    overlap: int | None,
    memory_limit_mb: float | None,
    overwrite: bool,
    config: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Restore each IMAGE, or the images of a folder, as PNG of the same size and depth.

    Reads CR2 and other raws (developed as `build` develops a sharp capture), JPEG, PNG and TIFF
    of 8 or 16 bits. The network changes the luma; chroma stays. EXIF orientation is not applied
    to the pixels but noted in the PNG, with the colour profile.

    Exits with 1 when an image could not be restored; the others are.
    """
    from defocus_ds.config import load_config
    from defocus_ds.errors import InputError
    from defocus_ds_cli.progress import StageProgress
    from defocus_ds_train.checkpoint import load_model, weights_record
    from defocus_ds_train.device import choose_device
    from defocus_ds_train.restore import Restored, Tiles, plan_restore, restore
    from defocus_ds_train.restore_network import ResidualNet

    if weights is None:
        raise InputError(
            "restore needs trained weights, and none are shipped. Train them with `defocus-ds "
            "train fit real-l1 --data DATASET -o runs/real-l1`, then give --weights runs/real-l1."
        )
    build_config = load_config(None, config, settings)
    plan = plan_restore(images, output, overwrite=overwrite)
    network = ResidualNet(load_model(weights), device=choose_device(device), precision=precision)
    record = weights_record(weights)
    tiles = Tiles(tile, overlap, memory_limit_mb)
    results: list[Restored | NotRestored] = []
    # bars on a terminal take over stdout, which a terminal needs and a file or pipe must not have
    lines = None if sys.stdout.isatty() else sys.stdout
    try:
        with StageProgress({"images": len(plan)}) as progress:

            def show_tile(name: str, done: int, total: int) -> None:
                if total > 1:
                    progress.update("tiles", done, total, name)

            for result in restore(
                plan, network, tiles=tiles, config=build_config, progress=show_tile
            ):
                results.append(result)
                progress.advance("images", result.source.name)
                if not as_json:
                    click.echo(_line(result), file=lines)
    finally:  # an error ends the command, and what was done before it is told all the same
        if as_json:
            echo_json(
                {
                    "weights": {"path": str(weights), **record},
                    "device": str(network.device),
                    "precision": precision,
                    "images": [_as_dict(result) for result in results],
                }
            )
    if not all(isinstance(result, Restored) for result in results):
        sys.exit(1)


def _line(result: Restored | NotRestored) -> str:
    from defocus_ds_train.restore import NotRestored

    if isinstance(result, NotRestored):
        return f"failed {result.source}: {result.reason}"
    note = "".join(f"; {note}" for note in result.notes)
    inexact = "" if result.exact else f", sharing only {result.overlap} px"
    return (
        f"{result.output}: {result.width}x{result.height}, {result.bits} bit, luma changed by "
        f"{result.change_levels:.2f} levels on average, {result.seconds:.1f} s "
        f"({counted(result.tiles, 'tile')} of up to {result.tile[0]}x{result.tile[1]}"
        f"{inexact}){note}"
    )


def _as_dict(result: Restored | NotRestored) -> dict[str, Any]:
    table = asdict(result)
    return table | {name: str(table[name]) for name in ("source", "output") if name in table}
