"""Convolutions with a residual: by hand, and against the formula of SPEC.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepchip.converter.builder import Builder
from deepchip.formats.graph import Node, Quantization
from deepchip.formats.operators import check_node

from . import reference
from .one_node import (
    BATCHES,
    biases,
    check_close,
    check_same_bits,
    compute,
    layers,
    level_weights,
    quantizations,
    random_codes,
    reals,
    seeds,
    weights_of,
)

BACKENDS = ("numpy", "numba")

PLAIN = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}


def network(item, output, attributes, tensors, *, reads=None, adds=None, gives=None):
    """A convolution 'y' of 'x' with the residual 'r', each of the form given; None is float32."""
    builder = Builder("residual")
    names = [builder.input("x", item), builder.input("r", output)]
    names = [
        name
        if form is None
        else builder.add("Quantize", [name], f"{name}.codes", quantization=form)
        for name, form in zip(names, (reads, adds), strict=True)
    ]
    y = builder.add("Conv", names, "y", attributes, tensors, quantization=gives)
    return builder.finish([y if gives is None else builder.add("Dequantize", [y], "real")])


READS = Quantization(0.5, 1, 3)
ADDS = Quantization(0.25, 2, 4)
GIVES = Quantization(1.0, 2, 4)


def row(x, residual, *, bias=None, adds=None, gives=None, backend):
    """The row of pixels x, codes of READS, under the levels 3, -2, 3, with a residual added."""
    tensors = {"weight": weights_of([[[[2, 1, 2]]]], [-2, 3])}
    tensors |= {} if bias is None else {"bias": np.array([bias], np.float32)}
    shape = (1, 1, len(x))
    attributes = {**PLAIN, "pads": (0, 1, 0, 1)}
    graph = network(shape, shape, attributes, tensors, reads=READS, adds=adds, gives=gives)
    codes = np.array(x, np.uint8).reshape(1, *shape)
    given = np.array(residual, np.uint8 if adds else np.float32).reshape(1, *shape)
    found = compute(graph, backend, reals(codes, READS), reals(given, adds) if adds else given)
    return found.reshape(-1).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_worked_by_hand(backend):
    """`test_conv.test_worked_by_hand` gives 5.5, 3, -0.5 for these pixels without a residual.

    The codes 6, 0, 3 stand for (6 - 2) / 4 = 1, -0.5 and 0.25.
    """
    x = [0, 4, 6]
    assert row(x, [6, 0, 3], adds=ADDS, backend=backend) == [6.5, 2.5, -0.25]
    assert row(x, [0.25, -3.0, 100.0], backend=backend) == [5.75, 0.0, 99.5]
    # With the bias, q = 5.75 + 1, 3.25 - 0.5, -0.25 + 0.25 rounds to 7, 3, 0; the zero point is 2.
    assert row(x, [6, 0, 3], bias=0.25, adds=ADDS, gives=GIVES, backend=backend) == [9, 5, 2]
    # Halves to even, 6.5 and 3.5; and below the least code, above the largest.
    assert row(x, [1.0, 0.5, -9.0], gives=GIVES, backend=backend) == [8, 6, 0]
    assert row(x, [np.inf, np.nan, 40.0], gives=GIVES, backend=backend) == [15, 0, 15]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_residual_is_added_last(backend):
    """2**24 + 1 is no float32, and 2**24 + 2 is: (1 + 1) + 2**24 keeps both ones.

    The level 1 over a code that stands for 1, and the bias 1; first bias and residual, or first
    weight and residual, would give 2**24.
    """
    reads = Quantization(1.0, 0, 1)
    tensors = {"weight": weights_of([[[[1]]]], [1.0]), "bias": np.ones(1, np.float32)}
    one, large = np.ones((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), 2.0**24, np.float32)
    graph = network((1, 1, 1), (1, 1, 1), PLAIN, tensors, reads=reads)
    assert compute(graph, backend, one, large).item() == 2**24 + 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_scales_so_far_apart_that_their_quotient_is_infinite(backend):
    """2**200 times the code less the zero point: infinite of either sign, and NaN gives code 0."""
    tensors = {"weight": weights_of([[[[0]]]], [1.0])}
    adds, gives = Quantization(2.0**100, 1, 2), Quantization(2.0**-100, 5, 4)
    reads = Quantization(1.0, 0, 1)
    graph = network((1, 1, 3), (1, 1, 3), PLAIN, tensors, reads=reads, adds=adds, gives=gives)
    residual = reals(np.array([0, 1, 2], np.uint8), adds).reshape(1, 1, 1, 3)
    found = compute(graph, backend, np.zeros((1, 1, 1, 3), np.float32), residual)
    assert found.reshape(-1).tolist() == [0, 0, 15]


def level_sums(x, weight, zero_point, **attributes):
    """Add up code - zero_point for each level, exactly: float64 [L, N, M, OH, OW]."""
    centred = x.astype(np.int64) - zero_point
    codes = weight.decode().to_dense().reshape(weight.shape)
    return [
        reference.conv_float64(centred, codes == level, np.zeros(len(codes)), **attributes)
        for level in range(1, weight.levels.shape[-1] + 1)
    ]


def formula(x, residual, weight, bias, reads, adds, gives, attributes):
    """SPEC.md, section Arithmetic: each operation in float32, quotients of scales in float64."""
    unit = np.float64(1 if gives is None else gives.scale)
    gain = np.ones(weight.shape[0], np.float32) if weight.gain is None else weight.gain
    factor = np.float64(reads.scale) / unit * gain.astype(np.float64)
    shift = np.float32((0 if bias is None else bias.astype(np.float64)) / unit)
    t = shift.reshape(-1, 1, 1)
    sums = level_sums(x, weight, reads.zero_point, **attributes)
    for level, total in zip(weight.row_levels.T, sums, strict=True):
        t = t + np.float32(factor * level)[:, None, None] * total.astype(np.float32)
    if adds is None:
        added = residual * np.float32(1 / unit)
    else:
        centred = residual.astype(np.float32) - np.float32(adds.zero_point)
        added = centred * np.float32(np.float64(adds.scale) / unit)
    q = np.broadcast_to(t + added, residual.shape)
    if gives is None:
        return q
    return np.clip(np.rint(q) + np.float32(gives.zero_point), 0, gives.maximum).astype(np.uint8)


def check_formula(item, attributes, tensors, batch, seed, *, reads, adds, gives):
    """A random residual of the form `adds` gives the bits of the formula on every backend."""
    random = np.random.default_rng(seed)
    weight, bias = tensors["weight"], tensors.get("bias")
    shape = check_node(Node("y", "Conv", ("x",), "y", attributes, tensors), [item])
    codes = random_codes(random, reads, batch, *item)
    if adds is None:
        residual = given = 4 * random.standard_normal((batch, *shape), np.float32)
    else:
        residual = random_codes(random, adds, batch, *shape)
        given = reals(residual, adds)
    graph = network(item, shape, attributes, tensors, reads=reads, adds=adds, gives=gives)
    expected = formula(codes, residual, weight, bias, reads, adds, gives, attributes)
    for backend in BACKENDS:
        check_same_bits(compute(graph, backend, reals(codes, reads), given), expected)


@given(
    layers(), quantizations(), st.none() | quantizations(), st.none() | quantizations(),
    st.sampled_from(BATCHES), seeds, st.data(),
)  # fmt: skip
@settings(max_examples=150)
def test_codes_give_the_bits_of_the_formula(layer, reads, adds, gives, batch, seed, data):
    attributes, shape, item = layer
    tensors = {"weight": data.draw(level_weights(shape)), **data.draw(biases(shape[0]))}
    check_formula(item, attributes, tensors, batch, seed, reads=reads, adds=adds, gives=gives)


@pytest.mark.parametrize("gives", [None, Quantization(16.0, 100, 8)], ids=["float32", "codes"])
@pytest.mark.parametrize("adds", [None, Quantization(7.0, 9, 4)], ids=["floats", "codes"])
@pytest.mark.parametrize(
    ("bits", "count", "shape", "item", "attributes", "batch"),
    [
        # The blocks of ResNets on their planes of 56, 28, 14, 7; a batch; a stride; many levels.
        (4, 2, (16, 16, 3, 3), (16, 56, 56), {"pads": (1, 1, 1, 1)}, 1),
        (4, 2, (64, 24, 1, 1), (24, 28, 28), {"strides": (2, 2)}, 2),
        (2, 2, (36, 96, 3, 3), (96, 14, 14), {"pads": (1, 1, 1, 1)}, 3),
        (8, 3, (19, 64, 3, 3), (64, 7, 7), {"pads": (1, 1, 1, 1)}, 5),
        (4, 15, (10, 40, 3, 3), (40, 14, 14), {"pads": (1, 1, 1, 1), "groups": 1}, 2),
        (1, 1, (12, 6, 3, 3), (12, 17, 33), {"pads": (2, 2, 2, 2), "groups": 2}, 1),
    ],
)
def test_large_layers(bits, count, shape, item, attributes, batch, adds, gives):
    random = np.random.default_rng(count)
    weight = weights_of(random.integers(0, count + 1, shape), np.arange(count) - 0.75)
    tensors = {"weight": weight, "bias": random.standard_normal(shape[0]).astype("f")}
    attributes = {**PLAIN, **attributes}
    reads = Quantization(0.5, 1, bits)
    check_formula(item, attributes, tensors, batch, 1, reads=reads, adds=adds, gives=gives)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("adds", [None, ADDS], ids=["floats", "codes"])
@pytest.mark.parametrize(
    ("of_levels", "reads"),
    [(False, None), (False, READS), (True, None)],
    ids=["floats over floats", "floats over codes", "levels over floats"],
)
def test_layers_that_compute_on_reals(of_levels, reads, adds, backend):
    """A 1 x 1 convolution, added up in float64; the codes it gives are those of Quantize."""
    random = np.random.default_rng(7)
    x, residual = (random.standard_normal((2, n, 3, 5), np.float32) for n in (4, 6))
    x, residual = (
        a if form is None else reals(random_codes(random, form, *a.shape), form)
        for a, form in ((x, reads), (residual, adds))
    )
    codes = random.integers(0, 3, (6, 4, 1, 1))
    weight = (
        weights_of(codes, [-0.3, 0.7]) if of_levels else random.standard_normal((6, 4, 1, 1), "f")
    )
    bias = random.standard_normal(6, np.float32)
    tensors = {"weight": weight, "bias": bias}
    dense = (weight.to_dense() if of_levels else weight)[:, :, 0, 0].astype(np.float64)
    expected = np.einsum("mc,nchw->nmhw", dense, x) + bias[:, None, None] + residual
    forms = {"reads": reads, "adds": adds}
    found = compute(network((4, 3, 5), (6, 3, 5), PLAIN, tensors, **forms), backend, x, residual)
    check_close(found, expected, 10 + abs(expected))

    gives = Quantization(0.5, 6, 4)
    given = network((4, 3, 5), (6, 3, 5), PLAIN, tensors, **forms, gives=gives)
    quantized = np.clip(np.rint(found / np.float32(0.5)) + 6, 0, 15).astype(np.uint8)
    check_same_bits(compute(given, backend, x, residual), quantized)
