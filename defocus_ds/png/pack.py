"""DEFLATE streams (RFC 1951) of literals alone: what photographs need, and nothing else.

After a PNG filter a photograph has next to no repeats, so searching for them, where zlib spends
its time, gains nothing.  The same bytes give the same stream on any machine.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from defocus_ds.png.huffman import (
    END,
    LENGTHS_ORDER,
    LONGEST,
    SYMBOLS,
    canonical_codes,
    code_lengths,
)

__all__ = ["bound", "pack"]

_BLOCK = 1 << 16  # literals that share a code
_HEADER_BITS = 17 + 19 * 3 + (SYMBOLS + 1) * 14


def bound(size: int) -> int:
    """Most 32-bit words that `pack` writes for ``size`` bytes."""
    blocks = max(1, -(-size // _BLOCK))
    return (size * LONGEST + blocks * (_HEADER_BITS + LONGEST)) // 32 + 2


@numba.njit(cache=True, nogil=True)
def pack(data: Any, out: Any) -> Any:
    """Write the stream of ``data`` to ``out``; returns its length in bytes.

    Args:
        data: (N,) uint8.
        out: (`bound` (N),) uint32, filled from the least significant bit of each word on.
    """
    held, bits, words = np.uint64(0), np.uint64(0), np.uint64(0)
    lengths = np.zeros(SYMBOLS + 1, np.int64)
    counts = np.zeros((4, 256), np.int64)
    weights = np.zeros(SYMBOLS, np.int64)
    codes = np.zeros(SYMBOLS, np.uint64)
    start = 0
    while True:
        block = data[start : start + _BLOCK]
        start += _BLOCK
        _count(block, counts)
        for symbol in range(256):
            weights[symbol] = counts[:, symbol].sum()
        weights[END] = 1
        code_lengths(weights, LONGEST, lengths)
        canonical_codes(lengths[:SYMBOLS], codes)
        lengths[SYMBOLS] = 1  # of the one distance that every decoder wants to have seen
        held, bits, words = _put(out, held, bits, words, 1 if start >= data.size else 0, 1)
        held, bits, words = _put(out, held, bits, words, 2, 2)
        held, bits, words = _put_lengths(out, held, bits, words, lengths)
        held, bits, words = _put_literals(out, held, bits, words, block, codes, lengths)
        held, bits, words = _put(out, held, bits, words, codes[END], lengths[END])
        if start >= data.size:
            break
    out[words] = np.uint32(held & np.uint64(0xFFFFFFFF))
    return 4 * np.int64(words) + (np.int64(bits) + 7) // 8


@numba.njit(cache=True, nogil=True)
def _count(block: Any, counts: Any) -> None:
    """Four histograms side by side: one alone waits for its own writes."""
    counts[:] = 0
    whole = block.size // 4 * 4
    for i in range(0, whole, 4):
        for j in range(4):
            counts[j, block[i + j]] += 1
    for i in range(whole, block.size):
        counts[0, block[i]] += 1


@numba.njit(cache=True, nogil=True)
def _put(out: Any, held: Any, bits: Any, words: Any, value: Any, length: Any) -> Any:
    """Append at most 32 bits; fewer than 32 are held before and after.

    The word is written whether it is full or not: a branch here would be guessed wrong often.
    """
    held |= np.uint64(value) << np.uint64(bits)
    out[words] = np.uint32(held & np.uint64(0xFFFFFFFF))
    bits += np.uint64(length)
    full = bits >> np.uint64(5)
    held >>= full << np.uint64(5)
    words += full
    bits &= np.uint64(31)
    return held, bits, words


@numba.njit(cache=True, nogil=True)
def _put_literals(
    out: Any, held: Any, bits: Any, words: Any, block: Any, codes: Any, lengths: Any
) -> Any:
    packed = np.zeros(256, np.uint64)
    for symbol in range(256):
        packed[symbol] = codes[symbol] << np.uint64(4) | np.uint64(lengths[symbol])
    even = block.size // 2 * 2
    for i in range(0, even, 2):
        one, two = packed[block[i]], packed[block[i + 1]]
        first = one & np.uint64(15)
        value = one >> np.uint64(4) | (two >> np.uint64(4)) << first
        length = first + (two & np.uint64(15))
        held, bits, words = _put(out, held, bits, words, value, length)
    if even < block.size:
        value = codes[block[even]]
        held, bits, words = _put(out, held, bits, words, value, lengths[block[even]])
    return held, bits, words


@numba.njit(cache=True, nogil=True)
def _put_lengths(out: Any, held: Any, bits: Any, words: Any, lengths: Any) -> Any:
    """The code lengths of literals and of the one distance, themselves Huffman coded."""
    symbols = np.zeros(lengths.size, np.int64)
    extra = np.zeros(lengths.size, np.int64)
    weights = np.zeros(19, np.int64)
    n, i = 0, 0
    while i < lengths.size:
        run = 1
        while i + run < lengths.size and lengths[i + run] == lengths[i] and run < 138:
            run += 1
        symbols[n], extra[n] = lengths[i], 0
        if lengths[i] == 0 and run >= 11:
            symbols[n], extra[n] = 18, run - 11
        elif lengths[i] == 0 and run >= 3:
            symbols[n], extra[n] = 17, run - 3
        else:
            run = 1
        weights[symbols[n]] += 1
        n += 1
        i += run
    own = np.zeros(19, np.int64)
    codes = np.zeros(19, np.uint64)
    code_lengths(weights, 7, own)
    canonical_codes(own, codes)
    held, bits, words = _put(out, held, bits, words, SYMBOLS - 257, 5)
    held, bits, words = _put(out, held, bits, words, lengths.size - SYMBOLS - 1, 5)
    held, bits, words = _put(out, held, bits, words, 19 - 4, 4)
    for symbol in LENGTHS_ORDER:
        held, bits, words = _put(out, held, bits, words, own[symbol], 3)
    for k in range(n):
        symbol = symbols[k]
        held, bits, words = _put(out, held, bits, words, codes[symbol], own[symbol])
        if symbol >= 17:
            held, bits, words = _put(out, held, bits, words, extra[k], 3 if symbol == 17 else 7)
    return held, bits, words
