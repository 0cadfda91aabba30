"""Fully connected layers: both backends against the formula and against float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepchip.formats.csr import CSR
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights, Quantization
from deepchip.runtime.plan import make_plan

from . import reference
from .one_node import (
    BACKENDS,
    BATCHES,
    biases,
    check_close,
    check_same_bits,
    compute,
    level_weights,
    one_node,
    quantizations,
    random_codes,
    reals,
    seeds,
    weights_of,
)

shapes = st.tuples(st.integers(1, 12), st.integers(1, 40))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_papers_equation_by_hand(backend):
    """c = Wp * sum(a[Ip]) - Wn * sum(a[In]) with Wp = 3, Wn = 2 (ECML-PKDD 2018, equation 1).

    Row 0: Ip = {0, 3}, In = {1}: 3 * (5 + 1) - 2 * 7 = 4. Row 1 is empty. Row 2: In = {1, 2}:
    -2 * (7 + 2) = -18.
    """
    reads = Quantization(1.0, 0, 3)
    weight = weights_of([[2, 1, 0, 2], [0, 0, 0, 0], [0, 1, 1, 0]], [-2, 3])
    graph = one_node("FullyConnected", [(4,)], {}, {"weight": weight}, reads=reads)
    x = np.array([[5, 7, 2, 1]], np.float32)
    assert compute(graph, backend, x).tolist() == [[4, 0, -18]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_point_gain_bias_and_rounding_by_hand(backend):
    """Codes 0 to 7 stand for 0.25 * (code - 2); codes 5, 7, 2, 1.

    Row 0: S - 2 * n is 7 - 2 = 5 at level -2 and 6 - 4 = 2 at level 3: -10 + 6 = -4, and
    -4 * (0.25 * gain 0.5) + bias 1 = 0.5. Row 1: 9 - 4 = 5 at level -2: -10 and
    -10 * (0.25 * gain -1) + bias 2 = 4.5. Row 2: nothing: bias -1.5.
    Next codes: 0.5 -> 0, 4.5 -> 4, -1.5 -> -2, halves to even, then + 1 and within 0 to 3.
    """
    reads = Quantization(0.25, 2, 3)
    gain = np.array([0.5, -1, 2], np.float32)
    weight = weights_of([[2, 1, 0, 2], [0, 1, 1, 0], [0, 0, 0, 0]], [-2, 3], gain)
    tensors = {"weight": weight, "bias": np.array([1, 2, -1.5], np.float32)}
    x = reals(np.array([[5, 7, 2, 1]], np.uint8), reads)
    graph = one_node("FullyConnected", [(4,)], {}, tensors, reads=reads)
    assert compute(graph, backend, x).tolist() == [[0.5, 4.5, -1.5]]
    gives = Quantization(1.0, 1, 2)
    graph = one_node("FullyConnected", [(4,)], {}, tensors, reads=reads, gives=gives)
    assert compute(graph, backend, x).tolist() == [[1, 3, 0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_are_given_without_a_division_by_hand(backend):
    """One weight of level 1, codes 0 to 7 at scale 3, output at scale 2.5, bias 0.5.

    factor = 3 / 2.5 = 1.2 and shift = 0.5 / 2.5 = 0.2, each to the nearest float32, which are
    1.2000000477 and 0.2000000030. Code 2 gives 2.6 and so 3; code 4 gives 5.0, and 7 gives 8.6, 9.
    """
    weight = weights_of([[1]], [1])
    tensors = {"weight": weight, "bias": np.array([0.5], np.float32)}
    reads, gives = Quantization(3.0, 0, 3), Quantization(2.5, 0, 8)
    graph = one_node("FullyConnected", [(1,)], {}, tensors, reads=reads, gives=gives)
    x = np.array([[6.0], [12.0], [21.0]], np.float32)
    assert compute(graph, backend, x).reshape(-1).tolist() == [3, 5, 9]


@pytest.mark.parametrize("backend", BACKENDS)
def test_levels_are_added_in_ascending_order(backend):
    """In float32, (-2**24 + 1) + 2**24 is 1; with 1 added last, or the two last first, it is not.

    Levels -2**24, 1 and 2**24 each meet the code 1, and a second row meets them in the order of
    its columns 2**24, -2**24, 1: the sum goes by level, not by column. The row that holds only
    1 and 2**24 shows that float32 it is: 2**24 + 1 rounds to 2**24.
    """
    reads = Quantization(1.0, 0, 8)
    weight = weights_of([[1, 2, 3], [3, 1, 2], [0, 2, 3]], [-(2.0**24), 1, 2.0**24])
    graph = one_node("FullyConnected", [(3,)], {}, {"weight": weight}, reads=reads)
    assert compute(graph, backend, np.ones((1, 3), np.float32)).tolist() == [[1, 1, 2**24]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_bias_and_a_negative_gain_give_positive_zero(backend):
    """0 * -1 is -0, and -0 + 0 is 0: a layer without a bias has the bias 0."""
    reads = Quantization(1.0, 0, 1)
    weight = weights_of([[1]], [1], np.array([-1], np.float32))
    graph = one_node("FullyConnected", [(1,)], {}, {"weight": weight}, reads=reads)
    check_same_bits(compute(graph, backend, np.zeros((1, 1), "f")), np.zeros((1, 1), np.float32))


@given(shapes, quantizations(), st.sampled_from(BATCHES), seeds, st.data())
@settings(max_examples=60)
def test_codes_give_the_bits_of_the_formula(shape, reads, batch, seed, data):
    weight = data.draw(level_weights(shape))
    bias = data.draw(biases(shape[0]))
    codes = random_codes(np.random.default_rng(seed), reads, batch, shape[1])
    tensors = {"weight": weight, **bias}
    graph = one_node("FullyConnected", [shape[1:]], {}, tensors, reads=reads)
    expected = reference.fully_connected(codes, weight, bias.get("bias"), reads)
    for backend in BACKENDS:
        check_same_bits(compute(graph, backend, reals(codes, reads)), expected)


@given(shapes, quantizations(), quantizations(), st.sampled_from(BATCHES), seeds, st.data())
@settings(max_examples=60)
def test_codes_to_codes_agree(shape, reads, gives, batch, seed, data):
    tensors = {"weight": data.draw(level_weights(shape)), **data.draw(biases(shape[0]))}
    x = reals(random_codes(np.random.default_rng(seed), reads, batch, shape[1]), reads)
    graph = one_node("FullyConnected", [shape[1:]], {}, tensors, reads=reads, gives=gives)
    found = [compute(graph, backend, x) for backend in BACKENDS]
    assert found[0].dtype == np.uint8
    check_same_bits(found[1], found[0])


@given(shapes, st.booleans(), st.sampled_from(BATCHES), seeds, st.data())
@settings(max_examples=60)
def test_floats_agree_with_float64(shape, of_levels, batch, seed, data):
    random = np.random.default_rng(seed)
    x = random.standard_normal((batch, shape[1]), np.float32)
    weight = data.draw(level_weights(shape)) if of_levels else random.standard_normal(shape, "f")
    bias = data.draw(biases(shape[0]))
    dense = (weight.to_dense() if of_levels else weight).astype(np.float64)
    shift = bias.get("bias", np.zeros(shape[0]))
    graph = one_node("FullyConnected", [shape[1:]], {}, {"weight": weight, **bias})
    for backend in BACKENDS:
        check_close(
            compute(graph, backend, x), x @ dense.T + shift, abs(x) @ abs(dense).T + abs(shift)
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_beyond_2_24_are_exact_until_they_are_rounded_once(backend):
    """255 * 65795 = 16777725 = 2**24 + 509 lies between two float32 numbers, the lower is even."""
    reads = Quantization(1.0, 0, 8)
    weight = weights_of(np.ones((1, 65795)), [1])
    graph = one_node("FullyConnected", [(65795,)], {}, {"weight": weight}, reads=reads)
    x = np.full((1, 65795), 255, np.float32)
    assert compute(graph, backend, x).tolist() == [[16777724]]


def test_a_row_whose_sum_could_overflow_is_refused():
    """255 * 8421504 = 2**31 - 128, one nonzero more makes 2**31 + 127."""
    for count in (8421504, 8421505):
        indptr = np.array([0, count], np.int32)
        csr = CSR((1, count), indptr, np.arange(count, dtype=np.int32), np.ones(count, np.uint8))
        weight = LevelWeights.of((1, count), np.ones(1, np.float32), csr)
        reads = Quantization(1.0, 0, 8)
        graph = one_node("FullyConnected", [(count,)], {}, {"weight": weight}, reads=reads)
        if count == 8421504:
            make_plan(graph, "numba")
        else:
            with pytest.raises(UnsupportedError, match=r"layer 'y': a row of 8421505 nonzeros"):
                make_plan(graph, "numba")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 2), (1, 3), (3, 1)])
def test_tensors_that_cannot_be_written(backend, shape):
    """As np.load, np.frombuffer or an ONNX file may give them."""
    tensors = {"weight": np.full(shape, 2, np.float32), "bias": np.ones(shape[0], np.float32)}
    for tensor in tensors.values():
        tensor.setflags(write=False)
    graph = one_node("FullyConnected", [shape[1:]], {}, tensors)
    expected = np.full((2, shape[0]), 2 * shape[1] + 1)
    assert (compute(graph, backend, np.ones((2, shape[1]), np.float32)) == expected).all()
    tensors["weight"] = tensors["weight"].reshape(*shape, 1, 1)
    attributes = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}
    graph = one_node("Conv", [(shape[1], 1, 1)], attributes, tensors)
    found = compute(graph, backend, np.ones((2, shape[1], 1, 1), np.float32))
    assert (found[:, :, 0, 0] == expected).all()
