"""The executed form of weights of many levels: two bytes for a nonzero, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights

from .segments import check_sums
from .sums import QUAD

PIECE = 256
"""Nonzeros of a piece, at most: sums of as many bytes fit 16 bits."""

NONZEROS = 2**15
"""About how many nonzeros are sorted at a time."""
MOST_ROWS = 2**14
"""Rows that are sorted at a time, at most."""


@dataclass(frozen=True)
class Pieces:
    """Nonzeros by row, then level, then input; those of a level in pieces of up to 256.

    Attributes
    ----------
    positions : uint16, the inputs of each piece, padded with K to fours
    quads : uint16 [S], how many fours a piece takes
    starts : int32 [M + 1], row m owns the pieces starts[m]:starts[m + 1]
    offsets : int32 [M], where its positions begin
    rows, levels : int64 [S], row and level of each piece
    counts : int64 [S], nonzeros of the whole level where a piece is its last, else -1
    """

    positions: NDArray[np.uint16]
    quads: NDArray[np.uint16]
    starts: NDArray[np.int32]
    offsets: NDArray[np.int32]
    rows: NDArray[np.int64]
    levels: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, weight: LevelWeights) -> Pieces:
        """Sort the nonzeros of a matrix [M, K], K below 2**16, some rows at a time."""
        levels, first_row, begin, pieces = weight.levels.shape[-1], 0, 0, 0
        parts = []
        some = NONZEROS * weight.shape[0] // max(1, weight.nonzeros)
        for csr in weight.rows(min(max(1, some), MOST_ROWS)):
            check_sums(csr)
            part = cls._of_rows(csr, max(1, levels), first_row, begin, pieces)
            parts.append(part)
            first_row += csr.shape[0]
            begin += len(part.positions)
            pieces += len(part.quads)
        if begin >= 2**31:
            raise UnsupportedError(
                f"weights of {weight.nonzeros} nonzeros; 2**31 bytes are too many"
            )
        starts = np.append(np.concatenate([part.starts for part in parts]), np.int32(pieces))
        return cls(
            np.concatenate([part.positions for part in parts]),
            np.concatenate([part.quads for part in parts]),
            starts,
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.levels for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )

    @classmethod
    def _of_rows(cls, csr: CSR, levels: int, first_row: int, begin: int, before: int) -> Pieces:
        """Sort rows from `first_row` on, before which there are positions and pieces already."""
        outputs, inputs = csr.shape
        key = np.arange(0, outputs * levels, levels).repeat(csr.indptr[1:] - csr.indptr[:-1])
        key += csr.codes
        order = key.argsort(kind="stable")
        key = key[order] - 1
        first = np.ones(len(key), bool)  # of its level in its row
        first[1:] = key[1:] != key[:-1]
        runs = first.nonzero()[0]
        present, sizes = key[runs], np.append(runs, len(key))[1:] - runs
        pieces = -(-sizes // PIECE)
        owner = np.arange(len(runs)).repeat(pieces)
        last = pieces.cumsum() - 1
        held = np.full(len(owner), PIECE)
        held[last] = sizes - (pieces - 1) * PIECE
        counts = np.full(len(owner), -1)
        counts[last] = sizes
        quads = -(-held // QUAD)
        starts_at = QUAD * (quads.cumsum() - quads)
        positions = np.full(QUAD * int(quads.sum()), inputs, np.uint16)
        moved = starts_at - (held.cumsum() - held)  # by the padding before it
        positions[np.arange(len(key)) + moved.repeat(held)] = csr.indices[order]
        rows = present[owner] // levels
        starts = rows.searchsorted(np.arange(outputs))
        offsets = np.append(starts_at, len(positions))[starts]
        return cls(
            positions,
            quads.astype(np.uint16),
            (before + starts).astype(np.int32),
            (begin + offsets).astype(np.int32),
            first_row + rows,
            present[owner] % levels,
            counts,
        )
