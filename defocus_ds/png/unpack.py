"""Reading the streams that `pack` writes, and no others: those are for a whole decoder."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from defocus_ds.png.huffman import (
    END,
    LENGTHS_ORDER,
    LONGEST,
    SYMBOLS,
    by_length,
    next_code,
)

__all__ = ["LITERALS_ONLY", "unpack"]

LITERALS_ONLY = 0  # status of `unpack`: all there
_OTHER = 1  # a match, a stored block, a long code, bytes after the end, or damage
_WIDE = 10  # bits looked up at once; with more the table costs a crop more than it saves
_LOOK_UPS = 5  # of these that a window of 57 bits holds


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
    several = np.zeros(1 << _WIDE, np.uint32)
    lengths = np.zeros(SYMBOLS + 31 + 32 + 138, np.int64)
    end = np.uint64(8 * size)
    at, done = np.uint64(0), np.uint64(0)
    last = False
    while not last:
        if at >= end:
            return _OTHER
        head = _window(data, at)
        last = bool(head & np.uint64(1))
        if (head >> np.uint64(1)) & np.uint64(3) != np.uint64(2):
            return _OTHER
        at = _read_lengths(data, at + np.uint64(3), end, lengths)
        if at == 0 or not _fill(lengths[:SYMBOLS], table):
            return _OTHER
        _join(table, several)
        at, done = _read_literals(data, at, end, table, several, out, done)
        if at == 0:
            return _OTHER
    ended = done == out.size and (at + np.uint64(7)) >> np.uint64(3) == np.uint64(size)
    return LITERALS_ONLY if ended else _OTHER


@numba.njit(cache=True, nogil=True)
def _read_literals(
    data: Any, at: Any, end: Any, table: Any, several: Any, out: Any, done: Any
) -> Any:
    """The literals of a block; the bit after its end, 0 if it has none, and how many are done.

    Indices are unsigned all along: signed ones would be looked at for being negative.
    """
    mask, most = np.uint64(several.size - 1), np.uint64(table.size - 1)
    four, eight, fifteen = np.uint64(4), np.uint64(8), np.uint64(15)
    room = np.uint64(out.size)
    while True:
        count = np.uint64(1)
        while count > 0 and at < end and done + fifteen <= room:
            held = _window(data, at)
            for _ in range(_LOOK_UPS):
                entry = np.uint64(several[held & mask])
                out[done] = entry >> eight
                out[done + np.uint64(1)] = entry >> np.uint64(16)
                out[done + np.uint64(2)] = entry >> np.uint64(24)
                length, count = entry & fifteen, (entry >> four) & fifteen
                held >>= length
                at += length
                done += count
                if count == 0:
                    break
        if at >= end:
            return np.uint64(0), done
        one = np.uint64(table[_window(data, at) & most])
        at += one & fifteen
        if one >> four == END:
            return at, done
        if done == room:
            return np.uint64(0), done
        out[done] = one >> four
        done += np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _window(data: Any, at: Any) -> Any:
    """At least 57 bits from bit ``at`` on, lowest first."""
    word, shift = at >> np.uint64(6), at & np.uint64(63)
    # a shift by 64 is undefined: two shifts
    above = (data[word + np.uint64(1)] << np.uint64(1)) << (np.uint64(63) - shift)
    return data[word] >> shift | above


@numba.njit(cache=True, nogil=True)
def _read_lengths(data: Any, at: Any, end: Any, lengths: Any) -> Any:
    """The code lengths of a block from bit ``at`` on; the bit after them.

    0 where they are not such as `pack` writes.
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
    table = np.zeros(1 << 7, np.uint16)
    if literals != SYMBOLS or not _fill(own, table):
        return np.uint64(0)
    lengths[:] = 0
    k = 0
    while k < literals + distances:
        if at >= end:
            return np.uint64(0)
        held = _window(data, at)
        entry = np.int64(table[held & np.uint64(table.size - 1)])
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
    """Symbol and length for whatever the next bits are; whether the code is complete.

    What follows a code is not looked at, so a table for one more bit begins as the last one twice.
    """
    order, of_length = by_length(lengths)
    space, size = 0, table.size
    for length in range(1, of_length.size):
        if size == 1 and of_length[length] > 0:
            return False
        size = max(size >> 1, 1)
        space += of_length[length] * size
    if space != table.size:
        return False
    code, k, length, size = 0, 0, 0, 1
    while size < table.size:
        table[size : 2 * size] = table[:size]
        size *= 2
        length += 1
        for _ in range(of_length[length]):
            table[code] = order[k] << 4 | length
            code = next_code(code, length)
            k += 1
    return True


@numba.njit(cache=True, nogil=True)
def _join(table: Any, several: Any) -> None:
    """Up to three literals a look-up: bits taken, how many there are, and each in a byte.

    None where the next code is longer than `_WIDE` bits or ends the block.
    """
    for key in range(several.size):
        taken, count, joined, left = 0, 0, 0, key
        for place in (8, 16, 24):
            entry = int(table[left])
            length = entry & 15
            if taken + length > _WIDE or entry >> 4 == END:
                break
            taken += length
            left >>= length
            joined |= (entry >> 4) << place
            count += 1
        several[key] = joined | count << 4 | taken
