"""Relu behind a convolution over codes: a part of it, where nothing else reads what is before."""

from __future__ import annotations

import numpy as np
import pytest

from deepchip.converter.builder import Builder
from deepchip.formats.graph import Quantization
from deepchip.runtime.plan import make_plan

from .conv_networks import PLAIN
from .one_node import BACKENDS, check_same_bits, compute, weights_of

FORM = Quantization(0.25, 3, 4)
PLANE = (10, 13)


def network(*, count=2, gives=None, floats=False, reads_before=False, gives_before=False):
    """Conv 'y' of 3 to 5 channels, Relu 'z'; more nodes may read 'y', or it may be an output."""
    random = np.random.default_rng(count)
    codes = random.integers(0, count + 1, (5, 3, 1, 1))
    weight = weights_of(codes, np.linspace(-1, 1.5, count))
    builder = Builder("relu")
    x = builder.input("x", (3, *PLANE))
    if not floats:
        x = builder.add("Quantize", [x], "codes", quantization=FORM)
    y = builder.add("Conv", [x], "y", PLAIN, {"weight": weight})
    z = builder.add("Relu", [y], "z", quantization=gives)
    outputs = [z if gives is None else builder.add("Dequantize", [z], "real")]
    if reads_before:
        outputs.append(builder.add("LeakyRelu", [y], "more", {"alpha": 0.5}))
    return builder.finish([*outputs, *([y] if gives_before else [])])


def operations(graph, **options):
    return [op.kernel.__name__ for op in make_plan(graph, "numba", **options).operations]


X = np.random.default_rng(0).standard_normal((2, 3, *PLANE), np.float32)


@pytest.mark.parametrize("count", [2, 255])
def test_there_is_no_operation_for_it(count):
    assert operations(network(count=count)) == ["quantize", f"conv_{KERNEL[count]}_narrow"]


KERNEL = {2: "blocks", 255: "rows"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"count": 255},
        {"gives": Quantization(0.5, 1, 3)},
        {"floats": True},
        {"reads_before": True},
        {"gives_before": True},
    ],
)
def test_the_bits_of_each_by_itself(options):
    graph = network(**options)
    found = make_plan(graph, "numba").run({"x": X}, graph.outputs)
    expected = make_plan(graph, "numpy").run({"x": X}, graph.outputs)
    for name in graph.outputs:
        assert (expected[name] >= 0).all() == (name in ("z", "real"))
        check_same_bits(found[name], expected[name])
    fused = options in ({}, {"count": 255})
    assert ("relu" in operations(graph)) != fused


def test_a_kept_value_is_what_was_before():
    graph = network()
    found = make_plan(graph, "numba", keep=("y",)).run({"x": X}, ("y", "z"))
    assert found["y"].min() < 0
    check_same_bits(found["z"], np.where(found["y"] < 0, np.float32(0), found["y"]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays(backend):
    """Twice 3e38 overflows, and infinity less infinity is NaN."""
    builder = Builder("special")
    x = builder.add(
        "Quantize", [builder.input("x", (2, 1, 1))], "c", quantization=Quantization(2.0, 0, 1)
    )
    levels = np.array([[-3e38, 3e38], [-1.0, 1.0]], np.float32)
    weight = weights_of(np.array([[1, 2], [1, 2]]).reshape(2, 2, 1, 1), levels)
    y = builder.add("Conv", [x], "y", PLAIN, {"weight": weight})
    graph = builder.finish([builder.add("Relu", [y], "z")])
    found = compute(graph, backend, np.full((1, 2, 1, 1), 2, np.float32)).ravel()
    np.testing.assert_array_equal(found, [np.nan, 0])
