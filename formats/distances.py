"""Run-length distance vectors: the positions of the nonzeros as small gaps.

Between one nonzero and the next (or the start of the matrix) lie g zeros. With E = 2**width - 1,
a gap below E is sent as one symbol, g itself. A longer gap is sent as escapes E, each of which
skips E zeros, then the remainder, which is below E. So positions have one list of symbols, and
no list ends with an escape.

>>> encode(np.array([1, 2, 10]), 2)  # gaps 1, 0 and 7 = 3 + 3 + 1
array([1, 0, 3, 3, 1], dtype=uint8)
>>> symbols = np.array([1, 0, 3, 3, 1], np.uint8)
>>> next(decode([symbols], 2, size=11, count=3, compiled=False))
array([ 1,  2, 10], dtype=int32)

References
----------
Han, Mao, Dally, Deep Compression, ICLR 2016, section 2: a relative index of fixed width. There a
long gap is filled with zero weights, each of which also takes a weight entry; here an escape
takes none. Schindler, Zöhrer, Pernkopf, Fröning, Towards Efficient Forward Propagation on
Resource-Constrained Systems, ECML-PKDD 2018: distances in place of indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import SIZE_LIMIT
from deepchip.formats.errors import InputError, InvalidModelError, UnsupportedError
from deepchip.formats.jit import jit

WIDTHS = range(2, 9)
_SLICE = 2**16  # gaps worked on at a time


def encode(positions: NDArray[np.integer[Any]], width: int) -> NDArray[np.uint8]:
    """Turn increasing `positions`, integers [count] from 0, into symbols of `width` bits, uint8.

    Raises
    ------
    InputError
        If the width is not 2 to 8.
    """
    if width not in WIDTHS:
        raise InputError(f"distances of {width} bits; 2 to 8 are possible")
    escape = 2**width - 1
    parts = [np.zeros(0, np.uint8)]
    for gaps in _gap_slices(positions):
        escapes = gaps // escape
        ends = np.cumsum(escapes + 1)
        symbols = np.full(ends[-1], escape, np.uint8)
        symbols[ends - 1] = gaps - escapes * escape
        parts.append(symbols)
    return np.concatenate(parts)


def decode(
    symbols: Iterable[NDArray[np.uint8]], width: int, size: int, count: int, *, compiled: bool
) -> Iterator[NDArray[np.int32]]:
    """Turn symbols back into the positions of `count` nonzeros in a matrix of `size` entries.

    Parameters
    ----------
    symbols : arrays uint8[n] of symbols in [0, 2**width), which follow one another
    width : int, 2 to 8
    size : int, below 2**31
    count : int
    compiled : bool    Decode by Numba, else by NumPy alone, which does the same more slowly.

    Yields
    ------
    int32[up to n] for an array of n symbols: strictly increasing in [0, size), from each to the
    next too

    Raises
    ------
    InvalidModelError
        If a symbol is too large, the nonzeros are not `count`, the last position is beyond the
        matrix, or an escape is last. No position beyond the matrix is given out before.
    UnsupportedError
        If `size` is 2**31 or more.
    """
    if width not in WIDTHS:
        raise InvalidModelError(f"distances of {width} bits, expected 2 to 8")
    if size >= SIZE_LIMIT:
        raise UnsupportedError(
            f"a matrix of {size} entries; this release handles fewer than {SIZE_LIMIT}"
        )
    escape = 2**width - 1
    place = _place_compiled if compiled else _place
    nonzeros = spanned = last = 0
    positions = np.empty(0, np.int32)
    for part in symbols:
        if not part.size:
            continue
        if part.max() > escape:
            raise InvalidModelError(f"a distance of {part.max()}, but {width} bits end at {escape}")
        if positions.size < part.size:
            positions = np.empty(part.size, np.int32)
        found, spanned = (int(number) for number in place(part, escape, spanned, positions))
        nonzeros, last = nonzeros + found, int(part[-1])
        if nonzeros <= count and spanned <= size:  # else go on for the totals that errors name
            yield positions[:found].copy()  # escapes have none, and hold no memory
    if nonzeros != count:
        raise InvalidModelError(f"distances hold {nonzeros} nonzeros, the matrix holds {count}")
    if spanned > size:
        raise InvalidModelError(f"distances decode to {spanned} positions, the matrix holds {size}")
    if last == escape:
        raise InvalidModelError("distances end with an escape, expected a nonzero last")


@jit("UniTuple(int64, 2)(uint8[::1], int64, int64, int32[::1])")
def _place_compiled(symbols: Any, escape: Any, start: Any, positions: Any) -> Any:
    """Write the positions of symbols from position `start` on; return their number and the end.

    `positions` is as long as `symbols` or longer. Positions of 2**31 or more are cut off.
    """
    found, end = np.uint64(0), start
    for symbol in symbols:
        nonzero = np.int64(symbol < escape)
        end += symbol + nonzero
        positions[found] = (end - 1) & 0x7FFFFFFF  # overwritten by the next if this is an escape
        found += np.uint64(nonzero)
    return np.int64(found), end


def _place(
    symbols: NDArray[np.uint8], escape: int, start: int, positions: NDArray[np.int32]
) -> tuple[int, int]:
    """Do what `_place_compiled` does, in NumPy."""
    nonzero = symbols < escape
    ends = np.cumsum(symbols + nonzero.astype(np.int64))
    ends += start
    found = int(np.count_nonzero(nonzero))
    positions[:found] = ends[nonzero] - 1 & 0x7FFFFFFF
    return found, int(ends[-1])


def symbol_counts(positions: NDArray[np.integer[Any]], width: int) -> NDArray[np.int64]:
    """Return how often each symbol of `width` bits stands in `encode(positions, width)`."""
    escape = 2**width - 1
    counts = np.zeros(escape + 1, np.int64)
    for gaps in _gap_slices(positions):
        escapes = gaps // escape
        counts += np.bincount(gaps - escapes * escape, minlength=escape + 1)
        counts[escape] += escapes.sum()
    return counts


def best_width(positions: NDArray[np.integer[Any]]) -> int:
    """Return the width, 2 to 8, that packs `positions` into the fewest bits, or the least such."""
    escapes = dict.fromkeys(WIDTHS, 0)
    for gaps in _gap_slices(positions):
        for width in WIDTHS:
            escapes[width] += int((gaps // (2**width - 1)).sum())
    return min(WIDTHS, key=lambda width: (positions.size + escapes[width]) * width)


def _gap_slices(positions: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.int64]]:
    """Yield the zeros before each nonzero, int64, some at a time."""
    before = -1
    for start in range(0, positions.size, _SLICE):
        part = positions[start : start + _SLICE].astype(np.int64)
        yield np.diff(part, prepend=before) - 1
        before = part[-1]
