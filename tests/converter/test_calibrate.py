"""Which values become codes, and with which scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepchip.converter.calibrate import quantize_activations, wanted
from deepchip.converter.passes.fuse_residual import fuse_residual
from deepchip.converter.passes.narrow_codes import drop_bounds
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


def test_scales_can_be_those_of_another_network():
    graph, other = two_layers(), two_layers(first=random(7, 2, 1, 3, 3) * F32(5))
    images = random(2, 16, 1, 6, 6)
    rule = percentile(100.0)
    quantized = quantize_activations(graph, 4, images, rule, silent, reference=other)
    probe = Model(replace(other, outputs=("act",)), backend="numpy")
    assert quantized.values["act"].quantization == form(probe(images).max() / 15, bits=4)
    assert node(quantized, "conv1").tensors == node(graph, "conv1").tensors


@pytest.mark.parametrize(("value", "padded"), [(0.0, True), (9.0, False)])
def test_only_padding_with_zeros_passes_codes(value, padded):
    net = Net("net")
    y = net.add("Relu", [net.conv(net.input("x", (1, 6, 6)), ternary(0, 2, 1, 3, 3))], "act")
    p = net.add("Pad", [y], "pad", {"pads": (0, 1, 1, 0, 1, 1), "value": value})
    graph = net.finish([net.conv(p, ternary(1, 2, 2, 3, 3), name="last")])
    assert set(wanted(graph)) == ({"act", "x"} if padded else {"pad", "x"})


def test_a_bounded_relu_wins_over_the_samples():
    quantized = calibrated(two_layers("Clip"), samples=random(2, 4, 1, 6, 6) * F32(100))
    assert quantized.values["act"].quantization == form(3 / 15, bits=4)


def test_a_bound_behind_a_relu_wins_too():
    """Relu and then Min, as exports write a learned clip (PACT, Choi et al. 2018)."""
    net = Net("net")
    y = net.conv(net.input("x", (1, 6, 6)), ternary(0, 2, 1, 3, 3))
    y = net.clip(net.add("Relu", [y], "relu"), -1e30, 3.0, "act")
    graph = net.finish([net.conv(y, ternary(1, 2, 2, 3, 3), name="last")])
    quantized = calibrated(graph, samples=random(2, 4, 1, 6, 6) * F32(100))
    assert quantized.values["act"].quantization == form(3 / 15, bits=4)


def test_float_layers_read_floats():
    quantized = calibrated(two_layers(first=random(0, 2, 1, 3, 3)))
    assert quantized.values["act"].quantization is not None
    assert "x.codes" not in quantized.values
    assert wanted(two_layers(first=random(0, 2, 1, 3, 3), second=random(0, 2, 2, 3, 3))) == {}


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


def projected(*outputs: str, broadcast: bool = False):
    """A block of a residual network whose skip connection has a convolution, and a layer behind."""
    net = Net("net")
    source = net.add("Relu", [net.conv(net.input("x", (1, 6, 6)), ternary(0, 2, 1, 3, 3))], "act")
    shape = (1 if broadcast else 2, 2, 3, 3)
    skip = net.conv(source, ternary(1, *shape), name="skip")
    branch = net.conv(source, ternary(2, 2, 2, 3, 3), name="branch")
    y = net.add("Relu", [net.add("Add", [branch, skip], "sum")], "block")
    return net.finish([net.conv(y, ternary(3, 2, 2, 3, 3), name="last"), *outputs])


def test_a_projected_skip_connection_gives_codes_of_8_bits():
    images = random(2, 16, 1, 6, 6)
    quantized = calibrated(projected(), samples=images)
    check_graph(quantized)
    bits = {n: v.quantization.bits for n, v in quantized.values.items() if v.quantization}
    assert bits == {"x.codes": 8, "act": 4, "skip": 8, "block": 4}
    probe = Model(replace(projected(), outputs=("skip",)), backend="numpy")(images)
    low, high = quantized.values["skip"].quantization.range
    step = (high - low) / 255
    # Its ends are those of the samples, or a little within them where that errs less.
    assert probe.min() - step < low < 0.6 * probe.min()
    assert 0.6 * probe.max() < high < probe.max() + step
    fused = fuse_residual(drop_bounds(quantized))
    assert node(fused, "branch").inputs == ("act", "skip")


@pytest.mark.parametrize(
    "graph", [projected("skip"), projected("sum"), projected("block"), projected(broadcast=True)]
)
def test_other_sums_take_floats(graph):
    forms = {name: value.quantization for name, value in calibrated(graph).values.items()}
    assert forms["skip"] is None
    assert forms["branch"] is None


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


def test_what_only_feeds_a_pooling_that_the_export_quantizes_stays_float():
    net = Net("net")
    x = net.input("x", (1, 6, 6))
    net.add("MaxPool", [net.add("Relu", [x], "act")], "pool", POOL, quantization=form(0.5, 3, 8))
    graph = net.finish([net.conv("pool", ternary(0, 2, 1, 3, 3))])
    assert calibrated(graph).values == graph.values


def test_a_pooling_that_is_an_output_stays_float():
    net = Net("net")
    x = net.input("x", (1, 6, 6))
    p = net.add("MaxPool", [net.add("Relu", [x], "act")], "pool", POOL)
    graph = net.finish([p, net.conv(p, ternary(0, 2, 1, 3, 3))])
    quantized = calibrated(graph)
    assert ops(quantized) == ["Relu", "MaxPool", "Quantize", "Conv"]
    assert node(quantized, "conv").inputs == ("pool.codes",)


def test_eight_bits_are_near_the_float_network():
    graph = two_layers()
    images = random(2, 64, 1, 6, 6)
    x = random(5, 16, 1, 6, 6)
    y, z = (Model(g, backend="numpy")(x) for g in (graph, calibrated(graph, 8, images)))
    assert np.linalg.norm(y - z) < 0.02 * np.linalg.norm(y)
    assert node(graph, "conv").tensors["weight"].levels.tolist() == [-0.5, 0.75]


class Branches(Net):
    """A builder of ternary layers and what stands between them; planes of 6 x 6 pixels."""

    def __init__(self) -> None:
        super().__init__("net")
        self.input("x", (2, 6, 6))

    def layer(self, source: str, name: str) -> str:
        """A ternary convolution to 2 channels."""
        channels = self.values[source].shape[0]
        return self.conv(source, ternary(len(self.values), 2, channels, 3, 3), name=name)

    def relu(self, source: str, name: str) -> str:
        """A ternary convolution, `name` and ".conv", and its ReLU."""
        return self.add("Relu", [self.layer(source, f"{name}.conv")], name)

    def pool(self, source: str, name: str) -> str:
        """The largest of 3 x 3 pixels, for every pixel."""
        attributes = {**POOL, "kernel": (3, 3), "pads": (1, 1, 1, 1)}
        return self.add("MaxPool", [source], name, attributes)

    def concat(self, *sources: str, name: str = "concat") -> str:
        """All channels of the sources."""
        return self.add("Concat", sources, name, {"axis": 0})


def forms_of(graph, bits=4):
    """The calibrated graph, its forms by value, and the range of each value of `graph`."""
    images = random(3, 16, 2, 6, 6)
    quantized = quantize_activations(graph, bits, images, percentile(100.0), silent)
    check_graph(quantized)
    forms = {n: v.quantization for n, v in quantized.values.items() if v.quantization}
    reals = (node.output for node in graph.nodes if not graph.values[node.output].quantization)
    probes = replace(graph, outputs=tuple(reals))
    found = Model(probes, backend="numpy").run({"x": images})
    return quantized, forms, {name: (v.min(), v.max()) for name, v in found.items()}


def test_what_is_concatenated_takes_the_form_of_the_whole():
    """As SqueezeNet has it (arXiv 1602.07360, figure 1): two layers expand what one squeezed."""
    net = Branches()
    squeezed = net.relu("x", "squeeze")
    net.concat(net.relu(squeezed, "one"), net.relu(squeezed, "three"))
    quantized, forms, ranges = forms_of(net.finish([net.layer("concat", "y")]))
    largest = max(ranges["one"][1], ranges["three"][1])
    whole = form(largest / 15, bits=4)
    assert {forms[name] for name in ("one", "three", "concat")} == {whole}
    assert ranges["one"][1] != ranges["three"][1], "or each could have a form of its own"
    assert "one.conv" not in forms
    last = drop_bounds(quantized)
    assert ops(last) == ["Quantize", "Conv", "Conv", "Conv", "Concat", "Conv"]
    x = random(5, 3, 2, 6, 6)
    numpy, numba = (Model(last, backend=backend)(x) for backend in ("numpy", "numba"))
    assert numpy.tobytes() == numba.tobytes()


def test_a_pooling_beside_the_layers_passes_the_codes_of_the_whole():
    """As GoogLeNet has it (Szegedy et al., CVPR 2015, figure 2), twice in a row."""
    net = Branches()
    source = net.relu("x", "stem")
    for i in (1, 2):
        straight, deep = net.relu(source, f"a{i}"), net.relu(net.relu(source, f"b{i}"), f"c{i}")
        pooled = net.relu(net.pool(source, f"p{i}"), f"d{i}")
        source = net.concat(straight, deep, pooled, name=f"concat{i}")
    quantized, forms, ranges = forms_of(net.finish([net.layer(source, "y")]))
    for i in (1, 2):
        parts = [f"a{i}", f"c{i}", f"d{i}"]
        whole = form(max(ranges[part][1] for part in parts) / 15, bits=4)
        assert {forms[name] for name in (*parts, f"concat{i}")} == {whole}
    assert forms["p1"] == forms["stem"]
    assert forms["p2"] == forms["concat1"] != forms["concat2"]
    # Between the first layer and the last, every value is codes.
    last = drop_bounds(quantized)
    assert [name for name, v in last.values.items() if v.quantization is None] == ["x", "y"]
    assert set(ops(last)[1:]) == {"Conv", "MaxPool", "Concat"}


def test_a_concatenation_inside_another_takes_its_form():
    net = Branches()
    inner = net.concat(net.relu("x", "a"), net.relu("x", "b"), name="inner")
    outer = net.concat(net.pool(inner, "pool"), net.relu(inner, "c"), name="outer")
    graph = net.finish([net.layer(outer, "y")])
    assert wanted(graph) == {"outer": ("a", "b", "c"), "x": ("x",)}
    _, forms, ranges = forms_of(graph)
    assert forms["inner"] == forms["outer"] == form(ranges["outer"][1] / 15, bits=4)


def test_bounds_that_all_parts_share_win_over_the_samples():
    for highs in ((60.0, 60.0), (60.0, 30.0)):
        net = Branches()
        parts = [
            net.clip(net.layer("x", f"conv{i}"), 0.0, high, f"clip{i}")
            for i, high in enumerate(highs)
        ]
        net.concat(*parts)
        _, forms, ranges = forms_of(net.finish([net.layer("concat", "y")]))
        largest = 60.0 if highs == (60.0, 60.0) else ranges["concat"][1]
        assert forms["concat"] == form(largest / 15, bits=4)
        assert ranges["concat"][1] < 30.0, "or the bounds cut"


def read_as_float(net, a, b):
    return [net.layer(net.concat(a, b), "y"), net.add("Sigmoid", [a], "z")]


def an_output(net, a, b):
    return [net.layer(net.concat(a, b), "y"), a]


def in_two_concatenations(net, a, b):
    first, second = net.concat(a, b, name="concat"), net.concat(b, a, name="other")
    return [net.layer(first, "y"), net.layer(second, "z")]


def with_the_input(net, a, b):
    return [net.layer(net.concat(a, "x"), "y")]


def with_codes_of_the_export(net, a, b):
    q = net.add("Quantize", [b], "q", quantization=form(0.5, 1, 3))
    return [net.layer(net.concat(a, q), "y")]


@pytest.mark.parametrize(
    "build",
    [read_as_float, an_output, in_two_concatenations, with_the_input, with_codes_of_the_export],
)
def test_concatenations_that_give_codes_themselves(build):
    net = Branches()
    a, b = net.relu("x", "a"), net.relu("x", "b")
    graph = net.finish(build(net, a, b))
    assert wanted(graph)["concat"] == ("concat",)
    _, forms, ranges = forms_of(graph)
    assert "a" not in forms
    low, high = forms["concat"].range
    # Rounding the zero point to a code moves both ends by at most half a step.
    step = forms["concat"].scale
    assert low == pytest.approx(min(ranges["concat"][0], 0), abs=0.51 * step)
    assert high == pytest.approx(ranges["concat"][1], abs=0.51 * step)


def test_a_concatenation_that_is_an_output_stays_float():
    net = Branches()
    whole = net.concat(net.relu("x", "a"), net.relu("x", "b"))
    quantized, forms, _ = forms_of(net.finish([whole, net.layer(whole, "y")]))
    assert set(forms) == {"x.codes", "concat.codes"}
    assert node(quantized, "y").inputs == ("concat.codes",)
