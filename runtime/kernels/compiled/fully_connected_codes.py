"""Fully connected layers of few levels over uint8 codes, from bit planes.

Of each row and level one bit for each input says whether it belongs to the sum: two bits a weight
where weights are ternary. 64 inputs are masked and added at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization
from deepchip.formats.jit import jit
from deepchip.runtime.arrays import for_kernels
from deepchip.runtime.kernels.plain.reduce import scaling

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

Array = NDArray[Any]

ROWS = 16
"""Rows whose bits are held as bytes at a time, while planes are made."""


def worth_planes(weight: LevelWeights) -> bool:
    """Say whether words of 64 bits are fewer than the nonzeros, which could be added one by one.

    So planes never take more than eight bytes a nonzero, whatever shape a file declares.
    """
    outputs, inputs = weight.shape
    return 0 < outputs * weight.levels.shape[-1] * -(-inputs // 64) <= weight.nonzeros


def fully_connected_codes(
    weight: LevelWeights,
    bias: NDArray[np.float32] | None,
    reads: Quantization,
    gives: Quantization | None,
) -> Callable[[Array], NDArray[np.float32]]:
    """Return a function from codes [N, K] to float32 [N, M], scaled as `gives` wants it."""
    outputs, inputs = weight.shape
    planes, sizes = bit_planes(weight)
    absent = sizes * np.int32(reads.zero_point)
    levels = for_kernels(weight.row_levels)
    factor, shift = scaling(weight, bias, reads, gives)
    # A lane meets one code of each word: sums of words fit 16 bits, or pairs of bytes are summed.
    words = planes.shape[2]
    narrow = reads.bits <= 4 and words * reads.maximum < 2**16
    chunk = 255 // reads.maximum if narrow else 257

    def run(x: Array) -> NDArray[np.float32]:
        padded = np.zeros((len(x), 64 * words), np.uint8)
        padded[:, :inputs] = x
        y = np.empty((len(x), outputs), np.float32)
        add_planes(padded, planes, levels, absent, factor, shift, narrow, chunk, y)
        return y

    return run


def bit_planes(weight: LevelWeights) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return the planes, uint64 [M, L, ceil(K / 64)], and how many bits are set, int32 [M, L].

    Bit k % 64 of word k // 64 of plane (m, l) is set where weight (m, k) is at level l.
    """
    csr, count = weight.decode(), weight.levels.shape[-1]
    check_sums(csr)
    outputs, inputs = csr.shape
    words = -(-inputs // 64)
    planes = np.zeros((outputs, count, words), np.uint64)
    sizes = np.zeros((outputs, count), np.int32)
    for first in range(0, outputs, ROWS):
        last = min(first + ROWS, outputs)
        entries = slice(csr.indptr[first], csr.indptr[last])
        rows = np.repeat(np.arange(last - first), np.diff(csr.indptr[first : last + 1]))
        bits = np.zeros((last - first, count, 64 * words), np.uint8)
        bits[rows, csr.codes[entries].astype(np.intp) - 1, csr.indices[entries]] = 1
        planes[first:last] = np.packbits(bits, axis=-1, bitorder="little").view("<u8")
        sizes[first:last] = bits.sum(axis=-1, dtype=np.int32)
    return planes, sizes


@register_jitable
def _sum_narrow(codes, bits, words, chunk):
    """Sum the codes whose bits are set, in 8-bit lanes and, before these overflow, in 16."""
    w = w64()
    sums = zero_u16(w)
    k = 0
    while k < words:
        until = min(k + chunk, words)
        part = zero_u8(w)
        while k < until:
            part = add(part, keep(load_u8(w, codes + 64 * k), bits[k]))
            k += 1
        sums = widen_add(sums, part)
    return total(sums)


@register_jitable
def _sum_wide(codes, bits, words, chunk):
    """Sum the codes whose bits are set as pairs of bytes and their high bytes, and in 32 bits."""
    w = w64()
    sums = zero_u32(w)
    k = 0
    while k < words:
        until = min(k + chunk, words)
        whole = zero_pairs(w)
        high = zero_pairs(w)
        while k < until:
            pairs = as_pairs(keep(load_u8(w, codes + 64 * k), bits[k]))
            whole = add(whole, pairs)
            high = add(high, high_bytes(pairs))
            k += 1
        sums = widen_add(sums, unpair(whole, high))
    return total(sums)


@jit(
    "void(uint8[:, ::1], uint64[:, :, ::1], float32[:, ::1], int32[:, ::1], float32[::1], "
    "float32[::1], boolean, int64, float32[:, ::1])"
)
def add_planes(x, planes, levels, absent, factor, shift, narrow, chunk, out):
    """Reduce and scale every row of bit planes.

    Parameters
    ----------
    x : uint8 [N, 64 * words], codes; what pads them is 0
    planes : uint64 [M, L, words], see `bit_planes`
    levels, absent : float32, int32 [M, L], levels, and zero_point times how many bits are set
    factor, shift : float32 [M], see `plain.reduce.scaling`
    narrow, chunk : how sums are widened
    out : float32 [N, M]

    Notes
    -----
    Schindler et al., ECML-PKDD 2018: a bit each for being at Wp, and at -Wn.
    """
    words = planes.shape[2]
    for n in range(x.shape[0]):
        codes = x[n].ctypes.data
        for m in range(planes.shape[0]):
            t = np.float32(0)
            for slot in range(planes.shape[1]):
                bits = planes[m, slot]
                if narrow:
                    sums = _sum_narrow(codes, bits, words, chunk)
                else:
                    sums = _sum_wide(codes, bits, words, chunk)
                t += levels[m, slot] * np.float32(sums - absent[m, slot])
            out[n, m] = t * factor[m] + shift[m]
