"""DEFLATE streams (RFC 1951) of literals alone: what photographs need, and nothing else.

After a PNG filter a photograph has next to no repeats, so searching for them, where zlib spends
its time, gains nothing.  The same bytes give the same stream on any machine.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["LITERALS_ONLY", "bound", "pack", "unpack"]

LITERALS_ONLY = 0  # status of `unpack`: all there
_OTHER = 1  # a match, a stored block, a long code: another encoder's stream
_BLOCK = 1 << 16  # literals that share a code
_LIMIT = 12  # longest code in bits: the decoder's table has 2^12 entries
_END = 256
_SYMBOLS = 257
_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)
_HEADER_BITS = 17 + 19 * 3 + (_SYMBOLS + 1) * 14


def bound(size: int) -> int:
    """Most 32-bit words that `pack` writes for ``size`` bytes."""
    blocks = max(1, -(-size // _BLOCK))
    return (size * _LIMIT + blocks * (_HEADER_BITS + _LIMIT)) // 32 + 2


@numba.njit(cache=True, nogil=True)
def pack(data: Any, out: Any) -> Any:
    """Write the stream of ``data`` to ``out``; returns its length in bytes.

    Args:
        data: (N,) uint8.
        out: (`bound` (N),) uint32, filled from the least significant bit of each word on.
    """
    held, bits, words = np.uint64(0), np.uint64(0), np.uint64(0)
    lengths = np.zeros(_SYMBOLS + 1, np.int64)
    counts = np.zeros((4, 256), np.int64)
    weights = np.zeros(_SYMBOLS, np.int64)
    codes = np.zeros(_SYMBOLS, np.uint64)
    start = 0
    while True:
        block = data[start : start + _BLOCK]
        start += _BLOCK
        _count(block, counts)
        for symbol in range(256):
            weights[symbol] = counts[:, symbol].sum()
        weights[_END] = 1
        _code_lengths(weights, _LIMIT, lengths)
        _codes(lengths[:_SYMBOLS], codes)
        lengths[_SYMBOLS] = 1  # of the one distance that every decoder wants to have seen
        held, bits, words = _put(out, held, bits, words, 1 if start >= data.size else 0, 1)
        held, bits, words = _put(out, held, bits, words, 2, 2)
        held, bits, words = _put_lengths(out, held, bits, words, lengths)
        held, bits, words = _put_literals(out, held, bits, words, block, codes, lengths)
        held, bits, words = _put(out, held, bits, words, codes[_END], lengths[_END])
        if start >= data.size:
            break
    out[words] = np.uint32(held & np.uint64(0xFFFFFFFF))
    return 4 * np.int64(words) + (np.int64(bits) + 7) // 8


@numba.njit(cache=True, nogil=True)
def unpack(data: Any, size: Any, out: Any) -> Any:
    """Read a stream of exactly ``out.size`` literals; returns a status.

    Args:
        data: little-endian uint64 words that hold the stream, any bytes: nothing outside of it
            is read, nothing outside ``out`` is written.
        size: of the stream in bytes, at most that of ``data`` less 8.
        out: (M,) uint8; its content means nothing unless the status is `LITERALS_ONLY`.
    """
    table = np.zeros(1 << _LIMIT, np.uint16)
    lengths = np.zeros(_SYMBOLS + 31 + 32 + 138, np.int64)
    mask = np.uint64((1 << _LIMIT) - 1)
    four, fifteen = np.uint64(4), np.uint64(15)
    end = np.uint64(8 * size)
    at = np.uint64(0)
    done = 0
    last = False
    while not last:
        if at >= end:
            return _OTHER
        head = _window(data, at)
        last = bool(head & np.uint64(1))
        if (head >> np.uint64(1)) & np.uint64(3) != np.uint64(2):
            return _OTHER
        at = _read_lengths(data, at + np.uint64(3), end, lengths, table)
        if at == 0 or not _fill(lengths[:_SYMBOLS], table):
            return _OTHER
        while True:  # four codes of at most 12 bits fit into a window of 57
            if at >= end:
                return _OTHER
            held = _window(data, at)
            one = np.uint64(table[held & mask])
            held >>= one & fifteen
            two = np.uint64(table[held & mask])
            held >>= two & fifteen
            three = np.uint64(table[held & mask])
            held >>= three & fifteen
            fourth = np.uint64(table[held & mask])
            if done + 4 <= out.size and max(max(one, two), max(three, fourth)) < _END << 4:
                out[done], out[done + 1] = one >> four, two >> four
                out[done + 2], out[done + 3] = three >> four, fourth >> four
                at += (one & fifteen) + (two & fifteen) + (three & fifteen) + (fourth & fifteen)
                done += 4
                continue
            at += one & fifteen
            if one >> four == _END:
                break
            if done == out.size:
                return _OTHER
            out[done] = one >> four
            done += 1
    return LITERALS_ONLY if done == out.size and at <= end else _OTHER


@numba.njit(cache=True, nogil=True)
def _window(data: Any, at: Any) -> Any:
    """At least 57 bits from bit ``at`` on, lowest first."""
    word, shift = at >> np.uint64(6), at & np.uint64(63)
    # a shift by 64 is undefined: two shifts
    above = (data[word + np.uint64(1)] << np.uint64(1)) << (np.uint64(63) - shift)
    return data[word] >> shift | above


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
def _code_lengths(weights: Any, limit: Any, lengths: Any) -> None:
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
def _sort(keys: Any) -> None:
    """Shell's sort; numpy's takes seconds to compile."""
    for gap in (132, 57, 23, 10, 4, 1):
        for i in range(gap, keys.size):
            key, j = keys[i], i
            while j >= gap and keys[j - gap] > key:
                keys[j] = keys[j - gap]
                j -= gap
            keys[j] = key


@numba.njit(cache=True, nogil=True)
def _codes(lengths: Any, codes: Any) -> None:
    """Canonical codes, first bit lowest."""
    code = 0
    for length in range(1, 16):
        code <<= 1
        for symbol in range(lengths.size):
            if lengths[symbol] == length:
                turned = 0
                for bit in range(length):
                    turned |= ((code >> bit) & 1) << (length - 1 - bit)
                codes[symbol] = turned
                code += 1


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
    _code_lengths(weights, 7, own)
    _codes(own, codes)
    held, bits, words = _put(out, held, bits, words, _SYMBOLS - 257, 5)
    held, bits, words = _put(out, held, bits, words, lengths.size - _SYMBOLS - 1, 5)
    held, bits, words = _put(out, held, bits, words, 19 - 4, 4)
    for symbol in _ORDER:
        held, bits, words = _put(out, held, bits, words, own[symbol], 3)
    for k in range(n):
        symbol = symbols[k]
        held, bits, words = _put(out, held, bits, words, codes[symbol], own[symbol])
        if symbol >= 17:
            held, bits, words = _put(out, held, bits, words, extra[k], 3 if symbol == 17 else 7)
    return held, bits, words


@numba.njit(cache=True, nogil=True)
def _read_lengths(data: Any, at: Any, end: Any, lengths: Any, table: Any) -> Any:
    """The code lengths of a block from bit ``at`` on; the bit after them.

    0 where they are not such as `pack` writes.  ``table`` is written over.
    """
    head = _window(data, at)
    literals = np.int64(head & np.uint64(31)) + 257
    distances = np.int64((head >> np.uint64(5)) & np.uint64(31)) + 1
    count = np.int64((head >> np.uint64(10)) & np.uint64(15)) + 4
    at += np.uint64(14)
    own = np.zeros(19, np.int64)
    for k in range(count):
        if at >= end:
            return np.uint64(0)
        own[_ORDER[k]] = np.int64(_window(data, at) & np.uint64(7))
        at += np.uint64(3)
    if literals != _SYMBOLS or not _fill(own, table):
        return np.uint64(0)
    lengths[:] = 0
    k = 0
    while k < literals + distances:
        if at >= end:
            return np.uint64(0)
        held = _window(data, at)
        entry = np.int64(table[held & np.uint64((1 << _LIMIT) - 1)])
        length, symbol = entry & 15, entry >> 4
        if symbol == 16:
            return np.uint64(0)
        at += np.uint64(length)
        if symbol < 16:
            lengths[k] = symbol
            k += 1
            continue
        wide, least = (3, 3) if symbol == 17 else (7, 11)
        k += int((held >> np.uint64(length)) & np.uint64((1 << wide) - 1)) + least
        at += np.uint64(wide)
    return at if k == literals + distances else np.uint64(0)


@numba.njit(cache=True, nogil=True)
def _fill(lengths: Any, table: Any) -> Any:
    """Decoding table: symbol and length for every next 12 bits; whether the code is complete."""
    space = 0
    for length in lengths:
        if length > _LIMIT:
            return False
        if length > 0:
            space += 1 << (_LIMIT - length)
    if space != 1 << _LIMIT:
        return False
    codes = np.zeros(lengths.size, np.uint64)
    _codes(lengths, codes)
    for symbol in range(lengths.size):
        if lengths[symbol] > 0:
            entry = np.uint16(symbol << 4 | lengths[symbol])
            for place in range(np.int64(codes[symbol]), table.size, 1 << lengths[symbol]):
                table[place] = entry
    return True
