"""Splits: by scene, from a hash, the same when the dataset grows; exact counts, balanced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defocus_ds.dataset.split import assign_splits, choose, hash_fraction
from defocus_ds.errors import TooFewCrops

NAMES = [f"scene{i:03}" for i in range(2000)]


def grid(count: int) -> np.ndarray:
    return np.array([[64 * i, 0] for i in range(count)], np.int32).reshape(-1, 2)


def test_hash_fraction_is_uniform() -> None:
    values = np.sort([hash_fraction(0, "scene", i) for i in range(20_000)])
    # Kolmogorov-Smirnov distance; 1.63 / sqrt(n) is the 1 % point
    assert np.abs(values - np.arange(20_000) / 20_000).max() < 1.63 / 20_000**0.5


def test_shares_come_out() -> None:
    splits = assign_splits(NAMES, seed=3, test_share=0.1, val_share=0.2).by_scene
    share = {name: list(splits.values()).count(name) / 2000 for name in ("train", "val", "test")}
    assert share["test"] == pytest.approx(0.1, abs=0.03)
    assert share["val"] == pytest.approx(0.2, abs=0.04)


def test_a_scene_keeps_its_split_when_the_dataset_grows() -> None:
    few = assign_splits(NAMES[:100], seed=0, test_share=0.1, val_share=0.1)
    many = assign_splits(reversed(NAMES), seed=0, test_share=0.1, val_share=0.1)
    assert few.forced is None
    assert few.by_scene == {name: many.by_scene[name] for name in NAMES[:100]}


def test_another_seed_is_another_split() -> None:
    one, two = (assign_splits(NAMES, seed=s, test_share=0.5, val_share=0).by_scene for s in (0, 1))
    assert 0.4 < np.mean([one[n] != two[n] for n in NAMES]) < 0.6


def test_the_lowest_hash_is_made_test_when_none_is() -> None:
    splits = assign_splits(["a", "b", "c"], seed=0, test_share=1e-9, val_share=0.0)
    lowest = min("abc", key=lambda name: hash_fraction(0, name))
    assert splits.forced == lowest
    assert [s for s, split in splits.by_scene.items() if split == "test"] == [lowest]


def test_nothing_is_forced_for_one_scene_or_without_a_test_share() -> None:
    assert assign_splits(["a"], seed=0, test_share=1e-9, val_share=0).by_scene == {"a": "train"}
    none = assign_splits(["a", "b"], seed=0, test_share=0.0, val_share=0.0)
    assert none.forced is None
    assert set(none.by_scene.values()) == {"train"}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.data())
def test_choose_is_exact_and_as_even_as_can_be(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, sum(sizes)))
    crops = {f"s{i}": grid(n) for i, n in enumerate(sizes)}
    chosen = choose(crops, count, seed=1)
    took = {scene: len(index) for scene, index in chosen.items()}
    assert sum(took.values()) == count
    for scene, index in chosen.items():
        assert len(set(index.tolist())) == len(index)
        assert list(index) == sorted(index)
        if took[scene] < len(crops[scene]):  # it had more to give, so no other got 2 more
            assert max(took.values()) <= took[scene] + 1


def test_choose_does_not_depend_on_the_order_or_on_crops_not_chosen() -> None:
    crops = {"a": grid(50), "b": grid(30)}
    first = choose(crops, 20, seed=5)
    other = choose(dict(reversed(crops.items())), 20, seed=5)
    assert {s: i.tolist() for s, i in first.items()} == {s: i.tolist() for s, i in other.items()}
    taken = set(first["a"].tolist())
    spare = next(i for i in range(50) if i not in taken)
    fewer = choose({"a": np.delete(grid(50), spare, axis=0), "b": grid(30)}, 20, seed=5)
    places = {tuple(xy) for xy in np.delete(grid(50), spare, axis=0)[fewer["a"]].tolist()}
    assert places == {tuple(xy) for xy in grid(50)[first["a"]].tolist()}


def test_choose_changes_with_the_seed() -> None:
    one, two = (choose({"a": grid(100)}, 50, seed=s)["a"].tolist() for s in (0, 1))
    assert one != two


def test_choose_says_what_there_is() -> None:
    with pytest.raises(TooFewCrops, match="10 crops asked for, 7 pass"):
        choose({"a": grid(3), "b": grid(4)}, 10, seed=0)
