"""Chooses the scale and zero point of activations from what they are on sample inputs.

What a convolution or fully connected layer of levels reads becomes codes, and what such a
convolution gives to be added to another's result; the rest stays float32, and so does what a layer
of float weights reads. Ranges that the export states win over samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Graph, LevelWeights, Node, Quantization, Value
from deepchip.runtime.inputs import check_inputs
from deepchip.runtime.lower import MOVES
from deepchip.runtime.plan import make_plan

from .passes.fuse_quantize import propagate_codes
from .passes.narrow_codes import BOUNDED, bounds
from .passes.rewrite import with_quantization
from .progress import Progress
from .ranges import Choose, Reservoir, from_range, least_squares

INPUT_BITS = 8
"""Inputs of the network keep 8 bits, whatever the activations: pixels have as many (DoReFa-Net,
Zhou et al. 2016, section 2.7, leaves the first layer alone likewise)."""
SKIP_BITS = 8
"""Bits of what a convolution gives for an addition alone, as in a skip connection: no layer reads
it, so that more bits cost little, and float32 would be four times as much to write and to read."""

SAMPLES = 2**20
"""Numbers kept of each value, taken evenly from all items."""


def quantize_activations(
    graph: Graph,
    bits: int,
    images: NDArray[np.float32],
    choose: Choose,
    progress: Progress,
    reference: Graph | None = None,
) -> Graph:
    """Return the graph with codes of `bits` bits where layers of levels read.

    Parameters
    ----------
    images : float32 [N, ...], calibration inputs of the graph's one input
    choose : a rule of `ranges`
    progress : wraps the iteration over the images
    reference : the network whose values are observed, with values of the same names: the float
        network, if `graph` is to be restored to what that gives; None: `graph`
    """
    groups = wanted(graph)
    found = {
        name: form
        for name, parts in groups.items()
        if (form := _stated(graph, parts, bits)) is not None
    }
    skips = skip_connections(graph, groups)
    observed = [name for name in groups if name not in found]
    samples = _observe(reference or graph, [*observed, *skips], images, progress)
    for name in observed:
        # Other rules speak of what an activation function gives.
        own = name in graph.inputs
        rule, count = (least_squares, INPUT_BITS) if own else (choose, bits)
        found[name] = rule(samples[name], count)
    forms = {part: form for name, form in found.items() for part in groups[name]}
    forms |= {name: least_squares(samples[name], SKIP_BITS) for name in skips}
    for name in [name for name in forms if name in (*graph.inputs, *graph.outputs)]:
        graph = _insert_quantize(graph, name, forms.pop(name))
    return propagate_codes(with_quantization(graph, forms))


def wanted(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return the float32 values that have to be codes so that layers of levels read codes.

    Returns
    -------
    dict from a value, whose range decides, to the values that become codes of one form: itself, or
    what it concatenates. No value is in two groups.
    """
    groups: dict[str, tuple[str, ...]] = {}
    grouped: set[str] = set()
    # From the end: a concatenation comes before those that it holds.
    for name in reversed([*graph.inputs, *graph.producers]):
        if any(_reads_codes(node, name) for node in graph.consumers[name]):
            source = _origin(graph, name)
            parts = _parts(graph, source)
            if graph.values[source].quantization is None and grouped.isdisjoint(parts):
                groups[source] = parts
                grouped.update(parts)
    return groups


def skip_connections(graph: Graph, groups: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the float32 values that one convolution of levels gives to be added to another's.

    Of two such convolutions the later will take the sum over, with what the other gives as its
    residual (`passes.fuse_residual`).

    Parameters
    ----------
    groups : see `wanted`; sums that do not become codes, or are outputs, are left alone
    """
    codes = {part for parts in groups.values() for part in parts} - set(graph.outputs)
    places = {node.output: place for place, node in enumerate(graph.nodes)}
    return [
        min(node.inputs, key=places.__getitem__)
        for node in graph.nodes
        if node.op == "Add"
        and all(_is_summand(graph, name, node) for name in node.inputs)
        and _with_activation(graph, node.output) in codes
    ]


def _is_summand(graph: Graph, name: str, add: Node) -> bool:
    """Say whether a float32 value is what a convolution of levels gives for `add` alone."""
    layer, value = graph.producers.get(name), graph.values[name]
    return (
        layer is not None
        and layer.op == "Conv"
        and isinstance(layer.tensors["weight"], LevelWeights)
        and value.quantization is None
        and value.shape == graph.values[add.output].shape
        and graph.only_consumer(name) is add
        and add.inputs.count(name) == 1
    )


def _with_activation(graph: Graph, name: str) -> str:
    """Return what the activation function that alone reads a value gives, if there is one."""
    reader = graph.only_consumer(name)
    return reader.output if reader is not None and reader.op in BOUNDED else name


def _reads_codes(node: Node, name: str) -> bool:
    """Say whether `node` is a layer of levels over the value `name`."""
    return isinstance(node.tensors.get("weight"), LevelWeights) and node.inputs[0] == name


def _origin(graph: Graph, name: str) -> str:
    """Return the value to quantize so that `name` is codes: before nodes that only move it."""
    node = graph.producers.get(name)
    while node is not None and len(node.inputs) == 1 and _passes_codes(graph, node):
        name = node.inputs[0]
        node = graph.producers.get(name)
    return name


def _parts(graph: Graph, name: str) -> tuple[str, ...]:
    """Return the values to quantize alike so that `name` is codes: what it is concatenated from.

    Inputs of the network and what the export quantizes have a form of their own.
    """
    node = graph.producers.get(name)
    if node is None or len(node.inputs) == 1 or not _passes_codes(graph, node):
        return (name,)
    origins = [_origin(graph, source) for source in node.inputs]
    parts = tuple(part for origin in origins for part in _parts(graph, origin))
    free = all(graph.values[part].quantization is None for part in parts)
    return parts if free and not set(parts) & set(graph.inputs) else (name,)


def _passes_codes(graph: Graph, node: Node) -> bool:
    """Say whether `node` only moves its inputs, and nobody needs them or the result as float32."""
    others = (
        (reader, name)
        for name in node.inputs
        for reader in graph.consumers[name]
        if reader is not node
    )
    return (
        node.op in MOVES
        and node.attributes.get("value", 0.0) == 0.0  # other padding may lie outside the codes
        and graph.values[node.output].quantization is None
        and set(graph.outputs).isdisjoint((node.output, *node.inputs))
        and all(_reads_codes(reader, name) for reader, name in others)
    )


def _insert_quantize(graph: Graph, name: str, form: Quantization) -> Graph:
    """Let everything that reads an input or output of the graph, which is float, read its codes."""
    codes = f"{name}.codes"
    while codes in graph.values:
        codes += "_"
    value = Value(codes, graph.values[name].shape, form)
    nodes = [] if name in graph.producers else [Node(codes, "Quantize", (name,), codes)]
    for node in graph.nodes:
        inputs = tuple(codes if read == name else read for read in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        if node.output == name:
            nodes.append(Node(codes, "Quantize", (name,), codes))
    return replace(graph, values={**graph.values, codes: value}, nodes=tuple(nodes))


def _stated(graph: Graph, names: tuple[str, ...], bits: int) -> Quantization | None:
    """Return the form that the bounds of the nodes before the values fix, if all fix the same."""
    forms = {_bounded(graph, name, bits) for name in names}
    return forms.pop() if len(forms) == 1 else None


def _bounded(graph: Graph, name: str, bits: int) -> Quantization | None:
    """Return the form that the bounds of the node before a value fix, if it has any."""
    node = graph.producers.get(name)
    if node is None or node.op not in BOUNDED:
        return None
    low, high = bounds(node)
    source = graph.producers.get(node.inputs[0])
    while source is not None and source.op in BOUNDED and node.op in ("Clip", "Relu"):
        low, high = (float(np.clip(end, low, high)) for end in bounds(source))
        node, source = source, graph.producers.get(source.inputs[0])
    if max(abs(low), abs(high)) > 1e6:  # one side is open
        return None
    return from_range(low, high, bits)


def _observe(
    graph: Graph, names: list[str], images: NDArray[np.float32], progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Return samples of each value over the images, computed as the graph is."""
    plan = make_plan(graph, "numba", keep=tuple(names))
    kept = {name: Reservoir(len(images) * graph.values[name].size, SAMPLES) for name in names}
    for start in progress(range(0, len(images), plan.slice), "calibrating"):
        items = check_inputs(graph, {graph.inputs[0]: images[start : start + plan.slice]})
        found = plan.run(items, names)
        for name, reservoir in kept.items():
            reservoir.add(found[name])
    return {name: reservoir.samples() for name, reservoir in kept.items()}
