"""Operators whose result is some of their inputs' elements, codes or float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from deepchip.formats.attributes import integer, ints, real
from deepchip.formats.graph import Shape

from .arena import Buffer
from .kernels.compiled import borders, max_codes, max_floats, moves
from .kernels.compiled.take import take
from .kernels.plain import quantize
from .kernels.window import Window
from .task import Task


def _same(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    """Name what lies there already: it stays as long as either is read."""
    return sources[0]


def _max_pool(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    window = Window.of(task.node, ints(task.node, "kernel"), task.output.shape)
    target = task.assembler.buffer(each * task.output.size)
    form = max_floats if each == 4 else max_codes
    form.emit(task.assembler, sources[0], target, task.inputs[0].shape, window)
    return target


def _transpose(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    order, steps = ints(task.node, "order"), strides(task.inputs[0].shape)
    target = task.assembler.buffer(each * task.output.size)
    moved = tuple(steps[axis] for axis in order)
    moves.strided_copy(task.assembler, sources[0], target, task.output.shape, moved, each)
    return target


def _concat(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    axis, shape = integer(task.node, "axis"), task.output.shape
    pitch, start = prod(shape[axis:]) * each, 0
    target = task.assembler.buffer(each * task.output.size)
    for source, value in zip(sources, task.inputs, strict=True):
        count = prod(value.shape[axis:]) * each
        task.assembler.emit(
            moves.join, source=source, target=target, rows=prod(shape[:axis]), count=count,
            pitch=pitch, start=start,
        )  # fmt: skip
        start += count
    return target


def _take(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    axis, shape = integer(task.node, "axis"), task.inputs[0].shape
    target = task.assembler.buffer(each * task.output.size)
    take(
        task.assembler, sources[0], target, shape[axis], ints(task.node, "indices"),
        prod(shape[axis + 1 :]), each,
    )  # fmt: skip
    return target


def _pad(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    value, form = real(task.node, "value"), task.output.quantization
    if each == 1 and form is not None:
        value = float(quantize(np.array(value, np.float32), form))
    target = task.assembler.buffer(each * task.output.size)
    borders.pad(
        task.assembler, sources[0], target, task.inputs[0].shape, ints(task.node, "pads"), value,
        each,
    )  # fmt: skip
    return target


def strides(shape: Shape) -> Shape:
    """Return how far apart neighbours along each axis lie, in elements."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


MOVES: Mapping[str, Callable[[Task, Sequence[Buffer], int], Buffer]] = {
    "MaxPool": _max_pool,
    "Concat": _concat,
    "Reshape": _same,
    "Transpose": _transpose,
    "Take": _take,
    "Pad": _pad,
    "Quantize": _same,
    "Dequantize": _same,
}
"""How they are emitted for elements of some bytes each."""
