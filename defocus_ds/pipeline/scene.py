"""One stage of one scene: read what earlier stages left, call the stage, write, sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from defocus_ds.errors import (
    CaptureUnreadable,
    ColourFailed,
    NotWritten,
    RegistrationFailed,
    StageFailed,
)
from defocus_ds.frames import Level
from defocus_ds.optics import Transfer
from defocus_ds.pipeline.plan import (
    colour_first,
    current_versions,
    doubted_by,
    pair_seed,
    stage_config_digest,
)
from defocus_ds.pipeline.task import StageTask, clear, inputs_of, receipt_of, signed
from defocus_ds.pipeline.usage import Meter, limited_memory, why_failed
from defocus_ds.pipeline.workspace import (
    developed_name,
    load_developed,
    lut_name,
    matched_name,
    save_array,
)
from defocus_ds.store import Receipt, sha256_file, write_png, write_receipt

__all__ = ["run_stage"]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a stage leaves: files relative to the dataset, and facts for later stages.

    ``decoder_mb`` is the memory of the process that it had beside itself.
    """

    result: dict[str, Any]
    files: tuple[str, ...] = ()
    decoder_mb: float = 0.0


def run_stage(task: StageTask) -> Receipt:
    """Do the stage and write its receipt.

    Raises:
        StageFailed: the scene cannot pass; the text is one line fit for a person.
        NotWritten: it may pass when there is room.
    """
    limit_mb = task.config.limits.stage_memory_mb
    try:
        with limited_memory(limit_mb):
            return (signed(task) if task.again else None) or _run_and_sign(task)
    except NotWritten as error:
        raise NotWritten(f"{task.scene}: {task.stage}: {error}") from error
    except StageFailed:
        raise
    except Exception as error:
        why = why_failed(error, limit_mb)
        raise StageFailed(f"{task.scene}: {task.stage}: {why}") from error


def _run_and_sign(task: StageTask) -> Receipt:
    meter = Meter()
    inputs = inputs_of(task)
    done = _STAGE_FUNCTIONS[task.stage](task)
    files = {name: task.dataset / name for name in done.files}
    receipt = Receipt(
        stage=task.stage,
        scene=task.scene,
        config_digest=stage_config_digest(task.config, task.stage),
        versions=current_versions(task.stage),
        inputs=inputs,
        outputs={name: sha256_file(path) for name, path in files.items()},
        result=done.result,
        written_ns={name: path.stat().st_mtime_ns for name, path in files.items()},
        seconds=meter.seconds(),
        cpu_seconds=meter.cpu_seconds(),
        peak_memory_mb=round(meter.peak_memory_mb() + done.decoder_mb, 1),
    )
    if task.claim is not None and not task.claim.exists():
        raise StageFailed(f"{task.scene}: {task.stage}: its build is over; not signed.")
    write_receipt(task.dataset, receipt)
    clear(task)
    return receipt


def _ingest(task: StageTask) -> _Done:
    captures = [
        {
            "level": str(capture.level),
            "offset": capture.offset,
            "file": capture.path.relative_to(task.shoot).as_posix(),
            "sha256": sha256_file(capture.path),
            "info": asdict(capture.info),
        }
        for capture in task.bracket
    ]
    return _Done({"captures": captures})


def _develop(task: StageTask) -> _Done:
    from defocus_ds.stages.decoding import Decoder
    from defocus_ds.stages.develop import (
        DevelopRecord,
        check_bit_depth,
        develop,
        plan_development,
    )

    ingested = {c["level"]: c["sha256"] for c in receipt_of(task, "ingest").result["captures"]}
    development = plan_development(task.bracket, task.config.develop, limits=task.config.limits)
    records: dict[Level, DevelopRecord] = {}
    with Decoder(task.config.limits) as decoder:
        for capture in task.bracket:
            record = develop(
                capture,
                development=development,
                limits=task.config.limits,
                target=task.dataset / developed_name(task.scene, capture.level),
                decoder=decoder,
            )
            if record.source_sha256 != ingested[capture.level]:
                raise CaptureUnreadable(
                    f"{capture.path}: its bytes changed since it was ingested "
                    f"(SHA-256 {record.source_sha256[:12]}, was {ingested[capture.level][:12]}). "
                    "Run build again when the copy is complete."
                )
            records[capture.level] = record
        decoder_mb = decoder.peak_memory_mb()
    check_bit_depth(list(records.values()), config=task.config.develop)
    sizes = {(r.width, r.height) for r in records.values()}
    if len(sizes) > 1:
        raise StageFailed(
            f"{task.scene}: its captures develop to different sizes "
            f"({', '.join(f'{w}x{h}' for w, h in sorted(sizes))}). One camera, one size."
        )
    files = tuple(developed_name(task.scene, c.level) for c in task.bracket)
    captures = {level: record.to_record() for level, record in records.items()}
    result = {"development": development.to_record(), "captures": captures}
    return _Done(result, files, decoder_mb)


def _register(task: StageTask) -> _Done:
    from defocus_ds.stages.register import register
    from defocus_ds.stages.register.planes import pyramid

    sharp = load_developed(task.dataset, task.scene, Level.SHARP)
    prepared = pyramid(sharp, _transfer(task))
    colours = receipt_of(task, "colour").result["colour"] if colour_first(task.config) else {}
    records: dict[str, Any] = {}
    for pair in task.bracket.pairs:
        if "failed" in colours.get(pair.level, {}):
            continue
        if colours:
            blurred = np.load(task.dataset / matched_name(task.scene, pair.level))
        else:
            blurred = load_developed(task.dataset, task.scene, pair.level)
        try:
            records[pair.level] = register(
                sharp,
                blurred,
                preset=task.config.preset,
                config=task.config.register,
                transfer=_transfer(task),
                seed=pair_seed(task.config.seed, pair),
                prepared=prepared,
            ).to_record()
        except RegistrationFailed as error:
            records[pair.level] = {"failed": str(error)}
    return _Done({"alignments": records})


def _colour(task: StageTask) -> _Done:
    from defocus_ds.stages.colour import match_colour
    from defocus_ds.stages.register import Alignment

    alignments = (
        {} if colour_first(task.config) else receipt_of(task, "register").result["alignments"]
    )
    sharp = load_developed(task.dataset, task.scene, Level.SHARP)
    records: dict[str, Any] = {}
    files: list[str] = []
    for pair in task.bracket.pairs:
        record = alignments.get(pair.level)
        if record is not None and "failed" in record:
            continue
        blurred = load_developed(task.dataset, task.scene, pair.level)
        try:
            colour = match_colour(
                blurred,
                sharp,
                alignment=None if record is None else Alignment.from_record(record),
                preset=task.config.preset,
                config=task.config.colour,
                transfer=_transfer(task),
                seed=pair_seed(task.config.seed, pair),
            )
        except ColourFailed as error:
            records[pair.level] = {"failed": str(error)}
            continue
        records[pair.level] = colour.record
        if colour_first(task.config):
            # regraining needs the whole image, so it cannot wait for the warp
            name, array = matched_name(task.scene, pair.level), colour.apply(blurred)
        else:
            name, array = lut_name(task.scene, pair.level), colour.lut
        save_array(task.dataset / name, array)
        files.append(name)
    return _Done({"colour": records}, tuple(files))


def _render(task: StageTask) -> _Done:
    from defocus_ds.resample import resample
    from defocus_ds.stages.register import Alignment

    alignments = receipt_of(task, "register").result["alignments"]
    colours = receipt_of(task, "colour").result["colour"]
    images: dict[str, Any] = {}
    name = f"images/{task.scene}/{Level.SHARP}.png"
    write_png(task.dataset / name, load_developed(task.dataset, task.scene, Level.SHARP))
    doubted = doubted_by(task.bracket, alignments)
    images[Level.SHARP] = {"image": name, "verdict": "keep", "reasons": []}
    for pair in task.bracket.pairs:
        failed = [
            record["failed"]
            for record in (alignments.get(pair.level, {}), colours.get(pair.level, {}))
            if "failed" in record
        ]
        if failed:
            images[pair.level] = {"image": None, "verdict": "reject", "reasons": failed}
            continue
        alignment = Alignment.from_record(alignments[pair.level])
        if colour_first(task.config):
            matched = np.load(task.dataset / matched_name(task.scene, pair.level))
            pixels = resample(matched, alignment.warp)
        else:
            lut = np.load(task.dataset / lut_name(task.scene, pair.level))
            pixels = resample(
                load_developed(task.dataset, task.scene, pair.level), alignment.warp, lut=lut
            )
        reasons = list(alignment.verdict.reasons)
        if doubted and str(pair) not in doubted:
            reasons.append(f"roles: the sharp capture is doubtful, see {', '.join(doubted)}")
        folder = "rejected" if reasons else "images"
        name = f"{folder}/{task.scene}/{pair.level}.png"
        write_png(task.dataset / name, pixels)
        images[pair.level] = {
            "image": name,
            "verdict": "reject" if reasons else "keep",
            "reasons": reasons,
        }
    files = tuple(entry["image"] for entry in images.values() if entry["image"])
    return _Done({"images": images}, files)


_STAGE_FUNCTIONS: dict[str, Callable[[StageTask], _Done]] = {
    "ingest": _ingest,
    "develop": _develop,
    "register": _register,
    "colour": _colour,
    "render": _render,
}


def _transfer(task: StageTask) -> Transfer:
    return Transfer(receipt_of(task, "develop").result["development"]["transfer"])
