"""What a scene still needs is decided from receipts, files and configuration."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from defocus_ds.config import BuildConfig, load_config
from defocus_ds.frames import Bracket, Capture, CaptureInfo, Level
from defocus_ds.pipeline.plan import (
    STAGES,
    ScenePlan,
    chain_digest,
    current_versions,
    file_stamps,
    plan_scene,
    stage_config_digest,
)
from defocus_ds.store import Receipt, sha256_bytes

CONFIG = BuildConfig()
ORDER = STAGES["accurate"]


@pytest.fixture
def bracket(tmp_path: Path) -> Bracket:
    captures = []
    for level in Level:
        path = tmp_path / f"{level}.png"
        path.write_bytes(b"x")
        captures.append(Capture(path, level, level.offset, CaptureInfo("image", 8, 8, 8)))
    return Bracket("s", tuple(captures))


def receipts_of(bracket: Bracket, dataset: Path) -> dict[str, Receipt | None]:
    """A finished scene: work files gone, the rendered image there."""
    (dataset / "images").mkdir(parents=True)
    (dataset / "images/s.png").write_bytes(b"12345")
    receipts: dict[str, Receipt | None] = {}
    inputs = file_stamps(bracket, bracket.sharp.path.parent)
    for stage in ORDER:
        outputs = {"develop": {"work/s/a.npy": b"123"}, "render": {"images/s.png": b"12345"}}
        hashes = {name: sha256_bytes(data) for name, data in outputs.get(stage, {}).items()}
        receipt = Receipt(
            stage,
            "s",
            stage_config_digest(CONFIG, stage),
            current_versions(stage),
            inputs,
            hashes,
            {"of": stage},
        )
        receipts[stage] = receipt
        inputs = {"previous": chain_digest(receipt)}
    return receipts


def plan(
    bracket: Bracket, receipts: dict[str, Receipt | None], dataset: Path, config: BuildConfig
) -> ScenePlan:
    shoot = bracket.sharp.path.parent
    return plan_scene(bracket, receipts, config=config, shoot=shoot, dataset=dataset)


def test_new_scene_needs_everything(bracket: Bracket, tmp_path: Path) -> None:
    assert plan(bracket, {}, tmp_path, CONFIG).todo == ORDER


def test_finished_scene_needs_nothing(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    assert plan(bracket, receipts, tmp_path / "d", CONFIG).todo == ()


def test_touched_but_equal_capture_is_hashed_again_first(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    os.utime(bracket.sharp.path, ns=(1, 1))
    found = plan(bracket, receipts, tmp_path / "d", CONFIG)
    assert found.todo[0] == "ingest"
    assert "changed" in found.why


def test_lost_image_is_made_again_from_the_raw(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    (tmp_path / "d/images/s.png").unlink()
    assert plan(bracket, receipts, tmp_path / "d", CONFIG).todo == ORDER[1:]


def test_image_changed_behind_our_back_is_made_again(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    (tmp_path / "d/images/s.png").write_bytes(b"12645")
    assert plan(bracket, receipts, tmp_path / "d", CONFIG).todo == ORDER[1:]


def test_interrupted_scene_goes_on_where_its_files_allow(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    receipts["colour"] = receipts["render"] = None
    assert plan(bracket, receipts, tmp_path / "d", CONFIG).todo == ORDER[1:]
    (tmp_path / "d/work/s").mkdir(parents=True)
    (tmp_path / "d/work/s/a.npy").write_bytes(b"123")
    assert plan(bracket, receipts, tmp_path / "d", CONFIG).todo == ("colour", "render")


def test_changed_option_redoes_its_stage_and_what_follows(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    (tmp_path / "d/work/s").mkdir(parents=True)
    (tmp_path / "d/work/s/a.npy").write_bytes(b"123")
    changed = load_config(settings=["colour.iterations=3"])
    found = plan(bracket, receipts, tmp_path / "d", changed)
    assert found.todo == ("colour", "render")
    assert found.why == "configuration of colour changed"
    limits = load_config(settings=["limits.decode_timeout_s=9"])
    assert plan(bracket, receipts, tmp_path / "d", limits).todo == ()


def test_other_library_version_is_not_mixed_in(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    register = receipts["register"]
    assert register is not None
    receipts["register"] = replace(register, versions={"SimpleITK": "0"})
    found = plan(bracket, receipts, tmp_path / "d", CONFIG)
    assert found.why == "library versions of register changed"
    assert found.todo == ORDER[1:]


def test_altered_receipt_breaks_the_chain(bracket: Bracket, tmp_path: Path) -> None:
    receipts = receipts_of(bracket, tmp_path / "d")
    register = receipts["register"]
    assert register is not None
    receipts["register"] = replace(register, result={"alignments": "other"})
    (tmp_path / "d/work/s").mkdir(parents=True)
    (tmp_path / "d/work/s/a.npy").write_bytes(b"123")
    assert plan(bracket, receipts, tmp_path / "d", CONFIG).todo == ("colour", "render")
