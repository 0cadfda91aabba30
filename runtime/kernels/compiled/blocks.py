"""The executed form of weights of few levels: a byte or two for a nonzero, in blocks of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights
from deepchip.runtime.arena import joined

from .segments import check_sums
from .sums import QUAD

FEW, MANY = 255, 640
"""Inputs of a block, at most: about as many rows of a tile fit the first-level cache, where it has
128 pixels, and where it has 64, as for planes of no more. A position among `FEW` fits a byte, with
one left for a tile row of zeros, and sums of any codes fit 16 bits."""
LINE = 64
"""Positions of two bytes are multiplied by so much: what is added to an address."""
TURN = 128
"""Rows that are taken in one turn, at most: what is kept of them between two blocks fits the cache,
and threads that share turns find enough of them."""
STEP = 16
"""Rows of a turn are a multiple of it, unless there is but one: they are sorted some at a time."""
HELD = 2**16
"""Weights of the rows whose nonzeros are sorted at a time."""


@dataclass(frozen=True)
class Blocks:
    """Nonzeros by turn of rows, then block of inputs, then segment, then input.

    A segment is the nonzeros of one row at one level within one block. Those of a turn and a block
    lie in the order of their lengths, so that the processor foresees where most of them end.

    Attributes
    ----------
    positions : uint8, or uint16 in blocks of more than `FEW`, the inputs of each segment within
        their block, padded to fours with the size of a block
    quads : uint8 [S], how many fours a segment takes
    slots : uint16 [S], its row in its turn, times L, plus its level
    starts : int32 [turns * blocks, 2], where a part begins: bytes of positions, and segments
    turn : rows of a turn; the last of a group may have fewer
    counts : int64 [M, L], nonzeros of a row at a level, in all blocks
    """

    positions: NDArray[Any]
    quads: NDArray[np.uint8]
    slots: NDArray[np.uint16]
    starts: NDArray[np.int32]
    turn: int
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, weight: LevelWeights, groups: int, block: int) -> Blocks:
        """Sort the nonzeros of a matrix [M, K], some turns at a time. A turn is of one group."""
        each, levels = weight.shape[0] // groups, weight.levels.shape[-1]
        turn = even_turn(each)
        parts = [_Turns.of(rows, some, levels, block) for rows, some in _turns(weight, each, turn)]
        sizes = np.concatenate([[(0, 0)], *(part.sizes for part in parts)])
        starts = np.cumsum(sizes, axis=0)
        if starts[-1].max() >= 2**31:
            raise UnsupportedError(
                f"weights of {weight.nonzeros} nonzeros; 2**31 bytes are too many"
            )
        return cls(
            joined([part.positions for part in parts]),
            joined([part.quads for part in parts]),
            joined([part.slots for part in parts]),
            starts[:-1].astype(np.int32),
            turn,
            np.concatenate([part.counts for part in parts]),
        )


def even_block(inputs: int, most: int) -> int:
    """Return the size of blocks of at most so many inputs, as few as can be, all about as large."""
    count = max(1, -(-inputs // most))
    return max(1, -(-inputs // count))


def even_turn(rows: int) -> int:
    """Return the rows of a turn of so many: few turns, all about as long, so that threads share."""
    turns = max(1, -(-rows // TURN))
    return rows if turns == 1 else -(-rows // turns // STEP) * STEP


def _turns(weight: LevelWeights, each: int, turn: int) -> Iterator[tuple[int, Iterable[CSR]]]:
    """Yield the rows of a turn, and the matrix by turns, some rows at a time; `each` are a group.

    Turns of small groups are yielded some at a time.
    """
    held = max(1, HELD // max(1, prod(weight.shape[1:])))
    if each == weight.shape[0]:
        step = held if each == turn else min(turn & -turn, 1 << held.bit_length() - 1)
        groups = weight.rows(step)  # of which whole ones make a turn
        for first in range(0, each, turn):
            rows = min(turn, each - first)
            yield rows, islice(groups, -(-rows // step))
    elif each == turn:
        yield from (
            (each, csr.row_groups(held)) for csr in weight.rows(max(1, TURN // each) * each)
        )
    else:
        for group in weight.rows(each):
            yield from ((csr.shape[0], csr.row_groups(held)) for csr in group.row_groups(turn))


@dataclass(frozen=True)
class _Turns:
    """What some turns add to `Blocks`; sizes [turns * blocks, 2] are what `starts` adds up."""

    positions: NDArray[Any]
    quads: NDArray[np.uint8]
    slots: NDArray[np.uint16]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: int, some: Iterable[CSR], levels: int, block: int) -> _Turns:
        """Sort the nonzeros of turns of so many rows, which come some rows at a time."""
        runs: list[_Runs] = []
        outputs = inputs = 0
        for csr in some:
            check_sums(csr)
            runs.append(_Runs.of(csr, outputs, rows, levels, block))
            outputs, inputs = outputs + csr.shape[0], csr.shape[1]
        turns, blocks, slots = outputs // rows, -(-inputs // block), rows * levels
        sizes = np.zeros(turns * blocks * slots, np.int64)
        for run in runs:
            sizes[run.segments] = run.sizes
        quads = -(-sizes // QUAD)
        order = np.lexsort((-quads, np.repeat(np.arange(turns * blocks), slots)))
        ends = np.cumsum(QUAD * quads[order])
        first = np.empty_like(ends)
        first[order] = ends - QUAD * quads[order]
        kind, line = _form(block)
        positions = np.full(QUAD * int(quads.sum()), block * line, kind)
        for run in runs:
            begins = first[run.segments] - np.cumsum(run.sizes) + run.sizes
            positions[np.repeat(begins, run.sizes) + np.arange(len(run.positions))] = run.positions
        part_quads = quads.reshape(turns * blocks, slots).sum(axis=1)
        counts = sizes.reshape(turns, blocks, rows, levels).sum(axis=1)
        return cls(
            positions,
            quads[order].astype(np.uint8),
            (order % slots).astype(np.uint16) if slots else np.zeros(0, np.uint16),
            np.stack(
                [QUAD * positions.itemsize * part_quads, np.full(turns * blocks, slots)], axis=1
            ),
            counts.reshape(turns * rows, levels),
        )


@dataclass(frozen=True)
class _Runs:
    """The nonzeros of some rows, by segment, then input.

    Segments of turns of so many rows are numbered by turn, then block, then row, then level.

    Attributes
    ----------
    segments : int64, those that have nonzeros, ascending
    sizes : int64, how many each has
    positions : see `Blocks`, without padding
    """

    segments: NDArray[np.int64]
    sizes: NDArray[np.int64]
    positions: NDArray[Any]

    @classmethod
    def of(cls, csr: CSR, first: int, rows: int, levels: int, block: int) -> _Runs:
        """Sort the nonzeros of rows from the `first` of all turns on."""
        row = np.repeat(np.arange(first, first + csr.shape[0]), np.diff(csr.indptr))
        part = row // rows * -(-csr.shape[1] // block) + csr.indices // block
        segment = (part * rows + row % rows) * levels + csr.codes.astype(np.int64) - 1
        segments, sizes = np.unique(segment, return_counts=True)
        kind, line = _form(block)
        positions = csr.indices[np.argsort(segment, kind="stable")] % block * line
        return cls(segments, sizes, positions.astype(kind))


def _form(block: int) -> tuple[type[np.unsignedinteger[Any]], int]:
    """Return the kind of positions in blocks of this size, and by how much they are multiplied."""
    return (np.uint8, 1) if block <= FEW else (np.uint16, LINE)
