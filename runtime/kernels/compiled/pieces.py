"""The executed form of weights of many levels: two bytes for a nonzero, row by row."""

from __future__ import annotations

from dataclasses import dataclass, fields

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
        whole = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in (field.name for field in fields(cls))
        }
        whole["starts"] = np.append(whole["starts"], np.int32(pieces))
        return cls(**whole)

    @classmethod
    def _of_rows(cls, csr: CSR, levels: int, first_row: int, begin: int, before: int) -> Pieces:
        """Sort rows from `first_row` on, before which there are positions and pieces already."""
        outputs, inputs = csr.shape
        row = np.repeat(np.arange(outputs), np.diff(csr.indptr))
        key = row * levels + csr.codes.astype(np.int64) - 1
        order = np.argsort(key, kind="stable")
        present, sizes = np.unique(key, return_counts=True)
        pieces = -(-sizes // PIECE)
        owner = np.repeat(np.arange(len(present)), pieces)
        last = np.zeros(len(owner), bool)
        last[np.cumsum(pieces) - 1] = True
        held = np.where(last, sizes[owner] - (pieces[owner] - 1) * PIECE, PIECE)
        quads = -(-held // QUAD)
        ends = np.append(0, QUAD * np.cumsum(quads))
        positions = np.full(int(ends[-1]), inputs, np.uint16)
        within = np.arange(len(key)) - np.repeat(np.cumsum(held) - held, held)
        positions[np.repeat(ends[:-1], held) + within] = csr.indices[order]
        rows = present[owner] // levels
        starts = np.searchsorted(rows, np.arange(outputs))
        return cls(
            positions,
            quads.astype(np.uint16),
            (before + starts).astype(np.int32),
            (begin + ends[starts]).astype(np.int32),
            first_row + rows,
            present[owner] % levels,
            np.where(last, sizes[owner], -1),
        )
