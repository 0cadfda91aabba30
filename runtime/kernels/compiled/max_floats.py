"""The largest float32 of each window of planes [C, H, W]."""

from __future__ import annotations

import numpy as np
from numba import carray

from deepchip.formats.graph import Shape
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from .each import inlined
from .frame import FRAME, floats, layout, share
from .places import PLACES, inside, places
from .reals import alike, greater
from .simd import evens, lanes, load_f32, store, w4, w16

MAX_FLOATS = layout(**PLACES)


def emit(
    assembler: Assembler, source: Buffer, target: Buffer, shape: Shape, window: Window
) -> None:
    """Emit the maximum over windows of items [C, H, W] of float32."""
    assembler.emit(max_floats, source=source, target=target, **places(shape, window))


@kernel(MAX_FLOATS, FRAME)
def max_floats(operations, frames):
    """Write the largest number of each window, the first of equal ones, passing over NaN."""
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    if op.sh == 1:
        _rows(op, frame, load_f32)
    elif op.sh == 2:
        _rows(op, frame, _seconds)
    else:
        _rows(op, frame, None)


@inlined
def _seconds(w, at):
    """Return every second number."""
    return evens(load_f32(w, at), load_f32(w, at + 4 * lanes(w)))


@inlined
def _rows(op, frame, load):
    """Write this piece's rows of windows.

    load : function that loads what an element of the window sees of windows side by side, or None
    """
    # Read once: as far as the compiler knows, a result could be written over the operation.
    height, rows, width, columns = op.height, op.rows, op.width, op.columns
    kh, kw, sv, sh, dv, dh = op.kh, op.kw, op.sv, op.sh, op.dv, op.dh
    top, left = op.top, op.left
    whole = min(columns, (left + sh - 1) // sh)  # the first window that lies within a line
    behind = max(whole, min(columns, (width - 1 + left - (kw - 1) * dh) // sh + 1))
    first, last = share(frame.images * op.channels * rows, frame)
    for row in range(first, last):
        start = row % rows * sv - top
        i, until = inside(start, kh, dv, height)
        line = frame.arena + op.source + 4 * (row // rows * height + start + i * dv) * width
        out, down = frame.arena + op.target + 4 * row * columns, 4 * dv * width
        done = whole
        if load is not None and behind - whole >= 4:
            at, given, count = line + 4 * (whole * sh - left), out + 4 * whole, behind - whole
            if count >= 16:
                _vectors(w16(), load, at, sh, given, count, down, until - i, 4 * dh, kw)
            else:
                _vectors(w4(), load, at, sh, given, count, down, until - i, 4 * dh, kw)
            done = behind
        best = floats(out, columns)
        for c in range(columns):
            if c < whole or c >= done:
                best[c] = _largest(line, down, until - i, c * sh - left, kw, dh, width)


@inlined
def _vectors(w, load, at, sh, out, count, down, kh, across, kw):
    """Write `count` windows side by side; the last vector may lie over the one before."""
    for c in range(0, count, lanes(w)):
        done = min(c, count - lanes(w))
        line = at + 4 * done * sh
        best = alike(load_f32(w, at), np.float32(-np.inf))
        for _ in range(kh):
            for j in range(kw):
                best = greater(load(w, line + j * across), best)
            line += down
        store(out + 4 * done, best)


@inlined
def _largest(line, down, kh, beside, kw, dh, width):
    """Return the largest number of one window."""
    best = np.float32(-np.inf)
    j, behind = inside(beside, kw, dh, width)
    for i in range(kh):
        x = floats(line + i * down, width)
        for k in range(j, behind):
            if x[beside + k * dh] > best:
                best = x[beside + k * dh]
    return best
