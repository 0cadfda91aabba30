"""Codes to reals and back, activation functions, sums and products of values.

Exponentials are built from exactly rounded float64 operations, because a code that is one apart on
another machine would break the promise of equal bits, and library exponentials differ in the last
place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Quantization, Shape

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LOG2_E = float.fromhex("0x1.71547652b82fep+0")
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
TAYLOR = tuple(1.0 / f for f in (6227020800, 479001600, 39916800, 3628800, 362880, 40320, 5040, 720,
                                 120, 24, 6, 2, 1, 1))  # fmt: skip
"""1/13! to 1/0!: on |r| <= ln(2)/2 the rest of the series is below 2**-54."""
SMALL = 2.0**-10
"""Below this, differences of exponentials would cancel; a few terms of a series are enough."""


def quantize(x: F32, quantization: Quantization) -> NDArray[np.uint8]:
    """Return the codes of x / scale."""
    with np.errstate(over="ignore"):  # what lies beyond float32 is clipped all the same
        return to_codes(x / np.float32(quantization.scale), quantization)


def to_codes(q: F32, quantization: Quantization) -> NDArray[np.uint8]:
    """Return clip(rint(q) + zero_point, 0, 2**bits - 1), halves to even; NaN gives 0."""
    code = np.rint(q) + np.float32(quantization.zero_point)
    return np.fmin(np.fmax(code, 0), quantization.maximum).astype(np.uint8)


def dequantize(x: NDArray[np.uint8], quantization: Quantization) -> F32:
    """Return scale * (code - zero_point)."""
    centred = x.astype(np.float32) - np.float32(quantization.zero_point)
    return np.float32(quantization.scale) * centred


def affine(scale: F32, shift: F32, shape: Shape) -> Callable[[F32], F32]:
    """Return a function from x [N, *shape] to x * scale + shift, which broadcast to `shape`."""
    return lambda x: x * scale + shift


def add(a: F32, b: F32) -> F32:
    """Return a + b."""
    return a + b


def multiply(a: F32, b: F32) -> F32:
    """Return a * b."""
    return a * b


def relu(x: F32) -> F32:
    """Return max(x, 0)."""
    return np.where(x < 0, np.float32(0), x)


def clip(x: F32, minimum: float, maximum: float) -> F32:
    """Return x within [minimum, maximum]."""
    x = np.where(x < np.float32(minimum), np.float32(minimum), x)
    return np.where(x > np.float32(maximum), np.float32(maximum), x)


def leaky_relu(x: F32, alpha: float) -> F32:
    """Return x, or alpha * x where x is negative."""
    return np.where(x < 0, np.float32(alpha) * x, x)


def elu(x: F32, alpha: float) -> F32:
    """Return x, or alpha * (exp(x) - 1) where x is negative (Clevert et al., ICLR 2016, eq. 15)."""
    low = np.minimum(x, np.float32(0)).astype(np.float64)
    series = low * (1 + low * (1 / 2 + low * (1 / 6 + low * (1 / 24))))
    below = np.where(low > -SMALL, series, exponential(low) - 1)
    return np.where(x < 0, (np.float64(np.float32(alpha)) * below).astype(np.float32), x)


def sigmoid(x: F32) -> F32:
    """Return 1 / (1 + exp(-x))."""
    return (1 / (1 + exponential(-x.astype(np.float64)))).astype(np.float32)


def tanh(x: F32) -> F32:
    """Return the hyperbolic tangent."""
    size = np.abs(x.astype(np.float64))
    square = size * size
    e = exponential(-2 * size)
    series = size * (1 + square * (-1 / 3 + square * (2 / 15)))
    value = np.where(size < SMALL, series, (1 - e) / (1 + e))
    return np.copysign(value, x).astype(np.float32)


def softmax(x: F32, axis: int) -> F32:
    """Return exp(x) over the sum of exp(x) along `axis`, which counts the axes of the array."""
    high = x.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, as it should be
        power = exponential(high - high.max(axis=axis, keepdims=True))
    total = np.cumsum(power, axis=axis).take([-1], axis=axis)  # one order, unlike np.sum
    return (power / total).astype(np.float32)


def exponential(x: F64) -> F64:
    """Return exp(x) in float64 from additions and multiplications, NaN for NaN.

    x = n * ln(2) + r, exp(x) = 2**n * exp(r), the latter by its Taylor series (Muller, Elementary
    Functions, chapter 11: additive range reduction in two parts).
    """
    x = np.where(x < -746.0, -746.0, np.where(x > 710.0, 710.0, x))
    n = np.rint(x * LOG2_E)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    total = np.full_like(x, TAYLOR[0])
    for coefficient in TAYLOR[1:]:
        total = total * r + coefficient
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(total, np.where(np.isnan(n), 0, n).astype(np.int32))
