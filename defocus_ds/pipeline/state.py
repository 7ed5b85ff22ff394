"""`status`: how far a dataset is, also while a build is running."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from defocus_ds.dataset.folders import being_written
from defocus_ds.dataset.stale import stale_levels
from defocus_ds.pipeline.journal import read_failure, read_journal
from defocus_ds.pipeline.plan import STAGES
from defocus_ds.store import read_json, read_receipt

__all__ = ["DatasetStatus", "status"]


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """How far a dataset is: stage -> scenes done, and what stands in the way.

    ``scenes`` are those to build; ``skipped`` those left out by option; ``left_out`` what the
    scan could not use, and why; ``running`` whether a build or crop is at work on it now.
    ``complete`` means that
    every scene is rendered or has failed.  ``pairs`` and ``crops`` are of the latest whole build;
    ``stale`` are levels whose crops are of an earlier one.
    """

    dataset: Path
    shoot: str
    preset: str
    scenes: tuple[str, ...]
    skipped: tuple[str, ...]
    done: dict[str, int]
    failed: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    running: bool
    complete: bool
    pairs: dict[str, int]
    crops: dict[str, int]
    stale: tuple[str, ...]


def status(dataset: Path | str) -> DatasetStatus:
    """How far a dataset is, from its receipts alone.

    Raises:
        DatasetError: the folder is not a dataset, or its journal is damaged.
    """
    dataset = Path(dataset)
    journal = read_journal(dataset)
    scenes = tuple(scene for scene in journal.scenes if scene not in journal.skipped)
    found = {scene: read_failure(dataset, scene) for scene in scenes}
    failed = {scene: failure["error"] for scene, failure in found.items() if failure}
    stages = STAGES[journal.config.preset]
    signed = {
        stage: {s for s in scenes if read_receipt(dataset, s, stage) is not None}
        for stage in stages
    }
    summary = read_json(dataset / "dataset.json") if (dataset / "dataset.json").is_file() else {}
    crops = {
        folder.name: len(list(folder.glob("*-of-*.parquet")))
        for folder in sorted((dataset / "crops").glob("[!.]*"))
        if folder.is_dir()
    }
    return DatasetStatus(
        dataset=dataset,
        shoot=journal.shoot,
        preset=journal.config.preset,
        scenes=scenes,
        skipped=journal.skipped,
        done={stage: len(found) for stage, found in signed.items()},
        failed=tuple(sorted(failed.items())),
        left_out=journal.left_out,
        running=being_written(dataset),
        complete=bool(summary) and signed[stages[-1]] | set(failed) == set(scenes),
        pairs=summary.get("pairs", {}),
        crops=crops,
        stale=tuple(stale_levels(dataset, digest=summary.get("digest"))),
    )
