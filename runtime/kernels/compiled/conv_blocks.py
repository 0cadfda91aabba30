"""Convolution of weights of few levels over uint8 codes, in vectors of output pixels.

The inputs of some pixels are packed into a tile (see `tile`), a few hundred of them at a time, so
that they stay in the first-level cache while a turn of rows of weights goes over them. What they
add to the sums of each row and level is kept from block to block; then it is scaled, rounded and
stored.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from deepchip.formats.jit import kernel

from .blocks import FEW, MANY, TURN
from .frame import FRAME, PLACE, layout
from .outputs import NONE, OUTPUT, gather_row, part_of, scatter_row, store_part
from .reals import BIAS, add_scaled, fill, of_high_halves, of_low_halves, reals_from
from .simd import (
    add,
    even_bytes,
    high_halves,
    lanes,
    load_byte,
    load_float,
    load_index,
    load_int,
    load_pairs,
    load_quarter,
    low_halves,
    store,
    zero_pairs,
)
from .sums import narrow_bytes, narrow_lines, wide_bytes, wide_lines
from .tile import GEOMETRY, LANES, SLACK, clear, pack
from .walk import WALK_BYTES, walk

MAX_LEVELS = 4
"""With more of them few nonzeros share a level, and what is kept outgrows the cache."""
TILE_BYTES = max((FEW + 1) * LANES, (MANY + 1) * 64) + SLACK
SCRATCH = WALK_BYTES + TILE_BYTES + 4 * LANES * MAX_LEVELS * TURN
"""Bytes that a thread needs: besides those of `walk`, a tile and the sums kept."""

CONV_BLOCKS = layout(
    **GEOMETRY,
    **OUTPUT,
    groups="i8",
    turns="i8",  # of rows of a group
    turn="i8",  # rows of a turn
    inputs="i8",  # of a row of weights
    levels="i8",
    block="i8",  # inputs of a block
    positions=PLACE,  # these four: see `Blocks`
    quads=PLACE,
    slots=PLACE,
    starts=PLACE,
    level=PLACE,  # float32 [outputs, levels], scaled: see `plain.reduce.scaling`
    absent=PLACE,  # int32 [outputs, levels], zero point times number of nonzeros
    shift=PLACE,  # float32 [outputs]
    chunk="i8",  # quads that are added in 8-bit lanes before these could overflow
    deep="i8",  # whether sums of a row may exceed 16 bits
)


@register_jitable
def _keep(w, reduce, op, tile, part, fresh, count, sums):
    """Add what one block of the tile gives to the sums that are kept of each row and level.

    part : which turn of rows, and which block
    count : segments of it
    """
    place = op.positions + load_int(op.starts + 8 * part)
    segment = np.int64(load_int(op.starts + 8 * part + 4))
    if op.deep:
        _keep_deep(w, reduce, op, tile, place, segment, fresh, count, sums)
    else:
        _keep_pairs(w, reduce, op, tile, place, segment, fresh, count, sums)


@register_jitable
def _keep_pairs(w, reduce, op, tile, place, segment, fresh, count, sums):
    """Keep sums of 16 bits, as `reduce` takes and gives them."""
    size, quads, slots, chunk = lanes(w), op.quads + segment, op.slots + 2 * segment, op.chunk
    for s in range(count):
        at = sums + load_index(slots + 2 * s) * 2 * size
        whole = high = zero_pairs(w)
        if not fresh:
            whole, high = load_pairs(w, at), load_pairs(w, at + size)
        length = load_byte(quads + s)
        whole, high, place = reduce(w, tile, place, length, chunk, whole, high)
        store(at, whole)
        store(at + size, high)


@register_jitable
def _keep_deep(w, reduce, op, tile, place, segment, fresh, count, sums):
    """Keep sums of 32 bits, of each fourth pixel."""
    size, quads, slots, chunk = lanes(w), op.quads + segment, op.slots + 2 * segment, op.chunk
    for s in range(count):
        length, zero = load_byte(quads + s), zero_pairs(w)
        whole, odd, place = reduce(w, tile, place, length, chunk, zero, zero)
        even = even_bytes(whole, odd)
        even_low, even_high = low_halves(even), high_halves(even)
        odd_low, odd_high = low_halves(odd), high_halves(odd)
        at = sums + load_index(slots + 2 * s) * 4 * size
        if not fresh:
            even_low = add(even_low, load_quarter(w, at))
            odd_low = add(odd_low, load_quarter(w, at + size))
            even_high = add(even_high, load_quarter(w, at + 2 * size))
            odd_high = add(odd_high, load_quarter(w, at + 3 * size))
        store(at, even_low)
        store(at + size, odd_low)
        store(at + 2 * size, even_high)
        store(at + 3 * size, odd_high)


@register_jitable
def _finish(w, op, frame, first_row, last_row, sums, row, lines, found, direct):
    """Scale what was summed, and store it: the formula of SPEC.md, section Arithmetic."""
    size, part = lanes(w), part_of(w)
    levels, deep = op.levels, op.deep
    kept = size * (4 if deep else 2)
    for m in range(first_row, last_row):
        shift = load_float(op.shift + 4 * m)
        first = sums + (m - first_row) * levels * kept
        if not direct and op.residual_form != NONE:
            gather_row(op, frame, m, row, lines, found)
        for pixel in range(0, size, lanes(part)):
            q0 = q1 = q2 = q3 = fill(part, shift)
            level, absent = op.level + 4 * m * levels, op.absent + 4 * m * levels
            at = first + pixel
            for _ in range(levels):
                factor, away = load_float(level), load_int(absent)
                level += 4
                absent += 4
                if deep:
                    s0 = reals_from(load_quarter(part, at), away)
                    s1 = reals_from(load_quarter(part, at + size), away)
                    s2 = reals_from(load_quarter(part, at + 2 * size), away)
                    s3 = reals_from(load_quarter(part, at + 3 * size), away)
                else:
                    odd = load_pairs(part, at + size)
                    even = even_bytes(load_pairs(part, at), odd)
                    offset = np.float32(BIAS) + np.float32(away)  # exact: below 2**16 each
                    s0, s1 = of_low_halves(even, offset), of_low_halves(odd, offset)
                    s2, s3 = of_high_halves(even, offset), of_high_halves(odd, offset)
                q0 = add_scaled(q0, s0, factor)
                q1 = add_scaled(q1, s1, factor)
                q2 = add_scaled(q2, s2, factor)
                q3 = add_scaled(q3, s3, factor)
                at += kept
            store_part(part, op, frame, m, pixel, q0, q1, q2, q3, row, lines, direct)
        if not direct:
            scatter_row(op, frame, m, row, lines, found)


@register_jitable
def _tile(
    w, reduce, op, frame, free, first_turn, last_turn, runs, images, row, lines, found, direct
):  # fmt: skip
    """Compute some turns of rows for the pixels of one tile."""
    tile, sums = free, free + TILE_BYTES
    blocks = (op.inputs + op.block - 1) // op.block
    each = op.outputs // op.groups
    packed = -1
    for turn in range(first_turn, last_turn):
        group = turn // op.turns
        first_row = group * each + turn % op.turns * op.turn
        last_row = min(first_row + op.turn, (group + 1) * each)
        base = group * op.inputs
        for block in range(blocks):
            if blocks > 1 or packed != group:
                first, last = block * op.block, min(block * op.block + op.block, op.inputs)
                pack(w, op, frame, base + first, base + last, runs, images, tile)
                clear(w, tile + op.block * lanes(w))
                packed = group
            count = (last_row - first_row) * op.levels
            _keep(w, reduce, op, tile, turn * blocks + block, block == 0, count, sums)
        _finish(w, op, frame, first_row, last_row, sums, row, lines, found, direct)


@kernel(CONV_BLOCKS, FRAME)
def conv_blocks_narrow(operations, frames):
    """Convolve codes of up to 6 bits.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018. Positions and sizes are proven when the plan is made.
    """
    walk(_tile, narrow_bytes, operations, frames)


@kernel(CONV_BLOCKS, FRAME)
def conv_blocks_narrow_small(operations, frames):
    """Convolve codes of up to 6 bits over planes so small that a block has more inputs."""
    walk(_tile, narrow_lines, operations, frames)


@kernel(CONV_BLOCKS, FRAME)
def conv_blocks_wide(operations, frames):
    """Convolve codes of 7 and 8 bits; see `conv_blocks_narrow`."""
    walk(_tile, wide_bytes, operations, frames)


@kernel(CONV_BLOCKS, FRAME)
def conv_blocks_wide_small(operations, frames):
    """Convolve codes of 7 and 8 bits over planes so small that a block has more inputs."""
    walk(_tile, wide_lines, operations, frames)


KERNELS = {
    (True, True): conv_blocks_narrow,
    (True, False): conv_blocks_narrow_small,
    (False, True): conv_blocks_wide,
    (False, False): conv_blocks_wide_small,
}
"""By whether codes have up to 6 bits, and whether blocks have up to `FEW` inputs."""
