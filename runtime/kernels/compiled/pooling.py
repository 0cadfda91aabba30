"""Averages over windows of planes [C, H, W], clipped at the borders of the plane."""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable

from deepchip.formats.graph import Quantization, Shape
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.pooling import counts
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from .frame import FRAME, PLACE, codes, floats, integers, layout, share
from .places import PLACES, inside, places

AVERAGE = layout(**PLACES, over_down=PLACE, over_across=PLACE, scale="f4", zero_point="i8")
"""`over_down` and `over_across` are int32 [rows] and [columns]: sums are divided by their product.
"""


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
        top, bottom = inside(down, operation.kh, dv, operation.height)
        for c in range(columns):
            left, right = inside(c * sh - before, kw, dh, width)
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
        zero_point=0 if form is None else form.zero_point, **places(shape, window),
    )  # fmt: skip
