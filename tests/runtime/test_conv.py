"""Convolution: both backends against the formula, and against each other where sizes are large."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import Quantization
from deepchip.runtime.kernels.compiled.conv import TILE
from deepchip.runtime.plan import make_plan

from . import reference
from .one_node import (
    BACKENDS,
    BATCHES,
    biases,
    check_close,
    check_same_bits,
    compute,
    layers,
    level_weights,
    one_node,
    quantizations,
    random_codes,
    reals,
    seeds,
    weights_of,
)

PLAIN = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_worked_by_hand(backend):
    """Two levels, -2 and 3 (Wn = 2, Wp = 3), zero point 1, scale 1/2; one row of pixels.

    The padded row of codes is 1 | 0 4 6 | 1, the kernel 3, -2, 3. In units of the scale:
    place 0 sees 1 0 4: n: 0 - 1 = -1; p: 1 + 4 - 2 = 3; -2 * -1 + 3 * 3 = 11
    place 1 sees 0 4 6: n: 4 - 1 = 3; p: 0 + 6 - 2 = 4; -2 * 3 + 3 * 4 = 6
    place 2 sees 4 6 1: n: 6 - 1 = 5; p: 4 + 1 - 2 = 3; -2 * 5 + 3 * 3 = -1
    """
    reads = Quantization(0.5, 1, 3)
    weight = weights_of([[[[2, 1, 2]]]], [-2, 3])
    attributes = {**PLAIN, "pads": (0, 1, 0, 1)}
    x = reals(np.array([[[[0, 4, 6]]]], np.uint8), reads)

    graph = one_node("Conv", [(1, 1, 3)], attributes, {"weight": weight}, reads=reads)
    assert compute(graph, backend, x).tolist() == [[[[5.5, 3.0, -0.5]]]]

    bias = {"bias": np.array([0.25], np.float32)}
    gives = Quantization(1.0, 2, 3)  # 5.75 + 2 is above 7; 3.25 and -0.25 round to 3 and 0
    graph = one_node(
        "Conv", [(1, 1, 3)], attributes, {"weight": weight, **bias}, reads=reads, gives=gives
    )
    assert compute(graph, backend, x).tolist() == [[[[7, 5, 2]]]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_dilation_and_strides_by_hand(backend):
    """Two groups of one channel, kernel 1 x 2 at distance 2, every second row.

    Group 0 (level 1): x[0] + x[2] of channel 0; group 1 (level 10): x[2] of channel 1.
    """
    x = np.arange(1, 19, dtype=np.uint8).reshape(1, 2, 3, 3)  # channel 1 starts at 10
    reads = Quantization(1.0, 0, 8)
    weight = weights_of([[[[1, 1]]], [[[0, 1]]]], [[1], [10]])
    attributes = {**PLAIN, "strides": (2, 1), "dilations": (1, 2), "groups": 2}
    graph = one_node("Conv", [(2, 3, 3)], attributes, {"weight": weight}, reads=reads)
    assert compute(graph, backend, reals(x, reads)).tolist() == [
        [[[1 + 3], [7 + 9]], [[120], [180]]]
    ]


@given(layers(), quantizations(), st.sampled_from(BATCHES), seeds, st.data())
@settings(max_examples=60)
def test_codes_give_the_bits_of_the_formula(layer, reads, batch, seed, data):
    attributes, shape, item = layer
    weight = data.draw(level_weights(shape))
    bias = data.draw(biases(shape[0]))
    codes = random_codes(np.random.default_rng(seed), reads, batch, *item)
    graph = one_node("Conv", [item], attributes, {"weight": weight, **bias}, reads=reads)
    expected = reference.conv(codes, weight, bias.get("bias"), reads, **attributes)
    for backend in BACKENDS:
        check_same_bits(compute(graph, backend, reals(codes, reads)), expected)


@given(layers(), quantizations(), quantizations(), st.sampled_from(BATCHES), seeds, st.data())
@settings(max_examples=60)
def test_codes_to_codes_agree(layer, reads, gives, batch, seed, data):
    attributes, shape, item = layer
    tensors = {"weight": data.draw(level_weights(shape)), **data.draw(biases(shape[0]))}
    codes = random_codes(np.random.default_rng(seed), reads, batch, *item)
    graph = one_node("Conv", [item], attributes, tensors, reads=reads, gives=gives)
    found = [compute(graph, backend, reals(codes, reads)) for backend in BACKENDS]
    assert found[0].dtype == np.uint8
    check_same_bits(found[1], found[0])


@given(layers(), st.booleans(), st.sampled_from(BATCHES), seeds, st.data())
@settings(max_examples=60)
def test_floats_agree_with_float64(layer, of_levels, batch, seed, data):
    attributes, shape, item = layer
    random = np.random.default_rng(seed)
    x = random.standard_normal((batch, *item), np.float32)
    weight = data.draw(level_weights(shape)) if of_levels else random.standard_normal(shape, "f")
    bias = data.draw(biases(shape[0]))
    dense = weight.to_dense() if of_levels else weight
    shift = bias.get("bias", np.zeros(shape[0]))
    expected = reference.conv_float64(x, dense, shift, **attributes)
    scale = reference.conv_float64(abs(x), abs(dense), abs(shift), **attributes)
    graph = one_node("Conv", [item], attributes, {"weight": weight, **bias})
    for backend in BACKENDS:
        check_close(compute(graph, backend, x), expected, scale)


@pytest.mark.parametrize(
    ("kernel", "strides", "pads", "item"),
    [
        # At stride 1 a run is all rows of the padded plane, less the end of the last one:
        # (rows - 1) * pitch + columns = 1023, 1024, 1025 pixels, in one row and in several.
        *[((1, 1), (1, 1), 0, (2, 1, run)) for run in (1023, 1024, 1025, 2049)],
        *[((1, 1), (1, 1), 0, (2, *plane)) for plane in ((31, 33), (32, 32), (25, 41))],
        *[((3, 3), (1, 1), 1, (2, *plane)) for plane in ((25, 39), (27, 36), (13, 77))],
        # At other strides a run is a row of outputs.
        *[((1, 2), (2, 2), 0, (2, 3, 2 * run)) for run in (1023, 1024, 1025)],
        *[((1, 3), (2, 1), 1, (2, 1, run)) for run in (1023, 1024, 1025)],
    ],
)
def test_runs_that_straddle_the_tile(kernel, strides, pads, item):
    assert TILE == 1024, "the sizes above are made for it"
    random = np.random.default_rng(1)
    reads = Quantization(0.125, 3, 4)
    attributes = {**PLAIN, "strides": strides, "pads": (pads,) * 4}
    codes = random_codes(random, reads, 1, *item)
    x = reals(codes, reads)
    weight = weights_of(random.integers(0, 3, (2, 2, *kernel)), [-0.75, 0.5])
    expected = reference.conv_float64(x, weight.to_dense(), np.zeros(2), **attributes)
    for backend in BACKENDS:
        # Every product and every sum here is a multiple of 1/32 below 2**10: exact in float32.
        of_codes = one_node("Conv", [item], attributes, {"weight": weight}, reads=reads)
        assert (compute(of_codes, backend, x) == expected).all()
        of_floats = one_node("Conv", [item], attributes, {"weight": weight})
        assert (compute(of_floats, backend, x) == expected).all()
        floats = one_node("Conv", [item], attributes, {"weight": weight.to_dense()})
        assert (compute(floats, backend, x) == expected).all()


@pytest.mark.parametrize("largest", [False, True], ids=["random", "largest codes"])
@pytest.mark.parametrize("count", [1, 2, 4, 5])
@pytest.mark.parametrize(
    ("bits", "shape", "item", "attributes", "batch"),
    [
        # Tiles of 256, 128 and 64 pixels, and rows longer than a block of each: 256, 512, 1024.
        (4, (8, 96, 3, 3), (96, 20, 20), {"pads": (1, 1, 1, 1)}, 1),
        (4, (6, 150, 3, 3), (300, 9, 9), {"pads": (1, 1, 1, 1), "groups": 2}, 1),
        (3, (5, 120, 3, 3), (120, 7, 7), {"pads": (1, 1, 1, 1)}, 3),
        (2, (4, 257, 1, 1), (257, 16, 16), {}, 2),  # a block and one more; two whole tiles
        (8, (4, 70, 3, 3), (70, 13, 13), {"pads": (1, 1, 1, 1)}, 3),  # tiles across images
        (5, (4, 30, 2, 3), (30, 5, 140), {"strides": (2, 2)}, 2),  # rows of outputs over 64
        (4, (2, 4400, 1, 1), (4400, 2, 2), {}, 1),  # sums above 2**16
        (1, (3, 64, 3, 3), (64, 8, 8), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}, 2),
    ],
)
def test_tiles_and_blocks_of_every_size(bits, shape, item, attributes, batch, count, largest):
    """Sums reach what their lanes can hold, where every code is the largest there is."""
    random = np.random.default_rng(count)
    reads = Quantization(0.5, 1, bits)
    codes = random_codes(random, reads, batch, *item)
    if largest:
        codes[:] = reads.maximum
    weight = weights_of(random.integers(0, count + 1, shape), np.arange(count) - 0.75)
    tensors = {"weight": weight, "bias": random.standard_normal(shape[0]).astype("f")}
    for gives in (None, Quantization(16.0, 100, 8)):
        graph = one_node("Conv", [item], {**PLAIN, **attributes}, tensors, reads=reads, gives=gives)
        found = [compute(graph, backend, reals(codes, reads)) for backend in BACKENDS]
        check_same_bits(found[1], found[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_that_makes_a_plane_too_large_is_refused(backend):
    """Items of 1 and 9 elements, and between them a plane of 131073 x 131073 elements."""
    attributes = {**PLAIN, "pads": (2**16,) * 4, "strides": (2**16, 2**16)}
    graph = one_node("Conv", [(1, 1, 1)], attributes, {"weight": np.ones((1, 1, 1, 1), np.float32)})
    with pytest.raises(UnsupportedError, match="bytes"):
        make_plan(graph, backend)
