"""The executed form of weights of many levels: two bytes for a nonzero, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR

from .sums import QUAD

PIECE = 256
"""Nonzeros of a piece, at most: sums of as many bytes fit 16 bits."""


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
    def of(cls, csr: CSR, levels: int) -> Pieces:
        """Sort the nonzeros of a matrix [M, K], K below 2**16."""
        outputs, inputs = csr.shape
        row = np.repeat(np.arange(outputs), np.diff(csr.indptr))
        key = row * max(1, levels) + csr.codes.astype(np.int64) - 1
        order = np.argsort(key, kind="stable")
        present, sizes = np.unique(key, return_counts=True)
        pieces = -(-sizes // PIECE)
        owner = np.repeat(np.arange(len(present)), pieces)
        last = np.zeros(len(owner), bool)
        last[np.cumsum(pieces) - 1] = True
        held = np.where(last, sizes[owner] - (pieces[owner] - 1) * PIECE, PIECE)
        quads = -(-held // QUAD)
        ends = QUAD * np.cumsum(quads)
        positions = np.full(int(ends[-1]) if len(ends) else 0, inputs, np.uint16)
        within = np.arange(len(key)) - np.repeat(np.cumsum(held) - held, held)
        first = np.append(0, ends)
        positions[np.repeat(first[:-1], held) + within] = csr.indices[order]
        rows = present[owner] // max(1, levels)
        starts = np.searchsorted(rows, np.arange(outputs + 1))
        return cls(
            positions,
            quads.astype(np.uint16),
            starts.astype(np.int32),
            first[starts[:-1]].astype(np.int32),
            rows,
            present[owner] % max(1, levels),
            np.where(last, sizes[owner], -1),
        )
