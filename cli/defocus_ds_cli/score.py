"""``defocus-ds score``: a build of a simulated shoot against its truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]


@click.command(
    "score",
    epilog="Example: defocus-ds simulate shoot --size 1488x992 --references && "
    "defocus-ds build shoot -o dataset && defocus-ds score dataset shoot",
)
@click.argument("dataset", type=existing_path)
@click.argument("shoot", type=existing_path)
@json_option
def command(dataset: Path, shoot: Path, as_json: bool) -> None:
    """Measure a built dataset against the truth of its simulated SHOOT.

    For every pair: mean and largest registration error on a 21x21 grid in px, the residual that
    the build claims, blur radius and its truth in px, and the mean CIEDE2000 to the same capture
    without the change of light (needs simulate --references).
    """
    from defocus_ds.frames import known_px
    from defocus_ds.measure.alignment import score_build
    from defocus_ds_cli.progress import Progress

    with Progress("score") as progress:
        scores = score_build(dataset, shoot, progress=progress)
    if as_json:
        echo_json([asdict(score) for score in scores])
        return
    click.echo("pair\terror px\tlargest\tclaimed\tradius px\ttrue\tCIEDE2000\tverdict")
    for score in scores:
        figures = (
            score.registration_mean_px,
            score.registration_max_px,
            known_px(score.residual_px),
            score.blur_radius_px,
            score.true_blur_radius_px,
            score.colour_difference,
        )
        cells = ("–" if value is None else f"{value:.3f}" for value in figures)
        click.echo("\t".join([f"{score.scene}/{score.level}", *cells, score.verdict]))
