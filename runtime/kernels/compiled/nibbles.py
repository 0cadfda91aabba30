"""The executed form of a fully connected layer over codes: four bits for four weights at a level.

A *unit* is one level of 16 rows. A *group* is 16 inputs: four quads, of each of which a nibble says
which of its inputs are at that level in that row. Units lie side by side in blocks, two nibbles to
a byte, so that one load brings those of a quad for all rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights
from deepchip.runtime.arena import aligned

from .segments import check_sums

ROWS = 16
"""Rows of a unit."""
GROUP = 16
"""Inputs of a group."""
UNIT_BYTES = ROWS * GROUP // 8
"""Bytes of a group of a unit."""
LEAST = 2
"""Units of the smallest block."""
HELD_BYTES = 2**20
"""Of rows whose bits are held as bytes at a time, while they are packed."""
_TOLD_BYTES = 2 * 4 * ROWS
"""Bytes that a kernel is told of a unit besides: level, and zero point times count, of each row."""


def is_dense(weight: LevelWeights, block: int) -> bool:
    """Say whether nibbles take at most eight bytes a nonzero, whatever shape a file declares.

    Around there they take as long as adding the nonzeros one by one.

    Parameters
    ----------
    block : see `pack`
    """
    units, groups = _sizes(weight)
    if weight.nonzeros == 0:
        return False
    return _room(units, block) * groups * UNIT_BYTES + units * _TOLD_BYTES <= 8 * weight.nonzeros


def pack(weight: LevelWeights, block: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the nibbles, and how many weights are at each level, int32 [M / 16, L, 16].

    Parameters
    ----------
    weight : [M, K] with nonzeros
    block : units of a block; the last has `LEAST` where these suffice

    Notes
    -----
    A block is uint8 [groups, 4, lanes], of 8 lanes a unit. With q = lanes / 4, its row i, counted
    through its units, has nibble i // lanes (0: the low one) of byte i % q * 4 + i % lanes // q: in
    this order sums become wider without a move between lanes.
    """
    units, groups = _sizes(weight)
    counts = np.zeros((-(-weight.shape[0] // ROWS), weight.levels.shape[-1], ROWS), np.int32)
    room = _room(units, block)
    packed = aligned(room * groups * UNIT_BYTES)
    held = np.zeros((min(block, room), ROWS, groups * GROUP // 8), np.uint8)
    done = 0
    for unit, (bits, of_rows) in enumerate(_units(weight, groups)):
        counts.reshape(units, ROWS)[unit] = of_rows
        place = unit % block
        held[place] = bits
        if place == block - 1 or unit == units - 1:
            held[place + 1 :] = 0
            whole = held[: _room(place + 1, block)]
            size = len(whole) * groups * UNIT_BYTES
            _interleave(whole, packed[done : done + size])
            done += size
    return packed, counts


def _sizes(weight: LevelWeights) -> tuple[int, int]:
    """Return the units and groups of a layer."""
    outputs, inputs = weight.shape
    return -(-outputs // ROWS) * weight.levels.shape[-1], -(-inputs // GROUP)


def _room(units: int, block: int) -> int:
    """Return how many units there is room for in the blocks that hold some."""
    last = (units - 1) % block + 1
    return units - last + (LEAST if last <= LEAST else block)


def _units(
    weight: LevelWeights, groups: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Yield of each unit which weights are at its level, and how many of each row.

    A bit says so: bit k % 8 of byte k // 8 of uint8 [16, K / 8] is that of input k.
    """
    levels, inputs = weight.levels.shape[-1], groups * GROUP
    for unit_rows in weight.rows(ROWS):
        check_sums(unit_rows)
        bits = np.zeros((levels, ROWS, inputs // 8), np.uint8)
        counts = np.zeros((levels, ROWS), np.int32)
        first = 0
        for csr in unit_rows.row_groups(max(1, HELD_BYTES // (levels * inputs))):
            last = first + csr.shape[0]
            members = np.zeros((csr.shape[0], levels, inputs), np.uint8)
            place = np.repeat(np.arange(csr.shape[0]) * levels - 1, np.diff(csr.indptr))
            members.reshape(-1)[(place + csr.codes) * inputs + csr.indices] = 1
            bits[:, first:last] = np.packbits(members, -1, "little").swapaxes(0, 1)
            counts[:, first:last] = members.sum(axis=-1, dtype=np.int32).T
            first = last
        yield from zip(bits, counts, strict=True)


def _interleave(bits: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Write a block whose bits are uint8 [units, 16, K / 8]; see `pack`."""
    quarter = ROWS * len(bits) // 8
    low, high = bits.reshape(2, 4, quarter, -1).transpose(0, 3, 2, 1)
    pairs = target.reshape(-1, 2, quarter, 4)  # a byte of bits is two quads
    pairs[:, 0] = low & 15 | high << 4
    pairs[:, 1] = low >> 4 | high & 240
