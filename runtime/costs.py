"""What each layer costs: bytes stored, and operations for one item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from deepchip.formats.graph import Graph, LevelWeights, Node, Shape
from deepchip.formats.operators import macs


@dataclass(frozen=True)
class LayerCosts:
    """One layer with weights.

    Attributes
    ----------
    op, shape : operator, and shape of its weights
    levels : nonzero levels of a row, 0 for float weights
    density : share of weights that are not zero
    encoding, stored : how the file holds the layer (weights and bias), and in how many bytes
    bits : stored bits a weight
    activation_bits : of what the layer reads; 32 for float32
    macs : multiply-accumulates, were the layer dense and float
    additions, multiplications : what reduce-and-scale does instead: an addition for each nonzero,
        a multiplication for each level of a row and one for its gain and scale
    bops : bit operations: nonzeros' MACs times bits of a weight (of its level code, 32 for float)
        times bits of an activation
    """

    name: str
    op: str
    shape: Shape
    levels: int
    density: float
    encoding: str
    stored: int
    bits: float
    activation_bits: int
    macs: int
    additions: int
    multiplications: int
    bops: int


def layer_costs(graph: Graph) -> Iterator[LayerCosts]:
    """Yield the costs of every layer with weights, in order."""
    for node in graph.layers():
        yield _costs(graph, node)


def _costs(graph: Graph, node: Node) -> LayerCosts:
    weight = node.tensors["weight"]
    shape, output = weight.shape, graph.values[node.output].shape
    read = graph.values[node.inputs[0]].quantization
    activation_bits = 32 if read is None else read.bits
    pixels, size, dense = prod(output[1:]), prod(shape), macs(node, output)
    bias = node.tensors.get("bias")
    bias_bytes = 0 if bias is None else 4 * prod(bias.shape)
    if isinstance(weight, LevelWeights):
        levels = weight.levels.shape[-1]
        return LayerCosts(
            node.name, node.op, shape, levels, weight.density, weight.encoding,
            weight.stored + bias_bytes, 8 * (weight.stored + bias_bytes) / size, activation_bits,
            dense, weight.nonzeros * pixels, shape[0] * (levels + 1) * pixels,
            weight.nonzeros * pixels * levels.bit_length() * activation_bits,
        )  # fmt: skip
    stored = 4 * size + bias_bytes
    return LayerCosts(
        node.name, node.op, shape, 0, float((weight != 0).mean()), "dense", stored,
        8 * stored / size, activation_bits, dense, dense, dense, dense * 32 * activation_bits,
    )  # fmt: skip
