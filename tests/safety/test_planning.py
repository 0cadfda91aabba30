"""Small files that say much: loading them takes bounded time and memory, or is refused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from deepchip.converter.builder import Builder
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import Quantization
from deepchip.formats.model_file import model_bytes
from tests.attacks.harness import attack, check_bounds, check_refused
from tests.runtime.one_node import weights_of

from .extremes import empty, window

FORM = Quantization(0.25, 3, 4)
LOADS = {
    "numpy": "tests.attacks.targets:loaded",
    "numba": "tests.attacks.targets:loaded_for_numba",
}
PLAIN = {**window(), "groups": 1}


def coded(builder, name):
    """The codes of a value."""
    return builder.add("Quantize", [name], "codes", quantization=FORM)


def one_layer(op, item, weight, attributes, reads=FORM):
    """A layer of weights of levels over codes, or over float32."""
    builder = Builder("layer")
    x = builder.input("x", item)
    x = x if reads is None else coded(builder, x)
    return builder.finish([builder.add(op, [x], "y", attributes, {"weight": weight})])


def one_window(size, stride, dilation, kernel=2):
    """A convolution without a nonzero, of phases as many as the stride has."""
    attributes = {**window((stride, stride), (dilation, dilation)), "groups": 1}
    weight = empty((1, 1, kernel, kernel))
    return one_layer("Conv", (1, size, size), weight, attributes)


def masked(layers):
    """Convolutions of one plane, each of another dilation: masks of 9 MB each."""
    builder = Builder("masks")
    x = builder.input("x", (1, 1000, 1000))
    for d in range(1, layers + 1):
        attributes = {**window((1, 1), (d, d), (d, d, d, d)), "groups": 1}
        y = coded(builder, x)
        x = builder.add("Conv", [y], "y", attributes, {"weight": empty((1, 1, 3, 3))})
    return builder.finish([x])


def factors(item, axes):
    """An Affine whose factors vary along some axes of an item."""
    builder = Builder("factors")
    scale = np.ones([n if axis in axes else 1 for axis, n in enumerate(item)], np.float32)
    tensors = {"scale": scale, "shift": scale}
    return builder.finish([builder.add("Affine", [builder.input("x", item)], "y", {}, tensors)])


def average(side):
    """The average of a plane, or of most of it at every place."""
    attributes = {**window(), "kernel": (side, side), "ceil_mode": 0, "count_include_pad": 0}
    builder = Builder("average")
    x = builder.input("x", (1, 8000, 8000))
    return builder.finish([builder.add("AveragePool", [x], "y", attributes)])


def depthwise(channels):
    """As many groups as channels."""
    weight = weights_of(np.ones((channels, 1, 1, 1), np.uint8), [0.5])
    return one_layer("Conv", (channels, 1, 1), weight, {**window(), "groups": channels})


def chain(layers, op="Conv"):
    """Many layers, one behind the other."""
    builder = Builder("chain")
    x, weight = builder.input("x", (1, 3, 3)), empty((1, 1, 1, 1))
    for _ in range(layers):
        if op == "Conv":
            x = builder.add("Conv", [coded(builder, x)], "y", PLAIN, {"weight": weight})
        else:
            x = builder.add(op, [x], "y")
    return builder.finish([x])


def alive_together(values):
    """Values that are all wanted in the end."""
    builder = Builder("alive")
    names = [builder.input("x", (4,))]
    for _ in range(values):
        names.append(builder.add("Relu", names[-1:], "y"))
    return builder.finish([builder.add("Concat", names[1:], "z", {"axis": 0})])


def many_inputs(count):
    """Inputs that are read where they are, or not."""
    builder = Builder("inputs")
    names = [builder.input(f"x{index}", (4,)) for index in range(count)]
    return builder.finish([builder.add("Concat", names, "y", {"axis": 0})])


def taken(count):
    """Single elements at places of an axis."""
    builder = Builder("taken")
    attributes = {"axis": 0, "indices": (1, 0) * (count // 2)}
    return builder.finish([builder.add("Take", [builder.input("x", (2, 7))], "y", attributes)])


ACCEPTED = {
    "a kernel of 64 million weights": partial(
        one_layer, "Conv", (1, 8000, 8000), empty((1, 1, 8000, 8000)), PLAIN
    ),
    "the same over float32": partial(
        one_layer, "Conv", (1, 8000, 8000), empty((1, 1, 8000, 8000)), PLAIN, None
    ),
    "the same with 255 levels": partial(
        one_layer, "Conv", (1, 8000, 8000), empty((1, 1, 8000, 8000), 255), PLAIN
    ),
    "many phases": partial(one_window, 5_000, 2_400, 2_399),
    "2**20 channels of 255 levels": partial(
        one_layer, "Conv", (1, 1, 1), empty((2**20, 1, 1, 1), 255), PLAIN
    ),
    "2**20 outputs of 255 levels": partial(
        one_layer, "FullyConnected", (1,), empty((2**20, 1), 255), {}
    ),
    "2**20 outputs of 255 levels over float32": partial(
        one_layer, "FullyConnected", (1,), empty((2**20, 1), 255), {}, None
    ),
    "masks of many layers": partial(masked, 300),
    "factors of the last axis": partial(factors, (8_000, 8_000), (1,)),
    "one factor": partial(factors, (8_000, 8_000), ()),
    "an average of a plane": partial(average, 8_000),
    "averages of most of a plane": partial(average, 7_800),
    "65,536 groups": partial(depthwise, 2**16),
    "many layers": partial(chain, 1_500),
    "many operators": partial(chain, 4_000, "Exp"),
    "many values alive together": partial(alive_together, 4_000),
    "many inputs": partial(many_inputs, 6_000),
    "many indices": partial(taken, 200_000),
}
REFUSED = {
    "factors of axes with a large one between": (
        partial(factors, (2, 2**25, 2), (0, 2)), "beyond what its weights account for"
    ),
    "phases that multiply": (partial(one_window, 8_000, 4_000, 3_999), "values of one item take"),
}  # fmt: skip


def loaded(backend, make):
    """What comes of loading the file, of which every kernel was compiled before, and its size."""
    data = model_bytes(make())
    attack(LOADS[backend], data)
    return attack(LOADS[backend], data), len(data)


@pytest.mark.parametrize("backend", LOADS)
@pytest.mark.parametrize("name", ACCEPTED)
def test_planning_is_bounded(backend, name):
    outcome, size = loaded(backend, ACCEPTED[name])
    check_bounds(outcome, size)
    assert outcome.kind == "result", outcome


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, text = REFUSED[name]
    outcome, size = loaded("numba", make)
    check_refused(outcome, UnsupportedError, text, size)
