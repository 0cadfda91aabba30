"""Fully connected layers of few levels over uint8 codes, by counting bits.

Of each row and level one bit for each input says whether it belongs to the sum: two bits a weight
where weights are ternary. The codes are cut into planes of bits too, so that a sum of codes is a
sum over their bits b of 2**b times how many inputs have both bits set: an AND and a count for 512
inputs at a time (DoReFa-Net, Zhou et al. 2016, equation 3).
"""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer, aligned
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.program import Assembler

from .bits import count_bits, store_bit, total, total_bytes
from .frame import FRAME, PLACE, layout, share
from .quantization import code_bounds, round_code
from .segments import check_sums
from .simd import (
    NEON,
    add,
    both,
    load_eight,
    load_float,
    load_int,
    load_row,
    load_u8,
    load_u64,
    store,
    store_byte,
    store_float,
    store_integer,
    w8,
    w64,
    zero_u8,
    zero_u64,
)

GROUP = 512
"""Inputs whose bits are counted at a time; rows of bits are padded to as many."""

CUT = layout(source=PLACE, target=PLACE, inputs="i8", padded="i8", bits="i8")
"""From `inputs` codes to `bits` planes of as many bits, each `padded` to whole groups."""

PLANES = layout(
    source=PLACE, target=PLACE, padded="i8", bits="i8", outputs="i8", count="i8", planes=PLACE,
    levels=PLACE, absent=PLACE, shift=PLACE, coded="i8", low="f4", high="f4",
)  # fmt: skip
"""A layer of `outputs` rows.

Attributes
----------
source : planes of bits of an item's codes, see `CUT`
planes : uint8 [outputs * count + slack, padded / 8], see `bit_planes`
absent : int32 [outputs, count], zero_point times how many bits are set
levels, shift : float32 [outputs, count] and [outputs], see `plain.reduce.scaling`
coded, low, high : whether codes are given, and their bounds less their zero point
"""
TURN = 4
"""Rows that are taken in one turn, and planes of weights that meet the same bits of codes."""
BYTES = 31 * GROUP // 8
"""Bytes of a plane whose bits are counted in bytes: 31 counts of up to 8 fit one."""
HELD_BYTES = 2**20
"""Of rows whose bits are held as bytes at a time, while planes are made."""


def worth_planes(weight: LevelWeights) -> bool:
    """Say whether words of 64 bits are fewer than the nonzeros, which could be added one by one.

    So planes never take more than eight bytes a nonzero, whatever shape a file declares.
    """
    outputs, inputs = weight.shape
    words = 8 * -(-inputs // GROUP)
    return 0 < outputs * weight.levels.shape[-1] * words <= weight.nonzeros


def emit(
    assembler: Assembler,
    weight: LevelWeights,
    bias: NDArray[np.float32] | None,
    reads: Quantization,
    gives: Quantization | None,
    source: Buffer,
    target: Buffer,
) -> None:
    """Emit a layer from codes [K] to [M], float32 or codes."""
    outputs, inputs = weight.shape
    planes, sizes = bit_planes(weight)
    levels, shift = scaling(weight, bias, reads, gives)
    padded = 8 * planes.shape[1]
    bits = assembler.buffer(reads.bits * padded // 8)
    assembler.emit(
        cut_bits, margin=64, source=source, target=bits, inputs=inputs, padded=padded,
        bits=reads.bits,
    )  # fmt: skip
    assembler.emit(
        add_planes, scratch=8 * TURN * (sizes.shape[1] + 1),
        reason=f"{8 * weight.nonzeros / planes.size:.0f} nonzeros a word: bit planes",
        cost=planes.size * (0.03 + 0.01 * reads.bits), source=bits, target=target, padded=padded,
        bits=reads.bits, outputs=outputs, count=sizes.shape[1],
        planes=assembler.constant(planes), levels=assembler.floats(levels.table()),
        absent=assembler.constant(sizes * np.int32(reads.zero_point)),
        shift=assembler.floats(shift), coded=gives is not None, **code_bounds(gives),
    )  # fmt: skip


def bit_planes(weight: LevelWeights) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the planes, uint8 [M * L + slack, bytes], and how many bits are set, int32 [M, L].

    Bit k % 8 of byte k // 8 of plane m * L + l is set where weight (m, k) is at level l.
    """
    (outputs, inputs), count = weight.shape, weight.levels.shape[-1]
    padded = -(-inputs // GROUP) * GROUP
    planes = aligned((outputs * count + TURN) * padded // 8).reshape(-1, padded // 8)
    planes[outputs * count :] = 0
    sizes = np.zeros((outputs, count), np.int32)
    first = 0
    for csr in weight.rows(max(1, HELD_BYTES // (count * padded))):
        check_sums(csr)
        last = first + csr.shape[0]
        rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
        bits = np.zeros((csr.shape[0], count, padded), np.uint8)
        bits[rows, csr.codes.astype(np.intp) - 1, csr.indices] = 1
        packed = np.packbits(bits, axis=-1, bitorder="little")
        planes[first * count : last * count] = packed.reshape(-1, padded // 8)
        sizes[first:last] = bits.sum(axis=-1, dtype=np.int32)
        first = last
    return planes, sizes


@kernel(CUT, FRAME)
def cut_bits(operations, frames):
    """Write bit b of each code to plane b; what is read behind the last code meets no weight."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    inputs, padded, bits = operation.inputs, operation.padded, operation.bits
    groups = padded // GROUP
    first, last = share(frame.images * groups, frame)
    for group in range(first, last):
        n, begin = group // groups, group % groups * GROUP
        source = frame.arena + operation.source + n * inputs
        target = frame.arena + operation.target + (n * bits * padded + begin) // 8
        for b in range(bits):
            store(target + b * padded // 8, zero_u64(w8()))
        for k in range(begin, min(begin + GROUP, inputs), 64):
            x = load_u8(w64(), source + k)
            for b in range(bits):
                store_bit(target + (b * padded + k - begin) // 8, x, b)


@register_jitable
def _sum_planes(source, at, padded, bits):
    """Return the sums of the codes that each of four planes of weights selects."""
    if NEON:
        return _sum_bytes(source, at, padded, bits)
    return _sum_words(source, at, padded, bits)


@register_jitable
def _sum_words(source, at, padded, bits):
    """Count in words of 64 bits."""
    w, plane = w8(), padded // 8
    t0, t1, t2, t3 = zero_u64(w), zero_u64(w), zero_u64(w), zero_u64(w)
    for b in range(bits - 1, -1, -1):
        t0, t1, t2, t3 = add(t0, t0), add(t1, t1), add(t2, t2), add(t3, t3)
        codes = source + b * plane
        for k in range(0, plane, GROUP // 8):
            x = load_u64(w, codes + k)
            t0 = add(t0, count_bits(both(x, load_u64(w, at + k))))
            t1 = add(t1, count_bits(both(x, load_u64(w, at + plane + k))))
            t2 = add(t2, count_bits(both(x, load_u64(w, at + 2 * plane + k))))
            t3 = add(t3, count_bits(both(x, load_u64(w, at + 3 * plane + k))))
    return total(t0), total(t1), total(t2), total(t3)


@register_jitable
def _sum_bytes(source, at, padded, bits):
    """Count in bytes, as NEON does, and add these up before they could overflow."""
    w, plane = w64(), padded // 8
    t0 = t1 = t2 = t3 = 0
    for b in range(bits - 1, -1, -1):
        t0, t1, t2, t3 = 2 * t0, 2 * t1, 2 * t2, 2 * t3
        codes = source + b * plane
        for begin in range(0, plane, BYTES):
            c0, c1, c2, c3 = zero_u8(w), zero_u8(w), zero_u8(w), zero_u8(w)
            for k in range(begin, min(begin + BYTES, plane), GROUP // 8):
                x = load_row(w, codes + k)
                c0 = add(c0, count_bits(both(x, load_row(w, at + k))))
                c1 = add(c1, count_bits(both(x, load_row(w, at + plane + k))))
                c2 = add(c2, count_bits(both(x, load_row(w, at + 2 * plane + k))))
                c3 = add(c3, count_bits(both(x, load_row(w, at + 3 * plane + k))))
            t0, t1 = t0 + total_bytes(c0), t1 + total_bytes(c1)
            t2, t3 = t2 + total_bytes(c2), t3 + total_bytes(c3)
    return t0, t1, t2, t3


@kernel(PLANES, FRAME)
def add_planes(operations, frames):
    """Reduce and scale the rows of bit planes, which are read once for all items.

    Planes behind the last one are read too; their sums are not used.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018: a bit each for being at Wp, and at -Wn.
    """
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    outputs, count, padded, bits = op.outputs, op.count, op.padded, op.bits
    begin, end = share(outputs, frame)
    for first in range(begin, end, TURN):
        rows = min(TURN, end - first)
        for n in range(frame.images):
            source = frame.arena + op.source + n * bits * padded // 8
            for plane in range(0, rows * count, TURN):
                at = op.planes + (first * count + plane) * padded // 8
                t0, t1, t2, t3 = _sum_planes(source, at, padded, bits)
                kept = frame.scratch + 8 * plane
                store_integer(kept, t0)
                store_integer(kept + 8, t1)
                store_integer(kept + 16, t2)
                store_integer(kept + 24, t3)
            for row in range(rows):
                m = first + row
                t = load_float(op.shift + 4 * m)
                for level in range(count):
                    slot = 4 * (m * count + level)
                    sums = load_eight(frame.scratch + 8 * (row * count + level))
                    real = np.float32(sums - load_int(op.absent + slot))
                    t += load_float(op.levels + slot) * real
                _store(op, frame, n * outputs + m, t)


@register_jitable
def _store(op, frame, index, t):
    target = frame.arena + op.target
    if op.coded:
        store_byte(target + index, round_code(t, op.low, op.high))
    else:
        store_float(target + 4 * index, t)
