"""Every method over every set: restored, timed, measured, and kept to go on from."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from defocus_ds.dataset.pixels import pixels_sha256
from defocus_ds.errors import InputError
from defocus_ds.frames import UInt8Image
from defocus_ds.measure.metrics import Metric
from defocus_ds.store import sha256_bytes, write_json
from defocus_ds_train.benchmark.methods import Method
from defocus_ds_train.benchmark.results import (
    BenchReport,
    ImageRow,
    Restoration,
    Sample,
    Score,
    SetInfo,
    identity_digest,
    load_restoration,
    save_restoration,
    save_rows,
)
from defocus_ds_train.benchmark.sets import TestSet
from defocus_ds_train.benchmark.timing import TimesFile, timed_restoration

__all__ = ["MEAN_OF_SETS", "bench", "paper_table"]

MEAN_OF_SETS = "mean of the sets"
Progress = Callable[[int, int, str], None]


def bench(
    sets: Sequence[TestSet],
    methods: Sequence[Method],
    *,
    metrics: Sequence[Metric],
    output: Path | None = None,
    batch: int = 16,
    device: torch.device | None = None,
    samples: int = 6,
    reuse: bool = True,
    progress: Progress | None = None,
) -> BenchReport:
    """Restore every set by every method and measure the results.

    Args:
        sets: what to restore.
        methods: from `defocus_ds_train.benchmark.methods.parse_methods`, for the same device.
        metrics: from `defocus_ds.measure.metrics.metrics`.
        output: keeps every method's images and figures as soon as they are there
            (``restored/``), all rows (``images.parquet``), the means (``scores.json``) and the
            times (``times.json``); a run with the same folder goes on where the last one stopped.
        batch: crops restored at a time; the times are of this size.
        device: where the methods compute; None is the CPU.
        samples: crops of each set, spread evenly over it, whose pixels the report keeps.
        reuse: take what ``output`` already holds of the same methods, sets and code; False
            computes everything, as a comparison with stored results must.
        progress: called with (done, total, label), in images.

    Returns:
        Scores by set, in the order given, and with two sets or more the mean of the sets.

    Raises:
        InputError: a method that must know the blur and a set where it is not known, or what a
            method raises.
    """
    place = device or torch.device("cpu")
    _check(sets, methods)
    times = TimesFile(output)
    scores: list[Score] = []
    rows: list[ImageRow] = []
    shown = {of.name: _spread(of, samples) for of in sets}
    seen: dict[tuple[str, int], list[tuple[str, UInt8Image]]] = {}
    total = len(methods) * sum(len(of.crops) for of in sets)
    done = 0
    for of in sets:
        digest = of.digest
        for method in methods:
            label = f"{of.name}, {_label(method)}"

            def told(count: int, before: int = done, label: str = label) -> None:
                if progress is not None:
                    progress(before + count, total, label)

            path = output and _path(output, of, method)
            found = _measured(
                of,
                method,
                metrics,
                path,
                digest=digest,
                batch=batch,
                device=method.device or place,
                told=told,
                times=times,
                reuse=reuse,
            )
            done += len(of.crops)
            told(0, done)
            own = [
                ImageRow(
                    of.name,
                    crop.name,
                    method.name,
                    method.protocol,
                    pixels_sha256(image),
                    {name: values[i] for name, values in found.values.items()},
                )
                for i, (crop, image) in enumerate(zip(of.crops, found.images, strict=True))
            ]
            rows += own
            for index in shown[of.name]:
                seen.setdefault((of.name, index), []).append((_label(method), found.images[index]))
            scores.append(_score(of, method, metrics, found))
    scores += _combined(sets, methods, scores)
    report = BenchReport(
        tuple(SetInfo(of.name, len(of.crops), of.digest, of.released) for of in sets),
        {metric.name: metric.full_name for metric in metrics},
        {metric.name: metric.digits for metric in metrics},
        tuple(scores),
        tuple(rows),
        tuple(
            Sample(of.name, of.crops[index], tuple(seen[of.name, index]))
            for of in sets
            for index in shown[of.name]
        ),
    )
    if output is not None:
        save_rows(output / "images.parquet", rows, [metric.name for metric in metrics])
        write_json(output / "scores.json", report.as_dict(times=False))
    return report


def paper_table(released: Sequence[str | None]) -> str | None:
    """The paper's table that was measured on these released splits; None for any others.

    >>> paper_table(["kodak24 test"]), paper_table(["bsd500 test", "kodak24 test"])
    ('I', 'II')
    """
    known = {frozenset({"kodak24 test"}): "I", frozenset({"kodak24 test", "bsd500 test"}): "II"}
    return known.get(frozenset(str(name) for name in released))


def _check(sets: Sequence[TestSet], methods: Sequence[Method]) -> None:
    names = [of.name for of in sets]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"benchmark: sets {', '.join(names) or 'none'}; give each once.")
    if not methods:
        raise InputError("benchmark: no method; give at least one.")
    for of in sets:
        blind = [method.name for method in methods if method.needs_blur]
        if of.blur is None and blind:
            raise InputError(
                f"{of.name}: its blur is not known, and {blind[0]} restores a known blur. Leave "
                "it out, or say which it is, e.g. --blur disk:3.5."
            )


def _measured(
    of: TestSet,
    method: Method,
    metrics: Sequence[Metric],
    path: Path | None,
    *,
    digest: str,
    batch: int,
    device: torch.device,
    times: TimesFile,
    reuse: bool,
    told: Callable[[int], None],
) -> Restoration:
    """From the file if it may and holds the same, else computed; kept in the file either way."""
    full_names = {metric.name: metric.full_name for metric in metrics}
    sizes = {crop.name: (crop.sharp.shape[0], crop.sharp.shape[1]) for crop in of.crops}
    identity = identity_digest(digest, {**method.identity, **_protocol(method)}, device.type)
    stored = None
    # images that others made may have changed since
    if reuse and path is not None and method.timed:
        stored = load_restoration(path, crops=sizes, digest=identity, metrics=full_names)
    if stored is None:
        images, spent = timed_restoration(of, method, batch=batch, device=device, told=told)
        if spent is not None:
            times.put(identity, spent)
    else:
        images, spent = stored.images, times.get(identity)
    values = dict(stored.values) if stored is not None else {}
    missing = [metric for metric in metrics if metric.name not in values]
    for metric in missing:
        values[metric.name] = tuple(
            metric(image, crop.sharp) for image, crop in zip(images, of.crops, strict=True)
        )
    found = Restoration(images, {name: values[name] for name in full_names}, spent)
    if path is not None and (stored is None or missing):
        save_restoration(path, found, names=list(sizes), digest=identity, metrics=full_names)
    return found


def _spread(of: TestSet, count: int) -> list[int]:
    number = len(of.crops)
    return sorted(
        {index * number // min(count, number) for index in range(min(count, number))}
        if count
        else ()
    )


def _score(of: TestSet, method: Method, metrics: Sequence[Metric], found: Restoration) -> Score:
    means = {metric.name: statistics.fmean(found.values[metric.name]) for metric in metrics}
    return Score(
        of.name,
        method.name,
        method.full_name,
        method.protocol,
        method.rows,
        len(of.crops),
        means,
        found.times,
        {**method.identity, **_protocol(method)},
    )


def _combined(
    sets: Sequence[TestSet], methods: Sequence[Method], scores: Sequence[Score]
) -> list[Score]:
    """The mean of the sets, each counted once; nothing for a single set."""
    if len(sets) < 2:
        return []
    combined = []
    for index in range(len(methods)):
        own = scores[index :: len(methods)]
        first = own[0]
        means = {name: statistics.fmean(s.means[name] for s in own) for name in first.means}
        images = sum(score.images for score in own)
        combined.append(replace(first, set=MEAN_OF_SETS, images=images, means=means, times=None))
    return combined


def _protocol(method: Method) -> dict[str, str]:
    return {"protocol": method.protocol}


def _label(method: Method) -> str:
    return f"{method.name}, {method.protocol}" if method.timed else method.name


def _path(output: Path, of: TestSet, method: Method) -> Path:
    return (
        output
        / "restored"
        / _slug(of.name)
        / f"{_slug(f'{method.name} {method.protocol}')}.parquet"
    )


def _slug(text: str) -> str:
    """A file name; texts that would give the same one are told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-.")
    if plain.replace("-", " ") == text.replace("-", " "):
        return plain
    return f"{plain}-{sha256_bytes(text.encode())[:8]}"
