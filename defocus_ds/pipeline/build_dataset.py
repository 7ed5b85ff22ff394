"""`build`: a shoot becomes a dataset, resumably; `status`: how far one is."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from defocus_ds.config import BuildConfig, config_from_dict
from defocus_ds.dataset.folders import only_writer
from defocus_ds.errors import DatasetError, InputError, ShootError
from defocus_ds.frames import Bracket, Complaint, Level, Pair
from defocus_ds.pipeline.assemble import assemble
from defocus_ds.pipeline.plan import (
    STAGES,
    ScenePlan,
    current_versions,
    file_stamps,
    plan_scene,
)
from defocus_ds.pipeline.pool import StageEvent, auto_jobs, run_plans
from defocus_ds.pipeline.scene import StageTask
from defocus_ds.store import read_json, read_receipt, sha256_bytes, write_json

__all__ = ["BuildReport", "DatasetStatus", "build", "status"]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did and what it left out, with reasons; nothing is silent.

    ``stages_run`` counts the stages done by this call: 0 when everything was done already.
    """

    dataset: Path
    scenes: tuple[str, ...]
    kept: tuple[Pair, ...]
    rejected: tuple[tuple[Pair, tuple[str, ...]], ...]
    failed: tuple[tuple[str, str], ...]
    complaints: tuple[Complaint, ...]
    stages_run: int

    @property
    def clean(self) -> bool:
        """Nothing failed and no capture was kept out."""
        return not self.failed and all(c.severity != "error" for c in self.complaints)


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """How far a dataset is: stage -> scenes done, and what stands in the way."""

    dataset: Path
    shoot: str
    preset: str
    scenes: tuple[str, ...]
    done: dict[str, int]
    failed: tuple[tuple[str, str], ...]
    complete: bool
    pairs: dict[str, int]
    crops: dict[str, int]


def build(
    shoot: Path | str,
    dataset: Path | str,
    *,
    preset: str | None = None,
    config: BuildConfig | None = None,
    jobs: int | None = None,
    skip: Sequence[str] = (),
    retry_failed: bool = False,
    on_scan: Callable[[str, int, int], None] | None = None,
    on_plan: Callable[[BuildConfig, Sequence[ScenePlan]], None] | None = None,
    on_event: Callable[[StageEvent], None] | None = None,
) -> BuildReport:
    """Develop, align and colour-match every scene of a shoot; resume where it stopped.

    Args:
        shoot: folder of captures; it is never written to.
        dataset: folder to make or to go on with.
        preset: "accurate" or "paper"; not together with ``config``.
        config: full configuration; default: the preset's.
        jobs: worker processes; None chooses by cores and free memory.
        skip: scenes ("scene01") or pairs ("scene01/high") to leave out.
        retry_failed: try scenes again that failed before with the same files.
        on_scan: called while captures are looked at, with what, how many are done, of how many.
        on_plan: called once with what is to do, before the work.
        on_event: called as each stage of each scene ends.

    Returns:
        The report; failures and rejections are in it, they are not raised.

    Raises:
        ShootError: no usable scene.
        InputError: unknown name in ``skip``, or nonsense in ``preset``.
        DatasetError: another build is running on the folder, or it is something else's.
    """
    from defocus_ds.stages.ingest import survey

    shoot, dataset = Path(shoot).resolve(), Path(dataset).resolve()
    config = config or BuildConfig.from_preset(preset or "accurate")
    if dataset == shoot or shoot.is_relative_to(dataset):
        raise InputError(f"{dataset}: the dataset cannot contain its own shoot; choose another -o.")
    found = survey(shoot, limits=config.limits, progress=on_scan).shoot
    if not found.brackets:
        reasons = "; ".join(str(c) for c in found.complaints[:3]) or "no captures found"
        raise ShootError(f"{shoot}: no usable scene ({reasons}). See: defocus-ds scan {shoot}")
    brackets, skipped = _apply_skips(found.brackets, skip)
    _claim(dataset)
    with only_writer(dataset):
        for stray in dataset.rglob(".tmp-*"):
            stray.unlink(missing_ok=True)
        write_json(
            dataset / "receipts" / "shoot.json",
            {
                "shoot": str(shoot),
                "config": config.as_dict(),
                "scenes": [b.scene for b in found.brackets],
            },
        )
        plans = [_plan(bracket, dataset, config) for bracket in brackets]
        failures = {} if retry_failed else _standing_failures(dataset, brackets, config)
        plans = [plan for plan in plans if plan.scene not in failures]
        if on_plan:
            on_plan(config, plans)
        done = _run(plans, brackets, shoot, dataset, config, jobs, failures, on_event)
        for bracket in brackets:  # done means verified: a scene without valid receipts is not
            left = _plan(bracket, dataset, config)
            if left.todo and bracket.scene not in failures:
                failures[bracket.scene] = (
                    f"{bracket.scene}: not done after the build ({left.why}). Build again."
                )
        shutil.rmtree(dataset / "work", ignore_errors=True)
        rows = assemble(
            dataset,
            list(found.brackets),
            shoot=shoot,
            config=config,
            failures=failures,
            skipped=skipped,
        )
    return _report(dataset, rows, failures, found.complaints, done)


def status(dataset: Path | str) -> DatasetStatus:
    """How far a dataset is, from its receipts alone; works while a build is running.

    Raises:
        DatasetError: the folder is not a dataset.
    """
    dataset = Path(dataset)
    begun = read_json(_begun(dataset))
    config = config_from_dict(begun["config"])
    scenes = tuple(begun["scenes"])
    done = {
        stage: sum(read_receipt(dataset, scene, stage) is not None for scene in scenes)
        for stage in STAGES[config.preset]
    }
    failed = []
    for scene in scenes:
        path = _failure_path(dataset, scene)
        if path.is_file():
            failed.append((scene, str(read_json(path)["error"])))
    summary = read_json(dataset / "dataset.json") if (dataset / "dataset.json").is_file() else {}
    crops = {
        folder.name: len(list(folder.glob("*-of-*.parquet")))
        for folder in sorted((dataset / "crops").glob("[!.]*"))
        if folder.is_dir()
    }
    return DatasetStatus(
        dataset=dataset,
        shoot=begun["shoot"],
        preset=config.preset,
        scenes=scenes,
        done=done,
        failed=tuple(failed),
        complete=bool(summary) and done[STAGES[config.preset][-1]] + len(failed) >= len(scenes),
        pairs=summary.get("pairs", {}),
        crops=crops,
    )


def _run(
    plans: Sequence[ScenePlan],
    brackets: Sequence[Bracket],
    shoot: Path,
    dataset: Path,
    config: BuildConfig,
    jobs: int | None,
    failures: dict[str, str],
    on_event: Callable[[StageEvent], None] | None,
) -> int:
    """Run the plans, writing failures down as they come; returns the stages done."""
    by_name = {bracket.scene: bracket for bracket in brackets}
    done = 0

    def note(event: StageEvent) -> None:
        nonlocal done
        path = _failure_path(dataset, event.scene)
        if event.error:
            failures[event.scene] = event.error
            basis = _basis(by_name[event.scene], config)
            write_json(path, {"stage": event.stage, "error": event.error, "basis": basis})
        else:
            done += 1
            if event.stage == STAGES[config.preset][-1]:
                path.unlink(missing_ok=True)
        if on_event:
            on_event(event)

    run_plans(
        plans,
        lambda scene, stage: StageTask(dataset, shoot, by_name[scene], config, stage),
        jobs=jobs or auto_jobs(),
        on_event=note,
    )
    return done


def _standing_failures(
    dataset: Path, brackets: Iterable[Bracket], config: BuildConfig
) -> dict[str, str]:
    """Scenes that failed before and would fail again: nothing about them has changed."""
    failures = {}
    for bracket in brackets:
        path = _failure_path(dataset, bracket.scene)
        if path.is_file():
            failure = read_json(path)
            if failure.get("basis") == _basis(bracket, config):
                failures[bracket.scene] = str(failure["error"])
    return failures


def _basis(bracket: Bracket, config: BuildConfig) -> str:
    """Digest of what could make a failed scene succeed: its files, the options, the versions."""
    versions = [current_versions(stage) for stage in STAGES[config.preset]]
    parts = [file_stamps(bracket), config.as_dict(), versions]
    return sha256_bytes(json.dumps(parts, sort_keys=True).encode())


def _apply_skips(
    brackets: Sequence[Bracket], skip: Sequence[str]
) -> tuple[list[Bracket], dict[tuple[str, Level], str]]:
    """The brackets to build and, for every capture left out, the option that did it."""
    names = {b.scene for b in brackets} | {str(p) for b in brackets for p in b.pairs}
    for name in skip:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"--skip {name}: no such scene or pair in the shoot.{hint}")
    kept: list[Bracket] = []
    skipped: dict[tuple[str, Level], str] = {}
    for bracket in brackets:
        out = {p.level for p in bracket.pairs if {bracket.scene, str(p)} & set(skip)}
        skipped |= {(bracket.scene, level): f"--skip {bracket.scene}/{level}" for level in out}
        if len(out) < len(bracket.pairs):
            rest = tuple(c for c in bracket if c.level not in out)
            kept.append(replace(bracket, captures=rest))
        else:
            skipped[(bracket.scene, Level.SHARP)] = f"--skip {bracket.scene}"
    return kept, skipped


def _report(
    dataset: Path,
    rows: Iterable[dict[str, Any]],
    failures: dict[str, str],
    complaints: tuple[Complaint, ...],
    stages_run: int,
) -> BuildReport:
    pairs = [(Pair(r["scene"], Level(r["level"])), r) for r in rows if r["level"] != Level.SHARP]
    return BuildReport(
        dataset=dataset,
        scenes=tuple(dict.fromkeys(pair.scene for pair, _ in pairs)),
        kept=tuple(pair for pair, row in pairs if row["verdict"] == "keep"),
        rejected=tuple(
            (pair, tuple(row["reasons"])) for pair, row in pairs if row["verdict"] == "reject"
        ),
        failed=tuple(sorted(failures.items())),
        complaints=complaints,
        stages_run=stages_run,
    )


def _plan(bracket: Bracket, dataset: Path, config: BuildConfig) -> ScenePlan:
    receipts = {
        stage: read_receipt(dataset, bracket.scene, stage) for stage in STAGES[config.preset]
    }
    return plan_scene(bracket, receipts, config=config, dataset=dataset)


def _failure_path(dataset: Path, scene: str) -> Path:
    return dataset / "receipts" / scene / "failure.json"


def _begun(dataset: Path) -> Path:
    path = dataset / "receipts" / "shoot.json"
    if not path.is_file():
        raise DatasetError(
            f"{dataset}: not a dataset that was built here (no receipts/shoot.json). "
            "Make one with: defocus-ds build SHOOT -o DATASET"
        )
    return path


def _claim(dataset: Path) -> None:
    """Make the folder, or check that it is ours: never build into someone's files."""
    dataset.mkdir(parents=True, exist_ok=True)
    foreign = [p.name for p in dataset.iterdir() if not p.name.startswith(".")]
    if foreign and not (dataset / "receipts").is_dir() and not (dataset / "dataset.json").is_file():
        raise DatasetError(
            f"{dataset}: the folder is not empty and not a dataset (it has {foreign[0]!r}). "
            "Choose an empty or new folder with -o."
        )
