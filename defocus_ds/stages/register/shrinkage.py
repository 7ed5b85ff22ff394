"""What of many noisy local measurements is real: empirical Bayes on a grid, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Field", "NoiseFactors", "Shrunk", "noise_factors", "shrink"]

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BLOCKS = (4, 2, 1)  # cells per side of what is looked at, coarse to fine
# the smallest deviation of real values that is told from noise, in median deviations of the noise
_SMALLEST = {4: 0.7, 2: 2.0, 1: 4.0}
# noise is not quite Gaussian: a mixture of so many times what the covariance says
_TAILS = {4: (1.0, 1.5), 2: (1.0, 1.5), 1: (1.0, 1.5, 2.5)}
_PENALTY = 10.0  # so many cells more are counted as noise
_LEAST_GAIN = 6.0  # log-likelihood that real values must add over noise alone
_STEPS = 40
_LEAST_FACTOR = 0.25
_MOST_GROWTH = 1.25  # of the noise factor when blocks double: more is not noise
_FEWEST_NEIGHBOURS = 8
_UNKNOWN_FACTOR = 3.0  # of noise that too few neighbours tell; what sparse texture has
_MEDIAN_CHI2 = {1: 0.45494, 2: 1.38629}


@dataclass(frozen=True, slots=True)
class Field:
    """Measurements of D numbers on a grid of cells.

    ``value`` (N, D), ``covariance`` (N, D, D), ``known`` (N,); N is ``rows * columns``, row by
    row.
    """

    value: Values
    covariance: Values
    known: Mask
    rows: int
    columns: int


NoiseFactors = dict[int, float]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Posterior of the real values: ``mean`` (N, D) and ``spread`` (N,), the trace of its
    covariance at the finest step."""

    mean: Values
    spread: Values


def noise_factors(field: Field) -> NoiseFactors:
    """How many times larger the noise is than the covariances say, for each size of block.

    Neighbouring cells mostly share their real value, so the median of their squared differences
    tells the noise, whatever the few say that lie across an edge.  Errors that neighbours share
    make the factor grow with the blocks; where real differences of blocks would make it grow
    faster than noise does, it is held back.
    """
    factors = {1: max(_by_neighbours(field), _LEAST_FACTOR)}
    for finer, blocks in ((1, 2), (2, 4)):
        least = factors[finer]
        pooled, _ = _pooled(field, blocks)
        factors[blocks] = float(np.clip(_by_neighbours(pooled), least, _MOST_GROWTH * least))
    return factors


def shrink(field: Field, factors: NoiseFactors) -> Shrunk:
    """Separate real values from noise, block by block and then cell by cell.

    At each size of block the values are taken for a mixture of noise and of Gaussians about zero
    of many widths, whose shares maximise the likelihood; what the mixture believes is taken off
    before the next size.  Nothing is real unless noise alone explains the values much worse.

    Args:
        field: the measurements.
        factors: from `noise_factors`.

    Source:
        Stephens 2017 (adaptive shrinkage).
    """
    mean = np.zeros_like(field.value)
    spread = np.zeros(len(mean))
    for blocks in BLOCKS:
        rest = Field(
            field.value - mean,
            field.covariance * factors[blocks] ** 2,
            field.known,
            field.rows,
            field.columns,
        )
        pooled, member = _pooled(rest, blocks)
        found = np.zeros_like(pooled.value)
        square = np.zeros(len(found))
        if pooled.known.any():
            found[pooled.known], square[pooled.known] = _posterior(
                pooled.value[pooled.known],
                pooled.covariance[pooled.known],
                smallest=_SMALLEST[blocks],
                tails=_TAILS[blocks],
            )
        mean = mean + found[member]
        spread = np.maximum(square - (found**2).sum(axis=1), 0)[member]
    return Shrunk(mean, spread)


def _by_neighbours(field: Field) -> float:
    """Root of the median squared difference of neighbours over what it should be."""
    index = np.arange(len(field.known)).reshape(field.rows, field.columns)
    first = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    second = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    both = field.known[first] & field.known[second]
    if both.sum() < _FEWEST_NEIGHBOURS:
        return _UNKNOWN_FACTOR
    first, second = first[both], second[both]
    difference = field.value[first] - field.value[second]
    precision = np.linalg.inv(field.covariance[first] + field.covariance[second])
    square = np.einsum("ni,nij,nj->n", difference, precision, difference)
    return float(np.sqrt(np.median(square) / _MEDIAN_CHI2[difference.shape[1]]))


def _pooled(field: Field, blocks: int) -> tuple[Field, npt.NDArray[np.intp]]:
    """Precision-weighted means over ``blocks x blocks`` cells, and the block of each cell."""
    if blocks == 1:
        return field, np.arange(len(field.known))
    rows, columns = (-(-n // blocks) for n in (field.rows, field.columns))
    row, column = np.divmod(np.arange(len(field.known)), field.columns)
    member = (row // blocks) * columns + column // blocks
    dimension = field.value.shape[1]
    total = np.zeros((rows * columns, dimension, dimension))
    weighted = np.zeros((rows * columns, dimension))
    precision = np.linalg.inv(field.covariance[field.known])
    np.add.at(total, member[field.known], precision)
    np.add.at(
        weighted,
        member[field.known],
        np.einsum("nij,nj->ni", precision, field.value[field.known]),
    )
    cells = np.bincount(member, minlength=rows * columns)
    known = np.bincount(member[field.known], minlength=rows * columns) >= cells / 2
    covariance = np.broadcast_to(np.eye(dimension), total.shape).copy()
    covariance[known] = np.linalg.inv(total[known])
    value = np.zeros_like(weighted)
    value[known] = np.einsum("nij,nj->ni", covariance[known], weighted[known])
    return Field(value, covariance, known, rows, columns), member


def _posterior(
    value: Values, covariance: Values, *, smallest: float, tails: tuple[float, ...]
) -> tuple[Values, Values]:
    """(N, D) posterior mean, and (N,) expected squared length, of the real values."""
    noise, axes = np.linalg.eigh(covariance)
    noise = np.maximum(noise, 1e-14)
    along = np.einsum("nji,nj->ni", axes, value)
    low = smallest * float(np.sqrt(np.median(noise.mean(axis=1))))
    high = max(2 * float(np.linalg.norm(value, axis=1).max()), 2 * low)
    widths = low * 2 ** np.arange(0, np.log2(high / low) + 1, 0.5)
    real = np.concatenate([np.zeros(len(tails)), widths])
    factor = np.concatenate([tails, np.ones(len(widths))])
    variance = noise[:, None, :] * factor[None, :, None] ** 2 + real[None, :, None] ** 2
    likelihood = -0.5 * (along[:, None, :] ** 2 / variance + np.log(variance)).sum(axis=-1)
    shares, level = _shares(likelihood)
    alone, level_alone = _shares(likelihood[:, : len(tails)])
    if level - level_alone < _LEAST_GAIN:
        shares = np.concatenate([alone, np.zeros(len(widths))])
    weight = _responsibility(likelihood, shares)[0]
    kept = real[None, :, None] ** 2 / variance
    mean = (weight[:, :, None] * kept * along[:, None, :]).sum(axis=1)
    square = weight[:, :, None] * (kept**2 * along[:, None, :] ** 2 + kept * noise[:, None, :])
    return np.einsum("nij,nj->ni", axes, mean), np.asarray(square.sum(axis=(1, 2)))


def _shares(likelihood: Values) -> tuple[Values, float]:
    """Shares of the components by expectation maximisation, and their log-likelihood."""
    shares = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(_STEPS):
        counts = _responsibility(likelihood, shares)[0].sum(axis=0)
        counts[0] += _PENALTY
        shares = counts / counts.sum()
    return shares, _responsibility(likelihood, shares)[1]


def _responsibility(likelihood: Values, shares: Values) -> tuple[Values, float]:
    top = likelihood.max(axis=1, keepdims=True)
    joint = np.exp(likelihood - top) * shares
    total = joint.sum(axis=1, keepdims=True)
    total = np.maximum(total, np.finfo(np.float64).tiny)
    return joint / total, float((np.log(total) + top).sum())
