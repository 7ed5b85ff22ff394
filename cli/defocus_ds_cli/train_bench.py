"""``defocus-ds train bench``: the paper's tables, ours beside theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from defocus_ds_cli.options import echo_json, existing_file, json_option

if TYPE_CHECKING:
    from defocus_ds_train.benchmark.sets import TestSet

__all__ = ["command"]

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(
    "bench",
    short_help="Compare methods on a split: the paper's tables, ours beside theirs.",
    epilog="Example: defocus-ds train bench runs/synthetic-l1 runs/synthetic-q-0.01 blurred al mlm "
    "--data kodak24 --images kodak --protocol authors --protocol honest -o bench",
)
@click.argument("methods", nargs=-1, metavar="[METHOD]...")
@click.option(
    "--data",
    multiple=True,
    metavar="NAME|DIR",
    help="Released split (see `split list`) or a dataset or release with crops. Repeatable.",
)
@click.option(
    "--images",
    multiple=True,
    type=_folder,
    metavar="DIR",
    help="Images of the released split: one for all --data, or one for each.",
)
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    nargs=2,
    type=_folder,
    metavar="SHARP BLURRED",
    help="Two folders of images with the same names. Repeatable.",
)
@click.option(
    "--by",
    type=click.Choice(["name", "order"]),
    default="name",
    show_default=True,
    help="How the images of --pair belong together: by equal names, or by the order of names "
    "whose numbers differ by at most 3, as in DPDD.",
)
@click.option("--level", metavar="LEVEL", help="Of a dataset with crops of several levels.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Which split of --data.",
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only this crop of every set. Repeatable."
)
@click.option(
    "--first",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the first N crops of every set, in the order of their names.",
)
@click.option(
    "--blur",
    metavar="KIND:PX",
    help="The known blur, for classical methods on other data: average:5, disk:3.5, gaussian:1.2.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(["authors", "honest"]),
    help="How methods are fed and rounded, see docs/metrics.md. Repeatable [default: honest].",
)
@click.option(
    "--metric",
    "metric_names",
    multiple=True,
    metavar="NAME",
    help="As in `measure` [default: those of --expect, else psnr, ssim, q, lpips, lpips-vgg; a "
    "column without weights says so]. Repeatable.",
)
@click.option(
    "--lpips-weights",
    type=existing_file,
    metavar="FILE",
    help="Weights for lpips or lpips-vgg, whichever it holds; adds that column to those of "
    "--expect [default: those that `defocus-ds weights` put into the cache].",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="METHOD.KEY=VALUE",
    help="Change a classical method, e.g. --set red-fp.iterations=50. Repeatable.",
)
@click.option(
    "--table",
    "beside",
    type=click.Choice(["auto", "I", "II", "III", "none"]),
    default="auto",
    show_default=True,
    help="Table of the paper to print beside ours; auto takes the one of the same images.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep rows (Parquet), scores, pictures and a page here, and go on there if interrupted.",
)
@click.option(
    "--expect",
    metavar="NAME|FILE",
    help="Compute everything and compare with stored results: a file, or kodak24-classical, "
    "kodak24-red, bsd500-classical (with --first 50).",
)
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Store the results for a later --expect.",
)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, metavar="N")
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    metavar="N",
    help="Crops of each set to show side by side.",
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
    help="Of networks.",
)
@json_option
def command(
    methods: tuple[str, ...],
    data: tuple[str, ...],
    images: tuple[Path, ...],
    pairs: tuple[tuple[Path, Path], ...],
    by: str,
    level: str | None,
    split: str,
    only: tuple[str, ...],
    first: int | None,
    blur: str | None,
    protocols: tuple[str, ...],
    metric_names: tuple[str, ...],
    lpips_weights: Path | None,
    settings: tuple[str, ...],
    beside: str,
    output: Path | None,
    expect: str | None,
    store: Path | None,
    batch: int,
    samples: int,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Restore crops by every METHOD and print the table, the paper's figures beside ours.

    A METHOD is blurred (the input), sharp (the truth), a classical one (al, mrl, mlm, mw, wiener,
    rl, red-fp, red-sd), the folder of a run or its weights, a folder of images called like the
    crops, or a path with {name} in it; NAME=METHOD calls it otherwise, also by a row of the paper.
    Without any: blurred and the classical ones that take seconds, or those of --expect.

    Exits with 1 when a figure is not the one that --expect names.
    """
    from dataclasses import asdict

    from defocus_ds_cli.progress import Progress
    from defocus_ds_train.benchmark.columns import choose_metrics
    from defocus_ds_train.benchmark.expect import (
        find_drift,
        load_expectations,
        save_expectations,
    )
    from defocus_ds_train.benchmark.methods import QUICK_METHODS, parse_methods
    from defocus_ds_train.benchmark.page import write_pictures
    from defocus_ds_train.benchmark.run import bench
    from defocus_ds_train.benchmark.table import table_text
    from defocus_ds_train.device import choose_device

    expected = load_expectations(expect) if expect is not None else None
    place = choose_device(device)
    chosen = parse_methods(
        methods or (expected.methods if expected is not None else QUICK_METHODS),
        protocols=protocols or (expected.protocols if expected is not None else ()) or ("honest",),
        settings=settings,
        device=place,
        precision=precision,
    )
    measures, absent = choose_metrics(
        metric_names,
        expected=expected.metrics if expected is not None else (),
        lpips_weights=lpips_weights,
        device=str(place),
    )
    for name, why in absent.items():
        click.echo(f"{name}: {why}; defocus-ds weights --download brings them", err=True)
    sets = _sets(data, images, pairs, by=by, level=level, split=split, blur=blur)
    if only:
        sets = [of.only(only) for of in sets]
    if first is not None:
        sets = [of.first(first) for of in sets]
    with Progress("bench") as progress:
        report = bench(
            sets,
            chosen,
            metrics=measures,
            output=output,
            batch=batch,
            device=place,
            samples=samples,
            # what is compared or kept for comparison is of the code that runs now
            reuse=expect is None and store is None,
            progress=progress,
        ).with_absent(absent)
    if output is not None:
        write_pictures(report, output, beside=beside)
    if store is not None:
        save_expectations(store, report)
    drift = find_drift(report, expected) if expected is not None else ()
    if as_json:
        echo_json({**report.as_dict(), "drift": [asdict(one) for one in drift]})
    else:
        click.echo(table_text(report, beside=beside))
    if output is not None:
        click.echo(f"{output / 'index.html'}: pictures and tables", err=True)
    for one in drift:
        click.echo(f"drift: {one}", err=True)
    if expected is not None and not drift:
        click.echo(f"All {expected.figures} figures are as in {expected.name}.", err=True)
    if drift:
        click.get_current_context().exit(1)


def _sets(
    data: tuple[str, ...],
    images: tuple[Path, ...],
    pairs: tuple[tuple[Path, Path], ...],
    *,
    by: str,
    level: str | None,
    split: str,
    blur: str | None,
) -> list[TestSet]:
    from defocus_ds_train.benchmark.sets import dataset_set, folder_set, parse_blur, released_set

    if not data and not pairs:
        raise click.UsageError("give --data NAME|DIR or --pair SHARP BLURRED.")
    known = parse_blur(blur) if blur is not None else None
    names = [name for name in data if not Path(name).is_dir()]
    if names and len(images) not in (1, len(names)):
        raise click.UsageError(
            f"{', '.join(names)}: give --images DIR, once for all or once for each; "
            "if this is a dataset, there is no such folder."
        )
    folders = dict(
        zip(names, images if len(images) == len(names) else images * len(names), strict=True)
    )
    sets = [
        released_set(name, folders[name], split=split)
        if name in folders
        else dataset_set(Path(name), level=level, split=split, blur=known)
        for name in data
    ]
    return sets + [folder_set(sharp, blurred, by=by, blur=known) for sharp, blurred in pairs]
