"""``defocus-ds register``: one pair by hand."""

from __future__ import annotations

import filecmp
import sys
from pathlib import Path

import click

from defocus_ds_cli.options import config_options, echo_json, existing_file, json_option

__all__ = ["command"]


@click.command(
    "register",
    epilog="Example: defocus-ds register sharp.CR2 low.CR2 -o registered.png --overlay overlay.png",
)
@click.argument("sharp", type=existing_file)
@click.argument("blurred", type=existing_file)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Write the blurred image resampled into the sharp frame.",
)
@click.option(
    "--overlay",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Write red/cyan overlays before and after, side by side.",
)
@config_options
@json_option
def command(
    sharp: Path,
    blurred: Path,
    output: Path | None,
    overlay: Path | None,
    preset: str | None,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Align the defocused capture BLURRED with its partner SHARP.

    Prints the map from sharp to blurred, the blur radius, the residual shift and the verdict.
    Exits with 1 when the pair is rejected.
    """
    from defocus_ds.config import load_config
    from defocus_ds.frames import known_px
    from defocus_ds.pipeline.pair import load_pair, red_cyan
    from defocus_ds.stages.register import register
    from defocus_ds.store import write_png

    if filecmp.cmp(sharp, blurred, shallow=False):
        click.echo(f"note: {sharp} and {blurred} are the same bytes.", err=True)
    build_config = load_config(preset, config, settings, seed)
    pair = load_pair(sharp, blurred, config=build_config)
    alignment = register(
        pair.sharp,
        pair.blurred,
        preset=build_config.preset,
        config=build_config.register,
        transfer=pair.transfer,
        seed=build_config.seed,
    )
    registered = alignment.resample(pair.blurred) if output or overlay else None
    if output is not None and registered is not None:
        write_png(output, registered)
    if overlay is not None and registered is not None:
        write_png(overlay, red_cyan(pair.sharp, pair.blurred, registered))
    if as_json:
        echo_json(alignment.to_record())
    else:
        (a, b, tx), (c, d, ty) = alignment.matrix
        residual_px = known_px(alignment.residual_px)
        residual = "unknown" if residual_px is None else f"{residual_px:.3f} px"
        x0, y0, x1, y1 = alignment.valid_area
        click.echo(f"verdict      {'keep' if alignment.verdict else 'reject'}")
        for reason in alignment.verdict.reasons:
            click.echo(f"             {reason}")
        click.echo(f"x' =         {a:+.7f} x {b:+.7f} y {tx:+.3f} px")
        click.echo(f"y' =         {c:+.7f} x {d:+.7f} y {ty:+.3f} px")
        click.echo(f"radial       {alignment.radial:+.3e}")
        click.echo(f"blur radius  {alignment.blur_radius_px:.2f} px")
        click.echo(f"residual     {residual}")
        click.echo(f"valid area   x {x0}..{x1}, y {y0}..{y1}")
    if not alignment.verdict:
        sys.exit(1)
