"""Reading the streams that `pack` writes, and no others: those are for a whole decoder."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from defocus_ds.png.huffman import END, LENGTHS_ORDER, LONGEST, SYMBOLS, canonical_codes

__all__ = ["LITERALS_ONLY", "unpack"]

LITERALS_ONLY = 0  # status of `unpack`: all there
_OTHER = 1  # a match, a stored block, a long code, bytes after the end, or damage


@numba.njit(cache=True, nogil=True)
def unpack(data: Any, size: Any, out: Any) -> Any:
    """Read a stream of exactly ``out.size`` literals; returns a status.

    Args:
        data: little-endian uint64 words that hold the stream, any bytes: nothing outside of it
            is read, nothing outside ``out`` is written.
        size: of the stream in bytes, at most that of ``data`` less 8.
        out: (M,) uint8; its content means nothing unless the status is `LITERALS_ONLY`.
    """
    table = np.zeros(1 << LONGEST, np.uint16)
    lengths = np.zeros(SYMBOLS + 31 + 32 + 138, np.int64)
    mask = np.uint64((1 << LONGEST) - 1)
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
        if at == 0 or not _fill(lengths[:SYMBOLS], table):
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
            if done + 4 <= out.size and max(max(one, two), max(three, fourth)) < END << 4:
                out[done], out[done + 1] = one >> four, two >> four
                out[done + 2], out[done + 3] = three >> four, fourth >> four
                at += (one & fifteen) + (two & fifteen) + (three & fifteen) + (fourth & fifteen)
                done += 4
                continue
            at += one & fifteen
            if one >> four == END:
                break
            if done == out.size:
                return _OTHER
            out[done] = one >> four
            done += 1
    ended = done == out.size and (at + np.uint64(7)) >> np.uint64(3) == np.uint64(size)
    return LITERALS_ONLY if ended else _OTHER


@numba.njit(cache=True, nogil=True)
def _window(data: Any, at: Any) -> Any:
    """At least 57 bits from bit ``at`` on, lowest first."""
    word, shift = at >> np.uint64(6), at & np.uint64(63)
    # a shift by 64 is undefined: two shifts
    above = (data[word + np.uint64(1)] << np.uint64(1)) << (np.uint64(63) - shift)
    return data[word] >> shift | above


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
        own[LENGTHS_ORDER[k]] = np.int64(_window(data, at) & np.uint64(7))
        at += np.uint64(3)
    if literals != SYMBOLS or not _fill(own, table):
        return np.uint64(0)
    lengths[:] = 0
    k = 0
    while k < literals + distances:
        if at >= end:
            return np.uint64(0)
        held = _window(data, at)
        entry = np.int64(table[held & np.uint64((1 << LONGEST) - 1)])
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
        if length > LONGEST:
            return False
        if length > 0:
            space += 1 << (LONGEST - length)
    if space != 1 << LONGEST:
        return False
    codes = np.zeros(lengths.size, np.uint64)
    canonical_codes(lengths, codes)
    for symbol in range(lengths.size):
        if lengths[symbol] > 0:
            entry = np.uint16(symbol << 4 | lengths[symbol])
            for place in range(np.int64(codes[symbol]), table.size, 1 << lengths[symbol]):
                table[place] = entry
    return True
