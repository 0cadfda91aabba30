"""Operators from float32 to float32 that have no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from deepchip.formats.attributes import integer, ints, real
from deepchip.formats.graph import Shape
from deepchip.formats.jit import Kernel

from .arena import Buffer
from .emit_moves import strides
from .kernels.compiled import elementwise, functions, moves
from .kernels.compiled.resample import resample
from .lower import float_tensor
from .task import Task

OnReals = Callable[[Task, Sequence[Buffer]], Buffer]


def _per_channel(kernel: Kernel, *names: str) -> OnReals:
    """Return how an operator is emitted whose kernel takes tensors that broadcast to the item."""

    def emit(task: Task, sources: Sequence[Buffer]) -> Buffer:
        shape, target = task.output.shape, task.reals()
        tensors = [float_tensor(task.node, name) for name in names]
        factors = [t.reshape((1,) * (len(shape) - t.ndim) + t.shape) for t in tensors]
        varied = [axis for f in factors for axis, n in enumerate(f.shape) if n > 1]
        first, behind = (min(varied), max(varied) + 1) if varied else (0, 0)
        covered, within = shape[first:behind], max(1, behind)
        constants: dict[str, Any] = {
            name: task.assembler.floats(np.broadcast_to(f.reshape(f.shape[first:behind]), covered))
            for name, f in zip(names, factors, strict=True)
        }
        task.assembler.emit(
            kernel, source=sources[0], target=target, rows=prod(shape[:within]),
            channels=prod(covered), count=prod(shape[within:]), **constants,
        )  # fmt: skip
        return target

    return emit


def _softmax(task: Task, sources: Sequence[Buffer]) -> Buffer:
    axis, shape, target = integer(task.node, "axis"), task.output.shape, task.reals()
    task.assembler.emit(
        functions.softmax, source=sources[0], target=target, rows=prod(shape) // shape[axis],
        count=shape[axis], step=prod(shape[axis + 1 :]), scratch=8 * functions.BLOCK,
    )  # fmt: skip
    return target


def _resample(task: Task, sources: Sequence[Buffer]) -> Buffer:
    axis, shape, target = integer(task.node, "axis"), task.inputs[0].shape, task.reals()
    resample(
        task.assembler, sources[0], target, shape[axis], ints(task.node, "indices"),
        float_tensor(task.node, "weights"), prod(shape[axis + 1 :]),
    )  # fmt: skip
    return target


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
    steps = tuple(0 if n == 1 else step for n, step in zip(shape, strides(shape), strict=True))
    moves.strided_copy(task.assembler, source, target, wanted, steps, 4)
    return target


ELEMENTWISE: Mapping[str, OnReals] = {
    "Affine": _per_channel(elementwise.affine, "scale", "shift"),
    "Relu": _each(elementwise.relu),
    "Clip": _each(elementwise.clip, "minimum", "maximum"),
    "LeakyRelu": _each(elementwise.leaky_relu, "alpha"),
    "PRelu": _per_channel(elementwise.prelu, "slope"),
    "Elu": _each(functions.elu, "alpha"),
    "Sigmoid": _each(functions.sigmoid),
    "Tanh": _each(functions.tanh),
    "Softplus": _each(functions.softplus),
    "Erf": _each(functions.erf),
    "Exp": _each(functions.exp),
    "Log": _each(functions.log),
    "Sqrt": _each(elementwise.square_root),
    "Reciprocal": _each(elementwise.reciprocal),
    "Abs": _each(elementwise.absolute),
    "Sign": _each(elementwise.sign),
    "Bipolar": _each(elementwise.bipolar),
    "Round": _each(elementwise.nearest),
    "Floor": _each(elementwise.floor),
    "Ceil": _each(elementwise.ceil),
    "Softmax": _softmax,
    "Add": _pairs(elementwise.add),
    "Sub": _pairs(elementwise.subtract),
    "Mul": _pairs(elementwise.multiply),
    "Div": _pairs(elementwise.divide),
    "Max": _pairs(elementwise.maximum),
    "Min": _pairs(elementwise.minimum),
    "Resample": _resample,
}
"""How they are emitted."""
