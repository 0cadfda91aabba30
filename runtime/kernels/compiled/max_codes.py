"""The largest code of each window of planes [C, H, W]."""

from __future__ import annotations

from numba import carray
from numba.extending import register_jitable

from deepchip.formats.graph import Shape
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from .each import inlined
from .frame import FRAME, PLACE, codes, integers, layout, share
from .outputs import copy
from .places import PLACES, inside, places
from .simd import (
    blend,
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
MAX_TAPS = 64
"""Elements of a window of moved planes: with more of them rows of maxima are less work."""

MAX_CODES = layout(**PLACES, pitch="i8")
"""`pitch` bytes of scratch hold a row of the padded plane, and what vectors reach beyond it."""
MAX_MOVED = layout(
    source=PLACE, target=PLACE, channels="i8", plane="i8", taps=PLACE, tap_count="i8", masks=PLACE,
    mask_pitch="i8",
)  # fmt: skip
"""Planes of so many bytes; `taps` and `masks` are those of `tile.GEOMETRY`."""


def emit(
    assembler: Assembler, source: Buffer, target: Buffer, shape: Shape, window: Window
) -> None:
    """Emit the maximum over windows of items [C, H, W] of codes."""
    (channels, height, width), (kh, kw) = shape, window.kernel
    if window.strides == (1, 1) and window.outputs == (height, width) and kh * kw <= MAX_TAPS:
        geometry = assembler.geometries.of(window, height, width)
        if geometry.masks is not None:
            assembler.emit(
                max_moved, margin=geometry.reach, scratch=LANES, source=source, target=target,
                channels=channels, plane=geometry.plane, taps=assembler.constant(geometry.taps),
                tap_count=len(geometry.taps), masks=assembler.constant(geometry.masks),
                mask_pitch=geometry.masks.shape[1],
            )  # fmt: skip
            return
    reach = window.strides[1] * window.outputs[1] + kw * window.dilations[1]
    row = max(window.pads[1] + width, reach)
    pitch = -(-row // LANES) * LANES + 2 * LANES
    assembler.emit(
        max_codes, source=source, target=target, pitch=pitch, **places(shape, window),
        scratch=pitch + max(LANES, window.outputs[1]),
    )  # fmt: skip


@kernel(MAX_MOVED, FRAME)
def max_moved(operations, frames):
    """Write the largest code of each window, of planes that are as large as those they come from.

    What an element of the window sees is the plane itself, moved, but for what is masked out.
    """
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    # Read once: as far as the compiler knows, a result could be written over the operation.
    plane, count, pitch, scratch = op.plane, op.tap_count, op.mask_pitch, frame.scratch
    taps = integers(op.taps, count)
    first, last = share(frame.images * op.channels, frame)
    end = frame.arena + op.target + last * plane
    for p in range(first, last):
        source, out = frame.arena + op.source + p * plane, frame.arena + op.target + p * plane
        for pixel in range(0, plane, LANES):
            mask, best = op.masks + pixel, zero_u8(w64())
            for tap in range(count):
                seen = load_u8(w64(), source + pixel + taps[tap])
                best = larger(best, blend(seen, load_u8(w64(), mask), 0))
                mask += pitch
            _store_some(best, out + pixel, end, scratch, plane - pixel)


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
        before, behind = operation.left, operation.left + operation.width
        mask = codes(frame.scratch + LANES, LANES)
        for c in range(LANES):
            mask[c] = 255 if before <= c < behind else 0
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
    seen = max(2 * (op.columns - 1) + op.kw, op.left + op.width)
    return seen <= LANES and op.sh == 2 and op.dh == 1 and (op.kw == 2 or op.kw == 3)


@inlined
def _rows(op, frame, write):
    """Have each row of this piece's windows written.

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
        i, until = inside(start, kh, dv, height)
        line = source + (plane * height + start + i * dv) * width
        write(op, scratch, line, until - i, out, end)
        out += columns
        row += 1
        if row == rows:
            plane, row = plane + 1, 0


@inlined
def _short_row(op, scratch, line, count, out, end):
    """Write a row whose maxima down the columns stay in registers."""
    seen = _down(w64(), line - op.left, op.dv * op.width, count)
    seen = blend(seen, load_u8(w64(), scratch + LANES), 0)
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
        copy(out, best, columns)
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
        copy(out, spare, count)
