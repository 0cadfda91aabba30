"""Codes to reals and back, activation functions, sums and products of values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from deepchip.formats.graph import Quantization
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.elementwise import LN2_HIGH, LN2_LOW, LOG2_E, SMALL, TAYLOR
from deepchip.runtime.program import Assembler

from .frame import FRAME, PLACE, codes, floats, layout, share
from .reals import divide, round_codes
from .simd import lanes, load_f32, store, w64

ROUND = np.float32(1.5 * 2**23)
"""Adding and taking away this rounds |x| < 2**22 to an integer, halves to even."""

EACH = layout(source=PLACE, target=PLACE, count="i8")
"""From `count` numbers of each item to as many."""
EACH_ALPHA = layout(source=PLACE, target=PLACE, count="i8", alpha="f4")
EACH_BOUNDS = layout(source=PLACE, target=PLACE, count="i8", minimum="f4", maximum="f4")
PAIRS = layout(first=PLACE, second=PLACE, target=PLACE, count="i8")
TO_CODES = layout(source=PLACE, target=PLACE, count="i8", scale="f4", low="f4", high="f4")
"""`low` and `high` are the bounds of the codes less their zero point: whole numbers."""
TO_REALS = layout(source=PLACE, target=PLACE, count="i8", scale="f4", zero_point="f4")
AFFINE = layout(source=PLACE, target=PLACE, channels="i8", count="i8", scale=PLACE, shift=PLACE)
"""`scale` and `shift` are float32 [channels], of `count` numbers each."""
SOFTMAX = layout(source=PLACE, target=PLACE, rows="i8", count="i8", step="i8")
"""`rows` of an item, of `count` numbers that are `step` apart."""


@register_jitable
def _part(operation, frame):
    """Return this thread's part of source and target, float32 both."""
    first, last = share(operation.count * frame.images, frame)
    source = floats(frame.arena + operation.source + 4 * first, last - first)
    return source, floats(frame.arena + operation.target + 4 * first, last - first)


@register_jitable
def _parts(operation, frame):
    """Return this thread's part of both sources and of the target, float32 all of them."""
    first, last = share(operation.count * frame.images, frame)
    a = floats(frame.arena + operation.first + 4 * first, last - first)
    b = floats(frame.arena + operation.second + 4 * first, last - first)
    return a, b, floats(frame.arena + operation.target + 4 * first, last - first)


@register_jitable
def round_code(code, low, high):
    """Return the code of a number without its zero point; see `TO_CODES`. NaN gives 0."""
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
    scale, low, high = operation.scale, operation.low, operation.high
    first, last = share(operation.count * frame.images, frame)
    source, target = frame.arena + operation.source, frame.arena + operation.target
    w = w64()
    i = first
    while i + lanes(w) <= last:
        q = divide(load_f32(w, source + 4 * i), scale)
        store(target + i, round_codes(q, low, high))
        i += lanes(w)
    x, out = floats(source, last), codes(target, last)
    for k in range(i, last):
        out[k] = round_code(x[k] / scale, low, high)


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


@kernel(AFFINE, FRAME)
def affine(operations, frames):
    """Write x * scale + shift, of each channel its own."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    channels, count = operation.channels, operation.count
    scale, shift = floats(operation.scale, channels), floats(operation.shift, channels)
    first, last = share(channels * frame.images, frame)
    for row in range(first, last):
        x = floats(frame.arena + operation.source + 4 * count * row, count)
        out = floats(frame.arena + operation.target + 4 * count * row, count)
        factor, more = scale[row % channels], shift[row % channels]
        for i in range(count):
            out[i] = x[i] * factor + more


@kernel(PAIRS, FRAME)
def add(operations, frames):
    """Write a + b."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    a, b, out = _parts(operation, frame)
    for i in range(len(out)):
        out[i] = a[i] + b[i]


@kernel(PAIRS, FRAME)
def multiply(operations, frames):
    """Write a * b."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    a, b, out = _parts(operation, frame)
    for i in range(len(out)):
        out[i] = a[i] * b[i]


@kernel(EACH, FRAME)
def relu(operations, frames):
    """Write x, or 0 where it is negative."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    x, out = _part(operation, frame)
    for i in range(len(out)):
        out[i] = np.float32(0) if x[i] < 0 else x[i]


@kernel(EACH_BOUNDS, FRAME)
def clip(operations, frames):
    """Write x within its bounds."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    minimum, maximum = operation.minimum, operation.maximum
    x, out = _part(operation, frame)
    for i in range(len(out)):
        y = minimum if x[i] < minimum else x[i]
        out[i] = maximum if y > maximum else y


@kernel(EACH_ALPHA, FRAME)
def leaky_relu(operations, frames):
    """Write x, or alpha * x where it is negative."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    alpha = operation.alpha
    x, out = _part(operation, frame)
    for i in range(len(out)):
        out[i] = alpha * x[i] if x[i] < 0 else x[i]


@register_jitable
def exponential(x):
    """Return exp(x) as `plain.exponential` does, operation for operation."""
    x = -746.0 if x < -746.0 else (710.0 if x > 710.0 else x)
    if x != x:
        return x
    n = np.rint(x * LOG2_E)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    total = TAYLOR[0]
    for k in range(1, len(TAYLOR)):
        total = total * r + TAYLOR[k]
    return np.ldexp(total, np.int32(n))


@kernel(EACH_ALPHA, FRAME)
def elu(operations, frames):
    """Write x, or alpha * (exp(x) - 1) where it is negative."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    alpha = np.float64(operation.alpha)
    x, out = _part(operation, frame)
    for i in range(len(out)):
        if x[i] < 0:
            low = np.float64(x[i])
            if low > -SMALL:
                below = low * (1 + low * (1 / 2 + low * (1 / 6 + low * (1 / 24))))
            else:
                below = exponential(low) - 1
            out[i] = np.float32(alpha * below)
        else:
            out[i] = x[i]


@kernel(EACH, FRAME)
def sigmoid(operations, frames):
    """Write 1 / (1 + exp(-x))."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    x, out = _part(operation, frame)
    for i in range(len(out)):
        out[i] = np.float32(1 / (1 + exponential(-np.float64(x[i]))))


@kernel(EACH, FRAME)
def tanh(operations, frames):
    """Write the hyperbolic tangent."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    x, out = _part(operation, frame)
    for i in range(len(out)):
        size = abs(np.float64(x[i]))
        if size < SMALL:
            square = size * size
            value = size * (1 + square * (-1 / 3 + square * (2 / 15)))
        else:
            e = exponential(-2 * size)
            value = (1 - e) / (1 + e)
        out[i] = np.float32(np.copysign(value, np.float64(x[i])))


@kernel(SOFTMAX, FRAME)
def softmax(operations, frames):
    """Write exp(x) over the sum of exp(x) of each row.

    Powers are computed twice, which takes no memory for them.
    """
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    count, step = operation.count, operation.step
    first, last = share(operation.rows * frame.images, frame)
    for row in range(first, last):
        start = 4 * (row // step * count * step + row % step)
        x = floats(frame.arena + operation.source + start, (count - 1) * step + 1)
        out = floats(frame.arena + operation.target + start, (count - 1) * step + 1)
        high = np.float64(x[0])
        for i in range(1, count):
            if x[i * step] > high:
                high = np.float64(x[i * step])
        total = 0.0
        for i in range(count):
            total += exponential(np.float64(x[i * step]) - high)
        for i in range(count):
            out[i * step] = np.float32(exponential(np.float64(x[i * step]) - high) / total)


def code_bounds(form: Quantization | None) -> dict[str, Any]:
    """Return what kernels that give codes need to know of them, or that they give none."""
    if form is None:
        return {"low": 0.0, "high": 0.0}
    return {"low": -form.zero_point, "high": form.maximum - form.zero_point}


def to_codes(
    assembler: Assembler, source: Buffer, target: Buffer, form: Quantization, scale: float
) -> None:
    """Emit the codes of numbers over `scale`, with the zero point and the bounds of a form."""
    assembler.emit(
        quantize, exact=True, source=source, target=target, count=target.size, scale=scale,
        **code_bounds(form),
    )  # fmt: skip
