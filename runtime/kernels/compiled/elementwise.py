"""Codes to reals and back, activation functions, sums and products of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import Quantization, Shape
from deepchip.formats.jit import Compiled, jit
from deepchip.runtime.kernels.plain.elementwise import LN2_HIGH, LN2_LOW, LOG2_E, SMALL, TAYLOR

F32 = NDArray[np.float32]

ROUND = np.float32(1.5 * 2**23)
"""Adding and taking away this rounds |x| < 2**22 to an integer, halves to even."""


def quantize(x: F32, quantization: Quantization) -> NDArray[np.uint8]:
    """Return the codes of x / scale."""
    return _codes(x, np.float32(quantization.scale), quantization)


def to_codes(q: F32, quantization: Quantization) -> NDArray[np.uint8]:
    """Return codes; see `plain.to_codes`."""
    return _codes(q, np.float32(1), quantization)


def _codes(x: F32, scale: np.float32, quantization: Quantization) -> NDArray[np.uint8]:
    low = np.float32(-quantization.zero_point)
    high = np.float32(quantization.maximum - quantization.zero_point)
    codes = np.empty(x.shape, np.uint8)
    round_all(_flat(x), scale, low, high, codes.reshape(-1))
    return codes


def dequantize(x: NDArray[np.uint8], quantization: Quantization) -> F32:
    """Return scale * (code - zero_point)."""
    y = np.empty(x.shape, np.float32)
    scale, zero_point = np.float32(quantization.scale), np.float32(quantization.zero_point)
    to_reals(_flat(x), scale, zero_point, y.reshape(-1))
    return y


def affine(scale: F32, shift: F32, shape: Shape) -> Callable[[F32], F32]:
    """Return a function from x [N, *shape] to x * scale + shift, which broadcast to `shape`."""
    factors = [np.reshape(p, (1,) * (len(shape) - p.ndim) + p.shape) for p in (scale, shift)]
    # Nearly always there is one factor for a channel; anything else gets one for each element.
    per_channel = shape and all(n == 1 for p in factors for n in p.shape[1:])
    covered = (*shape[:1], *(1 for _ in shape[1:])) if per_channel else shape
    first, second = (np.array(np.broadcast_to(p, covered)).reshape(-1) for p in factors)

    def run(x: F32) -> F32:
        y = np.empty(x.shape, np.float32)
        if len(x):
            form = (len(x), len(first), -1)
            scale_and_shift(_flat(x).reshape(form), first, second, y.reshape(form))
        return y

    return run


def add(a: F32, b: F32) -> F32:
    """Return a + b."""
    return _binary(add_all, a, b)


def multiply(a: F32, b: F32) -> F32:
    """Return a * b."""
    return _binary(multiply_all, a, b)


def relu(x: F32) -> F32:
    """Return max(x, 0)."""
    return _unary(relu_all, x)


def clip(x: F32, minimum: float, maximum: float) -> F32:
    """Return x within [minimum, maximum]."""
    return _unary(clip_all, x, np.float32(minimum), np.float32(maximum))


def leaky_relu(x: F32, alpha: float) -> F32:
    """Return x, or alpha * x where x is negative."""
    return _unary(leaky_relu_all, x, np.float32(alpha))


def elu(x: F32, alpha: float) -> F32:
    """Return x, or alpha * (exp(x) - 1) where x is negative."""
    return _unary(elu_all, x, np.float32(alpha))


def sigmoid(x: F32) -> F32:
    """Return 1 / (1 + exp(-x))."""
    return _unary(sigmoid_all, x)


def tanh(x: F32) -> F32:
    """Return the hyperbolic tangent."""
    return _unary(tanh_all, x)


def softmax(x: F32, axis: int) -> F32:
    """Return exp(x) over the sum of exp(x) along `axis`, which counts the axes of the array."""
    rows = np.moveaxis(x, axis, -1)
    y = np.empty(rows.shape, np.float32)
    if x.size:
        softmax_rows(_flat(rows).reshape(-1, x.shape[axis]), y.reshape(-1, x.shape[axis]))
    return np.ascontiguousarray(np.moveaxis(y, -1, axis))


def _flat(x: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(x).reshape(-1)


def _unary(kernel: Compiled, x: F32, *numbers: np.float32) -> F32:
    y = np.empty(x.shape, np.float32)
    kernel(_flat(x), *numbers, y.reshape(-1))
    return y


def _binary(kernel: Compiled, a: F32, b: F32) -> F32:
    a, b = np.broadcast_arrays(a, b)
    y = np.empty(a.shape, np.float32)
    kernel(_flat(a), _flat(b), y.reshape(-1))
    return y


def _each(*numbers: str) -> Callable[[Callable[..., Any]], Compiled]:
    """Compile a kernel from float32 [n] and some numbers to float32 [n]."""
    return jit(f"void({', '.join(['float32[::1]', *numbers, 'float32[::1]'])})")


@jit("void(float32[::1], float32, float32, float32, uint8[::1])")
def round_all(x, scale, low, high, out):
    """Write the code of each x / scale; the bounds are integers, so clipping first is the same."""
    for i in range(x.shape[0]):
        code = x[i] / scale
        code = code if code >= low else low  # NaN too
        code = code if code <= high else high
        out[i] = np.uint8(np.int32(((code + ROUND) - ROUND) - low))


@jit("void(uint8[::1], float32, float32, float32[::1])")
def to_reals(x, scale, zero_point, out):
    """Write the real number of each code."""
    for i in range(x.shape[0]):
        out[i] = scale * (np.float32(x[i]) - zero_point)


@jit("void(float32[:, :, ::1], float32[::1], float32[::1], float32[:, :, ::1])")
def scale_and_shift(x, scale, shift, out):
    """Write x [N, C, P] times scale [C] plus shift [C]."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for p in range(x.shape[2]):
                out[n, c, p] = x[n, c, p] * scale[c] + shift[c]


@_each("float32[::1]")
def add_all(a, b, out):
    """Write a + b."""
    for i in range(a.shape[0]):
        out[i] = a[i] + b[i]


@_each("float32[::1]")
def multiply_all(a, b, out):
    """Write a * b."""
    for i in range(a.shape[0]):
        out[i] = a[i] * b[i]


@_each()
def relu_all(x, out):
    """Write x, or 0 where it is negative."""
    for i in range(x.shape[0]):
        out[i] = np.float32(0) if x[i] < 0 else x[i]


@_each("float32", "float32")
def clip_all(x, minimum, maximum, out):
    """Write x within its bounds."""
    for i in range(x.shape[0]):
        y = minimum if x[i] < minimum else x[i]
        out[i] = maximum if y > maximum else y


@_each("float32")
def leaky_relu_all(x, alpha, out):
    """Write x, or alpha * x where it is negative."""
    for i in range(x.shape[0]):
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


@_each("float32")
def elu_all(x, alpha, out):
    """Write x, or alpha * (exp(x) - 1) where it is negative."""
    for i in range(x.shape[0]):
        if x[i] < 0:
            low = np.float64(x[i])
            if low > -SMALL:
                below = low * (1 + low * (1 / 2 + low * (1 / 6 + low * (1 / 24))))
            else:
                below = exponential(low) - 1
            out[i] = np.float32(np.float64(alpha) * below)
        else:
            out[i] = x[i]


@_each()
def sigmoid_all(x, out):
    """Write 1 / (1 + exp(-x))."""
    for i in range(x.shape[0]):
        out[i] = np.float32(1 / (1 + exponential(-np.float64(x[i]))))


@_each()
def tanh_all(x, out):
    """Write the hyperbolic tangent."""
    for i in range(x.shape[0]):
        size = abs(np.float64(x[i]))
        if size < SMALL:
            square = size * size
            value = size * (1 + square * (-1 / 3 + square * (2 / 15)))
        else:
            e = exponential(-2 * size)
            value = (1 - e) / (1 + e)
        out[i] = np.float32(np.copysign(value, np.float64(x[i])))


@jit("void(float32[:, ::1], float32[:, ::1])")
def softmax_rows(x, out):
    """Write the softmax of each row."""
    power = np.empty(x.shape[1], np.float64)
    for r in range(x.shape[0]):
        high = np.float64(x[r, 0])
        for c in range(1, x.shape[1]):
            if x[r, c] > high:
                high = np.float64(x[r, c])
        total = 0.0
        for c in range(x.shape[1]):
            power[c] = exponential(np.float64(x[r, c]) - high)
            total += power[c]
        for c in range(x.shape[1]):
            out[r, c] = np.float32(power[c] / total)
