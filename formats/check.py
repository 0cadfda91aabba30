"""Proof that a graph is whole: one definition of each name, every shape as the operators give it.

The model file's writer and reader both pass through here, and the plan relies on it.
"""

from __future__ import annotations

from .errors import InvalidModelError, located
from .graph import Graph, Node, Value
from .operators import MAX_ELEMENTS, check_node, is_finite

MAX_NAME = 256
"""Characters of a name."""
MAX_INPUTS = 2**15
"""Inputs of all nodes together."""


def check_graph(graph: Graph) -> None:
    """Raise InvalidModelError, naming the layer, unless `graph` can be planned and run."""
    _check_name("graph", graph.name)
    for name, value in graph.values.items():
        _check_name("value", name)
        with located(f"value {name!r}"):
            _check_value(name, value)
    defined = set(graph.inputs)
    for ends in (graph.inputs, graph.outputs):
        if not ends or len(set(ends)) != len(ends):
            raise InvalidModelError(
                f"inputs {graph.inputs} and outputs {graph.outputs}: "
                "expected one or more of each, none of them twice"
            )
    _check_ends(graph)
    inputs = sum(len(node.inputs) for node in graph.nodes)
    if inputs > MAX_INPUTS:
        raise InvalidModelError(f"the layers have {inputs} inputs, at most {MAX_INPUTS}")
    names = set()
    for node in graph.nodes:
        _check_name("layer", node.name)
        with located(f"layer {node.name!r}"):
            if node.name in names:
                raise InvalidModelError("a second layer of this name")
            names.add(node.name)
            _check_links(graph, node, defined)
            _check_shapes(graph, node)
            defined.add(node.output)
    unknown = sorted((set(graph.values) ^ defined) | (set(graph.outputs) - defined))
    if unknown:
        raise InvalidModelError(f"values {unknown} are described or wanted, but never computed")


def _check_name(kind: str, name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidModelError(
            f"a {kind} is named {str(name)[:40]!r}, expected 1 to {MAX_NAME} printable characters"
        )


def _check_value(name: str, value: Value) -> None:
    if value.name != name:
        raise InvalidModelError(f"is described under the name {value.name!r}")
    if len(value.shape) > 8 or any(n < 1 for n in value.shape) or value.size > MAX_ELEMENTS:
        raise InvalidModelError(
            f"has shape {value.shape}, expected at most 8 dimensions of 1 or more "
            "and fewer than 2**31 elements"
        )


def _check_ends(graph: Graph) -> None:
    for name in (*graph.inputs, *graph.outputs):
        value = graph.values.get(name)
        if value is None:
            raise InvalidModelError(f"input or output {name!r} is not described")
        if value.quantization is not None:
            raise InvalidModelError(f"input or output {name!r} is quantized, expected float32")


def _check_links(graph: Graph, node: Node, defined: set[str]) -> None:
    for name in node.inputs:
        if name not in defined:
            raise InvalidModelError(f"reads {name!r}, which no layer before it gives")
    if node.output in defined or node.output not in graph.values:
        raise InvalidModelError(f"gives {node.output!r}, which is given before or not described")


def _check_shapes(graph: Graph, node: Node) -> None:
    shape = check_node(node, [graph.values[name].shape for name in node.inputs])
    output = graph.values[node.output]
    if shape != output.shape:
        raise InvalidModelError(f"gives shape {shape}, the graph says {output.shape}")
    if node.op in ("Quantize", "Dequantize") and (
        (output.quantization is None) == (node.op == "Quantize")
    ):
        raise InvalidModelError(f"{node.op} gives {output.dtype} values")
    for name, tensor in node.tensors.items():
        if not is_finite(tensor):
            raise InvalidModelError(f"{name} holds NaN or infinity")
