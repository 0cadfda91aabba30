"""A network that is small enough to count by hand."""

from __future__ import annotations

import numpy as np

from deepchip.converter.builder import Builder
from deepchip.formats.csr import CSR
from deepchip.formats.graph import LevelWeights, Quantization
from deepchip.formats.model_file import write_model

PLAIN = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}
NONZEROS, PIXELS = 10, 6 * 6


def graph():
    """An image of 8 x 8, a convolution to two planes of 6 x 6 with ten nonzeros, and ten sums."""
    builder = Builder("small")
    form = Quantization(0.25, 0, 4)
    x = builder.add("Quantize", [builder.input("image", (1, 8, 8))], "codes", quantization=form)
    kernels = np.zeros((2, 9), np.uint8)
    kernels[0, :6], kernels[1, :4] = [1, 2, 1, 2, 1, 2], [2, 2, 1, 1]
    conv = LevelWeights.of((2, 1, 3, 3), np.float32([-1, 1]), CSR.from_dense(kernels))
    x = builder.add("Conv", [x], "conv", PLAIN, {"weight": conv}, quantization=form)
    x = builder.add("Reshape", [x], "flat", {"shape": (72,)}, quantization=form)
    rows = (np.arange(10 * 72).reshape(10, 72) % 3).astype(np.uint8)
    sums = LevelWeights.of((10, 72), np.float32([-0.5, 0.5]), CSR.from_dense(rows))
    return builder.finish([builder.add("FullyConnected", [x], "fc", tensors={"weight": sums})])


def write_tiny(folder):
    """Write a network that one kernel runs, and return the path."""
    builder = Builder("tiny")
    weight = np.eye(3, dtype=np.float32)
    y = builder.add("FullyConnected", [builder.input("x", (3,))], "fc", tensors={"weight": weight})
    write_model(builder.finish([y]), folder / "tiny.dchip")
    return folder / "tiny.dchip"


def write(folder):
    """Write it, and return the path."""
    write_model(graph(), folder / "small.dchip")
    return folder / "small.dchip"
