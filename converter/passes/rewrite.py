"""What passes share: replacing nodes and values of a graph that cannot be changed in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from deepchip.converter.builder import prune
from deepchip.formats.graph import Graph, Node, Quantization


def with_nodes(graph: Graph, replaced: Mapping[str, Iterable[Node]]) -> Graph:
    """Return the graph with each node named in `replaced` gone and the given ones in its place."""
    nodes = tuple(new for node in graph.nodes for new in replaced.get(node.name, (node,)))
    return prune(replace(graph, nodes=nodes))


def with_quantization(graph: Graph, forms: Mapping[str, Quantization | None]) -> Graph:
    """Return the graph with the values named in `forms` held in these forms."""
    values = {
        name: replace(value, quantization=forms[name]) if name in forms else value
        for name, value in graph.values.items()
    }
    return replace(graph, values=values)


def merge(graph: Graph, first: Node, second: Node) -> Graph:
    """Return the graph where `first` gives what `second` gave, and `second` is gone.

    `second` must be the only reader of what `first` gave before.
    """
    return with_nodes(graph, {first.name: [replace(first, output=second.output)], second.name: ()})
