"""The executed form of weights of few levels: one byte for a nonzero, in blocks of inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR

from .sums import QUAD

FEW, MANY = 255, 511
"""Inputs of a block: a position among `FEW` fits a byte, and one is left for a tile row of zeros.
Where planes are small a tile is narrow, and `MANY` of its rows fit the cache."""
LINE = 64
"""Positions in blocks of `MANY` are multiplied by so much: what is added to an address."""
TURN = 128
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
    """

    positions: NDArray[Any]
    quads: NDArray[np.uint8]
    slots: NDArray[np.uint16]
    starts: NDArray[np.int32]

    @classmethod
    def of(cls, csr: CSR, levels: int, groups: int, block: int = FEW) -> Blocks:
        """Sort the nonzeros of a matrix [M, K]; a turn has rows of one of the `groups`."""
        outputs, inputs = csr.shape
        each = outputs // groups
        blocks, turns = -(-inputs // block), -(-each // TURN)
        rows = np.arange(outputs)
        turn = rows // each * turns + rows % each // TURN
        shape = (outputs, blocks, levels)
        row_parts = (turn[:, None] * blocks + np.arange(blocks))[..., None]
        row_slots = (rows % each % TURN)[:, None, None] * levels + np.arange(levels)
        part = np.broadcast_to(row_parts, shape).reshape(-1)
        slot = np.broadcast_to(row_slots, shape).reshape(-1)
        segment = np.repeat(rows, np.diff(csr.indptr)) * blocks + csr.indices // block
        segment = segment * levels + csr.codes.astype(np.int64) - 1
        sizes = np.bincount(segment, minlength=len(part))
        quads = -(-sizes // QUAD)
        order = np.lexsort((-quads, part))
        ends = np.cumsum(QUAD * quads[order])
        first = np.empty_like(ends)
        first[order] = ends - QUAD * quads[order]
        nonzeros = np.argsort(segment, kind="stable")
        within = np.arange(len(segment)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        line = 1 if block == FEW else LINE
        dtype = np.uint8 if block == FEW else np.uint16
        positions: NDArray[Any] = np.full(QUAD * int(quads.sum()), block * line, dtype)
        positions[np.repeat(first, sizes) + within] = (csr.indices % block)[nonzeros] * line
        segments = np.searchsorted(part[order], np.arange(groups * turns * blocks))
        starts = np.stack([np.append(0, ends)[segments] * positions.itemsize, segments], axis=1)
        return cls(
            positions,
            quads[order].astype(np.uint8),
            slot[order].astype(np.uint16),
            starts.astype(np.int32),
        )
