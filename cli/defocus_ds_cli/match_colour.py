"""``defocus-ds match-colour``: one pair by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from defocus_ds_cli.options import config_options, echo_json, existing_file, json_option

__all__ = ["command"]


@click.command(
    "match-colour",
    epilog="Example: defocus-ds match-colour sharp.CR2 low.CR2 -o matched.png --cube low.cube",
)
@click.argument("sharp", type=existing_file)
@click.argument("blurred", type=existing_file)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Write the blurred image with the sharp image's colours, in its own frame.",
)
@click.option(
    "--cube",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.cube",
    help="Write the colour map as a 3-D LUT that photo and video editors read.",
)
@click.option(
    "--aligned",
    is_flag=True,
    help="The two are aligned already: leave the registration out.",
)
@config_options
@json_option
def command(
    sharp: Path,
    blurred: Path,
    output: Path | None,
    cube: Path | None,
    aligned: bool,
    preset: str | None,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Give BLURRED the colours of SHARP.

    The pair is registered first unless --aligned says that it is, or the preset is paper, which
    matches colours without an alignment. Prints what was done and how large the difference was
    before and after.
    """
    from defocus_ds.config import load_config
    from defocus_ds.errors import RegistrationFailed
    from defocus_ds.pipeline.pair import load_pair
    from defocus_ds.pipeline.plan import colour_first
    from defocus_ds.stages.colour import match_colour
    from defocus_ds.stages.register import register
    from defocus_ds.store import write_png

    build_config = load_config(preset, config, settings, seed)
    pair = load_pair(sharp, blurred, config=build_config)
    alignment = None
    if not aligned and not colour_first(build_config):
        alignment = register(
            pair.sharp,
            pair.blurred,
            preset=build_config.preset,
            config=build_config.register,
            transfer=pair.transfer,
            seed=build_config.seed,
        )
        if not alignment.verdict:
            reasons = "; ".join(alignment.verdict.reasons)
            raise RegistrationFailed(
                f"{sharp.name} and {blurred.name} do not align ({reasons}), so their colours "
                "cannot be compared. If they do align, give --aligned."
            )
    colour = match_colour(
        pair.blurred,
        pair.sharp,
        alignment=alignment,
        preset=build_config.preset,
        config=build_config.colour,
        transfer=pair.transfer,
        seed=build_config.seed,
    )
    if output is not None:
        write_png(output, colour.apply(pair.blurred))
    if cube is not None:
        colour.save_cube(cube)
    if as_json:
        echo_json(colour.record)
    else:
        _print_record(colour.record)


def _print_record(record: dict[str, Any]) -> None:
    difference, contrast = record["ciede2000"], record["contrast"]
    moved = record["displacement_levels"]
    radius = record["radius_px"]
    target = record["target"] + (f" ({radius:.2f} px)" if radius is not None else "")
    click.echo(f"method       {record['method']}{' + regrain' if record['regrain'] else ''}")
    click.echo(f"target       {target}")
    click.echo(f"CIEDE2000    {difference['before']:.2f} before, {difference['after']:.2f} after")
    click.echo(f"contrast     {contrast['before']:.3f} before, {contrast['after']:.3f} after")
    gains = zip(record["gains"], record["gains_error"], strict=True)
    click.echo(f"gains        {', '.join(f'{gain:.4f} ± {error:.4f}' for gain, error in gains)}")
    for name, row in zip(("matrix", "", ""), record["matrix"], strict=True):
        click.echo(f"{name:<12} {' '.join(f'{number:8.4f}' for number in row)}")
    click.echo(f"LUT moves    {moved['mean']:.2f} levels on average, {moved['max']:.2f} at most")
    click.echo(f"left out     {record['clipped_share']:.2%} of the places, clipped")
    click.echo(
        f"agreement    correlation {record['correlation']:.3f} of {record['samples']} colours"
    )
    for note in record["notes"]:
        click.echo(f"note         {note}")
