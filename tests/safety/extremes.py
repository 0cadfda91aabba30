"""Networks of one node at the ends of what a file may say: geometries, sizes, sums."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from deepchip.converter.builder import Builder
from deepchip.formats.csr import CSR
from deepchip.formats.graph import Graph, LevelWeights, Quantization, Shape, Tensor
from tests.runtime.one_node import Attributes, one_node, weights_of

FORM = Quantization(0.25, 3, 4)
BINARY = Quantization(0.25, 0, 1)
WIDE = Quantization(0.25, 0, 8)
POOL = {"ceil_mode": 0}
AVERAGE = {**POOL, "count_include_pad": 1}


def window(
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Attributes:
    """Attributes of a window."""
    return {"strides": strides, "dilations": dilations, "pads": pads}


def conv(
    item: Shape,
    weight: Shape,
    attributes: Attributes,
    groups: int = 1,
    levels: int = 2,
    reads: Quantization | None = FORM,
    least: int = 0,
) -> Graph:
    """A convolution of weights of levels, over codes, or over fractions where `reads` is None."""
    random = np.random.default_rng(0)
    codes = random.integers(least, levels + 1, weight)
    values = np.arange(-levels, levels, 2) / 8
    tensors = {"weight": weights_of(codes, values[:levels])}
    attributes = {**attributes, "groups": groups}
    if reads is not None:
        return one_node("Conv", [item], attributes, tensors, reads=reads, gives=FORM)
    builder = Builder("fractions")
    codes_of = builder.add("Quantize", [builder.input("x", item)], "codes", quantization=FORM)
    x = builder.add("Dequantize", [codes_of], "fractions")
    return builder.finish([builder.add("Conv", [x], "y", attributes, tensors)])


def pool(op: str, item: Shape, kernel: tuple[int, int], attributes: Attributes) -> Graph:
    """A pooling of codes, the average of which has any real value."""
    more = POOL if op == "MaxPool" else AVERAGE
    gives = FORM if op == "MaxPool" else None
    return one_node(op, [item], {**attributes, **more, "kernel": kernel}, reads=FORM, gives=gives)


def fully_connected(weight: Tensor) -> Graph:
    """A fully connected layer over fractions."""
    builder = Builder("fractions")
    x = builder.input("x", weight.shape[1:])
    x = builder.add("Quantize", [x], "codes", quantization=FORM)
    x = builder.add("Dequantize", [x], "fractions")
    return builder.finish([builder.add("FullyConnected", [x], "y", {}, {"weight": weight})])


def over_codes(weight: Shape, levels: int, reads: Quantization) -> Graph:
    """A fully connected layer of levels over codes."""
    codes = np.random.default_rng(0).integers(0, levels + 1, weight)
    tensors = {"weight": weights_of(codes, np.arange(levels) / 8 - 0.5)}
    return one_node("FullyConnected", [weight[1:]], {}, tensors, reads=reads, gives=FORM)


def all_levels(item: Shape, weight: Shape, reads: Quantization) -> Graph:
    """A convolution of ones over the largest codes there are: the largest sums."""
    tensors = {"weight": weights_of(np.ones(weight, np.uint8), [0.5])}
    attributes = {**window(), "groups": 1}
    builder = Builder("largest")
    x = builder.add("Affine", [builder.input("x", item)], "same", {}, _constant(item, 1e9))
    codes = builder.add("Quantize", [x], "codes", quantization=reads)
    return builder.finish([builder.add("Conv", [codes], "y", attributes, tensors)])


def _constant(item: Shape, number: float) -> dict[str, np.ndarray]:
    scale = np.zeros((1,) * len(item), np.float32)
    return {"scale": scale, "shift": np.full_like(scale, number)}


def per_axis(shape: Shape, axis: int) -> Graph:
    """An Affine whose factors vary along one axis only."""
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    scale = np.arange(shape[axis], dtype=np.float32).reshape(sizes)
    return one_node("Affine", [shape], {}, {"scale": scale, "shift": -scale})


EXTREMES: dict[str, Callable[[], Graph]] = {
    "a plane all of which is padding but one column, in phases": partial(
        conv, (2, 3, 1), (2, 1, 2, 2), window((2, 2), pads=(0, 20_000, 0, 0)), 2
    ),
    "the same to the right": partial(
        conv, (2, 3, 1), (2, 1, 2, 2), window((2, 2), pads=(0, 0, 0, 20_000)), 2
    ),
    "padding above and below by thousands": partial(
        conv, (1, 1, 1), (1, 1, 3, 3), window((3, 3), (2, 2), (4_000, 2, 4_000, 2))
    ),
    "a kernel as wide as the plane, of floats": partial(
        conv, (2, 1, 3_000), (2, 1, 1, 3_000), window(), 2, reads=None
    ),
    "a kernel as large as the plane, of codes": partial(
        conv, (1, 120, 130), (2, 1, 120, 130), window()
    ),
    "a kernel larger than the plane": partial(
        conv, (2, 2, 1), (3, 2, 40, 33), window(pads=(20, 16, 30, 17))
    ),
    "a kernel larger than the plane, of floats": partial(
        conv, (2, 2, 1), (3, 2, 40, 33), window((3, 5), pads=(20, 16, 30, 17)), reads=None
    ),
    "dilation beyond the plane": partial(
        conv, (2, 5, 6), (2, 2, 2, 2), window((1, 1), (300, 500), (300, 500, 300, 500))
    ),
    "dilation and strides beyond the plane": partial(
        conv, (2, 5, 6), (2, 2, 2, 2), window((301, 499), (300, 500), (300, 500, 300, 500))
    ),
    "dilation beyond the plane, of floats": partial(
        conv, (2, 5, 6), (2, 2, 2, 2), window((1, 7), (300, 500), (300, 500, 300, 500)), reads=None
    ),
    "the largest stride": partial(conv, (1, 3, 3), (1, 1, 2, 2), window((65_536, 65_536))),
    "the largest stride, of floats": partial(
        conv, (1, 3, 3), (1, 1, 2, 2), window((65_536, 65_536)), reads=None
    ),
    "the largest dilation of one element": partial(
        conv, (1, 3, 3), (1, 1, 1, 1), window(dilations=(65_536, 65_536))
    ),
    "strides 4 apart, phases of one row": partial(
        conv, (1, 9, 700), (1, 1, 1, 3), window((4, 4), (1, 65))
    ),
    "as many groups as channels": partial(conv, (3_000, 2, 1), (3_000, 1, 2, 1), window(), 3_000),
    "as many groups as channels, of many levels": partial(
        conv, (300, 2, 1), (600, 1, 2, 1), window(), 300, levels=40
    ),
    "groups of more rows than a turn": partial(conv, (4, 3, 3), (2 * 300, 2, 2, 2), window(), 2),
    "rows of very many inputs, of many levels": partial(
        conv, (17_000, 1, 1), (2, 17_000, 1, 1), window(), levels=100
    ),
    "the largest sums of 8 bits, 255 inputs": partial(
        all_levels, (255, 1, 1), (2, 255, 1, 1), WIDE
    ),
    "the largest sums of 8 bits, several blocks": partial(
        all_levels, (1_000, 3, 3), (2, 1_000, 2, 2), WIDE
    ),
    "the largest sums of 6 bits in blocks of 640": partial(
        all_levels, (2_000, 1, 1), (2, 2_000, 1, 1), Quantization(0.25, 0, 6)
    ),
    "the largest sums of 8 bits that a small plane keeps in one block": partial(
        all_levels, (256, 7, 7), (2, 256, 1, 1), WIDE
    ),
    "a large block of wide codes": partial(conv, (600, 7, 7), (5, 600, 1, 1), window(), reads=WIDE),
    "bits of ternary weights": partial(
        conv, (70, 9, 11), (30, 70, 3, 3), window(pads=(1, 1, 1, 1)), reads=BINARY
    ),
    "bits of binary weights, which are full": partial(
        conv, (67, 9, 11), (35, 67, 3, 3), window((2, 1)), reads=BINARY, least=1
    ),
    "8 bits and many levels": partial(
        conv, (30, 9, 11), (17, 30, 3, 3), window(), levels=100, reads=WIDE
    ),
    "a fully connected layer of more floats than a block": lambda: fully_connected(
        np.random.default_rng(0).integers(-4, 5, (1_100, 70)).astype(np.float32) / 8
    ),
    "a fully connected layer of levels over floats": lambda: fully_connected(
        weights_of(np.random.default_rng(0).integers(0, 3, (33, 1_000)), [-0.5, 0.25])
    ),
    "sums of 4 bits that are looked up": partial(over_codes, (333, 2_065), 2, FORM),
    "sums of 4 bits for few rows": partial(over_codes, (17, 33), 1, FORM),
    "sums of 8 bits that are looked up": partial(over_codes, (333, 2_065), 3, WIDE),
    "sums of 8 bits for few rows": partial(over_codes, (7, 18), 1, WIDE),
    "a pooling window as large as the plane": partial(
        pool, "MaxPool", (2, 90, 1_000), (90, 1_000), window()
    ),
    "an average over a plane": partial(pool, "AveragePool", (2, 60, 50), (60, 50), window()),
    "an average mostly of padding": partial(
        pool, "AveragePool", (2, 2, 3), (50, 60), window((3, 2), pads=(49, 59, 48, 58))
    ),
    "a maximum mostly of padding": partial(
        pool, "MaxPool", (2, 2, 3), (50, 60), window((3, 2), pads=(49, 59, 48, 58))
    ),
    "maxima as many as there are codes": partial(
        pool, "MaxPool", (3, 7, 13), (3, 5), window(pads=(1, 2, 1, 2))
    ),
    "maxima as many as there are codes, of elements far apart": partial(
        pool, "MaxPool", (2, 50, 60), (3, 3), window((1, 1), (24, 29), (24, 29, 24, 29))
    ),
    "a maximum of elements far apart": partial(
        pool, "MaxPool", (1, 100, 300), (2, 2), window((65_536, 1), (100, 299), (99, 100, 99, 100))
    ),
    "a maximum with long strides": partial(
        pool, "MaxPool", (1, 3, 5_000), (2, 3), window((2, 900))
    ),
    "padding along every axis": lambda: one_node(
        "Pad", [(1, 2, 1, 3)], {"pads": (9, 0, 40, 1, 0, 30, 1, 70), "value": 0.5}
    ),
    "a softmax of many numbers": lambda: one_node("Softmax", [(3, 4_000)], {"axis": 1}),
    "a normalization over more channels than there are": lambda: one_node(
        "Lrn", [(5, 3, 700)], {"size": 65_536, "alpha": 1.0, "beta": 0.3, "bias": 1.0}
    ),
    "one channel repeated": lambda: one_node("Take", [(1, 9)], {"axis": 0, "indices": (0,) * 999}),
    "factors of the first axis": partial(per_axis, (7, 3, 5), 0),
    "factors of the second axis": partial(per_axis, (7, 3, 5), 1),
    "factors of the last axis": partial(per_axis, (7, 3, 5), 2),
    "one factor": lambda: one_node("PRelu", [(3, 5)], {}, {"slope": np.ones(1, np.float32) / 4}),
}
"""What each shows, and what makes it. Results have the same bits on all backends."""


def empty(shape: Shape, levels: int = 1) -> LevelWeights:
    """Weights without a nonzero: what a file can declare for nothing."""
    rows, columns = shape[0], int(np.prod(shape[1:], dtype=np.int64))
    nothing = np.zeros(0, np.int32)
    csr = CSR((rows, columns), np.zeros(rows + 1, np.int32), nothing, nothing.astype(np.uint8))
    return LevelWeights.of(shape, np.arange(1, levels + 1, dtype=np.float32), csr)
