"""The executed form of weights of few levels: one byte for a nonzero, in blocks of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights

from .segments import check_sums
from .sums import QUAD

FEW, MANY = 255, 511
"""Inputs of a block: a position among `FEW` fits a byte, and one is left for a tile row of zeros.
Where planes are small a tile is narrow, and `MANY` of its rows fit the cache."""
LINE = 64
"""Positions in blocks of `MANY` are multiplied by so much: what is added to an address."""
TURN = 256
"""Rows that are taken in one turn: what is kept of them between two blocks fits the cache."""


@dataclass(frozen=True)
class Blocks:
    """Nonzeros by turn of rows, then block of inputs, then segment, then input.

    A segment is the nonzeros of one row at one level within one block. Those of a turn and a block
    lie in the order of their lengths, so that the processor foresees where most of them end.

    Attributes
    ----------
    positions : uint8, or uint16 in blocks of `MANY`, the inputs of each segment within their block,
        padded to fours with the size of a block
    quads : uint8 [S], how many fours a segment takes
    slots : uint16 [S], its row in its turn, times L, plus its level
    starts : int32 [turns * blocks, 2], where a part begins: bytes of positions, and segments
    counts : int64 [M, L], nonzeros of a row at a level, in all blocks
    """

    positions: NDArray[Any]
    quads: NDArray[np.uint8]
    slots: NDArray[np.uint16]
    starts: NDArray[np.int32]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, weight: LevelWeights, groups: int, block: int = FEW) -> Blocks:
        """Sort the nonzeros of a matrix [M, K], a turn at a time, whose rows are of one group."""
        each, levels = weight.shape[0] // groups, weight.levels.shape[-1]
        parts = [_Turn.of(csr, levels, block) for csr in _turns(weight, each)]
        sizes = np.concatenate([[(0, 0)], *(part.sizes for part in parts)])
        starts = np.cumsum(sizes, axis=0)
        if starts[-1].max() >= 2**31:
            raise UnsupportedError(
                f"weights of {weight.nonzeros} nonzeros; 2**31 bytes are too many"
            )
        return cls(
            np.concatenate([part.positions for part in parts]),
            np.concatenate([part.quads for part in parts]),
            np.concatenate([part.slots for part in parts]),
            starts[:-1].astype(np.int32),
            np.concatenate([part.counts for part in parts]),
        )


def _turns(weight: LevelWeights, each: int) -> Iterator[CSR]:
    """Yield the matrix by turns; `each` rows are a group."""
    if each == weight.shape[0]:
        yield from weight.rows(TURN)
    else:
        for group in weight.rows(each):
            yield from group.row_groups(TURN)


@dataclass(frozen=True)
class _Turn:
    """What one turn of rows adds to `Blocks`; sizes [blocks, 2] are what `starts` adds up."""

    positions: NDArray[Any]
    quads: NDArray[np.uint8]
    slots: NDArray[np.uint16]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, csr: CSR, levels: int, block: int) -> _Turn:
        check_sums(csr)
        rows, inputs = csr.shape
        blocks, slots = -(-inputs // block), rows * levels
        row = np.repeat(np.arange(rows), np.diff(csr.indptr))
        segment = (csr.indices // block * rows + row) * levels + csr.codes.astype(np.int64) - 1
        sizes = np.bincount(segment, minlength=blocks * slots)
        quads = -(-sizes // QUAD)
        order = np.lexsort((-quads, np.repeat(np.arange(blocks), slots)))
        ends = np.cumsum(QUAD * quads[order])
        first = np.empty_like(ends)
        first[order] = ends - QUAD * quads[order]
        nonzeros = np.argsort(segment, kind="stable")
        within = np.arange(len(segment)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        line = 1 if block == FEW else LINE
        positions: NDArray[Any] = np.full(
            QUAD * int(quads.sum()), block * line, np.uint8 if block == FEW else np.uint16
        )
        inside = csr.indices[nonzeros] % block * line
        positions[np.repeat(first, sizes) + within] = inside
        part_bytes = QUAD * quads.reshape(blocks, -1).sum(axis=1) * positions.itemsize
        return cls(
            positions,
            quads[order].astype(np.uint8),
            (order % slots).astype(np.uint16) if slots else np.zeros(0, np.uint16),
            np.stack([part_bytes, np.full(blocks, slots)], axis=1),
            sizes.reshape(blocks, rows, levels).sum(axis=0),
        )
