"""Outputs of a tile: residual added, rounded, and stored where they are wanted.

A row of a tile is held as four vectors of float32, of each fourth pixel.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from .cpu import AVX512
from .frame import PLACE, codes
from .reals import (
    add_scaled,
    at_least,
    fourth0,
    fourth1,
    fourth2,
    fourth3,
    interleave,
    of_byte0,
    of_byte1,
    of_byte2,
    of_byte3,
    round_quarters,
    round_small_quarters,
)
from .simd import at_most, lanes, load_f32, load_u8, store, w4, w16, w64
from .tile import LANES

PART = LANES if AVX512 else 64
"""Pixels that are scaled and rounded at a time: their float32 take half of the registers."""
RESIDUAL = 4 * LANES
"""Where the residual of a tile lies in a row of scratch."""
NONE, FLOATS, CODES = range(3)
"""Forms of a residual."""

OUTPUT: dict[str, Any] = {
    "target": PLACE,  # uint8 or float32 [N, outputs, pixels]
    "outputs": "i8",
    "residual": PLACE,  # of the same shape, uint8 or float32
    "residual_form": "i8",  # NONE, FLOATS or CODES
    "residual_factor": "f4",
    "residual_offset": "f4",  # BIAS + zero point of the residual
    "codes": "i8",  # whether codes are given; low to high are their bounds, less their zero point
    # Where float32 are, low is the least of them: 0, or minus infinity.
    "low": "f4",
    "high": "f4",
    "small": "i8",  # whether no output exceeds 2**15 before it is clipped
}
"""Fields of an operation that stores tiles, beside `tile.GEOMETRY`."""


part_of = at_most(PART)


@register_jitable
def store_row(w, op, frame, m, q0, q1, q2, q3, row, lines, found, direct):
    """Store what a tile gives for output channel m.

    row : scratch of twice as many float32 as lanes
    lines, found : see `find_lines`
    direct : whether all lanes are wanted, and lie side by side
    """
    if not direct and op.residual_form != NONE:
        gather_row(op, frame, m, row, lines, found)
    store_part(w, op, frame, m, 0, q0, q1, q2, q3, row, lines, direct)
    if not direct:
        scatter_row(op, frame, m, row, lines, found)


@register_jitable
def gather_row(op, frame, m, row, lines, found):
    """Read the residual of a tile's pixels, which do not lie side by side."""
    channel, width = m * op.rows * op.columns, 4 if op.residual_form == FLOATS else 1
    _gather(lines, found, frame.arena + op.residual, channel, width, row + RESIDUAL)


@register_jitable(inline="always")
def store_part(w, op, frame, m, pixel, q0, q1, q2, q3, row, lines, direct):
    """Store what some of a tile's pixels give, from `pixel` on; see `store_row`."""
    wanted = m * op.rows * op.columns + lines[1, 0] + pixel
    if op.residual_form == FLOATS:
        seen = frame.arena + op.residual + 4 * wanted if direct else row + RESIDUAL + 4 * pixel
        r = load_f32(w, seen)
        q0 = add_scaled(q0, fourth0(r), op.residual_factor)
        q1 = add_scaled(q1, fourth1(r), op.residual_factor)
        q2 = add_scaled(q2, fourth2(r), op.residual_factor)
        q3 = add_scaled(q3, fourth3(r), op.residual_factor)
    elif op.residual_form == CODES:
        seen = frame.arena + op.residual + wanted if direct else row + RESIDUAL + pixel
        r = load_u8(w, seen)
        q0 = add_scaled(q0, of_byte0(r, op.residual_offset), op.residual_factor)
        q1 = add_scaled(q1, of_byte1(r, op.residual_offset), op.residual_factor)
        q2 = add_scaled(q2, of_byte2(r, op.residual_offset), op.residual_factor)
        q3 = add_scaled(q3, of_byte3(r, op.residual_offset), op.residual_factor)
    size = 1 if op.codes else 4
    given = frame.arena + op.target + size * wanted if direct else row + size * pixel
    if op.codes and op.small:
        store(given, round_small_quarters(q0, q1, q2, q3, op.low, op.high))
    elif op.codes:
        store(given, round_quarters(q0, q1, q2, q3, op.low, op.high))
    else:
        q0, q1 = at_least(q0, op.low), at_least(q1, op.low)
        q2, q3 = at_least(q2, op.low), at_least(q3, op.low)
        store(given, interleave(q0, q1, q2, q3))


@register_jitable
def scatter_row(op, frame, m, row, lines, found):
    """Write a tile's pixels, which are not wanted side by side."""
    channel, size = m * op.rows * op.columns, 1 if op.codes else 4
    _scatter(lines, found, frame.arena + op.target, channel, size, row)


@register_jitable
def find_lines(op, image, pixel, valid, channel, lines):
    """Find the parts of a tile that are wanted and lie side by side in the output.

    lines : int64 [3, lanes]; of each part its first lane, its first pixel's place in the output's
        first channel, in elements, and its length
    channel : elements from an image to the next, in the output
    """
    row = pixel // op.pitch
    column = pixel - row * op.pitch
    found = 0
    done = 0
    while done < valid:
        count = min(valid - done, op.pitch - column)
        wanted = min(count, op.columns - column)
        if wanted > 0:
            lines[0, found] = done
            lines[1, found] = image * channel + row * op.columns + column
            lines[2, found] = wanted
            found += 1
        done += count
        column = 0
        row += 1
        if row == op.rows:
            row = 0
            image += 1
    return found


@register_jitable
def copy(target, source, count):
    """Copy bytes, and not one more."""
    if count >= 64:
        _copy_vectors(w64(), target, source, count)
    elif count >= 16:
        _copy_vectors(w16(), target, source, count)
    elif count >= 4:
        _copy_vectors(w4(), target, source, count)
    else:
        given, taken = codes(target, count), codes(source, count)
        for i in range(count):
            given[i] = taken[i]


@register_jitable
def _copy_vectors(w, target, source, count):
    """Copy a vector of bytes or more; the last of them may lie over the one before."""
    for done in range(0, count - lanes(w), lanes(w)):
        store(target + done, load_u8(w, source + done))
    last = count - lanes(w)
    store(target + last, load_u8(w, source + last))


@register_jitable
def _gather(lines, found, source, channel, width, row):
    """Read the pixels of a tile in a channel of [N, outputs, pixels]."""
    for k in range(found):
        place = source + width * (channel + lines[1, k])
        copy(row + width * lines[0, k], place, width * lines[2, k])


@register_jitable
def _scatter(lines, found, target, channel, width, row):
    """Write the pixels of a tile to a channel of [N, outputs, pixels]."""
    for k in range(found):
        place = target + width * (channel + lines[1, k])
        copy(place, row + width * lines[0, k], width * lines[2, k])
