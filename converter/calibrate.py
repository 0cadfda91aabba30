"""Chooses the scale and zero point of activations from what they are on sample inputs.

What a convolution or fully connected layer of levels reads becomes codes; the rest stays float32,
and so does what a layer of float weights reads. Ranges that the export states win over samples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Graph, LevelWeights, Node, Quantization, Value
from deepchip.runtime.execute import run_slice
from deepchip.runtime.model import check_inputs
from deepchip.runtime.plan import make_plan

from .passes.fuse_quantize import MOVES, propagate_codes
from .passes.narrow_codes import bounds
from .passes.rewrite import with_quantization
from .progress import Progress
from .ranges import Choose, Reservoir, from_range

INPUT_BITS = 8
"""Inputs of the network keep 8 bits, whatever the activations: pixels have as many (DoReFa-Net,
Zhou et al. 2016, section 2.7, leaves the first layer alone likewise)."""

SAMPLES = 2**20
"""Numbers kept of each value, taken evenly from all items."""


def quantize_activations(
    graph: Graph, bits: int, images: NDArray[np.float32], choose: Choose, progress: Progress
) -> Graph:
    """Return the graph with codes of `bits` bits where layers of levels read.

    Parameters
    ----------
    images : float32 [N, ...], calibration inputs of the graph's one input
    choose : `least_squares`, or `percentile(p)`
    progress : wraps the iteration over the images
    """
    graph, values = mark(graph)
    stated = {name: form for name in values if (form := _stated(graph, name, bits)) is not None}
    observed = [name for name in values if name not in stated]
    samples = _observe(graph, observed, images, progress)
    forms = {
        name: choose(samples[name], INPUT_BITS if _from_input(graph, name) else bits)
        for name in observed
    }
    return propagate_codes(with_quantization(graph, {**stated, **forms}))


def mark(graph: Graph) -> tuple[Graph, list[str]]:
    """Find the float32 values to quantize, the results of Quantize nodes for the graph's inputs."""
    marked: dict[str, None] = {}
    for node in graph.nodes:
        if isinstance(node.tensors.get("weight"), LevelWeights):
            source = _origin(graph, node.inputs[0])
            if graph.values[source].quantization is None:
                marked[source] = None
    for name in [name for name in marked if name in graph.inputs]:
        graph, quantized = _insert_quantize(graph, name)
        del marked[name]
        marked[quantized] = None
    return graph, list(marked)


def _origin(graph: Graph, name: str) -> str:
    """Return the value to quantize so that `name` is codes: before nodes that only move it."""
    node = graph.producers.get(name)
    while node is not None and node.op in MOVES and len(node.inputs) == 1:
        source = node.inputs[0]
        if graph.only_consumer(source) != node:
            break
        name, node = source, graph.producers.get(source)
    return name


def _insert_quantize(graph: Graph, name: str) -> tuple[Graph, str]:
    quantized = f"{name}.codes"
    while quantized in graph.values:
        quantized += "_"
    # The form is a placeholder until the samples are known.
    placeholder = Quantization(1.0, 0, INPUT_BITS)
    value = Value(quantized, graph.values[name].shape, placeholder)
    node = Node(quantized, "Quantize", (name,), quantized)
    readers = tuple(
        replace(reader, inputs=tuple(quantized if i == name else i for i in reader.inputs))
        for reader in graph.nodes
    )
    return replace(
        graph, values={**graph.values, quantized: value}, nodes=(node, *readers)
    ), quantized


def _from_input(graph: Graph, name: str) -> bool:
    node = graph.producers.get(name)
    return node is not None and node.op == "Quantize" and node.inputs[0] in graph.inputs


def _stated(graph: Graph, name: str, bits: int) -> Quantization | None:
    """Return the form that the bounds of the node before a value fix, if it has any."""
    node = graph.producers.get(name)
    if node is None or node.op not in ("Clip", "Sigmoid", "Tanh"):
        return None
    low, high = bounds(node)
    if max(abs(low), abs(high)) > 1e6:  # one side is open
        return None
    return from_range(low, high, bits)


def _observe(
    graph: Graph, names: list[str], images: NDArray[np.float32], progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Return samples of each value over the images, computed in float32."""
    float_graph = with_quantization(
        graph,
        {name: None for name in names if graph.producers[name].op != "Quantize"},
    )
    wanted = {
        name: graph.producers[name].inputs[0] if graph.producers[name].op == "Quantize" else name
        for name in names
    }
    plan = make_plan(float_graph, "numba", keep=tuple(wanted.values()))
    reservoirs = {name: Reservoir(len(images) * graph.values[name].size, SAMPLES) for name in names}
    for start in progress(range(0, len(images), plan.slice), "calibrating"):
        items = check_inputs(graph, {graph.inputs[0]: images[start : start + plan.slice]})
        found = run_slice(plan, dict(items))
        for name, reservoir in reservoirs.items():
            reservoir.add(found[wanted[name]])
    return {name: reservoir.samples() for name, reservoir in reservoirs.items()}
