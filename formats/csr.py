"""Compressed sparse rows of level codes: what every encoding of a weight matrix decodes to.

A weight matrix [M, K] has a row for each output channel; an entry is the code of a level, and
0 is a zero weight. Only the nonzeros are kept: `indptr` says which of them belong to a row,
`indices` in which column they stand, `codes` which level they take (code c means level[c - 1]).

>>> matrix = CSR.from_dense(np.array([[0, 2, 0], [0, 0, 0], [1, 0, 1]], np.uint8))
>>> matrix.indptr, matrix.indices, matrix.codes
(array([0, 1, 1, 3], dtype=int32), array([1, 0, 2], dtype=int32), array([2, 1, 1], dtype=uint8))
>>> matrix.positions().tolist()
[1, 6, 8]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InvalidModelError, UnsupportedError
from deepchip.formats.jit import jit

SIZE_LIMIT = 2**31  # entries [M, K], so that every position fits int32


@dataclass(frozen=True, eq=False)
class CSR:
    """A matrix of level codes in compressed sparse rows; the words are those of pydata/sparse.

    Attributes
    ----------
    shape : (M, K)
    indptr : int32[M + 1]    Row r owns the entries indptr[r]:indptr[r + 1].
    indices : int32[nnz]     Column of each entry, strictly increasing within a row.
    codes : uint8[nnz]       Level code of each entry, from 1.
    """

    shape: tuple[int, int]
    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    codes: NDArray[np.uint8]

    @classmethod
    def from_dense(cls, codes: NDArray[np.uint8]) -> CSR:
        """Take the nonzero entries of a matrix `codes`, uint8[M, K]."""
        rows, columns = codes.shape
        flat = codes.reshape(-1)
        positions = np.flatnonzero(flat)
        return cls.from_positions((rows, columns), positions, flat[positions])

    @classmethod
    def from_positions(
        cls,
        shape: tuple[int, int],
        positions: NDArray[np.integer[Any]],
        codes: NDArray[np.uint8],
        *,
        compiled: bool = False,
    ) -> CSR:
        """Build the matrix from row-major `positions`, strictly increasing in [0, M * K).

        `compiled` turns positions of int32 into columns where they are. Nothing but the size is
        checked here; `validate` checks the result.
        """
        check_size(shape)
        rows, columns = shape
        small = positions.astype(np.int32, copy=False)
        row_starts = np.arange(rows + 1, dtype=np.int32) * np.int32(columns)
        indptr = np.searchsorted(small, row_starts).astype(np.int32)
        if compiled:
            _to_columns(small, indptr, columns)
            return cls(shape, indptr, small, codes)
        return cls(shape, indptr, small % np.int32(max(columns, 1)), codes)

    def to_dense(self) -> NDArray[np.uint8]:
        """Return uint8[M, K], zero where no entry stands."""
        dense = np.zeros(self.shape, np.uint8)
        dense.reshape(-1)[self.positions()] = self.codes
        return dense

    def positions(self) -> NDArray[np.int64]:
        """Return the row-major position of each entry, int64[nnz], increasing."""
        rows, columns = self.shape
        starts = np.arange(rows, dtype=np.int64) * columns
        return np.repeat(starts, np.diff(self.indptr)) + self.indices

    def row_groups(self, step: int) -> Iterator[CSR]:
        """Yield the matrix in groups of `step` rows, of which the last may be smaller.

        `indices` and `codes` of a group are views.
        """
        rows, columns = self.shape
        if step >= rows:
            yield self
            return
        for first in range(0, rows, step):
            indptr = self.indptr[first : first + step + 1]
            entries = slice(indptr[0], indptr[-1])
            shape = (indptr.size - 1, columns)
            yield CSR(shape, indptr - indptr[0], self.indices[entries], self.codes[entries])

    def validate(self, levels: int, *, compiled: bool = False) -> None:
        """Prove that every index is in range, for kernels that check nothing.

        `compiled` looks for a wrong index by Numba first, and by NumPy only to name it.

        Raises
        ------
        InvalidModelError
            Naming the first entry of an array that breaks its rule.
        UnsupportedError
            If M * K is 2**31 or more.
        """
        check_size(self.shape)
        self._check_arrays()
        if not (compiled and _is_valid(self.indptr, self.indices, self.shape[1])):
            self._check_indptr()
            self._check_indices()
        if not self.codes.size or (self.codes.min() >= 1 and self.codes.max() <= levels):
            return
        at = np.flatnonzero((self.codes < 1) | (self.codes > levels))[0]
        raise InvalidModelError(
            f"codes[{at}] is {self.codes[at]}, expected 1 to {levels}, one code a level"
        )

    def _check_arrays(self) -> None:
        rows = self.shape[0]
        nnz = self.indices.size
        for name, array, dtype, size in (
            ("indptr", self.indptr, np.int32, rows + 1),
            ("indices", self.indices, np.int32, nnz),
            ("codes", self.codes, np.uint8, nnz),
        ):
            if array.dtype != dtype or array.shape != (size,):
                raise InvalidModelError(
                    f"{name} is {array.dtype}{list(array.shape)}, "
                    f"expected {np.dtype(dtype)}[{size}] for {rows} rows and {nnz} nonzeros"
                )

    def _check_indptr(self) -> None:
        first, last, nnz = int(self.indptr[0]), int(self.indptr[-1]), self.indices.size
        if first != 0 or last != nnz:
            raise InvalidModelError(f"indptr goes from {first} to {last}, expected 0 to {nnz}")
        falls = np.flatnonzero(self.indptr[1:] < self.indptr[:-1])
        if falls.size:
            row = falls[0]
            raise InvalidModelError(
                f"indptr falls from {self.indptr[row]} to {self.indptr[row + 1]} at row {row}"
            )

    def _check_indices(self) -> None:
        columns = self.shape[1]
        outside = np.flatnonzero((self.indices < 0) | (self.indices >= columns))
        if outside.size:
            at = outside[0]
            raise InvalidModelError(
                f"indices[{at}] is {self.indices[at]} in row {self._row(at)}, "
                f"the matrix has {columns} columns"
            )
        rises = self.indices[1:] > self.indices[:-1]
        starts = self.indptr[1:-1]
        rises[starts[(starts > 0) & (starts < self.indices.size)] - 1] = True  # a new row
        falls = np.flatnonzero(~rises)
        if falls.size:
            at = falls[0]
            raise InvalidModelError(
                f"indices[{at}] is {self.indices[at]} and is followed by {self.indices[at + 1]} "
                f"in row {self._row(at)}, expected strictly increasing columns"
            )

    def _row(self, entry: np.int64) -> int:
        return int(np.searchsorted(self.indptr, entry, side="right")) - 1


@jit("void(int32[::1], int32[::1], int64)")
def _to_columns(positions: Any, indptr: Any, columns: Any) -> None:
    """Turn row-major positions into columns, where they are; `indptr` has to be right."""
    for row in range(indptr.size - 1):
        entries, begin = positions[indptr[row] : indptr[row + 1]], np.int32(row * columns)
        for i in range(entries.size):
            entries[i] -= begin


@jit("boolean(int32[::1], int32[::1], int64)")
def _is_valid(indptr: Any, indices: Any, columns: Any) -> Any:
    """Return whether the columns of every row are strictly increasing in [0, columns).

    Anything may stand in `indptr` and `indices`.
    """
    rows, nnz = indptr.size - 1, indices.size
    if indptr[0] != 0 or indptr[rows] != nnz:
        return False
    wrong = np.int32(0)
    for row in range(rows):
        first, end = np.int64(indptr[row]), np.int64(indptr[row + 1])
        if end < first or end > nnz:
            return False
        if first < end:
            wrong |= np.int32(indices[first] < 0 or indices[end - 1] >= columns)
            entries = indices[first:end]
            for i in range(entries.size - 1):
                wrong |= np.int32(entries[i + 1] <= entries[i])
    return wrong == 0


def check_size(shape: tuple[int, int]) -> None:
    """Raise unless `shape` is (M, K), neither negative, with M * K below 2**31."""
    rows, columns = shape
    if rows < 0 or columns < 0:
        raise InvalidModelError(f"a matrix of {rows} x {columns}, expected no negative size")
    if max(rows, columns, rows * columns) >= SIZE_LIMIT:
        raise UnsupportedError(
            f"a matrix of {rows} x {columns} = {rows * columns} entries; "
            f"this release handles fewer than {SIZE_LIMIT}. Split the layer"
        )
