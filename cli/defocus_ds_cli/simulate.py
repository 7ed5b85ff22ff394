"""``defocus-ds simulate``: a shoot with known truth, as genuine CR2 files."""

from __future__ import annotations

import re
from pathlib import Path

import click

from defocus_ds.wording import counted
from defocus_ds_cli.options import echo_json, json_option

__all__ = ["command"]


def _parse_size(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[int, int] | None:
    if value == "full":
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    if match is None:
        raise click.BadParameter(f"{value!r}: write full or WIDTHxHEIGHT, for example 744x496.")
    return int(match[1]), int(match[2])


@click.command(
    "simulate",
    short_help="Write a shoot with known truth, as genuine CR2 files.",
    epilog="Example: defocus-ds simulate shoot --scenes 2 --size 744x496",
)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--scenes", default=3, show_default=True, metavar="N", help="Scenes of 4 captures.")
@click.option(
    "--size",
    default="full",
    show_default=True,
    metavar="full|WxH",
    callback=_parse_size,
    help="Developed size. full is 5796x3870: about a minute and 110 MB a scene. Otherwise a width "
    "that is a multiple of 4 and an even height, 240x160 or more; 744x496 takes a second.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of every random choice; the same seed gives the same bytes.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Use your photographs as scenes, in order of name, instead of dead leaves.",
)
@click.option(
    "--references",
    is_flag=True,
    help="Also write every blurred capture without its change of light, to score colour.",
)
@click.option(
    "--depth",
    default=1.0,
    show_default=True,
    metavar="X",
    help="How far the three depth planes lie apart, 0 to 4: multiplies their differences of blur "
    "radius and their parallax. 1 is gentle, 3 is hard.",
)
@json_option
def command(
    out: Path,
    scenes: int,
    size: tuple[int, int] | None,
    seed: int,
    images: Path | None,
    references: bool,
    depth: float,
    as_json: bool,
) -> None:
    """Write a focus-bracketed shoot into the folder OUT, every parameter of it known.

    Each scene is a folder of four 5D Mark III raw files: sharp, low, medium and high blur, with
    focus breathing, occlusion, a change of light, vignetting and sensor noise.  OUT/truth.json
    holds the exact map from the sharp to each blurred capture.  Repeat an interrupted command
    and it goes on where it stopped.
    """
    from defocus_ds.simulate import simulate

    def progress(done: int, total: int, what: str) -> None:
        click.echo(f"[{done}/{total}] {what}", err=True)

    try:
        truth = simulate(
            out,
            scenes=scenes,
            size=size,
            seed=seed,
            images=images,
            references=references,
            depth=depth,
            progress=progress,
        )
    except KeyboardInterrupt:
        click.echo("Stopped. Finished captures are kept: the same command goes on.", err=True)
        raise
    if as_json:
        from defocus_ds.store import read_json

        shoot = read_json(truth)
        files = [c["file"] for scene in shoot["scenes"] for c in scene["captures"]]
        echo_json({"truth": str(truth), "size": shoot["size"], "scenes": scenes, "files": files})
    else:
        click.echo(
            f"{out}: {counted(scenes, 'scene')}, {counted(4 * scenes, 'capture')}; truth in {truth}"
        )
