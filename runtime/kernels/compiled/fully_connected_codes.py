"""Fully connected layers of few levels over uint8 codes, from bit planes.

Of each row and level one bit for each input says whether it belongs to the sum: two bits a weight
where weights are ternary. 64 inputs are masked and added at a time.
"""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.program import Assembler

from .elementwise import code_bounds, store_result
from .frame import FRAME, PLACE, floats, integers, layout, share
from .segments import check_sums
from .simd import add, keep, load_eight, load_u8, sum_octets, total, w64, zero_octets, zero_u8

PLANES = layout(
    source=PLACE, target=PLACE, inputs="i8", outputs="i8", count="i8", words="i8", chunk="i8",
    planes=PLACE, levels=PLACE, absent=PLACE, shift=PLACE, coded="i8", low="f4",
    high="f4",
)  # fmt: skip
"""A layer of `outputs` rows.

Attributes
----------
planes : uint64 [outputs * count + slack, words], see `bit_planes`
absent : int32 [outputs, count], zero_point times how many bits are set
levels, shift : float32 [outputs, count] and [outputs], see `plain.reduce.scaling`
chunk : words that are added before their lanes could overflow
coded, low, high : whether codes are given, and their bounds less their zero point
"""
TURN = 4
"""Rows that are taken in one turn, and planes whose bits mask the same codes."""
ROWS = 16
"""Rows whose bits are held as bytes at a time, while planes are made."""


def worth_planes(weight: LevelWeights) -> bool:
    """Say whether words of 64 bits are fewer than the nonzeros, which could be added one by one.

    So planes never take more than eight bytes a nonzero, whatever shape a file declares.
    """
    outputs, inputs = weight.shape
    return 0 < outputs * weight.levels.shape[-1] * -(-inputs // 64) <= weight.nonzeros


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
    assembler.emit(
        add_narrow if reads.bits <= 6 else add_wide,
        reason=f"{weight.nonzeros / planes.size:.0f} nonzeros a word: bit planes",
        cost=planes.size * 0.6, source=source, target=target, inputs=inputs,
        outputs=outputs, count=sizes.shape[1], words=planes.shape[1],
        chunk=255 // reads.maximum, planes=assembler.constant(planes),
        levels=assembler.floats(levels),
        absent=assembler.constant(sizes * np.int32(reads.zero_point)),
        shift=assembler.floats(shift),
        coded=gives is not None, **code_bounds(gives),
    )  # fmt: skip


def bit_planes(weight: LevelWeights) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return the planes, uint64 [M * L + slack, words], and how many bits are set, int32 [M, L].

    Bit k % 64 of word k // 64 of plane m * L + l is set where weight (m, k) is at level l.
    """
    (outputs, inputs), count = weight.shape, weight.levels.shape[-1]
    length = -(-inputs // 64)
    planes = np.zeros((outputs * count + TURN, length), np.uint64)
    sizes = np.zeros((outputs, count), np.int32)
    first = 0
    for csr in weight.rows(ROWS):
        check_sums(csr)
        last = first + csr.shape[0]
        rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
        bits = np.zeros((csr.shape[0], count, 64 * length), np.uint8)
        bits[rows, csr.codes.astype(np.intp) - 1, csr.indices] = 1
        packed = np.packbits(bits, axis=-1, bitorder="little").view("<u8")
        planes[first * count : last * count] = packed.reshape(-1, length)
        sizes[first:last] = bits.sum(axis=-1, dtype=np.int32)
        first = last
    return planes, sizes


@register_jitable
def _sums_narrow(w, source, at, length, chunk, sums):
    """Sum the codes whose bits are set in each of four planes.

    In 8-bit lanes and, before these overflow, in wider ones. sums : int64 [4]
    """
    plane = 8 * length
    t0, t1, t2, t3 = zero_octets(w), zero_octets(w), zero_octets(w), zero_octets(w)
    k = 0
    while k < length:
        until = min(k + chunk, length)
        p0, p1, p2, p3 = zero_u8(w), zero_u8(w), zero_u8(w), zero_u8(w)
        while k < until:
            x, bits = load_u8(w, source + 64 * k), at + 8 * k
            p0 = add(p0, keep(x, load_eight(bits)))
            p1 = add(p1, keep(x, load_eight(bits + plane)))
            p2 = add(p2, keep(x, load_eight(bits + 2 * plane)))
            p3 = add(p3, keep(x, load_eight(bits + 3 * plane)))
            k += 1
        t0, t1 = add(t0, sum_octets(p0)), add(t1, sum_octets(p1))
        t2, t3 = add(t2, sum_octets(p2)), add(t3, sum_octets(p3))
    sums[0], sums[1], sums[2], sums[3] = total(t0), total(t1), total(t2), total(t3)


@register_jitable
def _sums_wide(w, source, at, length, chunk, sums):
    """Sum any codes; as `_sums_narrow`."""
    plane = 8 * length
    t0, t1, t2, t3 = zero_octets(w), zero_octets(w), zero_octets(w), zero_octets(w)
    for k in range(length):
        x, bits = load_u8(w, source + 64 * k), at + 8 * k
        t0 = add(t0, sum_octets(keep(x, load_eight(bits))))
        t1 = add(t1, sum_octets(keep(x, load_eight(bits + plane))))
        t2 = add(t2, sum_octets(keep(x, load_eight(bits + 2 * plane))))
        t3 = add(t3, sum_octets(keep(x, load_eight(bits + 3 * plane))))
    sums[0], sums[1], sums[2], sums[3] = total(t0), total(t1), total(t2), total(t3)


@register_jitable
def _add_planes(operation, frame, sum_codes):
    """Reduce and scale the rows of bit planes, which are read once for all items.

    What lies behind an item's last code is read with it, and masked by bits that are not set; so
    are planes behind the last one, whose sums are not used.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018: a bit each for being at Wp, and at -Wn.
    """
    outputs, count, length = operation.outputs, operation.count, operation.words
    levels = floats(operation.levels, outputs * count)
    absent = integers(operation.absent, outputs * count)
    shift = floats(operation.shift, outputs)
    sums = np.empty(TURN * count, np.int64)
    begin, end = share(outputs, frame)
    for first in range(begin, end, TURN):
        rows = min(TURN, end - first)
        for n in range(frame.images):
            source = frame.arena + operation.source + n * operation.inputs
            for plane in range(0, rows * count, TURN):
                at = operation.planes + 8 * length * (first * count + plane)
                sum_codes(w64(), source, at, length, operation.chunk, sums[plane : plane + TURN])
            for row in range(rows):
                m = first + row
                t = shift[m]
                for level in range(count):
                    slot = m * count + level
                    t += levels[slot] * np.float32(sums[row * count + level] - absent[slot])
                store_result(
                    frame.arena + operation.target, n * outputs + m, t, operation.coded,
                    operation.low, operation.high,
                )  # fmt: skip


@kernel(PLANES, FRAME)
def add_narrow(operations, frames):
    """Compute a layer over codes of up to 6 bits."""
    _add_planes(carray(operations, 1)[0], carray(frames, 1)[0], _sums_narrow)


@kernel(PLANES, FRAME)
def add_wide(operations, frames):
    """Compute a layer over codes of 7 and 8 bits."""
    _add_planes(carray(operations, 1)[0], carray(frames, 1)[0], _sums_wide)
