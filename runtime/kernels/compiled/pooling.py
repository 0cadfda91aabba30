"""Maximum and average over windows of planes [C, H, W], clipped at the borders of the plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from deepchip.formats.graph import Quantization, Shape
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.pooling import counts
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from .each import inlined
from .frame import FRAME, PLACE, codes, floats, integers, layout, share
from .simd import (
    evens,
    lanes,
    larger,
    load_u8,
    seconds_from_0,
    seconds_from_1,
    seconds_from_2,
    store,
    w32,
    w64,
    zero_u8,
)

LANES = 64
"""Bytes that are compared at a time."""

_PLACES = {
    "source": PLACE, "target": PLACE, "channels": "i8", "height": "i8", "width": "i8",
    "rows": "i8", "columns": "i8", "kh": "i8", "kw": "i8", "sv": "i8", "sh": "i8", "dv": "i8",
    "dh": "i8", "top": "i8", "left": "i8",
}  # fmt: skip
MAX_FLOATS = layout(**_PLACES)
"""Planes, how often the window is placed, its kernel, strides, dilations and first pads."""
MAX_CODES = layout(**_PLACES, pitch="i8")
"""`pitch` bytes of scratch hold a row of the padded plane, and what vectors reach beyond it."""
AVERAGE = layout(**_PLACES, over_down=PLACE, over_across=PLACE, scale="f4", zero_point="i8")
"""`over_down` and `over_across` are int32 [rows] and [columns]: sums are divided by their product.
"""


@inlined
def _inside(start, kernel, dilation, size):
    """Return the first and behind the last element of a window that lie on an axis of `size`."""
    if start >= 0 and start + (kernel - 1) * dilation < size:
        return 0, kernel
    first = max(0, -(start // dilation))
    return first, max(first, min(kernel, (size - 1 - start) // dilation + 1))


@inlined
def _down(w, at, step, count):
    """Return the largest of `count` rows, `step` bytes apart. Three, as often, take no loop."""
    best = load_u8(w, at)
    if count == 3:
        return larger(larger(best, load_u8(w, at + step)), load_u8(w, at + 2 * step))
    for _ in range(1, count):
        at += step
        best = larger(best, load_u8(w, at))
    return best


@inlined
def _seconds(w, at):
    """Return every second byte."""
    return evens(load_u8(w, at), load_u8(w, at + lanes(w)))


@inlined
def _across(w, row, c, kw, sh, dh):
    """Return the largest of each window of a row of maxima, of so many windows from the c-th on."""
    if sh == 1:
        return _down(w, row + c, dh, kw)
    at = row + 2 * c
    best = _seconds(w, at)
    if kw == 3:
        return larger(larger(best, _seconds(w, at + dh)), _seconds(w, at + 2 * dh))
    for _ in range(1, kw):
        at += dh
        best = larger(best, _seconds(w, at))
    return best


@register_jitable
def _spread(operation, row, best):
    """Write the largest of each window of a row of maxima, where strides are above two."""
    step, count = operation.sh, operation.columns
    x = codes(row, step * count + operation.kw * operation.dh)
    out = codes(best, count)
    out[:] = 0
    for j in range(operation.kw):
        for c in range(count):
            out[c] = max(out[c], x[step * c + j * operation.dh])


@kernel(MAX_CODES, FRAME)
def max_codes(operations, frames):
    """Write the largest code of each window: down the columns first, then across the row of maxima.

    The former leaves a kh-th of the work for the latter. Vectors are stored whole: what lies beyond
    a row is overwritten by the next one.
    """
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    if _is_short(operation):
        _rows(operation, frame, _short_row)
        return
    for c in range(0, operation.pitch, LANES):
        store(frame.scratch + c, zero_u8(w64()))
    if operation.columns <= 32:
        _rows(operation, frame, _narrow_row)
    else:
        _rows(operation, frame, _wide_row)


@inlined
def _is_short(op):
    """Say whether a row is a vector, and its windows are of two or three bytes at every second."""
    inside = op.left == 0 and 2 * (op.columns - 1) + op.kw <= op.width <= LANES
    return inside and op.sh == 2 and op.dh == 1 and (op.kw == 2 or op.kw == 3)


@inlined
def _rows(op, frame, write):
    """Have each row of this thread's windows written.

    write : function of the operation, scratch memory, the first line that the windows see, how many
        they see, where their maxima go, and where what may be written ends
    """
    # Read once: as far as the compiler knows, a result could be written over the operation.
    height, rows, width, columns = op.height, op.rows, op.width, op.columns
    kh, sv, dv, top = op.kh, op.sv, op.dv, op.top
    first, last = share(frame.images * op.channels * rows, frame)
    source, target, scratch = frame.arena + op.source, frame.arena + op.target, frame.scratch
    end, out = target + last * columns, target + first * columns
    plane, row = first // rows, first % rows
    for _ in range(first, last):
        start = row * sv - top
        i, until = _inside(start, kh, dv, height)
        line = source + (plane * height + start + i * dv) * width
        write(op, scratch, line, until - i, out, end)
        out += columns
        row += 1
        if row == rows:
            plane, row = plane + 1, 0


@inlined
def _short_row(op, scratch, line, count, out, end):
    """Write a row whose maxima down the columns stay in registers."""
    seen = _down(w64(), line, op.dv * op.width, count)
    best = larger(seconds_from_0(seen), seconds_from_1(seen))
    if op.kw == 3:
        best = larger(best, seconds_from_2(seen))
    _store_some(best, out, end, scratch, op.columns)


@inlined
def _narrow_row(op, scratch, line, count, out, end):
    _long_row(w32(), op, scratch, line, count, out, end)


@inlined
def _wide_row(op, scratch, line, count, out, end):
    _long_row(w64(), op, scratch, line, count, out, end)


@inlined
def _long_row(w, op, high, line, count, out, end):
    """Write a row by way of `high`, where maxima down the columns lie, and zeros around them."""
    width, columns, left, best = op.width, op.columns, op.left, high + op.pitch
    kw, sh, dh, step = op.kw, op.sh, op.dh, op.dv * op.width
    for c in range(0, width, LANES):
        store(high + left + c, _down(w64(), line + c, step, count))
    store(high + left + width, zero_u8(w64()))
    if sh > 2:
        _spread(op, high, best)
        _copy(best, out, columns)
    else:
        for c in range(0, columns, lanes(w)):
            _store_some(_across(w, high, c, kw, sh, dh), out + c, end, best, columns - c)


@inlined
def _store_some(best, out, end, spare, count):
    """Store a vector, or no more than `count` bytes of it where it would reach beyond the end."""
    if out + lanes(best) <= end:
        store(out, best)
    else:
        store(spare, best)
        _copy(spare, out, count)


@register_jitable
def _copy(source, target, count):
    x, out = codes(source, count), codes(target, count)
    for i in range(count):
        out[i] = x[i]


@kernel(MAX_FLOATS, FRAME)
def max_floats(operations, frames):
    """Write the largest number of each window, the first of equal ones, passing over NaN."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    width, columns, step = operation.width, operation.columns, operation.sh
    first, last = share(frame.images * operation.channels * operation.rows, frame)
    for row in range(first, last):
        out = floats(frame.arena + operation.target + 4 * row * columns, columns)
        out[:] = -np.inf
        start = row % operation.rows * operation.sv - operation.top
        begin, until = _inside(start, operation.kh, operation.dv, operation.height)
        for i in range(begin, until):
            line = row // operation.rows * operation.height + start + i * operation.dv
            for j in range(operation.kw):
                beside = j * operation.dh - operation.left
                c, behind = _inside(beside, columns, step, width)
                at = 4 * (line * width + beside + c * step)
                x = floats(frame.arena + operation.source + at, (behind - c) * step)
                best = out[c:behind]
                if step == 1:  # known to the compiler, these become vector code
                    for k in range(len(best)):
                        best[k] = x[k] if x[k] > best[k] else best[k]
                elif step == 2:
                    for k in range(len(best)):
                        best[k] = x[2 * k] if x[2 * k] > best[k] else best[k]
                else:
                    for k in range(len(best)):
                        best[k] = x[step * k] if x[step * k] > best[k] else best[k]


@register_jitable
def _windows(operation, frame, view, bytes_each, zero):
    """Write the average of each window: the sum of its elements in their order, from `zero` on."""
    # Read once: as far as the compiler knows, a result could be written over the operation.
    width, rows, columns = operation.width, operation.rows, operation.columns
    kw, sh, dv, dh = operation.kw, operation.sh, operation.dv, operation.dh
    scale, zero_point, before = operation.scale, operation.zero_point, operation.left
    over_down = integers(operation.over_down, rows)
    over_across = integers(operation.over_across, columns)
    plane = operation.height * width
    first, last = share(frame.images * operation.channels * rows, frame)
    for row in range(first, last):
        x = view(frame.arena + operation.source + bytes_each * (row // rows * plane), plane)
        out = floats(frame.arena + operation.target + 4 * row * columns, columns)
        over = np.int64(over_down[row % rows])
        down = row % rows * operation.sv - operation.top
        top, bottom = _inside(down, operation.kh, dv, operation.height)
        for c in range(columns):
            left, right = _inside(c * sh - before, kw, dh, width)
            total = zero
            for i in range(top, bottom):
                line = (down + i * dv) * width + c * sh - before
                for j in range(left, right):
                    total += x[line + j * dh]
            absent = zero_point * (bottom - top) * (right - left)
            out[c] = scale * np.float32(total - absent) / np.float32(over * over_across[c])


@kernel(AVERAGE, FRAME)
def average_codes(operations, frames):
    """Write scale * (S - zero_point * n) / divisor, S the exact sum of each window's n codes."""
    _windows(carray(operations, 1)[0], carray(frames, 1)[0], codes, 1, np.int64(0))


@kernel(AVERAGE, FRAME)
def average_floats(operations, frames):
    """Write S / divisor, S the sum of each window's elements."""
    _windows(carray(operations, 1)[0], carray(frames, 1)[0], floats, 4, np.float32(0))


def max_pool(
    assembler: Assembler, source: Buffer, target: Buffer, shape: Shape, window: Window, each: int
) -> None:
    """Emit the maximum over windows of items [C, H, W] of elements of `each` bytes, 1 or 4."""
    places = _places(shape, window)
    if each == 4:
        assembler.emit(max_floats, source=source, target=target, **places)
        return
    reach = window.strides[1] * window.outputs[1] + window.kernel[1] * window.dilations[1]
    row = max(places["left"] + places["width"], reach)
    pitch = -(-row // LANES) * LANES + 2 * LANES
    assembler.emit(
        max_codes, source=source, target=target, pitch=pitch, **places,
        scratch=pitch + max(LANES, window.outputs[1]),
    )  # fmt: skip


def average_pool(
    assembler: Assembler,
    source: Buffer,
    target: Buffer,
    shape: Shape,
    window: Window,
    form: Quantization | None,
    count_include_pad: bool,
) -> None:
    """Emit the average, float32, over windows of items [C, H, W], float32 or codes of a form."""
    over = [counts(shape, window, axis, count_include_pad) for axis in (0, 1)]
    assembler.emit(
        average_floats if form is None else average_codes, source=source, target=target,
        over_down=assembler.constant(over[0].astype(np.int32)),
        over_across=assembler.constant(over[1].astype(np.int32)),
        scale=1.0 if form is None else form.scale,
        zero_point=0 if form is None else form.zero_point, **_places(shape, window),
    )  # fmt: skip


def _places(shape: Shape, window: Window) -> dict[str, Any]:
    (channels, height, width), (rows, columns) = shape, window.outputs
    (kh, kw), (sv, sh), (dv, dh) = window.kernel, window.strides, window.dilations
    return {
        "channels": channels, "height": height, "width": width, "rows": rows, "columns": columns,
        "kh": kh, "kw": kw, "sv": sv, "sh": sh, "dv": dv, "dh": dh, "top": window.pads[0],
        "left": window.pads[1],
    }  # fmt: skip
