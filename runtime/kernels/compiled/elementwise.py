"""Functions of each element, or of each two, that float32 operations give exactly rounded."""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable

from deepchip.formats.jit import kernel

from .each import EACH, EACH_ALPHA, each, each_alpha, inlined, part
from .frame import FRAME, PLACE, floats, layout, share

EACH_BOUNDS = layout(source=PLACE, target=PLACE, count="i8", minimum="f4", maximum="f4")
PAIRS = layout(first=PLACE, second=PLACE, target=PLACE, count="i8")
_CHANNELS = {"source": PLACE, "target": PLACE, "rows": "i8", "channels": "i8", "count": "i8"}
AFFINE = layout(**_CHANNELS, scale=PLACE, shift=PLACE)
"""`rows` of an item, of `count` numbers each; `scale` and `shift`, float32 [channels], rows
take in turn."""
PRELU = layout(**_CHANNELS, slope=PLACE)


@kernel(AFFINE, FRAME)
def affine(operations, frames):
    """Write x * scale + shift, of each channel its own."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    channels, count = operation.channels, operation.count
    scale, shift = floats(operation.scale, channels), floats(operation.shift, channels)
    first, last = share(operation.rows * frame.images, frame)
    for row in range(first, last):
        x = floats(frame.arena + operation.source + 4 * count * row, count)
        out = floats(frame.arena + operation.target + 4 * count * row, count)
        factor, more = scale[row % channels], shift[row % channels]
        for i in range(count):
            out[i] = x[i] * factor + more


@kernel(PRELU, FRAME)
def prelu(operations, frames):
    """Write x, or slope * x where it is negative, of each channel its own."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    channels, count = operation.channels, operation.count
    slope = floats(operation.slope, channels)
    first, last = share(operation.rows * frame.images, frame)
    for row in range(first, last):
        x = floats(frame.arena + operation.source + 4 * count * row, count)
        out = floats(frame.arena + operation.target + 4 * count * row, count)
        factor = slope[row % channels]
        for i in range(count):
            out[i] = _leaky_relu(x[i], factor)


@register_jitable
def _pairs(operations, frames, function):
    """Write `function` of each two numbers, see `PAIRS`."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    first, last = share(operation.count * frame.images, frame)
    a = floats(frame.arena + operation.first + 4 * first, last - first)
    b = floats(frame.arena + operation.second + 4 * first, last - first)
    out = floats(frame.arena + operation.target + 4 * first, last - first)
    for i in range(len(out)):
        out[i] = function(a[i], b[i])


@inlined
def _add(a, b):
    return a + b


@kernel(PAIRS, FRAME)
def add(operations, frames):
    """Write a + b."""
    _pairs(operations, frames, _add)


@inlined
def _subtract(a, b):
    return a - b


@kernel(PAIRS, FRAME)
def subtract(operations, frames):
    """Write a - b."""
    _pairs(operations, frames, _subtract)


@inlined
def _multiply(a, b):
    return a * b


@kernel(PAIRS, FRAME)
def multiply(operations, frames):
    """Write a * b."""
    _pairs(operations, frames, _multiply)


@inlined
def _divide(a, b):
    return a / b


@kernel(PAIRS, FRAME)
def divide(operations, frames):
    """Write a / b."""
    _pairs(operations, frames, _divide)


@inlined
def _maximum(a, b):
    return a if (a >= b) | (a != a) else b


@kernel(PAIRS, FRAME)
def maximum(operations, frames):
    """Write the larger, the first of equal ones, NaN where either is."""
    _pairs(operations, frames, _maximum)


@inlined
def _minimum(a, b):
    return a if (a <= b) | (a != a) else b


@kernel(PAIRS, FRAME)
def minimum(operations, frames):
    """Write the smaller, the first of equal ones, NaN where either is."""
    _pairs(operations, frames, _minimum)


@inlined
def _relu(x):
    return np.float32(0) if x < 0 else x


@kernel(EACH, FRAME)
def relu(operations, frames):
    """Write x, or 0 where it is negative."""
    each(operations, frames, _relu)


@kernel(EACH_BOUNDS, FRAME)
def clip(operations, frames):
    """Write x within its bounds."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    least, most = operation.minimum, operation.maximum
    x, out = part(operation, frame)
    for i in range(len(out)):
        y = least if x[i] < least else x[i]
        out[i] = most if y > most else y


@inlined
def _leaky_relu(x, alpha):
    return alpha * x if x < 0 else x


@kernel(EACH_ALPHA, FRAME)
def leaky_relu(operations, frames):
    """Write x, or alpha * x where it is negative."""
    each_alpha(operations, frames, _leaky_relu)


@inlined
def _absolute(x):
    return abs(x)


@kernel(EACH, FRAME)
def absolute(operations, frames):
    """Write |x|."""
    each(operations, frames, _absolute)


@inlined
def _sign(x):
    if x > 0:
        return np.float32(1)
    if x < 0:
        return np.float32(-1)
    return np.float32(0) if x == 0 else x


@kernel(EACH, FRAME)
def sign(operations, frames):
    """Write -1, 0 or 1; NaN for NaN."""
    each(operations, frames, _sign)


@inlined
def _bipolar(x):
    return np.float32(1) if x >= 0 else np.float32(-1)


@kernel(EACH, FRAME)
def bipolar(operations, frames):
    """Write 1 where x >= 0, else -1, for NaN too."""
    each(operations, frames, _bipolar)


@inlined
def _square_root(x):
    return np.sqrt(x)


@kernel(EACH, FRAME)
def square_root(operations, frames):
    """Write the square root, NaN below zero."""
    each(operations, frames, _square_root)


@inlined
def _reciprocal(x):
    return np.float32(1) / x


@kernel(EACH, FRAME)
def reciprocal(operations, frames):
    """Write 1 / x."""
    each(operations, frames, _reciprocal)


@inlined
def _nearest(x):
    return np.rint(x)


@kernel(EACH, FRAME)
def nearest(operations, frames):
    """Write the nearest whole number, halves to the even one."""
    each(operations, frames, _nearest)


@inlined
def _floor(x):
    return np.floor(x)


@kernel(EACH, FRAME)
def floor(operations, frames):
    """Write the largest whole number that is not above x."""
    each(operations, frames, _floor)


@inlined
def _ceil(x):
    return np.ceil(x)


@kernel(EACH, FRAME)
def ceil(operations, frames):
    """Write the smallest whole number that is not below x."""
    each(operations, frames, _ceil)
