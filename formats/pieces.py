"""Arrays that come in slices of one size, and rows of a matrix that are wanted in another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .csr import CSR


class Pieces:
    """Arrays that follow one another, given out again in pieces of any size.

    When the last element is taken, the iteration over the arrays has ended too.

    >>> pieces = Pieces([np.array([1, 4]), np.array([5, 7, 8])], np.int32)
    >>> pieces.take(3), pieces.take_below(8), pieces.take(9)
    (array([1, 4, 5], dtype=int32), array([7], dtype=int32), array([8], dtype=int32))
    """

    def __init__(self, arrays: Iterable[NDArray[Any]], dtype: DTypeLike) -> None:
        self._arrays = iter(arrays)
        self._dtype = dtype
        self._rest = np.zeros(0, dtype)

    def take(self, count: int) -> NDArray[Any]:
        """Return the next `count` elements, or all that are left, in an array of their own."""
        return self._take(lambda rest, taken: count - taken)

    def take_below(self, limit: int) -> NDArray[Any]:
        """Return the next elements below `limit` of an increasing sequence, as `take` does."""
        # Of the same dtype, or NumPy would copy the array to compare.
        return self._take(lambda rest, taken: int(rest.searchsorted(rest.dtype.type(limit))))

    def _take(self, wanted: Callable[[NDArray[Any], int], int]) -> NDArray[Any]:
        """Take as many of each array as `wanted` says, given it and what was taken before."""
        parts: list[NDArray[Any]] = []
        taken = 0
        while True:
            end = wanted(self._rest, taken)
            parts.append(self._rest[:end])
            self._rest = self._rest[end:]
            taken += parts[-1].size
            if self._rest.size:
                break
            try:
                self._rest = next(self._arrays)
            except StopIteration:
                break
        return np.concatenate(parts, dtype=self._dtype, casting="unsafe")


def row_groups(
    shape: tuple[int, int],
    positions: Iterable[NDArray[np.int32]],
    codes: Iterable[NDArray[np.uint8]],
    step: int,
    *,
    compiled: bool,
) -> Iterator[CSR]:
    """Yield a matrix in groups of `step` rows, of which the last may be smaller.

    Parameters
    ----------
    shape : (M, K)
    positions : int32 arrays; the row-major positions of the nonzeros, strictly increasing in
        [0, M * K), as they follow one another
    codes : uint8 arrays; a code for each position
    step : int, 1 or more
    """
    rows, columns = shape
    all_positions, all_codes = Pieces(positions, np.int32), Pieces(codes, np.uint8)
    for first in range(0, rows, step):
        here = min(step, rows - first)
        found = all_positions.take_below((first + here) * columns)
        found -= np.int32(first * columns)
        own_codes = all_codes.take(found.size)
        yield CSR.from_positions((here, columns), found, own_codes, compiled=compiled)
