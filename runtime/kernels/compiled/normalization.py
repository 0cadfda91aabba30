"""Normalization over neighbouring channels."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray
from numba.extending import intrinsic

from deepchip.formats.graph import Quantization, Shape
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.normalization import START, STEP
from deepchip.runtime.program import Assembler

from .each import inlined
from .frame import FRAME, PLACE, floats, layout, share
from .functions import exponential, logarithm
from .outputs import copy
from .quotients import DIVISOR, codes_of, divisor, read_divisor
from .reals import alike, minus, plus, product, quotient, root
from .simd import F32, I32, emitted, lanes, load_f32, splat, store, w16

BLOCK = 1024
"""Numbers of a channel that are taken before those of the next one: the sums of neighbouring
channels read the same numbers, which then are in the cache."""

LRN = layout(
    source=PLACE, target=PLACE, channels="i8", count="i8", before="i8", after="i8", factor="f4",
    bias="f4", beta="f8", coded="i8", **DIVISOR,
)  # fmt: skip
"""`channels` of `count` numbers; `before` and `after` one are those that are summed up with it.
`bias` and `factor` are what the squares' sum is scaled by; three quarters of them for `lrn`."""

LANES = 16
"""Numbers that are taken at a time."""


@intrinsic
def _start(context, quarters):
    """Return about b**(-1/4) of 3/4 b, see `plain.normalization`."""

    def emit(b: Any, x: Any) -> Any:
        words, n = ir.VectorType(I32, x.type.count), x.type.count
        quarter = b.ashr(b.bitcast(x, words), splat(b, ir.Constant(I32, 2), n))
        return b.bitcast(b.sub(splat(b, ir.Constant(I32, START), n), quarter), x.type)

    return quarters(quarters), emitted(emit)


@intrinsic
def _unless_infinite(context, y, x):
    """Return y, or 0 where x is infinity."""

    def emit(b: Any, y: Any, x: Any) -> Any:
        infinity = splat(b, ir.Constant(F32, float("inf")), x.type.count)
        return b.select(b.fcmp_ordered("==", x, infinity), ir.Constant(y.type, None), y)

    return y(y, x), emitted(emit)


@inlined
def _by_steps(w, x, quarters, operation, frame):
    """Return x * b**-0.75, see `plain.normalization.inverse_power`."""
    r = _start(quarters)
    square = product(r, r)
    e = product(product(quarters, square), square)
    near = plus(product(e, alike(e, STEP[2])), alike(e, STEP[1]))
    r = product(r, plus(product(near, e), alike(e, STEP[0])))
    square = product(r, r)
    e = product(product(quarters, square), square)
    power = product(product(square, r), minus(alike(e, np.float32(1.75)), e))
    return product(x, _unless_infinite(power, quarters))


@inlined
def _by_definition(w, x, base, operation, frame):
    """Return x / base**beta; the usual powers are roots."""
    if operation.beta == 1.0:
        return quotient(x, base)
    if operation.beta == 0.5:
        return quotient(x, root(base))
    store(frame.scratch, base)
    numbers = floats(frame.scratch, lanes(w))
    for i in range(len(numbers)):
        numbers[i] = exponential(operation.beta * logarithm(np.float64(numbers[i])))
    return quotient(x, load_f32(w, frame.scratch))


@inlined
def _normalize(operations, frames, normalized):
    """Write what `normalized` gives of x and bias + factor * sum of squares, or its code."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    channels, count = operation.channels, operation.count
    size, width = 4 * count, 1 if operation.coded != 0 else 4
    blocks = -(-count // BLOCK)
    w, by = w16(), read_divisor(operation)
    bias, factor, coded = operation.bias, operation.factor, operation.coded
    first, last = share(frame.images * blocks * channels, frame)
    for unit in range(first, last):
        channel, block = unit % channels, unit // channels % blocks
        row = unit // (channels * blocks) * channels + channel
        before = min(operation.before, channel)
        others = before + min(operation.after, channels - 1 - channel)
        begin, end = block * BLOCK, min((block + 1) * BLOCK, count)
        source = frame.arena + operation.source + 4 * (row * count + begin)
        target = frame.arena + operation.target + width * (row * count + begin)
        for left in range(end - begin, 0, -lanes(w)):
            near = source - before * size
            x = load_f32(w, near)
            total = product(x, x)
            for _ in range(others):
                near += size
                x = load_f32(w, near)
                total = plus(total, product(x, x))
            base = plus(alike(x, bias), product(total, alike(x, factor)))
            y = normalized(w, load_f32(w, source), base, operation, frame)
            given = target if left >= lanes(w) else frame.scratch
            if coded:
                store(given, codes_of(y, by))
            else:
                store(given, y)
            if left < lanes(w):
                copy(target, given, width * left)
            source += 4 * lanes(w)
            target += width * lanes(w)


@kernel(LRN, FRAME)
def lrn(operations, frames):
    """Write x / (bias + factor * sum of squares over channels)**0.75, or its code."""
    _normalize(operations, frames, _by_steps)


@kernel(LRN, FRAME)
def lrn_of_any_power(operations, frames):
    """Write x / (bias + factor * sum of squares over channels)**beta, or its code."""
    _normalize(operations, frames, _by_definition)


def local_response(
    assembler: Assembler,
    source: Buffer,
    target: Buffer,
    shape: Shape,
    size: int,
    alpha: float,
    beta: float,
    bias: float,
    gives: Quantization | None,
) -> None:
    """Emit the normalization of items [C, ...] over `size` channels, see `plain.lrn`."""
    before = (size - 1) // 2
    usual = beta == 0.75
    scale = 0.75 if usual else 1.0
    assembler.emit(
        lrn if usual else lrn_of_any_power, scratch=4 * LANES, margin=4 * LANES,
        source=source, target=target, channels=shape[0], count=prod(shape[1:]), before=before,
        after=size - 1 - before, factor=scale * alpha / size, bias=scale * bias, beta=beta,
        coded=gives is not None, **divisor(gives, gives.scale if gives else 1.0),
    )  # fmt: skip
