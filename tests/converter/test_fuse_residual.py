"""Which sums become residuals of a convolution, and that the results stay the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepchip.converter.passes.fuse_residual import fuse_residual
from deepchip.formats.check import check_graph
from deepchip.runtime.model import Model
from tests.converter.graphs import F32, Net, form, node, ops, random, ternary

CODES, SUMS = form(0.125, 3, 4), form(0.5, 5, 4)


class Blocks(Net):
    """A builder that starts with an image 'x' of 2 channels and its codes 'c'.

    Scales and levels are such that float32 holds every sum exactly, in whatever order it is made.
    """

    def __init__(self) -> None:
        super().__init__("net")
        self.input("x", (2, 5, 5))
        self.quantize("x", "c")

    def quantize(self, source: str, name: str) -> str:
        """Codes of the scale 1/8."""
        return self.add("Quantize", [source], name, quantization=CODES)

    def layer(self, source: str, name: str, **attributes) -> str:
        """A ternary convolution of 2 channels to 2."""
        return self.conv(source, ternary(len(self.values), 2, 2, 3, 3), name=name, **attributes)

    def sum(self, *sources: str, name: str = "sum", **options) -> str:
        """The sum of two values."""
        return self.add("Add", sources, name, **options)


def check_fused(before, expected):
    """The pass gives these operators, and the same bits."""
    after = fuse_residual(before)
    check_graph(after)
    assert ops(after) == expected.split()
    images = random(7, 4, 2, 5, 5)
    found, wanted = (Model(graph, backend="numpy")(images) for graph in (after, before))
    assert found.tobytes() == wanted.tobytes()
    return after


@pytest.mark.parametrize("swapped", [False, True])
def test_a_skip_connection_of_codes_becomes_the_residual(swapped):
    net = Blocks()
    sources = [net.layer("c", "conv"), "c"]
    s = net.sum(*sources[:: -1 if swapped else 1], quantization=SUMS)
    graph = net.finish([net.add("Dequantize", [s], "y")])
    after = check_fused(graph, "Quantize Conv Dequantize")
    assert (node(after, "conv").inputs, node(after, "conv").output) == (("c", "c"), "sum")
    assert after.values["sum"].quantization == SUMS
    assert "conv" not in after.values


def test_a_sum_that_stays_float():
    net = Blocks()
    s = net.sum("x", net.layer("c", "conv"))
    after = check_fused(net.finish([net.add("Relu", [s], "y")]), "Quantize Conv Relu")
    assert node(after, "conv").inputs == ("c", "x")


def test_the_later_of_two_convolutions_takes_the_sum():
    net = Blocks()
    branch, shortcut = net.layer("c", "branch"), net.layer("c", "shortcut")
    graph = net.finish([net.sum(branch, shortcut)])
    after = check_fused(graph, "Quantize Conv Conv")
    assert node(after, "shortcut").inputs == ("c", "branch")
    assert node(after, "branch").inputs == ("c",)


def test_the_convolution_waits_for_its_residual():
    net = Blocks()
    early = net.layer("c", "conv")
    late = net.add("Relu", ["x"], "relu")
    after = check_fused(net.finish([net.sum(early, late)]), "Quantize Relu Conv")
    assert node(after, "conv").inputs == ("c", "relu")


def test_a_sum_of_three():
    net = Blocks()
    first = net.sum(net.layer("c", "a"), "x", name="first")
    graph = net.finish([net.sum(first, net.layer("c", "b"), name="second")])
    after = check_fused(graph, "Quantize Conv Conv")
    assert (node(after, "a").inputs, node(after, "b").inputs) == (("c", "x"), ("c", "first"))


def test_a_convolution_takes_one_residual():
    net = Blocks()
    first = net.sum(net.layer("c", "a"), "x", name="first")
    graph = net.finish([net.sum(first, "c", name="second")])
    after = check_fused(graph, "Quantize Conv Add")
    assert fuse_residual(after) is after


def read_twice(net):
    conv = net.layer("c", "conv")
    return [net.sum(conv, net.add("Relu", [conv], "relu"))]


def wanted_itself(net):
    conv = net.layer("c", "conv")
    return [conv, net.sum(conv, "x")]


def twice_itself(net):
    conv = net.layer("c", "conv")
    return [net.sum(conv, conv)]


def quantized_itself(net):
    net.layer("c", "conv")
    net.values["conv"] = replace(net.values["conv"], quantization=CODES)
    return [net.sum("conv", "x")]


def broadcast(net):
    conv = net.layer("c", "conv", pads=(0, 0, 0, 0), strides=(3, 3))  # one pixel
    return [net.sum(conv, "x")]


def broadcast_to_it(net):
    pixel = net.add("AveragePool", ["x"], "mean", POOL_ALL)
    return [net.sum(net.layer("c", "conv"), pixel)]


def of_floats(net):
    return [net.sum(net.conv("c", random(1, 2, 2, 3, 3)), "x")]


def over_floats(net):
    return [net.sum(net.layer("x", "conv"), "x")]


def fully_connected(net):
    flat = net.add("Reshape", ["c"], "flat", {"shape": (50,)}, quantization=CODES)
    y = net.add("FullyConnected", [flat], "fc", tensors={"weight": ternary(1, 50, 50)})
    return [net.sum(y, net.add("Reshape", ["x"], "line", {"shape": (50,)}))]


POOL_ALL = {
    "kernel": (5, 5), "strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0),
    "ceil_mode": 0, "count_include_pad": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "build",
    [
        read_twice, wanted_itself, twice_itself, quantized_itself, broadcast, broadcast_to_it,
        of_floats, over_floats, fully_connected,
    ],
)  # fmt: skip
def test_sums_that_stay(build):
    net = Blocks()
    graph = net.finish(build(net))
    assert "Add" in ops(graph)
    assert fuse_residual(graph) is graph


def test_scales_that_are_no_powers_of_two():
    """Sums are rounded elsewhere: now and then, one beside a half becomes the next code."""
    net = Blocks()
    b = net.add("Quantize", ["x"], "b", quantization=form(0.1, 7, 4))
    s = net.sum(net.layer("c", "conv"), b, quantization=form(0.3, 8, 4))
    graph = net.finish([net.add("Dequantize", [s], "y")])
    images = random(3, 64, 2, 5, 5)
    found, wanted = (Model(g, backend="numpy")(images) for g in (fuse_residual(graph), graph))
    steps = np.rint(np.abs(found - wanted) / F32(0.3))
    assert steps.max() <= 1
    assert steps.mean() < 0.01
