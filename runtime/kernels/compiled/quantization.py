"""Codes to reals and back."""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable

from deepchip.formats.graph import Quantization
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.program import Assembler

from .frame import FRAME, PLACE, codes, floats, layout, share
from .quotients import DIVISOR, codes_of, divisor, read_divisor
from .simd import lanes, load_f32, store, w64

ROUND = np.float32(1.5 * 2**23)
"""Adding and taking away this rounds |x| < 2**22 to an integer, halves to even."""

TO_CODES = layout(source=PLACE, target=PLACE, count="i8", **DIVISOR)
TO_REALS = layout(source=PLACE, target=PLACE, count="i8", scale="f4", zero_point="f4")


@register_jitable
def round_code(code, low, high):
    """Return the code of a number without its zero point; see `DIVISOR`. NaN gives 0."""
    code = code if code >= low else low  # NaN too; the bounds are whole, so clipping may be first
    code = code if code <= high else high
    return np.uint8(np.int32(((code + ROUND) - ROUND) - low))


@register_jitable
def store_result(place, index, result, coded, low, high):
    """Store a layer's result as element `index` at an address, as it is or as a code."""
    if coded:
        codes(place, index + 1)[index] = round_code(result, low, high)
    else:
        floats(place, index + 1)[index] = result


@kernel(TO_CODES, FRAME)
def quantize(operations, frames):
    """Write the code of each x / scale."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    first, last = share(operation.count * frame.images, frame)
    source, target = frame.arena + operation.source, frame.arena + operation.target
    w, by = w64(), read_divisor(operation)
    i = first
    while i + lanes(w) <= last:
        store(target + i, codes_of(load_f32(w, source + 4 * i), by))
        i += lanes(w)
    x, out = floats(source, last), codes(target, last)
    for k in range(i, last):
        out[k] = round_code(x[k] / operation.scale, operation.low, operation.high)


@kernel(TO_REALS, FRAME)
def dequantize(operations, frames):
    """Write the real number of each code."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    scale, zero_point = operation.scale, operation.zero_point
    first, last = share(operation.count * frame.images, frame)
    x = codes(frame.arena + operation.source + first, last - first)
    out = floats(frame.arena + operation.target + 4 * first, last - first)
    for i in range(len(out)):
        out[i] = scale * (np.float32(x[i]) - zero_point)


def to_codes(
    assembler: Assembler, source: Buffer, target: Buffer, form: Quantization, scale: float
) -> None:
    """Emit the codes of numbers over `scale`, with the zero point and the bounds of a form."""
    assembler.emit(
        quantize, exact=True, source=source, target=target, count=target.size,
        **divisor(form, scale),
    )  # fmt: skip
