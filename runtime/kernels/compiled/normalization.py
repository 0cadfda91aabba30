"""Normalization over neighbouring channels."""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable

from deepchip.formats.graph import Shape
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.program import Assembler

from .frame import FRAME, PLACE, floats, layout, share
from .functions import exponential, logarithm
from .reals import add_scaled, fill, product, quotient, root
from .simd import load_f32, store, w16, w64

BLOCK = 1024
"""Numbers whose sums are held in scratch memory at a time."""

LRN = layout(
    source=PLACE, target=PLACE, channels="i8", count="i8", before="i8", after="i8", factor="f4",
    bias="f4", beta="f8",
)  # fmt: skip
"""`channels` of `count` numbers; `before` and `after` one are those that are summed up with it."""


@register_jitable
def _divide(x, total, out, operation):
    """Write x / (bias + factor * total)**beta; the usual powers are roots."""
    factor, bias, beta = operation.factor, operation.bias, operation.beta
    if beta == 1.0:
        for i in range(len(out)):
            out[i] = x[i] / (bias + factor * total[i])
    elif beta == 0.5:
        for i in range(len(out)):
            out[i] = x[i] / np.sqrt(bias + factor * total[i])
    elif beta == 0.75:
        for i in range(len(out)):
            half = np.sqrt(bias + factor * total[i])
            out[i] = x[i] / (half * np.sqrt(half))
    else:
        for i in range(len(out)):
            base = np.float64(bias + factor * total[i])
            out[i] = x[i] / np.float32(exponential(beta * logarithm(base)))


@register_jitable
def _divide_whole(x, total, out, length, operation):
    """Do what `_divide` does for beta = 0.75 to most of the numbers; return how many.

    The compiler by itself takes one root at a time.
    """
    w, i = w16(), 0
    bias = fill(w64(), operation.bias)
    while i + 16 <= length:
        half = root(add_scaled(bias, load_f32(w, total + 4 * i), operation.factor))
        store(out + 4 * i, quotient(load_f32(w, x + 4 * i), product(half, root(half))))
        i += 16
    return i


@kernel(LRN, FRAME)
def lrn(operations, frames):
    """Write x / (bias + factor * sum of squares over channels)**beta."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    channels, count = operation.channels, operation.count
    blocks = -(-count // BLOCK)
    first, last = share(frame.images * channels * blocks, frame)
    for unit in range(first, last):
        row, start = unit // blocks, unit % blocks * BLOCK
        length = min(BLOCK, count - start)
        channel = row % channels
        total = floats(frame.scratch, length)
        total[:] = 0
        for near in range(
            max(-operation.before, -channel), min(operation.after, channels - 1 - channel) + 1
        ):
            at = 4 * ((row + near) * count + start)
            x = floats(frame.arena + operation.source + at, length)
            for i in range(length):
                total[i] += x[i] * x[i]
        at = 4 * (row * count + start)
        source, target = frame.arena + operation.source + at, frame.arena + operation.target + at
        done = 0
        if operation.beta == 0.75:
            done = _divide_whole(source, frame.scratch, target, length, operation)
        out = floats(target, length)[done:]
        _divide(floats(source, length)[done:], total[done:], out, operation)


def local_response(
    assembler: Assembler,
    source: Buffer,
    target: Buffer,
    shape: Shape,
    size: int,
    alpha: float,
    beta: float,
    bias: float,
) -> None:
    """Emit the normalization of items [C, ...] over `size` channels, see `plain.lrn`."""
    before = (size - 1) // 2
    assembler.emit(
        lrn, source=source, target=target, channels=shape[0],
        count=target.size // (4 * shape[0]), before=before, after=size - 1 - before,
        factor=alpha / size, bias=bias, beta=beta, scratch=4 * BLOCK,
    )  # fmt: skip
