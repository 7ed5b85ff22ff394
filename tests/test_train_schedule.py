"""The learning rate: ends where the recipe says, and falls as its name says."""

from __future__ import annotations

import pytest

from defocus_ds_train.recipe import Recipe, load_recipe
from defocus_ds_train.schedule import learning_rate


def rates(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    return [
        learning_rate(recipe, step, steps_per_epoch=steps_per_epoch)
        for step in range(recipe.epochs * steps_per_epoch)
    ]


@pytest.mark.parametrize("fall", ["cosine", "exponential", "linear"])
def test_falls_steadily_from_first_to_last(fall: str) -> None:
    recipe = Recipe(epochs=5, first_rate=1e-4, last_rate=1e-12, fall=fall)
    found = rates(recipe, 100)
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(1e-12, rel=1e-6)
    assert 0.9 * 1e-4 < found[0] <= 1e-4
    middle = {"cosine": 0.5e-4, "linear": 0.5e-4, "exponential": 1e-8}[fall]
    assert found[249] == pytest.approx(middle, rel=1e-3)


def test_a_cosine_is_flat_at_both_ends() -> None:
    found = rates(Recipe(epochs=10, first_rate=1.0, last_rate=1e-12), 100)
    steps = [a - b for a, b in zip(found, found[1:], strict=False)]
    assert max(steps[:10] + steps[-10:]) < 0.1 * max(steps)


def test_real_q_holds_and_falls_over_the_last_20_epochs() -> None:
    recipe = load_recipe("real-q")
    found = rates(recipe, 10)
    assert set(found[: 35 * 10]) == {1e-4}
    assert found[35 * 10] < 1e-4
    assert found[-1] == pytest.approx(1e-12, rel=1e-6)


def test_one_step_is_enough() -> None:
    assert rates(Recipe(epochs=1, last_rate=1e-5), 1) == [pytest.approx(1e-5)]
