"""The splits of a release: whole groups, balanced by crops, kept when the dataset grows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defocus_ds.dataset.duplicates import Duplicate
from defocus_ds.dataset.frozen import freeze_splits, grow_splits, read_splits, splits_csv
from defocus_ds.errors import ConfigError, DatasetError

ALONE = {f"scene{i:02}": 10 + i % 7 for i in range(40)}


def own(crops: Mapping[str, object]) -> dict[str, str]:
    return {scene: scene for scene in crops}


def share(splits: dict[str, str], crops: dict[str, int], split: str) -> float:
    return sum(n for s, n in crops.items() if splits[s] == split) / sum(crops.values())


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_of_the_crops(seed: int) -> None:
    # one scene has as many crops as ten others
    crops = ALONE | {"scene00": 100}
    found = freeze_splits(crops, own(crops), seed=seed, test_share=0.2, val_share=0.1)
    assert share(found.by_scene, crops, "test") == pytest.approx(0.2, abs=0.02)
    assert share(found.by_scene, crops, "val") == pytest.approx(0.1, abs=0.02)
    assert found.left_out == {}


@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=12),
    groups=st.integers(1, 5),
    seed=st.integers(0, 5),
)
def test_a_group_is_in_one_split_and_something_is_left_to_train_on(
    sizes: list[int], groups: int, seed: int
) -> None:
    crops = {f"s{i}": n for i, n in enumerate(sizes)}
    grouped = {f"s{i}": f"s{i % groups}" for i in range(len(sizes))}
    found = freeze_splits(crops, grouped, seed=seed, test_share=0.3, val_share=0.2).by_scene
    assert set(found) == set(crops)
    for group in set(grouped.values()):
        assert len({found[scene] for scene in crops if grouped[scene] == group}) == 1
    assert "train" in found.values()
    if len(set(grouped.values())) > 1:
        assert "test" in found.values()


def test_a_share_of_nothing_is_nothing() -> None:
    found = freeze_splits(ALONE, own(ALONE), seed=0, test_share=0, val_share=0)
    assert set(found.by_scene.values()) == {"train"}


LOW, BOTH = {"low"}, {"low", "high"}


@given(
    both=st.lists(st.booleans(), min_size=1, max_size=10),
    seed=st.integers(0, 20),
    share=st.sampled_from([0.02, 0.1, 0.3, 0.45]),
)
def test_every_level_has_test_and_train_crops_where_it_can(
    both: list[bool], seed: int, share: float
) -> None:
    levels = {f"s{i}": BOTH if whole else LOW for i, whole in enumerate(both)}
    crops = {scene: 10 * len(own) for scene, own in levels.items()}
    ask = {"seed": seed, "test_share": share, "val_share": share}
    found = freeze_splits(crops, own(crops), levels=levels, **ask).by_scene
    whole = [scene for scene in levels if levels[scene] == BOTH]
    assert {found[scene] for scene in whole} >= set(("train", "test")[: len(whole)])
    assert "train" in found.values()


def test_a_group_has_the_levels_of_all_its_scenes() -> None:
    levels = {"a": {"low"}, "b": {"high"}, "c": BOTH, "d": LOW}
    crops = dict.fromkeys(levels, 10)
    groups = own(crops) | {"b": "a"}
    ask = {"test_share": 0.2, "val_share": 0.0, "levels": levels}
    for seed in range(6):
        found = freeze_splits(crops, groups, seed=seed, **ask).by_scene
        test = {scene for scene, split in found.items() if split == "test"}
        assert test in ({"a", "b"}, {"c"})


def test_a_set_asked_for_is_not_empty_however_large_the_scenes_are() -> None:
    crops = {"a": 900, "b": 800, "c": 1000}
    found = freeze_splits(crops, own(crops), seed=0, test_share=0.05, val_share=0)
    assert [s for s, split in found.by_scene.items() if split == "test"] == ["b"]


def twins(one: str, other: str) -> Duplicate:
    return Duplicate(*sorted((one, other)), 30, 0.5)


def test_the_sets_held_out_stay_when_the_dataset_grows() -> None:
    before = freeze_splits(ALONE, own(ALONE), seed=0, test_share=0.2, val_share=0.1).by_scene
    test = next(s for s, split in before.items() if split == "test")
    train = next(s for s, split in before.items() if split == "train")
    grown = [*ALONE, "new0", "new1", "new2"]
    pairs = [twins("new1", test), twins("new2", train)]
    found = grow_splits(grown, pairs, previous=before)
    assert found.by_scene == dict(sorted((before | {"new0": "train", "new2": "train"}).items()))
    assert found.left_out == {"new1": f"leak: a near-duplicate of {test}, held out for test"}


def test_what_was_held_out_is_not_trained_on_when_it_is_gone() -> None:
    found = grow_splits(
        ["a", "twin"], [twins("gone", "twin")], previous={"a": "train", "gone": "test"}
    )
    assert found.by_scene == {"a": "train"}
    assert found.left_out == {"twin": "leak: a near-duplicate of gone, held out for test"}


def test_a_new_scene_between_two_old_ones_is_what_is_left_out() -> None:
    before = {"a": "test", "b": "train"}
    pairs = [twins("a", "c"), twins("b", "c"), twins("c", "d")]
    found = grow_splits("abcd", pairs, previous=before)
    assert found.by_scene == before
    assert set(found.left_out) == {"c", "d"}


def test_a_previous_release_that_leaks_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"leaks: .* a \(test\), b \(train\)\. Leave one out"):
        grow_splits("ab", [twins("a", "b")], previous={"a": "test", "b": "train"})


@pytest.mark.parametrize(("test", "val"), [(0.8, 0.8), (-0.1, 0), (float("nan"), 0)])
def test_shares_that_are_none_are_refused(test: float, val: float) -> None:
    with pytest.raises(ConfigError, match="give shares of at least 0 and at most 1 together"):
        freeze_splits(ALONE, own(ALONE), seed=0, test_share=test, val_share=val)


def test_the_table_is_read_back(tmp_path: Path) -> None:
    splits = {'a, "b"': "test", "ä": "train"}
    (tmp_path / "splits.csv").write_text(splits_csv(splits, own(splits)), encoding="utf-8")
    assert read_splits(tmp_path) == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene,split\n", "the columns are not scene, split, group"),
        ("scene,split,group\na,exam,a\n", "line 2: .*exam.* is not a split"),
        ("scene,split,group\na,test,a\na,train,a\n", "line 3"),
        ("scene,split,group\na,test\n", "line 2"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_splits(tmp_path)


def test_a_folder_without_splits_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no splits\.csv"):
        read_splits(tmp_path)
