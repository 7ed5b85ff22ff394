"""Lossless JPEG (ITU-T T.81, process 14): the compression inside a CR2 file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import InputError

__all__ = ["encode"]

_LONGEST = 16  # bits a Huffman code may have (T.81, section C)


def encode(samples: npt.NDArray[np.uint16], *, bits: int = 14, components: int = 2) -> bytes:
    """Compress interleaved samples: SOF3, predictor 1 (left), one optimal table a component.

    Args:
        samples: ``(rows, columns)`` uint16, each below ``2**bits``; column c belongs to
            component ``c % components``, as the colours of a Bayer row do.
        bits: precision of a sample, 2 to 15.
        components: 2 or 4; it divides the columns.

    Returns:
        A whole JPEG stream, SOI to EOI; equal samples give equal bytes.

    Raises:
        InputError: wrong shape or dtype, or a sample out of range.
    """
    if samples.ndim != 2 or samples.dtype != np.uint16 or samples.size == 0:
        raise InputError(
            f"lossless JPEG: got {samples.dtype} {samples.shape}; need (rows, columns) uint16."
        )
    rows, columns = samples.shape
    if components not in (2, 4) or columns % components or not 2 <= bits <= 15:
        raise InputError(
            f"lossless JPEG: {columns} columns, {components} components, {bits} bits; "
            "need 2 or 4 components that divide the columns, and 2 to 15 bits."
        )
    if max(rows, columns // components) > 65535:
        raise InputError(f"lossless JPEG: {columns}x{rows}; at most 65535 rows and MCUs a row.")
    brightest = int(samples.max())
    if brightest >= 2**bits:
        raise InputError(f"lossless JPEG: sample {brightest} needs more than {bits} bits.")
    samples = np.ascontiguousarray(samples)
    count, pack = _kernels()
    histogram = np.zeros((components, bits + 2), np.int64)
    total_bits = count(samples, histogram, bits)
    codes = np.zeros((components, bits + 2), np.uint32)
    lengths = np.zeros((components, bits + 2), np.int64)
    tables = b""
    for component in range(components):
        counts_by_length, symbols = _optimal_code(histogram[component])
        tables += bytes([component]) + bytes(counts_by_length) + bytes(symbols)
        codes[component], lengths[component] = _canonical(counts_by_length, symbols, bits + 2)
    total_bits += int((lengths * histogram).sum())
    packed = np.zeros(total_bits // 4 + 64, np.uint8)  # every byte could need a stuffed zero
    size = pack(samples, codes, lengths, bits, packed)
    frame = struct.pack(">BHHB", bits, rows, columns // components, components)
    frame += b"".join(bytes([c + 1, 0x11, 0]) for c in range(components))
    scan = bytes([components]) + b"".join(bytes([c + 1, c << 4]) for c in range(components))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xC4, tables),
            _segment(0xC3, frame),
            _segment(0xDA, scan + bytes([1, 0, 0])),  # predictor 1, no point transform
            packed[:size].tobytes(),
            b"\xff\xd9",
        )
    )


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _optimal_code(histogram: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Codes per length 1..16, and the symbols in order of code (T.81, sections K.2, C)."""
    # one more symbol of the lowest rank reserves the code of all ones
    weights = [int(n) for n in histogram] + [1]
    groups = [[s] for s in range(len(weights))]
    depth = [0] * len(weights)
    alive = [s for s, n in enumerate(weights) if n > 0]
    while len(alive) > 1:
        alive.sort(key=lambda s: (-weights[s], s))
        last, other = alive.pop(), alive[-1]
        weights[other] += weights[last]
        groups[other] += groups[last]
        for symbol in groups[other]:
            depth[symbol] += 1
    # at most 17 symbols, so no code can be longer than 16 bits
    number = [0] * (_LONGEST + 1)
    for length in depth:
        number[length] += length > 0
    longest = max(length for length, n in enumerate(number) if n > 0)
    number[longest] -= 1  # the reserved code
    used = [s for s in range(len(histogram)) if histogram[s] > 0]
    return number[1:], sorted(used, key=lambda s: (depth[s], s))


def _canonical(
    number: list[int], symbols: list[int], size: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Code and length of every symbol."""
    codes = np.zeros(size, np.uint32)
    lengths = np.zeros(size, np.int64)
    code, position = 0, 0
    for length, n in enumerate(number, start=1):
        for symbol in symbols[position : position + n]:
            codes[symbol], lengths[symbol] = code, length
            code += 1
        position += n
        code <<= 1
    return codes, lengths


@cache
def _kernels() -> tuple[Callable[..., int], Callable[..., int]]:
    import numba

    compiled = numba.njit(cache=True, nogil=True)
    return compiled(_count), compiled(_pack)


def _count(samples: Any, histogram: Any, bits: int) -> int:
    """Fill the histogram of difference categories; return the number of extra bits."""
    rows, columns = samples.shape
    components = histogram.shape[0]
    extra = 0
    for y in range(rows):
        for x in range(columns):
            if x >= components:
                predicted = np.int64(samples[y, x - components])
            elif y > 0:
                predicted = np.int64(samples[y - 1, x])
            else:
                predicted = np.int64(1) << (bits - 1)
            size = abs(np.int64(samples[y, x]) - predicted)
            category = 0
            while size > 0:
                size >>= 1
                category += 1
            histogram[x % components, category] += 1
            extra += category
    return extra


def _pack(samples: Any, codes: Any, lengths: Any, bits: int, out: Any) -> int:
    """Write the entropy-coded segment with its stuffed zeros; return its length in bytes."""
    rows, columns = samples.shape
    components = codes.shape[0]
    held = np.uint64(0)  # bits not yet written, right-aligned
    waiting = 0
    position = 0
    for y in range(rows):
        for x in range(columns):
            if x >= components:
                predicted = np.int64(samples[y, x - components])
            elif y > 0:
                predicted = np.int64(samples[y - 1, x])
            else:
                predicted = np.int64(1) << (bits - 1)
            difference = np.int64(samples[y, x]) - predicted
            size = abs(difference)
            category = 0
            while size > 0:
                size >>= 1
                category += 1
            if difference < 0:  # T.81, section F.1.2.1: one's complement
                difference += (np.int64(1) << category) - 1
            component = x % components
            held = (held << np.uint64(lengths[component, category] + category)) | (
                (np.uint64(codes[component, category]) << np.uint64(category))
                | np.uint64(difference)
            )
            waiting += lengths[component, category] + category
            while waiting >= 8:
                waiting -= 8
                byte = (held >> np.uint64(waiting)) & np.uint64(255)
                out[position] = byte
                position += 1
                if byte == 255:
                    out[position] = 0
                    position += 1
            held &= (np.uint64(1) << np.uint64(waiting)) - np.uint64(1)
    if waiting > 0:  # the rest of the last byte is filled with ones
        fill = np.uint64(8 - waiting)
        byte = (held << fill) | ((np.uint64(1) << fill) - np.uint64(1))
        out[position] = byte
        position += 1
        if byte == 255:
            out[position] = 0
            position += 1
    return position
