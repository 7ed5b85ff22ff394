"""The learning rate as a function of the step, and of nothing else."""

from __future__ import annotations

import math

from defocus_ds_train.recipe import Recipe

__all__ = ["learning_rate"]


def learning_rate(recipe: Recipe, step: int, *, steps_per_epoch: int) -> float:
    """Rate of one optimiser step.

    ``first_rate`` for ``hold_epochs``, then down to ``last_rate``, which the last step has: by
    half a cosine, by a constant factor a step, or by a constant amount a step.

    Args:
        recipe: its rates, epochs and ``fall``.
        step: 0-based, over the whole run.
        steps_per_epoch: at least 1.

    Returns:
        A rate in [``last_rate``, ``first_rate``].

    >>> recipe = Recipe(epochs=3, hold_epochs=1, first_rate=1.0, last_rate=0.5, fall="linear")
    >>> [round(learning_rate(recipe, step, steps_per_epoch=2), 3) for step in range(6)]
    [1.0, 1.0, 0.875, 0.75, 0.625, 0.5]
    """
    held = recipe.hold_epochs * steps_per_epoch
    falling = recipe.epochs * steps_per_epoch - held
    done = min(max(step + 1 - held, 0) / falling, 1.0)
    first, last = recipe.first_rate, recipe.last_rate
    if done == 0:
        return first
    if recipe.fall == "exponential":
        return float(first * (last / first) ** done)
    left = (1 + math.cos(math.pi * done)) / 2 if recipe.fall == "cosine" else 1 - done
    return last + (first - last) * left
