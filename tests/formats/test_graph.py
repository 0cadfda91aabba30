"""What graphs say of themselves, against examples computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deepchip.formats.csr import CSR
from deepchip.formats.errors import InvalidModelError
from deepchip.formats.graph import Graph, LevelWeights, Node, Quantization, Value
from tests.formats.networks import floats, level_weights

CODES = [[0, 1, 0], [2, 0, 1]]


def test_weights_are_the_levels_of_their_codes():
    dense = level_weights(CODES, [-0.5, 0.75]).to_dense()
    expected = np.array([[0, -0.5, 0], [0.75, 0, -0.5]], np.float32)
    np.testing.assert_array_equal(dense, expected, strict=True)


def test_gain_multiplies_each_output_channel():
    dense = level_weights(CODES, [-0.5, 0.75], gain=[4, -2]).to_dense()
    expected = np.array([[0, -2, 0], [-1.5, 0, 1]], np.float32)
    np.testing.assert_array_equal(dense, expected, strict=True)


def test_levels_of_each_output_channel():
    weights = level_weights(CODES, [[1, 2], [3, 4]], gain=[1, 10])
    expected = np.array([[0, 1, 0], [40, 0, 30]], np.float32)
    np.testing.assert_array_equal(weights.to_dense(), expected, strict=True)
    np.testing.assert_array_equal(weights.row_levels, [[1, 2], [3, 4]])


def test_a_kernel_is_its_rows_in_the_order_of_memory():
    weights = level_weights([[1, 0, 2, 0], [0, 0, 0, 1]], [-1, 1], shape=(2, 1, 2, 2))
    np.testing.assert_array_equal(weights.to_dense(), [[[[-1, 0], [1, 0]]], [[[0, 0], [0, -1]]]])
    assert weights.to_dense().shape == (2, 1, 2, 2)
    assert weights.density == 3 / 8
    np.testing.assert_array_equal(weights.row_levels, [[-1, 1], [-1, 1]])


def test_weights_of_decoded_codes():
    csr = CSR.from_dense(np.array(CODES, np.uint8))
    weights = LevelWeights.of((2, 3), floats(-1, 1), csr)
    assert (weights.nonzeros, weights.encoding, weights.stored) == (3, "", 0)
    assert weights.decode() is csr
    assert [group.to_dense().tolist() for group in weights.rows(1)] == [CODES[:1], CODES[1:]]


def test_quantization_range_and_largest_code():
    form = Quantization(0.25, 3, 4)
    assert form.maximum == 15
    assert form.range == (-0.75, 3.0)


@pytest.mark.parametrize(
    ("scale", "zero_point", "bits", "message"),
    [
        (1.0, 0, 0, "activations of 0 bits; 1 to 8"),
        (1.0, 0, 9, "activations of 9 bits; 1 to 8"),
        (1.0, 16, 4, "zero point 16 is no code of 4 bits (0 to 15)"),
        (1.0, -1, 4, "zero point -1 is no code"),
        (0.0, 0, 8, "scale 0.0 is not a float32"),
        (-1.0, 0, 8, "scale -1.0 is not a float32"),
        (0.1, 0, 8, "scale 0.1 is not a float32"),  # rounded to float32 it is another number
        (2.0**-101, 0, 8, "between 2**-100 and 2**100"),
        (2.0**101, 0, 8, "between 2**-100 and 2**100"),
        (float("inf"), 0, 8, "scale inf"),
        (float("nan"), 0, 8, "scale nan"),
    ],
)
def test_impossible_quantization(scale, zero_point, bits, message):
    with pytest.raises(InvalidModelError) as caught:
        Quantization(scale, zero_point, bits)
    assert message in str(caught.value)


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100, float(np.float32(0.1))])
def test_extreme_scales_are_possible(scale):
    assert Quantization(scale, 255, 8).scale == scale


def test_values_are_codes_or_reals():
    assert Value("a", (2, 3, 4)).size == 24
    assert Value("a", ()).size == 1
    assert Value("a", (2,)).dtype == np.float32
    assert Value("a", (2,), Quantization(1.0, 0, 4)).dtype == np.uint8


def diamond() -> Graph:
    """x -> p; p is squared to q, and p and q are added to y: p has two readers."""
    nodes = (
        Node("one", "Relu", ("x",), "p"),
        Node("two", "Mul", ("p", "p"), "q"),
        Node("three", "Add", ("p", "q"), "y"),
    )
    return Graph("diamond", ("x",), ("y",), {n: Value(n, (2,)) for n in "xpqy"}, nodes)


def test_producers_and_consumers():
    graph = diamond()
    one, two, three = graph.nodes
    assert graph.producers == {"p": one, "q": two, "y": three}
    assert graph.consumers == {"x": (one,), "p": (two, three), "q": (three,), "y": ()}


def test_only_consumer():
    graph = diamond()
    one, _, three = graph.nodes
    assert graph.only_consumer("x") is one
    assert graph.only_consumer("q") is three
    assert graph.only_consumer("p") is None  # two nodes read it
    assert graph.only_consumer("y") is None  # nothing reads it
    output = Graph("diamond", ("x",), ("q", "y"), graph.values, graph.nodes)
    assert output.only_consumer("q") is None  # the application reads it too


def test_with_tensors_keeps_the_others():
    node = Node("fc", "FullyConnected", ("x",), "y", {}, {"weight": floats(1), "bias": floats(2)})
    changed = node.with_tensors(bias=floats(3))
    assert changed.tensors["weight"] is node.tensors["weight"]
    assert changed.tensors["bias"].tolist() == [3]
    assert node.tensors["bias"].tolist() == [2]
    layers = Graph("one", ("x",), ("y",), {}, (Node("r", "Relu", ("x",), "p"), node)).layers()
    assert [layer.name for layer in layers] == ["fc"]
