"""Fully connected layers over vectors [K]."""

from __future__ import annotations

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Tensor
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.program import Assembler

from . import fully_connected_codes
from .frame import FRAME, PLACE, codes, floats, integers, layout, share
from .quantization import store_result
from .quotients import code_bounds
from .segments import Segments

LEVELS = layout(
    source=PLACE, target=PLACE, inputs="i8", outputs="i8", segments="i8", nonzeros="i8",
    rows=PLACE, starts=PLACE, levels=PLACE, columns=PLACE, shift=PLACE,
    zero_point="i8", coded="i8", low="f4", high="f4",
)  # fmt: skip
"""A layer of `outputs` rows.

Attributes
----------
rows, starts, levels, columns : as in `Segments`, of which there are `segments` of `nonzeros`
shift : float32 [outputs], see `plain.reduce.scaling`
zero_point : code of 0.0; 0 for float32 inputs
coded, low, high : whether codes are given, and their bounds less their zero point
"""
DENSE = layout(source=PLACE, target=PLACE, inputs="i8", outputs="i8", weight=PLACE, bias=PLACE)
"""`weight` is float32 [inputs, outputs], so that the inner loop runs over contiguous outputs."""
BLOCK = 1024
"""Outputs that are summed at a time: the sums of all items stay near."""


def emit(
    assembler: Assembler,
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    reads: Quantization | None,
    gives: Quantization | None,
    source: Buffer,
    target: Buffer,
) -> None:
    """Emit a layer from [K] to [M]; see `plain.fully_connected`."""
    if not isinstance(weight, LevelWeights):
        shift = np.zeros(len(weight)) if bias is None else bias
        assembler.emit(
            multiply_floats, reason="float weights", cost=weight.size / 8, source=source,
            target=target, inputs=weight.shape[1], outputs=weight.shape[0],
            weight=assembler.floats(weight.T), bias=assembler.floats(shift),
        )  # fmt: skip
        return
    if reads is not None and fully_connected_codes.worth_looking_up(weight, reads):
        fully_connected_codes.emit(assembler, weight, bias, reads, gives, source, target)
        return
    levels, shift = scaling(weight, bias, reads, gives)
    form = Segments.of(weight, levels)
    assembler.emit(
        add_floats if reads is None else add_codes,
        reason="float inputs" if reads is None else "few nonzeros: one by one",
        cost=len(form.columns), source=source, target=target,
        inputs=weight.shape[1], outputs=weight.shape[0], segments=len(form.levels),
        nonzeros=len(form.columns), rows=assembler.constant(form.rows),
        starts=assembler.constant(form.starts), levels=assembler.floats(form.levels),
        columns=assembler.constant(form.columns), shift=assembler.floats(shift),
        zero_point=reads.zero_point if reads else 0, coded=gives is not None, **code_bounds(gives),
    )  # fmt: skip


@register_jitable
def _add_segments(operation, frame, view, bytes_each, zero):
    """Sum each segment's inputs, from `zero` on, then scale once by its level."""
    inputs, outputs = operation.inputs, operation.outputs
    rows = integers(operation.rows, outputs + 1)
    starts = integers(operation.starts, operation.segments + 1)
    levels = floats(operation.levels, operation.segments)
    columns = integers(operation.columns, operation.nonzeros)
    shift = floats(operation.shift, outputs)
    first, last = share(outputs, frame)
    for m in range(first, last):
        for n in range(frame.images):
            x = view(frame.arena + operation.source + bytes_each * n * inputs, inputs)
            t = shift[m]
            for s in range(rows[m], rows[m + 1]):
                total = zero
                for column in columns[starts[s] : starts[s + 1]]:
                    total += x[column]
                absent = operation.zero_point * (starts[s + 1] - starts[s])
                t += levels[s] * np.float32(total - absent)
            store_result(
                frame.arena + operation.target, n * outputs + m, t,
                operation.coded, operation.low, operation.high,
            )  # fmt: skip


@kernel(LEVELS, FRAME)
def add_codes(operations, frames):
    """Compute a layer of levels over codes, whose sums are exact."""
    _add_segments(carray(operations, 1)[0], carray(frames, 1)[0], codes, 1, np.int64(0))


@kernel(LEVELS, FRAME)
def add_floats(operations, frames):
    """Compute a layer of levels over float32 inputs."""
    _add_segments(carray(operations, 1)[0], carray(frames, 1)[0], floats, 4, np.float32(0))


@kernel(DENSE, FRAME)
def multiply_floats(operations, frames):
    """Multiply and add; weights are read once for all items."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    inputs, outputs = operation.inputs, operation.outputs
    begin, end = share(outputs, frame)
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        bias = floats(operation.bias + 4 * first, count)
        target = frame.arena + operation.target + 4 * first
        for n in range(frame.images):
            floats(target + 4 * n * outputs, count)[:] = 0
        for k in range(inputs):
            row = floats(operation.weight + 4 * (k * outputs + first), count)
            for n in range(frame.images):
                factor = floats(frame.arena + operation.source, (n + 1) * inputs)[n * inputs + k]
                y = floats(target + 4 * n * outputs, count)
                for m in range(count):
                    y[m] += factor * row[m]
        for n in range(frame.images):
            y = floats(target + 4 * n * outputs, count)
            for m in range(count):
                y[m] += bias[m]
