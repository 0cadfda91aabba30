"""Layers with weights, and averages: what computes on codes where its inputs are codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deepchip.formats.attributes import integer, ints, real
from deepchip.formats.graph import LevelWeights, Quantization

from .arena import Buffer
from .kernels.compiled import (
    conv,
    conv_codes,
    conv_floats,
    elementwise,
    fully_connected,
    normalization,
    pooling,
)
from .kernels.compiled.quantization import to_codes
from .kernels.plain.reduce import residual_scaling
from .kernels.window import Window
from .lower import bias_of
from .task import Task, dequantized


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
            residual, task.relu,
        )  # fmt: skip
        return target
    y = task.reals()
    conv.emit(task.assembler, weight, bias, window, groups, shape, reads, gives, source, y)
    if len(task.sources) > 1:
        y = _sum(task, y, _residual(task, gives))
    if gives is None:
        return y
    target = task.target()
    to_codes(task.assembler, y, target, gives, 1.0)
    return target


def _residual(task: Task, gives: Quantization | None) -> Buffer:
    """Return where the second input lies as float32, over the scale of `gives`."""
    value, source = task.inputs[1], task.sources[1]
    scale, zero_point = residual_scaling(value.quantization, gives)
    if value.quantization is not None:
        return dequantized(task, value, source, float(scale), int(zero_point))
    if gives is None:
        return source
    target = task.reals()
    task.assembler.emit(
        elementwise.affine, source=source, target=target, rows=1, channels=1, count=value.size,
        scale=task.assembler.floats(np.full(1, scale)),
        shift=task.assembler.floats(np.zeros(1)),
    )  # fmt: skip
    return target


def conv_of_reals(task: Task, sources: Sequence[Buffer]) -> Buffer:
    """Emit a convolution of float32."""
    weight, bias = task.node.tensors["weight"], bias_of(task.node)
    window = Window.of(task.node, weight.shape[2:], task.output.shape)
    groups, target = integer(task.node, "groups"), task.reals()
    shape = task.inputs[0].shape
    conv_floats.emit(task.assembler, weight, bias, window, groups, shape, sources[0], target)
    return target if len(sources) == 1 else _sum(task, target, sources[1])


def _sum(task: Task, a: Buffer, b: Buffer) -> Buffer:
    target = task.reals()
    task.assembler.emit(elementwise.add, first=a, second=b, target=target, count=task.output.size)
    return target


def _fully_connected(task: Task, reads: Quantization, gives: Quantization | None) -> Buffer:
    weight, bias, target = task.node.tensors["weight"], bias_of(task.node), task.target()
    fully_connected.emit(task.assembler, weight, bias, reads, gives, task.sources[0], target)
    return target


def fully_connected_of_reals(task: Task, sources: Sequence[Buffer]) -> Buffer:
    """Emit a fully connected layer of float32."""
    weight, bias, target = task.node.tensors["weight"], bias_of(task.node), task.reals()
    fully_connected.emit(task.assembler, weight, bias, None, None, sources[0], target)
    return target


def average_pool(task: Task) -> Buffer:
    """Emit averages of float32 or of codes, as float32."""
    window = Window.of(task.node, ints(task.node, "kernel"), task.output.shape)
    include, target = bool(integer(task.node, "count_include_pad")), task.reals()
    value = task.inputs[0]
    pooling.average_pool(
        task.assembler, task.sources[0], target, value.shape, window, value.quantization, include
    )
    return target


def local_response(task: Task, sources: Sequence[Buffer]) -> Buffer:
    """Emit a normalization of float32, as float32 or as codes."""
    gives, size = task.output.quantization, integer(task.node, "size")
    alpha, beta, bias = (real(task.node, name) for name in ("alpha", "beta", "bias"))
    target = task.target()
    normalization.local_response(
        task.assembler, sources[0], target, task.output.shape, size, alpha, beta, bias, gives
    )
    return target


LAYERS: Mapping[str, Callable[[Task, Quantization, Quantization | None], Buffer]] = {
    "Conv": _conv,
    "FullyConnected": _fully_connected,
}
"""Layers of levels over codes, which give codes too."""
