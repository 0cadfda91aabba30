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
from .frame import FRAME, PLACE, floats, integers, layout, share, words
from .segments import check_sums
from .simd import (
    add,
    as_pairs,
    high_bytes,
    keep,
    load_u8,
    total,
    unpair,
    w64,
    widen_add,
    zero_pairs,
    zero_u8,
    zero_u16,
    zero_u32,
)

PLANES = layout(
    source=PLACE, target=PLACE, inputs="i8", outputs="i8", count="i8", words="i8", chunk="i8",
    planes=PLACE, levels=PLACE, absent=PLACE, shift=PLACE, coded="i8", low="f4",
    high="f4",
)  # fmt: skip
"""A layer of `outputs` rows.

Attributes
----------
planes : uint64 [outputs, count, words], see `bit_planes`
absent : int32 [outputs, count], zero_point times how many bits are set
levels, shift : float32 [outputs, count] and [outputs], see `plain.reduce.scaling`
chunk : words that are added before their lanes could overflow
coded, low, high : whether codes are given, and their bounds less their zero point
"""
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
    # A lane meets one code of each word: sums of words fit 16 bits, or pairs of bytes are summed.
    narrow = reads.bits <= 4 and planes.shape[2] * reads.maximum < 2**16
    assembler.emit(
        add_narrow if narrow else add_wide, source=source, target=target, inputs=inputs,
        outputs=outputs, count=planes.shape[1], words=planes.shape[2],
        chunk=255 // reads.maximum if narrow else 257, planes=assembler.constant(planes),
        levels=assembler.floats(levels),
        absent=assembler.constant(sizes * np.int32(reads.zero_point)),
        shift=assembler.floats(shift),
        coded=gives is not None, **code_bounds(gives),
    )  # fmt: skip


def bit_planes(weight: LevelWeights) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return the planes, uint64 [M, L, ceil(K / 64)], and how many bits are set, int32 [M, L].

    Bit k % 64 of word k // 64 of plane (m, l) is set where weight (m, k) is at level l.
    """
    csr, count = weight.decode(), weight.levels.shape[-1]
    check_sums(csr)
    outputs, inputs = csr.shape
    length = -(-inputs // 64)
    planes = np.zeros((outputs, count, length), np.uint64)
    sizes = np.zeros((outputs, count), np.int32)
    for first in range(0, outputs, ROWS):
        last = min(first + ROWS, outputs)
        entries = slice(csr.indptr[first], csr.indptr[last])
        rows = np.repeat(np.arange(last - first), np.diff(csr.indptr[first : last + 1]))
        bits = np.zeros((last - first, count, 64 * length), np.uint8)
        bits[rows, csr.codes[entries].astype(np.intp) - 1, csr.indices[entries]] = 1
        planes[first:last] = np.packbits(bits, axis=-1, bitorder="little").view("<u8")
        sizes[first:last] = bits.sum(axis=-1, dtype=np.int32)
    return planes, sizes


@register_jitable
def _sum_narrow(source, bits, chunk):
    """Sum the codes whose bits are set, in 8-bit lanes and, before these overflow, in 16."""
    w = w64()
    sums = zero_u16(w)
    k = 0
    while k < len(bits):
        until = min(k + chunk, len(bits))
        part = zero_u8(w)
        while k < until:
            part = add(part, keep(load_u8(w, source + 64 * k), bits[k]))
            k += 1
        sums = widen_add(sums, part)
    return total(sums)


@register_jitable
def _sum_wide(source, bits, chunk):
    """Sum the codes whose bits are set as pairs of bytes and their high bytes, and in 32 bits."""
    w = w64()
    sums = zero_u32(w)
    k = 0
    while k < len(bits):
        until = min(k + chunk, len(bits))
        whole = zero_pairs(w)
        high = zero_pairs(w)
        while k < until:
            pairs = as_pairs(keep(load_u8(w, source + 64 * k), bits[k]))
            whole = add(whole, pairs)
            high = add(high, high_bytes(pairs))
            k += 1
        sums = widen_add(sums, unpair(whole, high))
    return total(sums)


@register_jitable
def _add_planes(operation, frame, sum_codes):
    """Reduce and scale the rows of bit planes; each is read once for all items.

    What lies behind an item's last code is read with it, and masked by bits that are not set.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018: a bit each for being at Wp, and at -Wn.
    """
    outputs, count, length = operation.outputs, operation.count, operation.words
    planes = words(operation.planes, outputs * count * length)
    levels = floats(operation.levels, outputs * count)
    absent = integers(operation.absent, outputs * count)
    shift = floats(operation.shift, outputs)
    first, last = share(outputs, frame)
    for m in range(first, last):
        for n in range(frame.images):
            source = frame.arena + operation.source + n * operation.inputs
            t = shift[m]
            for plane in range(m * count, (m + 1) * count):
                bits = planes[plane * length : (plane + 1) * length]
                sums = sum_codes(source, bits, operation.chunk)
                t += levels[plane] * np.float32(sums - absent[plane])
            store_result(
                frame.arena + operation.target, n * outputs + m, t,
                operation.coded, operation.low, operation.high,
            )  # fmt: skip


@kernel(PLANES, FRAME)
def add_narrow(operations, frames):
    """Compute a layer over codes of at most 4 bits."""
    _add_planes(carray(operations, 1)[0], carray(frames, 1)[0], _sum_narrow)


@kernel(PLANES, FRAME)
def add_wide(operations, frames):
    """Compute a layer over codes of up to 8 bits."""
    _add_planes(carray(operations, 1)[0], carray(frames, 1)[0], _sum_wide)
