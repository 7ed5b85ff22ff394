"""The report points at near-duplicate scenes and at pairs of another tint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from built_dataset import image_row, make_dataset, write_dataset
from PIL import Image

from defocus_ds.dataset.duplicates import Duplicate
from defocus_ds.dataset.manifest import read_scenes
from defocus_ds.frames import Level
from defocus_ds.report import report
from defocus_ds.report.flags import flags_of
from defocus_ds.report.pairs import PairView, pair_view


def view(scene: str, level: str, colour_before: float | None, verdict: str = "keep") -> PairView:
    colour = {} if colour_before is None else {"ciede2000": {"before": colour_before}}
    return pair_view(
        {
            "scene": scene,
            "level": level,
            "verdict": verdict,
            "width": 100,
            "height": 80,
            "colour": json.dumps(colour),
        }
    )


def test_a_pair_of_another_tint_is_flagged() -> None:
    usual = [view("a", "low", 1.0), view("a", "high", 1.2), view("b", "low", 0.8)]
    rejected = view("c", "high", 9.0, "reject")
    pairs = [*usual, view("b", "high", 6.2), view("c", "low", None), rejected]
    assert flags_of(pairs, []) == {
        "b/high": ("tinted: ΔE 6.20 as shot, 1.10 in the median of all pairs",)
    }


@pytest.mark.parametrize("colours", [[2.9, 0.3, 0.3], [5.0, 5.5, 6.0], [None, None, None]])
def test_what_nobody_sees_or_all_have_is_not_flagged(colours: list[float | None]) -> None:
    pairs = [view(name, "low", value) for name, value in zip("abc", colours, strict=True)]
    assert flags_of(pairs, []) == {}


def test_both_scenes_of_a_duplicate_are_flagged_at_every_level() -> None:
    pairs = [view(scene, level, 1.0) for scene in "abc" for level in ("low", "high")]
    found = flags_of(pairs, [Duplicate("a", "c", 214, 0.54)])
    assert set(found) == {"a/low", "a/high", "c/low", "c/high"}
    assert found["c/low"] == ("near-duplicate of a: 214 points lie alike (54%)",)


def test_a_planted_duplicate_is_on_the_page_also_the_second_time(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", scenes=3)
    rows = read_scenes(root / "scenes.parquet")
    (root / "images/again").mkdir()
    for level in (Level.SHARP, Level.LOW):
        with Image.open(root / f"images/scene01/{level}.png") as image:
            moved = np.roll(np.asarray(image), 7, axis=1)
        Image.fromarray(moved).save(root / f"images/again/{level}.png")
        rows.append(image_row(root, "again", level))
    write_dataset(root, rows)
    text = report(root).read_text(encoding="utf-8")
    assert "near-duplicate of scene01: " in text
    assert "near-duplicate of again: " in text
    assert "near-duplicate of scene00" not in text
    assert "2 flagged as tinted or near-duplicates" in text
    assert report(root).read_text(encoding="utf-8") == text
