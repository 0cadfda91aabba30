"""Convolution over codes of few bits by counting bits, in vectors of output pixels.

The inputs of some pixels are cut into planes of bits, 32 inputs to a word of each pixel. Of each
row and level of the weights, one bit an input says whether it belongs to the sum. A sum of codes is
then a sum over their bits b of 2**b times how many inputs have both bits set (DoReFa-Net, Zhou et
al. 2016, equation 3; XNOR-Net, Rastegari et al., ECCV 2016, for binary weights).
"""

from __future__ import annotations

from math import prod

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights
from deepchip.formats.jit import kernel

from .frame import FRAME, PLACE, layout
from .outputs import OUTPUT, store_row
from .reals import add_scaled, fill, reals_from
from .segments import check_sums
from .simd import (
    I32,
    add,
    emitted,
    lanes,
    load_float,
    load_int,
    load_quarter,
    load_u8,
    low_halves,
    splat,
    store,
    subtract,
    zero_pairs,
)
from .tile import GEOMETRY, LANES, SLACK, pack
from .walk import WALK_BYTES, walk

WORD = 32
"""Inputs whose bits are counted at a time."""
TURN = 16
"""Rows that a thread takes at a time."""
MAX_INPUTS = 2**14
"""Inputs of a row: their planes of bits have 256 KB for each bit of a code."""

HELD_BYTES = 2**20
"""Of rows whose bits are held as bytes at a time, while planes are made."""

_CHUNK_BYTES = WORD * LANES + SLACK

CONV_BITS = layout(
    **GEOMETRY,
    **OUTPUT,
    groups="i8",
    turns="i8",
    inputs="i8",
    bits="i8",  # of a code
    words="i8",  # of a row of weights
    levels="i8",
    full="i8",  # whether there are two levels and no zeros: `planes` are those of the second level
    planes=PLACE,  # uint32 [outputs, levels, words], see `bit_words`; full: [outputs, words]
    every=PLACE,  # uint32 [words], all bits set
    level=PLACE,  # float32 [outputs, levels], scaled: see `plain.reduce.scaling`
    absent=PLACE,  # int32 [outputs, levels], zero point times number of nonzeros
    shift=PLACE,  # float32 [outputs]
)


def scratch_bytes(inputs: int, bits: int) -> int:
    """Return the bytes that a thread needs: besides those of `walk`, inputs, planes and sums."""
    return WALK_BYTES + _CHUNK_BYTES + 4 * LANES * (1 + bits * -(-inputs // WORD))


def is_full(weight: LevelWeights) -> bool:
    """Say whether every weight is at one of two levels, as binary weights are."""
    return weight.levels.shape[-1] == 2 and weight.nonzeros == prod(weight.shape)


def bit_words(weight: LevelWeights) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the words of each row and level, uint32 [M, L, words], and nonzeros, int64 [M, L].

    Input 32 * i + k of a word i of n inputs has the bit n - 1 - k, so that bits are pushed from the
    low end. Weights that are full have words of their second level only, [M, 1, words].
    """
    outputs, inputs, levels = weight.shape[0], prod(weight.shape[1:]), weight.levels.shape[-1]
    words = -(-inputs // WORD)
    place = np.arange(inputs)
    place[(words - 1) * WORD :] += words * WORD - inputs
    planes = np.zeros((outputs, levels, words), np.uint32)
    counts = np.zeros((outputs, levels), np.int64)
    first = 0
    for csr in weight.rows(max(1, HELD_BYTES // (levels * words * WORD))):
        check_sums(csr)
        last = first + csr.shape[0]
        rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
        bits = np.zeros((csr.shape[0], levels, words * WORD), np.uint8)
        bits[rows, csr.codes.astype(np.intp) - 1, place[csr.indices]] = 1
        planes[first:last] = np.packbits(bits, axis=-1).view(">u4")
        counts[first:last] = bits.sum(axis=-1, dtype=np.int64)
        first = last
    return (planes[:, 1:] if is_full(weight) else planes), counts


@intrinsic
def _push_bit(context, word, x, bit):
    """Return u32 words shifted up by one, with one bit of each four bytes of x below."""

    def emit(b, word, x, bit):
        quads = b.bitcast(x, word.type)
        count = word.type.count
        moved = b.lshr(quads, splat(b, b.trunc(bit, I32), count))
        one = b.and_(moved, splat(b, ir.Constant(I32, 1), count))
        return b.or_(b.add(word, word), one)

    return word(word, x, types.int64), emitted(emit)


@intrinsic
def _count_common(context, counted, x, word):
    """Return u32 counts plus how many bits each lane of x has in common with `word`."""

    def emit(b, counted, x, word):
        common = b.and_(x, splat(b, word, x.type.count))
        kind = ir.FunctionType(x.type, [x.type])
        name = f"llvm.ctpop.v{x.type.count}i32"
        population = cgutils.get_or_insert_function(b.module, kind, name)
        return b.add(counted, b.call(population, [common]))

    return counted(counted, x, types.int32), emitted(emit)


@register_jitable
def _cut(w, op, frame, base, runs, images, chunk, planes):
    """Write the planes of bits of a tile's inputs: u32 [bits, words, 4, lanes / 4].

    A pixel's place among the four quarters is that of `outputs.store_row`.
    """
    size = lanes(w)
    for word in range(op.words):
        first, last = word * WORD, min(word * WORD + WORD, op.inputs)
        pack(w, op, frame, base + first, base + last, runs, images, chunk)
        for b in range(op.bits):
            p0 = p1 = p2 = p3 = low_halves(zero_pairs(w))
            for k in range(last - first):
                x = load_u8(w, chunk + k * size)
                p0, p1 = _push_bit(p0, x, b), _push_bit(p1, x, b + 8)
                p2, p3 = _push_bit(p2, x, b + 16), _push_bit(p3, x, b + 24)
            at = planes + 4 * size * (b * op.words + word)
            store(at, p0)
            store(at + size, p1)
            store(at + 2 * size, p2)
            store(at + 3 * size, p3)


@register_jitable
def _sums(w, op, planes, weights):
    """Return the sums of the codes that a row of words selects, of each fourth pixel."""
    size, words = lanes(w), op.words
    s0 = s1 = s2 = s3 = low_halves(zero_pairs(w))
    for b in range(op.bits - 1, -1, -1):
        s0, s1, s2, s3 = add(s0, s0), add(s1, s1), add(s2, s2), add(s3, s3)
        at = planes + 4 * size * words * b
        for word in range(words):
            chosen = load_int(weights + 4 * word)
            s0 = _count_common(s0, load_quarter(w, at), chosen)
            s1 = _count_common(s1, load_quarter(w, at + size), chosen)
            s2 = _count_common(s2, load_quarter(w, at + 2 * size), chosen)
            s3 = _count_common(s3, load_quarter(w, at + 3 * size), chosen)
            at += 4 * size
    return s0, s1, s2, s3


@register_jitable
def _store_sums(w, op, planes, totals):
    """Write the sums of all codes of each pixel, as of a row that selects every input."""
    size = lanes(w)
    s0, s1, s2, s3 = _sums(w, op, planes, op.every)
    store(totals, s0)
    store(totals + size, s1)
    store(totals + 2 * size, s2)
    store(totals + 3 * size, s3)


@register_jitable
def _row(w, op, frame, planes, totals, m, row, lines, found, direct):
    size = lanes(w)
    shift = load_float(op.shift + 4 * m)
    q0, q1, q2, q3 = fill(w, shift), fill(w, shift), fill(w, shift), fill(w, shift)
    each = 1 if op.full else op.levels
    weights = op.planes + 4 * op.words * each * m
    s0, s1, s2, s3 = _sums(w, op, planes, weights)
    for level in range(op.levels):
        slot = 4 * (m * op.levels + level)
        factor, away = load_float(op.level + slot), load_int(op.absent + slot)
        r0, r1, r2, r3 = s0, s1, s2, s3
        if op.full and level == 0:
            r0 = subtract(load_quarter(w, totals), s0)
            r1 = subtract(load_quarter(w, totals + size), s1)
            r2 = subtract(load_quarter(w, totals + 2 * size), s2)
            r3 = subtract(load_quarter(w, totals + 3 * size), s3)
        elif level > 0 and not op.full:
            r0, r1, r2, r3 = _sums(w, op, planes, weights + 4 * op.words * level)
        q0 = add_scaled(q0, reals_from(r0, away), factor)
        q1 = add_scaled(q1, reals_from(r1, away), factor)
        q2 = add_scaled(q2, reals_from(r2, away), factor)
        q3 = add_scaled(q3, reals_from(r3, away), factor)
    store_row(w, op, frame, m, q0, q1, q2, q3, row, lines, found, direct)


@register_jitable
def _tile(
    w, reduce, op, frame, free, first_turn, last_turn, runs, images, row, lines, found, direct
):  # fmt: skip
    """Compute some turns of rows for the pixels of one tile."""
    chunk, totals = free, free + _CHUNK_BYTES
    planes = totals + 4 * LANES
    each = op.outputs // op.groups
    cut = -1
    for turn in range(first_turn, last_turn):
        group = turn // op.turns
        first_row = group * each + turn % op.turns * TURN
        last_row = min(first_row + TURN, (group + 1) * each)
        if cut != group:
            _cut(w, op, frame, group * op.inputs, runs, images, chunk, planes)
            if op.full:
                _store_sums(w, op, planes, totals)
            cut = group
        for m in range(first_row, last_row):
            _row(w, op, frame, planes, totals, m, row, lines, found, direct)


@kernel(CONV_BITS, FRAME)
def conv_bits(operations, frames):
    """Convolve codes of any bits; positions and sizes are proven when the plan is made."""
    walk(_tile, None, operations, frames)
