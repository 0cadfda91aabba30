"""From an ONNX model to a graph: what is needed, what is constant, then node by node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx

from deepchip.converter.builder import Builder
from deepchip.formats.errors import InvalidModelError, UnsupportedError, located
from deepchip.formats.graph import Graph
from deepchip.formats.operators import MAX_ELEMENTS

from . import qonnx
from .constants import FOLDED, SHAPES, Constants
from .operators import OPERATORS
from .qlinear import expand_qlinear
from .step import Reading, Step, node_name, type_name

OLDEST_OPSET = 7

OPERATORS_OF = {"": OPERATORS, **dict.fromkeys(qonnx.DOMAINS, qonnx.OPERATORS)}
"""The operators that are read, of each domain."""

CONSTANT_OF = {"": FOLDED | {"DequantizeLinear"}, **dict.fromkeys(qonnx.DOMAINS, qonnx.CONSTANT)}
"""The operators that make constants of constants, of each domain."""


def parse(data: bytes) -> onnx.ModelProto:
    """Parse an ONNX file, or raise InvalidModelError if it is none."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # of protobuf, whichever implementation of it is installed
        raise InvalidModelError(f"not an ONNX file: {_first_line(error)}") from None
    if not model.graph.node or not model.opset_import:
        raise InvalidModelError("not an ONNX file: it holds no nodes or names no opset")
    return model


def import_model(model: onnx.ModelProto, path: Path) -> Graph:
    """Return the graph that the ONNX `model`, read from `path`, describes."""
    opset = _opset(model)
    _check_once(model.graph)
    expand_qlinear(model.graph)
    wanted, nodes = _needed(model.graph)
    constants = Constants(model.graph, opset, path.parent)
    constant = _constant_nodes(nodes, constants)
    _check_operators([node for node in nodes if node.output[0] not in constant])
    builder = Builder(path.stem)
    taken = _given(model.graph)
    batch = _batch(model.graph, constants)
    reading = Reading(builder, constants, opset, batch, wanted, taken)
    for value in model.graph.input:
        if value.name not in constants:
            reading.values[value.name] = builder.input(value.name, _item_shape(value))
    for node in nodes:
        if node.output[0] in constant and node.op_type in FOLDED:
            constants.fold(node, reading.shape_of)
        else:
            step = Step(node, reading)
            OPERATORS_OF[node.domain][node.op_type](step)
            step.check_finished()
    return builder.finish([_output(reading, nodes, value.name) for value in model.graph.output])


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise UnsupportedError(
            "uses no operators of ONNX's own; expected those of opset 7 or newer"
        )
    if len(set(versions)) > 1:
        raise InvalidModelError(f"is of opset {' and '.join(map(str, versions[:9]))}, expected one")
    if not OLDEST_OPSET <= versions[0] <= newest:
        raise UnsupportedError(
            f"is of opset {versions[0]}; this reads {OLDEST_OPSET} to {newest}. Convert it with "
            "onnx.version_converter, or upgrade the onnx package"
        )
    return int(versions[0])


def _check_once(graph: onnx.GraphProto) -> None:
    """Refuse what is stated twice: two readers would take one each."""
    _refuse_second("initializer", graph.initializer)
    for node in graph.node:
        if len(node.attribute) > 1:
            with located(f"layer {node.name or node.op_type!r}"):
                _refuse_second("attribute", node.attribute)


def _refuse_second(kind: str, entries: Iterable[Any]) -> None:
    known: set[str] = set()
    for entry in entries:
        if entry.name in known:
            raise InvalidModelError(f"a second {kind} {entry.name!r}")
        known.add(entry.name)


def _given(graph: onnx.GraphProto) -> set[str]:
    """The names of all values, or InvalidModelError if one is given twice."""
    given = {entry.name for entry in (*graph.input, *graph.initializer)}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in given:
                raise InvalidModelError(
                    f"layer {node_name(node)!r}: gives {name!r}, which is given before"
                )
            given.add(name)
    return given


def _needed(graph: onnx.GraphProto) -> tuple[set[str], list[onnx.NodeProto]]:
    """The values and the nodes that an output of the graph depends on, in the file's order."""
    wanted = {value.name for value in graph.output}
    needed = []
    for node in reversed(graph.node):
        if not node.output:
            raise InvalidModelError(f"a node ({node.op_type!r}) has no output")
        if wanted.intersection(node.output):
            wanted.update(name for name in node.input if name)
            if node.domain == "ai.onnx":
                node.domain = ""  # another name of the same
            needed.append(node)
    return wanted, needed[::-1]


def _constant_nodes(nodes: Sequence[onnx.NodeProto], constants: Constants) -> set[str]:
    """The outputs of the nodes that can be computed now, knowing constants and shapes only."""
    known: set[str] = set()
    for node in nodes:
        inputs = [name for name in node.input if name and node.op_type not in SHAPES]
        if node.op_type in CONSTANT_OF.get(node.domain, ()) and all(
            name in known or name in constants for name in inputs
        ):
            known.update(node.output)
    return known


def _check_operators(nodes: Sequence[onnx.NodeProto]) -> None:
    unsupported: dict[str, list[str]] = {}
    for node in nodes:
        if node.op_type not in OPERATORS_OF.get(node.domain, ()):
            op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            unsupported.setdefault(ascii(op)[1:-1], []).append(node_name(node))
    if unsupported:
        found = ", ".join(f"{op} ({_names(names)})" for op, names in unsupported.items())
        plural = "s" if len(unsupported) > 1 else ""
        raise UnsupportedError(
            f"{len(unsupported)} unsupported operator{plural}: {found}. "
            f"Supported: {', '.join(sorted({**OPERATORS, **qonnx.OPERATORS}))}"
        )


def _names(names: Sequence[str]) -> str:
    quoted = ", ".join(repr(name) for name in names)
    return f"node {quoted}" if len(names) == 1 else f"{len(names)} nodes: {quoted}"


def _batch(graph: onnx.GraphProto, constants: Constants) -> int | None:
    """The batch size that the inputs fix, or None if one of them leaves it open."""
    sizes = set()
    for value in graph.input:
        if value.name not in constants:
            first = value.type.tensor_type.shape.dim[:1]
            sizes.add(first[0].dim_value if first else 0)
    if len(sizes - {0}) > 1:
        raise UnsupportedError(
            f"its inputs have batches of {' and '.join(map(str, sorted(sizes)))} items; "
            "expected axis 0 of every input to be the same batch"
        )
    return max(sizes, default=0) or None


def _item_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape of one item of an input: float32, static except for the batch."""
    tensor, place = value.type.tensor_type, f"input {value.name!r}"
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = type_name(tensor.elem_type)
        raise UnsupportedError(f"{place} is {kind}, expected float (32 bits)")
    if not tensor.HasField("shape") or not tensor.shape.dim:
        raise UnsupportedError(f"{place} has no stated shape, expected one with the batch first")
    for axis, dimension in enumerate(tensor.shape.dim[1:], 1):
        if dimension.dim_value < 1:
            size = dimension.dim_param or dimension.dim_value or "unknown"
            raise UnsupportedError(
                f"{place}: dimension {axis} is {size!r}, expected a fixed size. "
                "Export it with static shapes; only the batch may vary"
            )
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim[1:])
    if prod(shape) > MAX_ELEMENTS:
        raise InvalidModelError(f"{place} has items of shape {shape}, which no array holds")
    return shape


def _output(reading: Reading, nodes: Sequence[onnx.NodeProto], name: str) -> str:
    """Return an output of the graph, as float32 and under its own name."""
    if name in reading.codes:
        raise UnsupportedError(f"output {name!r} holds quantized integers, expected float")
    if name in reading.constants:
        raise UnsupportedError(f"output {name!r} is a constant, expected a computed value")
    if name not in reading.values:
        raise InvalidModelError(f"output {name!r} is not given by any node")
    value = reading.builder.values[reading.values[name]]
    if value.name == name:
        return name
    node = next(node_name(node) for node in nodes if name in node.output)
    if value.quantization is not None:
        return reading.builder.add("Dequantize", [value.name], node, output=name)
    # Another name for a value: one that changes nothing gives it its own.
    shape = {"shape": value.shape}
    return reading.builder.add("Reshape", [value.name], node, shape, output=name)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
