"""dataset.json, scenes.parquet and SHA256SUMS, from receipts alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.folders import sweep_dataset
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Bracket, Level
from defocus_ds.pipeline.plan import STAGES, chain_digest, current_versions, outputs_hold
from defocus_ds.store import (
    Receipt,
    read_receipt,
    sha256_bytes,
    sha256_file,
    write_json,
    write_receipt,
)

__all__ = ["assemble"]

_WHOLE = "."  # what the receipt of the whole dataset has for a scene; no scene can be called so
_REPORTED = ("scene", "level", "verdict", "reasons")


def assemble(
    dataset: Path,
    brackets: list[Bracket],
    *,
    shoot: Path,
    config: BuildConfig,
    failures: Mapping[str, str],
    skipped: Mapping[tuple[str, Level], str],
    left_out: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Write the dataset's own files; remove images that no row names and work that is done.

    Where nothing they are made of has changed since they were written, they are left alone.

    Args:
        brackets: every scene of the shoot, with every capture, skipped ones too.
        failures: scene -> the error that stopped it.
        skipped: (scene, level) -> the option that left the pair out.
        left_out: (where, why) of what the scan could not use.

    Returns:
        Scene, level, verdict and reasons of every row of scenes.parquet.
    """
    from defocus_ds.dataset.checksums import SUMS_NAME, list_files, read_sums, write_sums
    from defocus_ds.dataset.manifest import FORMAT, INFO_NAME, SCENES_NAME, write_scenes

    basis = _basis(dataset, brackets, shoot, config, failures, skipped, left_out)
    before = read_receipt(dataset, _WHOLE, "assemble")
    if (
        before
        and before.inputs == basis | _listing(list_files(dataset))
        and outputs_hold(before, dataset)
    ):
        return list(before.result["rows"])
    rows: list[dict[str, Any]] = []
    for bracket in brackets:
        rows += _scene_rows(dataset, bracket, shoot, config, failures, skipped)
    _remove_unnamed(dataset, {row["image"] for row in rows})
    _clear_work(dataset, failures)
    write_scenes(dataset / SCENES_NAME, rows)
    versions: dict[str, str] = {}
    for stage in (*STAGES[config.preset], "assemble"):
        versions |= current_versions(stage)
    pairs = [row for row in rows if row["level"] != Level.SHARP]
    write_json(
        dataset / INFO_NAME,
        {
            "format": FORMAT,
            "preset": config.preset,
            "config": config.as_dict(),
            "config_digest": config.digest(),
            "versions": versions,
            "scenes": len(brackets),
            "images": sum(row["image"] is not None for row in rows),
            "pairs": {
                verdict: sum(row["verdict"] == verdict for row in pairs)
                for verdict in ("keep", "reject", "failed")
            },
            "left_out": [{"where": where, "why": why} for where, why in left_out],
            "digest": sha256_file(dataset / SCENES_NAME),
        },
    )
    known = {row["image"]: row["image_sha256"] for row in rows if row["image"] is not None}
    with suppress(DatasetError):  # crops are not this build's: what was signed stays signed
        known |= {k: v for k, v in read_sums(dataset).items() if k.startswith("crops/")}
    write_sums(dataset, known)
    short = [{name: row[name] for name in _REPORTED} for row in rows]
    names = (SCENES_NAME, INFO_NAME, SUMS_NAME)
    write_receipt(
        dataset,
        Receipt(
            stage="assemble",
            scene=_WHOLE,
            config_digest=config.digest(),
            versions=versions,
            inputs=basis | _listing(list_files(dataset)),
            outputs={name: sha256_file(dataset / name) for name in names},
            result={"rows": short},
            written_ns={name: (dataset / name).stat().st_mtime_ns for name in names},
        ),
    )
    return short


def _basis(
    dataset: Path,
    brackets: Sequence[Bracket],
    shoot: Path,
    config: BuildConfig,
    failures: Mapping[str, str],
    skipped: Mapping[tuple[str, Level], str],
    left_out: Sequence[tuple[str, str]],
) -> dict[str, str]:
    """Digest of all that the dataset's own files say; the last receipt stands for its scene."""
    stages = STAGES[config.preset]
    digest = hashlib.sha256()
    versions = [current_versions(stage) for stage in (*stages, "assemble")]
    for part in (config.digest(), versions, sorted(skipped.items()), left_out):
        digest.update(repr(part).encode())
    for bracket in brackets:
        receipt = read_receipt(dataset, bracket.scene, stages[-1])
        done = receipt and chain_digest(receipt)
        digest.update(repr((bracket.scene, done, failures.get(bracket.scene))).encode())
        for capture in bracket:
            source = capture.path.relative_to(shoot).as_posix()
            digest.update(repr((capture.level, capture.offset, source, capture.info)).encode())
    return {"rows": digest.hexdigest()}


def _listing(names: Sequence[str]) -> dict[str, str]:
    """Digest of the names that SHA256SUMS has: a file that came or went is seen."""
    return {"files": sha256_bytes("\n".join(names).encode())}


def _scene_rows(
    dataset: Path,
    bracket: Bracket,
    shoot: Path,
    config: BuildConfig,
    failures: Mapping[str, str],
    skipped: Mapping[tuple[str, Level], str],
) -> list[dict[str, Any]]:
    """One row per capture; a scene without receipts still has its rows and the reason."""
    failed = failures.get(bracket.scene)
    left_out = failed or (bracket.scene, Level.SHARP) in skipped
    receipts = {
        stage: None if left_out else read_receipt(dataset, bracket.scene, stage)
        for stage in STAGES[config.preset]
    }
    results = {stage: receipt.result if receipt else {} for stage, receipt in receipts.items()}
    hashes = receipts["render"].outputs if receipts["render"] else {}
    ingested = {c["level"]: c for c in results["ingest"].get("captures", [])}
    development = results["develop"].get("development")
    rows = []
    for capture in bracket:
        level, info = capture.level, capture.info
        record = results["develop"].get("captures", {}).get(level, {})
        alignment = results["register"].get("alignments", {}).get(level, {})
        if "failed" in alignment:
            alignment = {}
        rendered = results["render"].get("images", {}).get(level)
        if reason := skipped.get((bracket.scene, level)):
            rendered = {"image": None, "verdict": "reject", "reasons": [f"skipped: {reason}"]}
        elif rendered is None:
            reason = failed or "not built"
            rendered = {"image": None, "verdict": "failed", "reasons": [reason]}
        distance = info.focus_distance_m or (None, None)
        warp = alignment.get("matrix")
        rows.append(
            {
                "scene": bracket.scene,
                "level": str(level),
                "offset": capture.offset,
                "image": rendered["image"],
                "image_sha256": hashes.get(rendered["image"]),
                "width": record.get("width", info.width),
                "height": record.get("height", info.height),
                "source": capture.path.relative_to(shoot).as_posix(),
                "source_sha256": ingested.get(level, {}).get("sha256"),
                "kind": info.kind,
                "make": info.make,
                "model": info.model,
                "serial": info.serial,
                "lens": info.lens,
                "focal_length_mm": info.focal_length_mm,
                "iso": info.iso,
                "exposure_s": info.exposure_s,
                "f_number": info.f_number,
                "taken": info.taken,
                "focus_distance_upper_m": distance[0],
                "focus_distance_lower_m": distance[1],
                "transfer": development["transfer"] if development else None,
                "development": _text({**development, **record} if development else None),
                "colour": _text(results["colour"].get("colour", {}).get(level)),
                "alignment": _text(alignment or None),
                "matrix": [float(v) for row in warp for v in row] if warp else None,
                "radial": alignment.get("radial"),
                "blur_radius_px": alignment.get("blur_radius_px"),
                "residual_px": alignment.get("residual_px"),
                "valid_area": alignment.get("valid_area"),
                "verdict": rendered["verdict"],
                "reasons": rendered["reasons"],
            }
        )
    return rows


def _text(record: Any) -> str | None:
    return None if record is None else json.dumps(record, sort_keys=True, allow_nan=False)


def _clear_work(dataset: Path, failed: Container[str]) -> None:
    """Remove developed pixels of scenes that need them no more, and what dead workers left.

    A scene that failed later than in its development keeps them: tried again, it goes on there.
    """
    work = dataset / "work"
    for folder in work.glob("*"):
        begun = read_receipt(dataset, folder.name, "develop") is not None
        if not (begun and folder.name in failed):
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        work.rmdir()
    sweep_dataset(dataset)


def _remove_unnamed(dataset: Path, named: set[str | None]) -> None:
    """Images of scenes that left the shoot, or of pairs whose verdict changed."""
    for folder in ("images", "rejected"):
        for path in sorted((dataset / folder).rglob("*.png")):
            if path.relative_to(dataset).as_posix() not in named:
                path.unlink()
        for path in sorted((dataset / folder).glob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
