"""Small graphs that tests of the converter share."""

from __future__ import annotations

import numpy as np

from deepchip.converter.builder import Builder
from deepchip.formats.csr import CSR
from deepchip.formats.graph import Graph, LevelWeights, Node, Quantization

WINDOW = {"strides": (1, 1), "dilations": (1, 1)}
CONV = {**WINDOW, "pads": (1, 1, 1, 1), "groups": 1}
POOL = {**WINDOW, "kernel": (2, 2), "pads": (0, 0, 0, 0), "ceil_mode": 0}
F32 = np.float32


def form(scale: float, zero_point: int = 0, bits: int = 8) -> Quantization:
    """A quantization whose scale is rounded to float32."""
    return Quantization(float(F32(scale)), zero_point, bits)


def random(seed: int, *shape: int) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(F32)


def ternary(seed: int, *shape: int) -> LevelWeights:
    """Weights of the levels -0.5 and 0.75, about a third of them zero."""
    codes = np.random.default_rng(seed).integers(0, 3, (shape[0], int(np.prod(shape[1:]))))
    return LevelWeights.of(shape, np.array([-0.5, 0.75], F32), CSR.from_dense(codes.astype("u1")))


class Net(Builder):
    """A builder with shorthands; every layer is named after what it is."""

    def conv(self, x: str, weight, bias=None, name: str = "conv", **attributes) -> str:
        """A convolution, padded by one unless told otherwise."""
        tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return self.add("Conv", [x], name, {**CONV, **attributes}, tensors)

    def affine(self, x: str, scale, shift, name: str = "bn", **options) -> str:
        """A scale and shift of each channel."""
        shape = (-1,) + (1,) * (len(self.values[x].shape) - 1)
        tensors = {"scale": F32(scale).reshape(shape), "shift": F32(shift).reshape(shape)}
        return self.add("Affine", [x], name, tensors=tensors, **options)

    def clip(self, x: str, low: float, high: float, name: str = "clip", **options) -> str:
        """A bounded ReLU."""
        return self.add("Clip", [x], name, {"minimum": low, "maximum": high}, **options)


def ops(graph: Graph) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op for node in graph.nodes]


def node(graph: Graph, name: str) -> Node:
    """The node of a name."""
    return next(node for node in graph.nodes if node.name == name)
