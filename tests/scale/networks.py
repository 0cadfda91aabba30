"""Small networks whose outputs are easily known."""

from __future__ import annotations

from math import prod

import numpy as np

from deepchip.converter.builder import Builder
from deepchip.formats.csr import CSR
from deepchip.formats.graph import Graph, LevelWeights, Quantization, Shape


def relu(*shape: int) -> Graph:
    """One output: what is positive of the input `x`."""
    net = Builder("relu")
    return net.finish([net.add("Relu", [net.input("x", shape)], "y")])


def two_sides() -> Graph:
    """Two inputs of 3, left and right; their sum, and the larger of the sum and 0."""
    net = Builder("sides")
    total = net.add("Add", [net.input("left", (3,)), net.input("right", (3,))], "sum")
    return net.finish([total, net.add("Relu", [total], "positive")])


def classifier(shape: Shape = (3, 8, 8)) -> Graph:
    """A ternary layer of 5 classes over codes of 4 bits."""
    random = np.random.default_rng(7)
    net = Builder("classifier")
    form = Quantization(0.125, 5, 4)
    codes = net.add("Quantize", [net.input("x", shape)], "codes", quantization=form)
    size = prod(shape)
    flat = net.add("Reshape", [codes], "flat", {"shape": (size,)}, quantization=form)
    nonzeros = CSR.from_dense(random.integers(0, 3, (5, size)).astype(np.uint8))
    tensors = {
        "weight": LevelWeights.of((5, size), np.float32([-0.5, 0.25]), nonzeros),
        "bias": random.standard_normal(5, np.float32),
    }
    return net.finish([net.add("FullyConnected", [flat], "logits", {}, tensors)])


def floats(size: int = 300, classes: int = 70) -> Graph:
    """A float layer, whose sums BLAS takes in an order that depends on the number of items."""
    net = Builder("floats")
    weight = np.random.default_rng(8).standard_normal((classes, size), np.float32)
    return net.finish(
        [net.add("FullyConnected", [net.input("x", (size,))], "y", {}, {"weight": weight})]
    )
