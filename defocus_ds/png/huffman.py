"""Huffman codes of literals as DEFLATE (RFC 1951) writes them: lengths and canonical codes."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = [
    "END",
    "LENGTHS_ORDER",
    "LONGEST",
    "SYMBOLS",
    "by_length",
    "canonical_codes",
    "code_lengths",
    "next_code",
]

LONGEST = 12  # bits of the longest code: the decoder's table has 2^12 entries
END = 256  # the symbol after the last literal of a block
SYMBOLS = 257
# the order in which a block lists the lengths of the code of its code lengths
LENGTHS_ORDER = np.array(
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64
)


@numba.njit(cache=True, nogil=True)
def code_lengths(weights: Any, limit: Any, lengths: Any) -> None:
    """Huffman's code lengths, shortened to ``limit``; 0 where the weight is 0.

    At least two weights must be above 0.
    """
    lengths[: weights.size] = 0
    keys = np.zeros(weights.size, np.int64)
    leaves = 0
    for symbol in range(weights.size):
        if weights[symbol] > 0:
            keys[leaves] = weights[symbol] * 512 + symbol
            leaves += 1
    keys = keys[:leaves]
    _sort(keys)
    weight = np.zeros(2 * leaves - 1, np.int64)
    parent = np.zeros(2 * leaves - 1, np.int64)
    weight[:leaves] = keys // 512
    leaf, inner = 0, leaves
    for made in range(leaves, 2 * leaves - 1):  # the two lightest nodes become one
        for _ in range(2):
            if leaf < leaves and (inner >= made or weight[leaf] <= weight[inner]):
                taken = leaf
                leaf += 1
            else:
                taken = inner
                inner += 1
            weight[made] += weight[taken]
            parent[taken] = made
    depth = np.zeros(2 * leaves - 1, np.int64)
    of_length = np.zeros(limit + 1, np.int64)
    for node in range(2 * leaves - 3, -1, -1):
        depth[node] = depth[parent[node]] + 1
        if node < leaves:
            of_length[min(depth[node], limit)] += 1
    space = 0  # taken up in units of the longest code; codes that were cut take too much
    for length in range(1, limit + 1):
        space += of_length[length] << (limit - length)
    while space > 1 << limit:
        of_length[limit] -= 1
        length = limit - 1
        while of_length[length] == 0:
            length -= 1
        of_length[length] -= 1
        of_length[length + 1] += 2
        space -= 1
    length = limit
    for key in keys:  # the rarest get the longest
        while of_length[length] == 0:
            length -= 1
        of_length[length] -= 1
        lengths[key % 512] = length


@numba.njit(cache=True, nogil=True)
def canonical_codes(lengths: Any, codes: Any) -> None:
    """Canonical codes, first bit lowest."""
    order, of_length = by_length(lengths)
    code, k = 0, 0
    for length in range(1, of_length.size):
        for _ in range(of_length[length]):
            codes[order[k]] = code
            code = next_code(code, length)
            k += 1


@numba.njit(cache=True, nogil=True)
def by_length(lengths: Any) -> Any:
    """The symbols that have a code, shortest first, and how many there are of each length."""
    of_length = np.zeros(16, np.int64)
    for length in lengths:
        of_length[length] += 1
    of_length[0] = 0
    start = np.zeros(17, np.int64)
    for length in range(1, 16):
        start[length + 1] = start[length] + of_length[length]
    order = np.zeros(lengths.size, np.int64)
    for symbol in range(lengths.size):
        length = lengths[symbol]
        if length > 0:
            order[start[length]] = symbol
            start[length] += 1
    return order, of_length


@numba.njit(cache=True, nogil=True)
def next_code(code: Any, length: Any) -> Any:
    """The code after one of ``length`` bits; first bit lowest, so it carries downwards."""
    bit = 1 << (length - 1)
    while code & bit:
        code ^= bit
        bit >>= 1
    return code | bit


@numba.njit(cache=True, nogil=True)
def _sort(keys: Any) -> None:
    """Shell's sort; numpy's takes seconds to compile."""
    for gap in (132, 57, 23, 10, 4, 1):
        for i in range(gap, keys.size):
            key, j = keys[i], i
            while j >= gap and keys[j - gap] > key:
                keys[j] = keys[j - gap]
                j -= gap
            keys[j] = key
