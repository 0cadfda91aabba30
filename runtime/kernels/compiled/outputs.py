"""Outputs of a tile: residual added, rounded, and stored where they are wanted.

A row of a tile is held as four vectors of float32, of each fourth pixel.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from .frame import PLACE, codes
from .reals import (
    add_scaled,
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
from .simd import load_f32, load_u8, store, w16

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
    "low": "f4",
    "high": "f4",
    "small": "i8",  # whether no output exceeds 2**15 before it is clipped
}
"""Fields of an operation that stores tiles, beside `tile.GEOMETRY`."""


@register_jitable
def store_row(w, op, frame, m, q0, q1, q2, q3, row, lines, found, direct):
    """Store what a tile gives for output channel m.

    row : scratch of lanes float32
    lines, found : see `find_lines`
    direct : whether all lanes are wanted, and lie side by side
    """
    channel = m * op.rows * op.columns
    residual = frame.arena + op.residual
    if op.residual_form == FLOATS:
        seen = residual + 4 * (channel + lines[1, 0])
        if not direct:
            _gather(lines, found, residual, channel, 4, row)
            seen = row
        r = load_f32(w, seen)
        q0 = add_scaled(q0, fourth0(r), op.residual_factor)
        q1 = add_scaled(q1, fourth1(r), op.residual_factor)
        q2 = add_scaled(q2, fourth2(r), op.residual_factor)
        q3 = add_scaled(q3, fourth3(r), op.residual_factor)
    elif op.residual_form == CODES:
        seen = residual + channel + lines[1, 0]
        if not direct:
            _gather(lines, found, residual, channel, 1, row)
            seen = row
        r = load_u8(w, seen)
        q0 = add_scaled(q0, of_byte0(r, op.residual_offset), op.residual_factor)
        q1 = add_scaled(q1, of_byte1(r, op.residual_offset), op.residual_factor)
        q2 = add_scaled(q2, of_byte2(r, op.residual_offset), op.residual_factor)
        q3 = add_scaled(q3, of_byte3(r, op.residual_offset), op.residual_factor)
    size = 1 if op.codes else 4
    target = frame.arena + op.target
    given = target + size * (channel + lines[1, 0]) if direct else row
    if op.codes and op.small:
        store(given, round_small_quarters(q0, q1, q2, q3, op.low, op.high))
    elif op.codes:
        store(given, round_quarters(q0, q1, q2, q3, op.low, op.high))
    else:
        store(given, interleave(q0, q1, q2, q3))
    if not direct:
        _scatter(lines, found, target, channel, size, row)


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
    w = w16()
    if count >= 16:
        done = 0
        while done + 16 <= count:
            store(target + done, load_u8(w, source + done))
            done += 16
        store(target + count - 16, load_u8(w, source + count - 16))
    else:
        given, taken = codes(target, count), codes(source, count)
        for i in range(count):
            given[i] = taken[i]


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
