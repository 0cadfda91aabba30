"""Additions vanish into the convolutions before them, which take what is added as a residual.

In a residual network (He et al., Deep Residual Learning, CVPR 2016, figure 2) every block ends in
the sum of a convolution and a skip connection. Added where the convolution's result still stands
in a register, and quantized there, the sum is never written and read again as float32.
"""

from __future__ import annotations

from dataclasses import replace

from deepchip.formats.graph import Graph, LevelWeights, Node

from .rewrite import with_nodes


def fuse_residual(graph: Graph) -> Graph:
    """Let a convolution of levels over codes give the sum that an Add node makes of its output.

    Nothing else may read that output. Of two such convolutions the later takes the other's output
    as its residual. Runs after the passes that change a layer's output, none of which knows
    residuals.
    """
    for node in graph.nodes:
        if node.op != "Add":
            continue
        fitting = [layer for layer in graph.nodes if _fits(graph, layer, node)]
        if fitting:
            layer = fitting[-1]
            (residual,) = (name for name in node.inputs if name != layer.output)
            fused = replace(layer, inputs=(*layer.inputs, residual), output=node.output)
            # Here, and not where the layer was, the residual has been computed.
            graph = with_nodes(graph, {layer.name: (), node.name: (fused,)})
    return graph


def _fits(graph: Graph, layer: Node, add: Node) -> bool:
    """Say whether `layer` is a convolution that can take over `add`."""
    output = graph.values[layer.output]
    return (
        layer.op == "Conv"
        and len(layer.inputs) == 1
        and isinstance(layer.tensors["weight"], LevelWeights)
        and graph.values[layer.inputs[0]].quantization is not None
        and output.quantization is None
        and graph.only_consumer(layer.output) is add
        and add.inputs.count(layer.output) == 1
        and all(graph.values[name].shape == output.shape for name in add.inputs)
    )
