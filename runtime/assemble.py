"""Turns a graph into a program: what every operator does, as compiled operations on buffers.

The counterpart of `lower`: the rule for codes is the same, and so are the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepchip.formats.errors import located
from deepchip.formats.graph import Graph, LevelWeights, Node, Value

from .arena import BEFORE, Buffer
from .emit_elementwise import ELEMENTWISE, OnReals
from .emit_layers import (
    LAYERS,
    average_pool,
    conv_of_reals,
    fully_connected_of_reals,
    local_response,
)
from .emit_moves import MOVES
from .kernels.compiled import conv_codes
from .kernels.compiled.quantization import to_codes
from .program import Assembler, Program
from .task import Task, bytes_of, dequantized

TABLES = 2**25
"""Bytes of constants that a network may have whatever its weights are: masks, and what is told of
each output channel and of each element of a window."""
BYTES_AN_ENTRY = 32
"""Bytes of constants for each nonzero, float weight and index, at most: a file pays for these."""


def assemble(graph: Graph, keep: Sequence[str] = ()) -> Program:
    """Return the program of a graph that gives its outputs and the values to `keep`.

    Raises
    ------
    UnsupportedError
        A layer is of a size that kernels do not serve, or takes far more memory than its weights.
    """
    assembler = Assembler(room=TABLES + BYTES_AN_ENTRY * sum(map(_entries, graph.nodes)))
    values: dict[str, Buffer] = {}
    for name in graph.inputs:
        values[name] = assembler.buffer(bytes_of(graph.values[name]))
        values[name].used(BEFORE)
    for node in graph.nodes:
        if node.output in values:
            continue
        assembler.name = node.name
        inputs = tuple(graph.values[name] for name in node.inputs)
        sources = tuple(values[name] for name in node.inputs)
        relu = _relu_behind(graph, node, keep)
        output = graph.values[node.output]
        task = Task(node, inputs, output, sources, assembler, relu is not None)
        with located(f"layer {node.name!r}"):
            values[node.output] = _emit(task)
        if relu is not None:
            values[relu.output] = values[node.output]
    given = (*graph.outputs, *keep)
    for name in given:
        values[name].used(len(assembler.operations))
    return Program(graph, assembler, {name: values[name] for name in (*graph.inputs, *given)})


def _relu_behind(graph: Graph, node: Node, keep: Sequence[str]) -> Node | None:
    """Return the Relu that alone reads what a convolution over codes gives as float32, if any."""
    reader = graph.only_consumer(node.output)
    if reader is None or (node.op, reader.op) != ("Conv", "Relu") or node.output in keep:
        return None
    weight, reads = node.tensors["weight"], graph.values[node.inputs[0]].quantization
    if reads is None or not isinstance(weight, LevelWeights) or not conv_codes.fits(weight):
        return None
    forms = [graph.values[name].quantization for name in (node.output, reader.output)]
    return reader if forms == [None, None] else None


def _entries(node: Node) -> int:
    """Return how many numbers a file holds for a node."""
    indices = node.attributes.get("indices", ())
    return (len(indices) if isinstance(indices, tuple) else 1) + sum(
        tensor.nonzeros if isinstance(tensor, LevelWeights) else tensor.size
        for tensor in node.tensors.values()
    )


def _emit(task: Task) -> Buffer:
    """Emit what the node does, and return where its output lies: maybe where its input does."""
    node, output = task.node, task.output.quantization
    if node.op in MOVES and all(value.quantization == output for value in task.inputs):
        return MOVES[node.op](task, task.sources, task.output.dtype.itemsize)
    weight = node.tensors.get("weight")
    if node.op in LAYERS and isinstance(weight, LevelWeights) and task.inputs[0].quantization:
        return LAYERS[node.op](task, task.inputs[0].quantization, output)
    if node.op == "AveragePool":
        return _in_form(task, average_pool(task))
    reals = [_as_reals(task, *pair) for pair in zip(task.inputs, task.sources, strict=True)]
    if node.op in MOVES:
        return _in_form(task, MOVES[node.op](task, reals, 4))
    if node.op == "Lrn":
        return local_response(task, reals)
    return _in_form(task, _ON_REALS[node.op](task, reals))


def _as_reals(task: Task, value: Value, source: Buffer) -> Buffer:
    """Return where the real numbers lie that an input stands for."""
    form = value.quantization
    if form is None:
        return source
    return dequantized(task, value, source, form.scale, form.zero_point)


def _in_form(task: Task, reals: Buffer) -> Buffer:
    """Return where the output lies, in the form that it states."""
    form = task.output.quantization
    if form is None:
        return reals
    target = task.target()
    to_codes(task.assembler, reals, target, form, form.scale)
    return target


_ON_REALS: Mapping[str, OnReals] = {
    "Conv": conv_of_reals,
    "FullyConnected": fully_connected_of_reals,
    **ELEMENTWISE,
}
"""What is emitted for operators of float32."""
