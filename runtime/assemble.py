"""Turns a graph into a program: what every operator does, as compiled operations on buffers.

The counterpart of `lower`: the rule for codes is the same, and so are the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from deepchip.formats.errors import located
from deepchip.formats.graph import Graph, LevelWeights, Node, Quantization, Shape, Value
from deepchip.formats.jit import Kernel
from deepchip.formats.operators import integer, ints, real

from .arena import BEFORE, Buffer
from .kernels.compiled import conv, conv_codes, elementwise, fully_connected, moves, pooling
from .kernels.plain.reduce import residual_scaling
from .kernels.window import Window
from .lower import bias_of, float_tensor
from .program import Assembler, Program


@dataclass(frozen=True)
class Task:
    """What emitting a node needs to know: the node, its values, where inputs lie, and where to."""

    node: Node
    inputs: tuple[Value, ...]
    output: Value
    sources: tuple[Buffer, ...]
    assembler: Assembler

    def reals(self) -> Buffer:
        """Return a buffer for the output as float32."""
        return self.assembler.buffer(4 * self.output.size)

    def target(self) -> Buffer:
        """Return a buffer for the output in its own form."""
        return self.assembler.buffer(_bytes(self.output))


def assemble(graph: Graph, keep: Sequence[str] = ()) -> Program:
    """Return the program of a graph that gives its outputs and the values to `keep`."""
    assembler = Assembler()
    values: dict[str, Buffer] = {}
    for name in graph.inputs:
        values[name] = assembler.buffer(_bytes(graph.values[name]))
        values[name].used(BEFORE)
    for node in graph.nodes:
        assembler.name = node.name
        inputs = tuple(graph.values[name] for name in node.inputs)
        sources = tuple(values[name] for name in node.inputs)
        task = Task(node, inputs, graph.values[node.output], sources, assembler)
        with located(f"layer {node.name!r}"):
            values[node.output] = _emit(task)
    given = (*graph.outputs, *keep)
    for name in given:
        values[name].used(len(assembler.operations))
    return Program(graph, assembler, {name: values[name] for name in (*graph.inputs, *given)})


def _bytes(value: Value) -> int:
    return value.size * value.dtype.itemsize


def _emit(task: Task) -> Buffer:
    """Emit what the node does, and return where its output lies: maybe where its input does."""
    node, output = task.node, task.output.quantization
    if node.op in _MOVES and all(value.quantization == output for value in task.inputs):
        return _MOVES[node.op](task, task.sources, task.output.dtype.itemsize)
    weight = node.tensors.get("weight")
    if node.op in _LAYERS and isinstance(weight, LevelWeights) and task.inputs[0].quantization:
        return _LAYERS[node.op](task, task.inputs[0].quantization, output)
    if node.op == "AveragePool":
        return _in_form(task, _average_pool(task))
    reals = [_as_reals(task, *pair) for pair in zip(task.inputs, task.sources, strict=True)]
    if node.op in _MOVES:
        return _in_form(task, _MOVES[node.op](task, reals, 4))
    return _in_form(task, _ON_REALS[node.op](task, reals))


def _as_reals(task: Task, value: Value, source: Buffer) -> Buffer:
    """Return where the real numbers lie that an input stands for."""
    form = value.quantization
    if form is None:
        return source
    return _dequantized(task, value, source, form.scale, form.zero_point)


def _dequantized(task: Task, value: Value, source: Buffer, scale: float, zero_point: int) -> Buffer:
    target = task.assembler.buffer(4 * value.size)
    task.assembler.emit(
        elementwise.dequantize, source=source, target=target, count=value.size, scale=scale,
        zero_point=zero_point,
    )  # fmt: skip
    return target


def _in_form(task: Task, reals: Buffer) -> Buffer:
    """Return where the output lies, in the form that it states."""
    form = task.output.quantization
    if form is None:
        return reals
    target = task.target()
    elementwise.to_codes(task.assembler, reals, target, form, form.scale)
    return target


def _conv(task: Task, reads: Quantization, gives: Quantization | None) -> Buffer:
    """Emit a convolution of weights of levels over codes."""
    weight = task.node.tensors["weight"]
    assert isinstance(weight, LevelWeights)
    bias, groups = bias_of(task.node), integer(task.node, "groups")
    window = Window.of(task.node, weight.shape[2:], task.output.shape)
    shape, source = task.inputs[0].shape, task.sources[0]
    if conv_codes.fits(weight):
        residual = (task.sources[1], task.inputs[1].quantization) if len(task.sources) > 1 else None
        target = task.target()
        conv_codes.emit(
            task.assembler, weight, bias, window, groups, shape, reads, gives, source, target,
            residual,
        )  # fmt: skip
        return target
    y = task.reals()
    conv.emit(task.assembler, weight, bias, window, groups, shape, reads, gives, source, y)
    if len(task.sources) > 1:
        y = _sum(task, y, _residual(task, gives))
    if gives is None:
        return y
    target = task.target()
    elementwise.to_codes(task.assembler, y, target, gives, 1.0)
    return target


def _residual(task: Task, gives: Quantization | None) -> Buffer:
    """Return where the second input lies as float32, over the scale of `gives`."""
    value, source = task.inputs[1], task.sources[1]
    scale, zero_point = residual_scaling(value.quantization, gives)
    if value.quantization is not None:
        return _dequantized(task, value, source, float(scale), int(zero_point))
    if gives is None:
        return source
    target = task.reals()
    task.assembler.emit(
        elementwise.affine, source=source, target=target, channels=1, count=value.size,
        scale=task.assembler.floats(np.full(1, scale)),
        shift=task.assembler.floats(np.zeros(1)),
    )  # fmt: skip
    return target


def _conv_of_reals(task: Task, sources: Sequence[Buffer]) -> Buffer:
    weight, bias = task.node.tensors["weight"], bias_of(task.node)
    window = Window.of(task.node, weight.shape[2:], task.output.shape)
    groups, target = integer(task.node, "groups"), task.reals()
    conv.emit(
        task.assembler, weight, bias, window, groups, task.inputs[0].shape, None, None, sources[0],
        target,
    )  # fmt: skip
    return target if len(sources) == 1 else _sum(task, target, sources[1])


def _sum(task: Task, a: Buffer, b: Buffer) -> Buffer:
    target = task.reals()
    task.assembler.emit(elementwise.add, first=a, second=b, target=target, count=task.output.size)
    return target


def _fully_connected(task: Task, reads: Quantization, gives: Quantization | None) -> Buffer:
    weight, bias, target = task.node.tensors["weight"], bias_of(task.node), task.target()
    fully_connected.emit(task.assembler, weight, bias, reads, gives, task.sources[0], target)
    return target


def _fully_connected_of_reals(task: Task, sources: Sequence[Buffer]) -> Buffer:
    weight, bias, target = task.node.tensors["weight"], bias_of(task.node), task.reals()
    fully_connected.emit(task.assembler, weight, bias, None, None, sources[0], target)
    return target


def _average_pool(task: Task) -> Buffer:
    window = Window.of(task.node, ints(task.node, "kernel"), task.output.shape)
    include, target = bool(integer(task.node, "count_include_pad")), task.reals()
    value = task.inputs[0]
    pooling.average_pool(
        task.assembler, task.sources[0], target, value.shape, window, value.quantization, include
    )
    return target


def _same(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    """Name what lies there already: it stays as long as either is read."""
    return sources[0]


def _max_pool(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    window = Window.of(task.node, ints(task.node, "kernel"), task.output.shape)
    target = task.assembler.buffer(each * task.output.size)
    pooling.max_pool(task.assembler, sources[0], target, task.inputs[0].shape, window, each)
    return target


def _transpose(task: Task, sources: Sequence[Buffer], each: int) -> Buffer:
    order, steps = ints(task.node, "order"), _strides(task.inputs[0].shape)
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


def _strides(shape: Shape) -> Shape:
    """Return how far apart neighbours along each axis lie, in elements."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _affine(task: Task, sources: Sequence[Buffer]) -> Buffer:
    shape, target = task.output.shape, task.reals()
    tensors = [float_tensor(task.node, name) for name in ("scale", "shift")]
    factors = [t.reshape((1,) * (len(shape) - t.ndim) + t.shape) for t in tensors]
    # Nearly always there is one factor for a channel; anything else gets one for each element.
    per_channel = all(n == 1 for factor in factors for n in factor.shape[1:])
    covered = (*shape[:1], *(1 for _ in shape[1:])) if per_channel else shape
    scale, shift = (np.broadcast_to(factor, covered) for factor in factors)
    task.assembler.emit(
        elementwise.affine, source=sources[0], target=target, channels=prod(covered),
        count=prod(shape) // prod(covered), scale=task.assembler.floats(scale),
        shift=task.assembler.floats(shift),
    )  # fmt: skip
    return target


def _softmax(task: Task, sources: Sequence[Buffer]) -> Buffer:
    axis, shape, target = integer(task.node, "axis"), task.output.shape, task.reals()
    task.assembler.emit(
        elementwise.softmax, source=sources[0], target=target, rows=prod(shape) // shape[axis],
        count=shape[axis], step=prod(shape[axis + 1 :]),
    )  # fmt: skip
    return target


OnReals = Callable[[Task, Sequence[Buffer]], Buffer]


def _each(kernel: Kernel, *attributes: str) -> OnReals:
    """Return how an operator is emitted whose kernel takes some of its attributes."""

    def emit(task: Task, sources: Sequence[Buffer]) -> Buffer:
        target = task.reals()
        numbers: dict[str, Any] = {name: real(task.node, name) for name in attributes}
        task.assembler.emit(
            kernel, source=sources[0], target=target, count=task.output.size, **numbers
        )
        return target

    return emit


def _pairs(kernel: Kernel) -> OnReals:
    """Return how an operator of two inputs is emitted, which broadcast."""

    def emit(task: Task, sources: Sequence[Buffer]) -> Buffer:
        shapes = [value.shape for value in task.inputs]
        first, second = (_spread(task, *pair) for pair in zip(sources, shapes, strict=True))
        target = task.reals()
        task.assembler.emit(
            kernel, first=first, second=second, target=target, count=task.output.size
        )
        return target

    return emit


def _spread(task: Task, source: Buffer, shape: Shape) -> Buffer:
    """Return where an input lies, repeated along the axes where it has one element only."""
    wanted = task.output.shape
    if shape == wanted:
        return source
    target = task.reals()
    steps = tuple(0 if n == 1 else step for n, step in zip(shape, _strides(shape), strict=True))
    moves.strided_copy(task.assembler, source, target, wanted, steps, 4)
    return target


_MOVES: Mapping[str, Callable[[Task, Sequence[Buffer], int], Buffer]] = {
    "MaxPool": _max_pool,
    "Concat": _concat,
    "Reshape": _same,
    "Transpose": _transpose,
    "Quantize": _same,
    "Dequantize": _same,
}
"""Operators whose result is some of their inputs' elements, of some bytes each."""

_LAYERS: Mapping[str, Callable[[Task, Quantization, Quantization | None], Buffer]] = {
    "Conv": _conv,
    "FullyConnected": _fully_connected,
}
"""Layers of levels over codes, which give codes too."""

_ON_REALS: Mapping[str, OnReals] = {
    "Conv": _conv_of_reals,
    "FullyConnected": _fully_connected_of_reals,
    "Affine": _affine,
    "Relu": _each(elementwise.relu),
    "Clip": _each(elementwise.clip, "minimum", "maximum"),
    "LeakyRelu": _each(elementwise.leaky_relu, "alpha"),
    "Elu": _each(elementwise.elu, "alpha"),
    "Sigmoid": _each(elementwise.sigmoid),
    "Tanh": _each(elementwise.tanh),
    "Softmax": _softmax,
    "Add": _pairs(elementwise.add),
    "Mul": _pairs(elementwise.multiply),
}
"""The others: from float32 to float32."""
