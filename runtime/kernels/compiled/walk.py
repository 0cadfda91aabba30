"""How a convolution goes over its tiles, and what a piece of the operation has of them."""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable

from .frame import pointer
from .outputs import find_lines
from .simd import lanes, w64, w128
from .tile import LANES, find_images

_ROW_BYTES = 2 * 4 * LANES
_PARTS_BYTES = 3 * 8 * LANES
WALK_BYTES = _ROW_BYTES + 2 * _PARTS_BYTES
"""Bytes of scratch: outputs and residuals of a tile, float32, and where its parts lie."""


@register_jitable
def walk(tile, reduce, operations, frames):
    """Compute this piece: of each tile of pixels, some turns of rows.

    tile : function that computes some turns of rows of one tile, handed the scratch behind
        `WALK_BYTES`
    reduce : function of `sums` that it is to use
    """
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    total = frame.images * op.rows * op.pitch
    turns = op.turns * op.groups
    unit = _unit(total, turns, op.lanes, frame.piece, frame.pieces)
    last = _unit(total, turns, op.lanes, frame.piece + 1, frame.pieces)
    while unit < last:
        first_turn = unit % turns
        last_turn = min(turns, first_turn + last - unit)
        pixel = unit // turns * op.lanes
        left = total - pixel
        if op.lanes > 64 and left > 64:
            _walk_tile(
                w128(), tile, reduce, op, frame, pixel, min(left, 128), first_turn, last_turn
            )
        else:
            _walk_tile(w64(), tile, reduce, op, frame, pixel, min(left, 64), first_turn, last_turn)
        unit += last_turn - first_turn


@register_jitable
def _unit(total, turns, size, piece, pieces):
    """Return the unit of work, a turn of rows for a tile, that a piece begins with.

    All tiles have `size` lanes but the last, which may have 64: work is shared by lanes.
    """
    whole = (total - 1) // size
    last = 64 if total - whole * size <= 64 else size
    before = turns * whole * size
    lane = (before + turns * last) * piece // pieces
    if lane <= before:
        return (lane + size // 2) // size
    return turns * whole + (lane - before + last // 2) // last


@register_jitable
def _walk_tile(w, tile, reduce, op, frame, pixel, valid, first_turn, last_turn):
    """Find where the tile's inputs and outputs lie; `pixel` counts over all images."""
    row = frame.scratch
    runs = carray(pointer(row + _ROW_BYTES), (3, LANES), np.int64)
    lines = carray(pointer(row + _ROW_BYTES + _PARTS_BYTES), (3, LANES), np.int64)
    image = pixel // (op.rows * op.pitch)
    pixel -= image * op.rows * op.pitch
    images = find_images(op, image, pixel, valid, runs)
    found = find_lines(op, image, pixel, valid, op.outputs * op.rows * op.columns, lines)
    direct = found == 1 and lines[2, 0] == lanes(w)
    tile(
        w, reduce, op, frame, frame.scratch + WALK_BYTES, first_turn, last_turn, runs, images, row,
        lines, found, direct,
    )  # fmt: skip
