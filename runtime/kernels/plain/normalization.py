"""Normalization over neighbouring channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .functions import exponential, logarithm

F32 = NDArray[np.float32]


def lrn(x: F32, size: int, alpha: float, beta: float, bias: float) -> F32:
    """Return x / (bias + alpha / size * sum of squares)**beta, x [N, C, ...].

    The sum goes over the channels c - floor((size - 1) / 2) to c + ceil((size - 1) / 2), in this
    order (ONNX LRN; Krizhevsky et al., ImageNet Classification, NIPS 2012, section 3.3).
    """
    channels = x.shape[1]
    squares = x * x
    total = np.zeros_like(x)
    before = (size - 1) // 2
    for step in range(max(-before, 1 - channels), min(size - before, channels)):
        first, last = max(0, -step), min(channels, channels - step)
        total[:, first:last] += squares[:, first + step : last + step]
    if beta == 0.75:
        return x * inverse_power(np.float32(0.75 * bias) + np.float32(0.75 * alpha / size) * total)
    return x / _power(np.float32(bias) + np.float32(alpha / size) * total, beta)


def _power(base: F32, beta: float) -> F32:
    """Return base**beta; the usual powers are roots."""
    if beta == 1.0:
        return base
    if beta == 0.5:
        return np.sqrt(base)
    return exponential(beta * logarithm(base.astype(np.float64))).astype(np.float32)


START = 0x4F4A8800
"""Less a quarter of the bits of 3/4 b it is the bits of b**(-1/4) to 4 %, b a positive float32."""
STEP = tuple(np.float32(x) for x in (1.406603, -0.749233, 0.2761371))
"""Of e = 3/4 b r**4, where r is so close, 1.406603 - 0.749233 e + 0.2761371 e**2 is what r has to
be multiplied by, to 6e-5."""


def inverse_power(quarters: F32) -> F32:
    """Return b**-0.75 to 3e-7, relative, of 3/4 b, which is positive; infinity gives 0.

    A start from the bits of a number, which are about its logarithm (Blinn, Floating-point tricks,
    IEEE Computer Graphics and Applications 17 (4), 1997), then a polynomial and a step of Newton's:
    sums and products only. With roots and quotients llvm-mca predicts four times as many cycles for
    a Cortex-A72.
    """
    r = (np.int32(START) - (quarters.view(np.int32) >> 2)).view(np.float32)
    square = r * r
    e = quarters * square * square
    r = r * ((STEP[2] * e + STEP[1]) * e + STEP[0])
    square = r * r
    e = quarters * square * square
    return np.where(quarters == np.inf, np.float32(0), square * r * (np.float32(1.75) - e))
