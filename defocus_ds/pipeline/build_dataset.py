"""`build`: a shoot becomes a dataset, resumably."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from defocus_ds.config import BuildConfig
from defocus_ds.dataset.folders import only_writer, remove_strays
from defocus_ds.dataset.stale import crop_again, stale_levels
from defocus_ds.errors import DatasetError, NotWritten
from defocus_ds.frames import Bracket, Complaint, Level, Pair
from defocus_ds.pipeline.assemble import assemble
from defocus_ds.pipeline.claim import changed_options, check_place, refuse_to_lose
from defocus_ds.pipeline.journal import (
    Journal,
    clear_failure,
    failure_basis,
    read_failure,
    read_journal,
    write_failure,
    write_journal,
)
from defocus_ds.pipeline.look import apply_skips, look
from defocus_ds.pipeline.place import choose_place, lack_of_room
from defocus_ds.pipeline.plan import STAGES, ScenePlan, plan_scene
from defocus_ds.pipeline.pool import StageEvent
from defocus_ds.pipeline.task import StageTask
from defocus_ds.store import read_receipt

__all__ = ["BuildReport", "build"]

_MOST_UNWRITTEN = 3  # scenes with none finished between: the disk is full for all


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


def build(
    shoot: Path | str,
    dataset: Path | str,
    *,
    preset: str | None = None,
    config: BuildConfig | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    skip: Sequence[str] = (),
    retry_failed: bool = False,
    replace_scenes: bool = False,
    on_scan: Callable[[str, int, int], None] | None = None,
    on_plan: Callable[[BuildConfig, Sequence[ScenePlan]], None] | None = None,
    on_event: Callable[[StageEvent], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> BuildReport:
    """Develop, align and colour-match every scene of a shoot; resume where it stopped.

    Args:
        shoot: folder of captures; it is never written to.
        dataset: folder to make or to go on with.
        preset: "accurate" or "paper"; not together with ``config``.
        config: full configuration.  Without either, a dataset that was begun goes on with its
            own; a new one is "accurate".
        jobs: worker processes; None chooses by cores, free memory and ``limits.stage_memory_mb``.
        scheduler: work on a Dask cluster instead: ``tcp://host:8786``, the path of a scheduler
            file, or ``local:N``.  All workers must see both folders under the same paths.
        skip: scenes ("scene01") or pairs ("scene01/high") to leave out.
        retry_failed: try scenes again that failed before with the same files.
        replace_scenes: let go of built scenes that the shoot has no more, or has otherwise, or
            that were built with other options.
        on_scan: called while captures are looked at, with what, how many are done, of how many.
        on_plan: called with what is to do, before the work; captures whose times changed are
            hashed first, and then it is called again with what is left.
        on_event: called as each stage of each scene ends.
        on_notice: called with a line when a cluster's worker is refused or lost, when memory
            allows fewer workers than there are cores, or when the disk will not hold the images.

    Returns:
        The report; failures and rejections are in it, they are not raised.

    Raises:
        ShootError: no usable scene.
        InputError: an unknown name in ``skip``, nonsense in ``preset``, a scheduler that is not
            reached.
        ClusterFailed: the scheduler is gone, or no worker of it is fit.
        NotWritten: no room or no permission, for three scenes with none finished between them,
            or for the tables.
        DatasetError: another build is running on the folder, it is something else's, or it holds
            scenes that the shoot lacks or that were built with other options.
    """
    shoot, dataset = Path(shoot).resolve(), Path(dataset).resolve()
    config = _options(dataset, preset, config, replace_scenes)
    check_place(shoot, dataset)
    place = choose_place(config.limits, jobs=jobs, scheduler=scheduler, on_notice=on_notice)
    found, listing = look(shoot, dataset, config, on_scan)
    brackets, skipped = apply_skips(found.brackets, skip)
    left_out = tuple((c.where, c.message) for c in found.errors)
    dataset.mkdir(parents=True, exist_ok=True)
    with only_writer(dataset, sweep=True):
        if not replace_scenes:
            refuse_to_lose(dataset, found)
        remove_strays(dataset / "report")
        out = tuple(scene for scene, level in skipped if level is Level.SHARP)
        names = tuple(bracket.scene for bracket in found.brackets)
        write_journal(dataset, Journal(str(shoot), config, names, out, left_out, listing))
        run = _Run(shoot, dataset, config, {b.scene: b for b in brackets}, place, on_event)
        if not retry_failed:
            run.recall_failures()
        plans = run.plans()
        if on_plan:
            on_plan(config, plans)
        if touched := [plan for plan in plans if _only_touched(plan)]:
            run.do([replace(plan, todo=plan.todo[:1]) for plan in touched])
            plans = run.plans()
            if on_plan:
                on_plan(config, plans)
        todo = (run.brackets[plan.scene] for plan in plans if plan.todo)
        if on_notice and (lack := lack_of_room(dataset, todo)):
            on_notice(lack)
        run.do(plans)
        if any(plan.todo for plan in plans):
            run.check()
        rows = assemble(
            dataset,
            list(found.brackets),
            shoot=shoot,
            config=config,
            failures=run.failures,
            skipped=skipped,
            left_out=left_out,
        )
    stale = [
        Complaint(
            "warning",
            f"crops/{level}",
            f"cut from an earlier build. Run: {crop_again(dataset, level)}",
        )
        for level in stale_levels(dataset)
    ]
    complaints = (*found.complaints, *run.same_captures(), *stale)
    return _report(dataset, rows, run.failures, complaints, run.done)


def _options(
    dataset: Path, preset: str | None, config: BuildConfig | None, replace_scenes: bool
) -> BuildConfig:
    """The configuration to build with: one dataset, one configuration."""
    given = config or (BuildConfig.from_preset(preset) if preset else None)
    try:
        recorded = read_journal(dataset).config
    except DatasetError:
        return given or BuildConfig.from_preset("accurate")
    if given is None:
        return recorded
    if given.digest() != recorded.digest() and not replace_scenes and (dataset / "images").is_dir():
        raise DatasetError(
            f"{dataset}: was built with other options ({changed_options(recorded, given)}). Choose "
            "another -o, leave them out, or give --replace to build it anew."
        )
    return given


class _Run:
    """The work of one build: plans from receipts, failures as they come, stages counted."""

    def __init__(
        self,
        shoot: Path,
        dataset: Path,
        config: BuildConfig,
        brackets: dict[str, Bracket],
        place: Callable[..., None],
        on_event: Callable[[StageEvent], None] | None,
    ) -> None:
        self.shoot, self.dataset, self.config = shoot, dataset, config
        self.brackets, self.place, self.on_event = brackets, place, on_event
        self.failures: dict[str, str] = {}
        self.done = 0
        self.unwritten = 0  # scenes since one was finished

    def recall_failures(self) -> None:
        """Scenes that failed before and would fail again: nothing about them has changed."""
        for scene, bracket in self.brackets.items():
            failure = read_failure(self.dataset, scene)
            if failure and failure["basis"] == failure_basis(bracket, self.shoot, self.config):
                self.failures[scene] = failure["error"]

    def plans(self) -> list[ScenePlan]:
        """What every scene that has not failed still needs."""
        return [self._plan(scene) for scene in self.brackets if scene not in self.failures]

    def do(self, plans: Sequence[ScenePlan]) -> None:
        """Run the stages of the plans where this build works."""
        self.place(
            plans,
            lambda scene, stage: StageTask(
                self.dataset, self.shoot, self.brackets[scene], self.config, stage
            ),
            on_event=self._note,
        )

    def check(self) -> None:
        """Done means verified: a scene whose receipts do not hold is a failure."""
        for plan in self.plans():
            if plan.todo:
                self.failures[plan.scene] = (
                    f"{plan.scene}: not done after the build ({plan.why}). Build again."
                )

    def same_captures(self) -> list[Complaint]:
        """Files that are in two scenes, as of a card copied twice: their crops would leak."""
        first: dict[str, str] = {}
        found = []
        for scene in self.brackets:
            receipt = read_receipt(self.dataset, scene, "ingest")
            for capture in receipt.result["captures"] if receipt else ():
                other = first.setdefault(capture["sha256"], scene)
                if other != scene:
                    text = (
                        f"{capture['file']} is the same file as one of {other}, and crop may put "
                        f"the two into different splits. Leave one out: --skip {scene}"
                    )
                    found.append(Complaint("warning", scene, text))
                    break
        return found

    def _plan(self, scene: str) -> ScenePlan:
        stages = STAGES[self.config.preset]
        return plan_scene(
            self.brackets[scene],
            {stage: read_receipt(self.dataset, scene, stage) for stage in stages},
            config=self.config,
            shoot=self.shoot,
            dataset=self.dataset,
        )

    def _note(self, event: StageEvent) -> None:
        if event.error:
            self.failures[event.scene] = event.error
            with suppress(OSError):  # a full disk: it is in the report, and will be tried again
                self._remember(event)
        else:
            self.done += 1
            if event.stage == STAGES[self.config.preset][-1]:
                clear_failure(self.dataset, event.scene)
                self.unwritten = 0
        if self.on_event:
            self.on_event(event)
        self.unwritten += not event.lasting
        if self.unwritten == _MOST_UNWRITTEN:
            raise NotWritten(
                f"stopped: {self.unwritten} scenes could not be written; {event.error}"
            )

    def _remember(self, event: StageEvent) -> None:
        """What would fail again is not tried again; what only lacked room is."""
        if not event.lasting:
            clear_failure(self.dataset, event.scene)
            return
        basis = failure_basis(self.brackets[event.scene], self.shoot, self.config)
        write_failure(self.dataset, event.scene, stage=event.stage, error=event.error, basis=basis)


def _only_touched(plan: ScenePlan) -> bool:
    """Captures whose names or times changed; after hashing, nothing may be left to do."""
    return plan.todo[:1] == ("ingest",) and "changed" in plan.why


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
