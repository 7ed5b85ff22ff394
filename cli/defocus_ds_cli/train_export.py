"""``defocus-ds train export``: a trained network as safetensors or ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from defocus_ds_cli.options import echo_json, existing_path, json_option

__all__ = ["command"]


@click.command(
    "export",
    short_help="Write a trained network as safetensors or ONNX.",
    epilog="Example: defocus-ds train export runs/real-q -o real-q.onnx --check",
)
@click.argument("weights", type=existing_path, metavar="RUN")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Ends in .onnx or .safetensors.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Read the file again, compare it with the network at several sizes (ONNX in "
    "onnxruntime) and print the largest difference.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@json_option
def command(weights: Path, output: Path, check: bool, overwrite: bool, as_json: bool) -> None:
    """Export the best weights of RUN, or a .safetensors file, for other programs.

    ONNX takes any batch, height and width: the padding is part of the graph. Both formats hold
    the record of the run: recipe and its digest, architecture, version, validation scores. ONNX
    needs the extra; in your copy of defocus-ds:
    pip install -c constraints.txt -e '.[export]'

    Exits with 1, and writes nothing, when the check finds more than 0.00001 of [0, 1].
    """
    from defocus_ds_train.export import TOLERANCE, export

    exported = export(weights, output, check=check, overwrite=overwrite)
    if as_json:
        echo_json(
            {
                "path": str(exported.path),
                "format": exported.format,
                "difference": exported.difference,
                "tolerance": TOLERANCE,
                "record": exported.record,
            }
        )
        return
    checked = "not checked; --check compares it with the network"
    if exported.difference is not None:
        checked = f"differs from the network by {exported.difference:.2g} at most"
    click.echo(
        f"{exported.path}: {exported.record['parameters']:,} parameters, recipe "
        f"{exported.record.get('recipe', 'unknown')}; {checked}"
    )
