"""``defocus-ds measure``: how sharp, and how faithful to a reference."""

from __future__ import annotations

from pathlib import Path

import click

from defocus_ds_cli.options import echo_json, existing_file, json_option

__all__ = ["command"]


@click.command(
    "measure",
    epilog="Example: defocus-ds measure restored.png sharp.png --metric psnr --metric q",
)
@click.argument("image", type=existing_file)
@click.argument("reference", type=existing_file)
@click.option(
    "--metric",
    "names",
    multiple=True,
    metavar="NAME",
    help="psnr, ssim, ssim-gaussian, q, q-training, q-zhu-milanfar, lpips or lpips-vgg. "
    "Repeatable [default: psnr, ssim, q].",
)
@click.option(
    "--lpips-weights",
    type=existing_file,
    metavar="FILE",
    help="Weights for LPIPS [default: those that `defocus-ds weights` put into the cache].",
)
@json_option
def command(
    image: Path,
    reference: Path,
    names: tuple[str, ...],
    lpips_weights: Path | None,
    as_json: bool,
) -> None:
    """Measure the luma of IMAGE against that of REFERENCE, two 8-bit files of one size.

    Every figure is printed with its full name: channel, range, border and variant.
    """
    from defocus_ds.measure.luma import luma_of_file
    from defocus_ds.measure.metrics import metrics

    chosen = metrics(names or ("psnr", "ssim", "q"), lpips_weights=lpips_weights)
    one, two = luma_of_file(image), luma_of_file(reference)
    values = [(metric, metric(one, two)) for metric in chosen]
    if as_json:
        echo_json(
            [
                {"name": metric.name, "full_name": metric.full_name, "value": _finite(value)}
                for metric, value in values
            ]
        )
        return
    width = max(len(metric.name) for metric in chosen)
    for metric, value in values:
        click.echo(f"{metric.name:<{width}}  {value:>8.{metric.digits}f}  {metric.full_name}")


def _finite(value: float) -> float | None:
    """JSON knows no infinity: the PSNR of equal images is null."""
    return value if value not in (float("inf"), float("-inf")) else None
