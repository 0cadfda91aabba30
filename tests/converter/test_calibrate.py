"""Which values become codes, and with which scale."""

from __future__ import annotations

import numpy as np
import pytest

from deepchip.converter.calibrate import quantize_activations, wanted
from deepchip.converter.progress import silent
from deepchip.converter.ranges import percentile
from deepchip.formats.check import check_graph
from deepchip.runtime.model import Model
from tests.converter.graphs import F32, POOL, Net, form, node, ops, random, ternary


def two_layers(activation: str = "Relu", first=None, second=None):
    """x -> conv1 -> activation -> pool -> conv2."""
    net = Net("net")
    x = net.input("x", (1, 6, 6))
    y = net.conv(x, ternary(0, 2, 1, 3, 3) if first is None else first, name="conv1")
    bounds = {"minimum": 0.0, "maximum": 3.0} if activation == "Clip" else {}
    y = net.add(activation, [y], "act", bounds)
    p = net.add("MaxPool", [y], "pool", POOL)
    return net.finish([net.conv(p, ternary(1, 2, 2, 3, 3) if second is None else second)])


def calibrated(graph, bits=4, samples=None):
    images = random(2, 16, 1, 6, 6) if samples is None else samples
    return quantize_activations(graph, bits, images, percentile(100.0), silent)


def test_layers_of_levels_read_codes_made_before_the_pooling():
    graph = calibrated(two_layers())
    check_graph(graph)
    assert ops(graph) == ["Quantize", "Conv", "Relu", "MaxPool", "Conv"]
    bits = {n: v.quantization.bits for n, v in graph.values.items() if v.quantization}
    assert bits == {"x.codes": 8, "act": 4, "pool": 4}


def test_scales_are_those_of_the_samples():
    graph = two_layers()
    images = random(2, 16, 1, 6, 6)
    quantized = calibrated(graph, samples=images)
    net = Net("probe")
    x = net.input("x", (1, 6, 6))
    probe = net.finish([net.add("Relu", [net.conv(x, ternary(0, 2, 1, 3, 3))], "act")])
    largest = Model(probe, backend="numpy")(images).max()
    assert quantized.values["act"].quantization == form(largest / 15, bits=4)
    low, high = quantized.values["x.codes"].quantization.range
    # Rounding the zero point to a code moves both ends by at most half a step.
    assert low == pytest.approx(images.min(), abs=0.02)
    assert high == pytest.approx(images.max(), abs=0.02)


def test_a_bounded_relu_wins_over_the_samples():
    quantized = calibrated(two_layers("Clip"), samples=random(2, 4, 1, 6, 6) * F32(100))
    assert quantized.values["act"].quantization == form(3 / 15, bits=4)


def test_float_layers_read_floats():
    quantized = calibrated(two_layers(first=random(0, 2, 1, 3, 3)))
    assert quantized.values["act"].quantization is not None
    assert "x.codes" not in quantized.values
    assert wanted(two_layers(first=random(0, 2, 1, 3, 3), second=random(0, 2, 2, 3, 3))) == []


def test_a_skip_connection_keeps_its_sum_in_float():
    net = Net("net")
    x = net.input("x", (2, 6, 6))
    a = net.add("Relu", [net.conv(x, ternary(0, 2, 2, 3, 3), name="c1")], "a")
    b = net.conv(a, ternary(1, 2, 2, 3, 3), name="c2")
    s = net.add("Add", [a, b], "sum")
    net.conv(net.add("Relu", [s], "r"), ternary(2, 2, 2, 3, 3), name="c3")
    graph = net.finish(["c3"])
    quantized = quantize_activations(graph, 8, random(3, 8, 2, 6, 6), percentile(100.0), silent)
    forms = {name: value.quantization is not None for name, value in quantized.values.items()}
    assert forms == {
        "x": False, "x.codes": True, "c1": False, "a": True, "c2": False,
        "sum": False, "r": True, "c3": False,
    }  # fmt: skip


def test_an_output_that_a_layer_reads_too_stays_float():
    net = Net("net")
    x = net.input("x", (1, 6, 6))
    a = net.add("Relu", [net.conv(x, ternary(0, 2, 1, 3, 3), name="c1")], "a")
    graph = net.finish([a, net.conv(a, ternary(1, 2, 2, 3, 3), name="c2")])
    quantized = calibrated(graph)
    check_graph(quantized)
    assert quantized.outputs == ("a", "c2")
    assert ops(quantized) == ["Quantize", "Conv", "Relu", "Quantize", "Conv"]
    assert quantized.values["a.codes"].quantization.bits == 4


def test_what_the_export_quantized_stays():
    net = Net("net")
    x = net.input("x", (1, 6, 6))
    q = net.add("Quantize", [x], "q", quantization=form(0.5, 3, 8))
    graph = net.finish([net.conv(q, ternary(0, 2, 1, 3, 3))])
    assert calibrated(graph).values == graph.values


def test_eight_bits_are_near_the_float_network():
    graph = two_layers()
    images = random(2, 64, 1, 6, 6)
    x = random(5, 16, 1, 6, 6)
    y, z = (Model(g, backend="numpy")(x) for g in (graph, calibrated(graph, 8, images)))
    assert np.linalg.norm(y - z) < 0.02 * np.linalg.norm(y)
    assert node(graph, "conv").tensors["weight"].levels.tolist() == [-0.5, 0.75]
