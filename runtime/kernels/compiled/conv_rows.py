"""Convolution of weights of many levels over uint8 codes, in vectors of output pixels.

As in `conv_blocks`, but all inputs of some pixels are packed into one tile: few nonzeros of a row
share a level, and their sums are scaled at once.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from deepchip.formats.jit import kernel

from .frame import FRAME, PLACE, layout
from .outputs import OUTPUT, store_row
from .reals import add_scaled, fill, reals_from
from .simd import (
    add,
    even_bytes,
    high_halves,
    lanes,
    load_float,
    load_index,
    load_int,
    low_halves,
    zero_pairs,
)
from .sums import narrow_words, wide_words
from .tile import GEOMETRY, LANES, SLACK, clear, pack
from .walk import WALK_BYTES, walk

MAX_INPUTS = 2**14
"""Inputs of a row: a tile of them has 2 MB."""
TURN = 16
"""Rows that a thread takes at a time."""

CONV_ROWS = layout(
    **GEOMETRY,
    **OUTPUT,
    groups="i8",
    turns="i8",
    inputs="i8",
    positions=PLACE,  # these four: see `Pieces`
    starts=PLACE,
    offsets=PLACE,
    quads=PLACE,
    level=PLACE,  # float32 [pieces], scaled
    absent=PLACE,  # int32 [pieces], zero point times nonzeros at the level; -1: more pieces follow
    shift=PLACE,  # float32 [outputs]
    chunk="i8",
)


def scratch_bytes(inputs: int) -> int:
    """Return the bytes that a thread needs for rows of so many inputs."""
    return WALK_BYTES + (inputs + 1) * LANES + SLACK


@register_jitable
def _tile(
    w, reduce, op, frame, tile, first_turn, last_turn, runs, images, row, lines, found, direct
):  # fmt: skip
    """Compute some turns of rows for the pixels of one tile."""
    each = op.outputs // op.groups
    packed = -1
    for turn in range(first_turn, last_turn):
        group = turn // op.turns
        first_row = group * each + turn % op.turns * TURN
        last_row = min(first_row + TURN, (group + 1) * each)
        if packed != group:
            base = group * op.inputs
            pack(w, op, frame, base, base + op.inputs, runs, images, tile)
            clear(w, tile + op.inputs * lanes(w))
            packed = group
        for m in range(first_row, last_row):
            _row(w, reduce, op, frame, tile, m, row, lines, found, direct)


@register_jitable
def _row(w, reduce, op, frame, tile, m, row, lines, found, direct):
    shift = load_float(op.shift + 4 * m)
    q0, q1, q2, q3 = fill(w, shift), fill(w, shift), fill(w, shift), fill(w, shift)
    place = op.positions + 2 * np.int64(load_int(op.offsets + 4 * m))
    s0 = s1 = s2 = s3 = low_halves(zero_pairs(w))
    for piece in range(load_int(op.starts + 4 * m), load_int(op.starts + 4 * m + 4)):
        length = load_index(op.quads + 2 * piece)
        zero = zero_pairs(w)
        whole, odd, place = reduce(w, tile, place, length, op.chunk, zero, zero)
        even = even_bytes(whole, odd)
        s0, s1 = add(s0, low_halves(even)), add(s1, low_halves(odd))
        s2, s3 = add(s2, high_halves(even)), add(s3, high_halves(odd))
        factor, away = load_float(op.level + 4 * piece), load_int(op.absent + 4 * piece)
        if away >= 0:
            q0 = add_scaled(q0, reals_from(s0, away), factor)
            q1 = add_scaled(q1, reals_from(s1, away), factor)
            q2 = add_scaled(q2, reals_from(s2, away), factor)
            q3 = add_scaled(q3, reals_from(s3, away), factor)
            s0 = s1 = s2 = s3 = low_halves(zero_pairs(w))
    store_row(w, op, frame, m, q0, q1, q2, q3, row, lines, found, direct)


@kernel(CONV_ROWS, FRAME)
def conv_rows_narrow(operations, frames):
    """Convolve codes of up to 6 bits.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018, for any number of levels.
    """
    walk(_tile, narrow_words, operations, frames)


@kernel(CONV_ROWS, FRAME)
def conv_rows_wide(operations, frames):
    """Convolve codes of 7 and 8 bits; see `conv_rows_narrow`."""
    walk(_tile, wide_words, operations, frames)
