"""Convolutions over codes, at sizes that straddle tiles, blocks, turns and pieces."""

from __future__ import annotations

import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepchip.formats.graph import Quantization
from deepchip.formats.model_file import model_bytes, read_model
from deepchip.runtime.kernels.compiled import blocks, conv_rows, pieces, sums, tile
from deepchip.runtime.kernels.compiled.blocks import Blocks
from deepchip.runtime.kernels.compiled.pieces import Pieces
from deepchip.runtime.plan import make_plan

from .conv_networks import PLAIN, SAME, network
from .one_node import BACKENDS, check_same_bits, compute, random_codes, reals, seeds, weights_of


def test_the_sizes_below_are_made_for_these():
    found = (blocks.FEW, blocks.MANY, blocks.TURN)
    assert found == (255, 640, 128)
    assert (tile.LANES, pieces.PIECE, sums.QUAD) == (128, 256, 4)


CASES = {
    # Tiles of 128 and of 64 pixels, and one more or fewer, over planes that are seen whole.
    "64 pixels": (4, (3, 5, 3, 3), (5, 8, 8), SAME, 1),
    "65 pixels": (4, (3, 5, 3, 3), (5, 5, 13), SAME, 1),
    "128 pixels": (4, (3, 5, 3, 3), (5, 8, 16), SAME, 1),
    "129 pixels": (4, (3, 5, 3, 3), (5, 3, 43), SAME, 1),
    "parts of three images": (8, (3, 5, 3, 3), (5, 7, 7), SAME, 5),
    "images of one pixel": (4, (3, 5, 1, 1), (5, 1, 1), {}, 200),
    # Planes that are padded, and split: rows shorter than their pitch, as long, longer than a tile.
    "stride 2": (4, (3, 5, 3, 3), (5, 13, 15), {**SAME, "strides": (2, 2)}, 2),
    "stride 2 of one phase": (4, (3, 5, 1, 1), (5, 14, 14), {"strides": (2, 2)}, 2),
    "stride 4": (8, (3, 3, 11, 11), (3, 39, 43), {"strides": (4, 4)}, 1),
    "strides 3 and 5": (4, (3, 2, 4, 6), (2, 23, 31), {"strides": (3, 5), "pads": (1, 2, 3, 0)}, 2),
    "rows of 140": (5, (4, 30, 2, 3), (30, 5, 281), {"strides": (1, 2)}, 2),
    "no pads": (2, (3, 6, 5, 5), (6, 23, 27), {}, 2),
    "dilation": (1, (3, 64, 3, 3), (64, 8, 8), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}, 2),
    "pads larger than planes": (3, (2, 3, 5, 5), (3, 2, 2), {"pads": (4, 4, 4, 4)}, 1),
    # Blocks of 255 inputs; of 640 where planes have up to 64 pixels, unless so many of a row are at
    # one level that a sum of codes of more than 6 bits may not fit 16.
    "a block": (4, (4, 255, 1, 1), (255, 9, 9), {}, 1),
    "a block and one": (6, (4, 256, 1, 1), (256, 9, 9), {}, 1),
    "a wide block": (8, (4, 255, 1, 1), (255, 9, 9), {}, 1),
    "a wide block and one": (8, (4, 256, 1, 1), (256, 9, 9), {}, 1),
    "a large block": (4, (4, 640, 1, 1), (640, 7, 7), {}, 1),
    "a large block and one": (6, (4, 641, 1, 1), (641, 7, 7), {}, 3),
    "a wide large block": (8, (4, 256, 1, 1), (256, 7, 7), {}, 3),
    "a wide block too large": (8, (4, 261, 1, 1), (261, 7, 7), {}, 3),
    "a block of 7 bits too large": (7, (4, 640, 1, 1), (640, 7, 7), {}, 3),
    "small planes": (4, (3, 5, 3, 3), (5, 8, 8), SAME, 3),
    "three blocks": (6, (4, 57, 3, 3), (57, 12, 12), SAME, 1),
    # Sums above 16 bits, of narrow and of wide codes.
    "deep": (4, (2, 4400, 1, 1), (4400, 9, 9), {}, 1),
    "deep and small": (4, (2, 4400, 1, 1), (4400, 2, 2), {}, 1),
    "deep and wide": (8, (2, 300, 1, 1), (300, 9, 9), {}, 1),
    # Turns of 128 rows, of each group.
    "a turn": (4, (128, 3, 1, 1), (3, 5, 5), {}, 1),
    "a turn and a row": (4, (129, 3, 1, 1), (3, 5, 5), {}, 1),
    "even turns": (4, (384, 3, 1, 1), (3, 5, 5), {}, 1),
    "groups of turns": (7, (514, 3, 3, 3), (6, 6, 6), {**SAME, "groups": 2}, 1),
    "depthwise": (4, (9, 1, 3, 3), (9, 9, 9), {**SAME, "groups": 9}, 2),
}


@pytest.mark.parametrize("count", [1, 2, 4, 5, 20])
@pytest.mark.parametrize("name", CASES)
def test_both_backends_give_the_same_bits(name, count):
    bits, shape, item, attributes, batch = CASES[name]
    random = np.random.default_rng(count)
    for largest, zero_point in ((False, 1), (True, 0)):
        reads = Quantization(0.5, zero_point, bits)
        codes = random_codes(random, reads, batch, *item)
        if largest:
            codes[:] = reads.maximum  # sums reach what their lanes can hold
        density = 1.0 if largest else 0.6
        chosen = random.integers(1, count + 1, shape) * (random.random(shape) < density)
        weight = weights_of(chosen, np.sort(random.standard_normal(count)))
        tensors = {"weight": weight, "bias": random.standard_normal(shape[0]).astype("f")}
        for adds, gives in (
            (None, None),
            (None, Quantization(16.0, 100, 8)),
            ("floats", Quantization(4.0, 3, 4)),
            ("floats", None),
            (Quantization(0.25, 5, 4), Quantization(1.0, 0, 3)),
            (Quantization(2.0, 0, 8), None),
        ):
            graph = network(item, {**PLAIN, **attributes}, tensors, reads, adds, gives)
            inputs = [reals(codes, reads)]
            if adds is not None:
                inputs.append(random.normal(0, 8, (batch, *graph.values["y"].shape)).astype("f"))
            plain, compiled = (compute(graph, backend, *inputs) for backend in BACKENDS)
            check_same_bits(compiled, plain)


@pytest.mark.parametrize("name", ["parts of three images", "groups of turns", "deep", "stride 2"])
def test_threads_share_tiles_and_turns(name):
    bits, shape, item, attributes, batch = CASES[name]
    random = np.random.default_rng(1)
    reads, gives = Quantization(0.5, 1, bits), Quantization(16.0, 100, 8)
    x = reals(random_codes(random, reads, batch, *item), reads)
    weight = weights_of(random.integers(0, 3, shape), [-0.75, 0.5])
    graph = network(item, {**PLAIN, **attributes}, {"weight": weight}, reads, None, gives)
    alone = compute(graph, "numba", x)
    for threads in (2, 3, 7):
        check_same_bits(compute(graph, "numba", x, threads=threads), alone)


@st.composite
def matrices(draw):
    """Codes [M, K] of up to L levels; M and K of a few blocks and turns."""
    outputs = draw(st.integers(1, 300))
    inputs = draw(st.sampled_from([1, 254, 255, 256, 520, 1100]))
    levels, groups = draw(st.integers(1, 20)), draw(st.sampled_from([1, 1, 2, 5]))
    random = np.random.default_rng(draw(seeds))
    density = draw(st.sampled_from([0.0, 0.05, 0.4, 1.0]))
    codes = random.integers(1, levels + 1, (outputs * groups, inputs))
    return (codes * (random.random(codes.shape) < density)).astype(np.uint8), levels, groups


def of_levels(codes, levels):
    return weights_of(codes, np.arange(levels))


@given(
    matrices(),
    st.sampled_from([100, blocks.FEW, 256, blocks.MANY]),
    st.sampled_from([1, 5000, 2**16]),
)
@settings(max_examples=40)
def test_blocks_hold_every_nonzero_once(matrix, block, held):
    codes, levels, groups = matrix
    with patch.object(blocks, "HELD", held):
        form = Blocks.of(of_levels(codes, levels), groups, block)
    found = np.zeros_like(codes)
    each = len(codes) // groups
    turns, count = -(-each // form.turn), -(-codes.shape[1] // block)
    line = 1 if block <= blocks.FEW else 64
    for part, (at, segment) in enumerate(form.starts):
        turn, b = divmod(part, count)
        first = turn // turns * each + turn % turns * form.turn
        rows = min(form.turn, (turn // turns + 1) * each - first)
        at //= form.positions.itemsize
        lengths = form.quads[segment : segment + rows * levels].astype(int)
        assert (np.diff(lengths) <= 0).all()
        slots = form.slots[segment : segment + rows * levels]
        assert sorted(slots) == list(range(rows * levels))
        for length, slot in zip(lengths, slots, strict=True):
            held = form.positions[at : at + 4 * length] // line
            held, at = held[held < block].astype(int), at + 4 * length
            row, level = divmod(int(slot), levels)
            assert not found[first + row, b * block + held].any()
            found[first + row, b * block + held] = level + 1
    np.testing.assert_array_equal(found, codes)
    for level in range(levels):
        assert (form.counts[:, level] == (codes == level + 1).sum(axis=1)).all()


@given(st.integers(1, 5000), st.integers(1, 700))
def test_blocks_are_few_and_even(inputs, most):
    block = blocks.even_block(inputs, most)
    count = -(-inputs // block)
    assert block <= most
    assert count == -(-inputs // most)
    assert inputs > (count - 1) * block  # the last is not empty
    assert block * count < inputs + count  # nor any smaller than it need be


@pytest.mark.parametrize(
    ("rows", "turn"), [(1, 1), (100, 100), (128, 128), (129, 80), (192, 96), (384, 128), (514, 112)]
)
def test_turns_are_few_and_even(rows, turn):
    assert blocks.even_turn(rows) == turn


def test_a_layer_is_planned_in_little_memory():
    """Rows are decoded and sorted some at a time: a few bytes for each nonzero of a layer."""
    random = np.random.default_rng(0)
    codes = random.integers(1, 3, (512, 512, 3, 3)) * (random.random((512, 512, 3, 3)) < 0.4)
    weight = weights_of(codes, [-1, 1])
    attributes = {**PLAIN, **SAME}
    graph = network(
        (512, 7, 7), attributes, {"weight": weight}, Quantization(0.5, 0, 4), None, None
    )
    stored = model_bytes(graph)
    make_plan(read_model(stored, compiled=True), "numba")
    tracemalloc.start()
    make_plan(read_model(stored, compiled=True), "numba")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 6 * weight.nonzeros


@given(matrices())
@settings(max_examples=40)
def test_pieces_hold_every_nonzero_once(matrix):
    codes, levels, _ = matrix
    form = Pieces.of(of_levels(codes, levels))
    found = np.zeros_like(codes)
    for m in range(len(codes)):
        at, seen = form.offsets[m], 0
        for piece in range(form.starts[m], form.starts[m + 1]):
            length = 4 * int(form.quads[piece])
            held = form.positions[at : at + length]
            held, at = held[held < codes.shape[1]], at + length
            assert len(held) <= 256
            assert form.rows[piece] == m
            found[m, held] = form.levels[piece] + 1
            seen += len(held)
            if form.counts[piece] >= 0:
                assert form.counts[piece] == seen
                seen = 0
        assert seen == 0
    np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize("inputs", [conv_rows.MAX_INPUTS, conv_rows.MAX_INPUTS + 1])
def test_rows_too_long_for_a_tile_are_computed_otherwise(inputs):
    random = np.random.default_rng(1)
    reads = Quantization(0.5, 1, 4)
    x = reals(random_codes(random, reads, 1, inputs, 1, 2), reads)
    weight = weights_of(random.integers(0, 6, (2, inputs, 1, 1)), np.arange(5) - 1.5)
    graph = network((inputs, 1, 2), PLAIN, {"weight": weight}, reads, None, None)
    check_same_bits(*(compute(graph, backend, x) for backend in BACKENDS))


def test_executed_weights_take_a_byte_a_nonzero():
    """Three of 12 padded to fours: for each of 2 segments 4 positions, 1 length, 2 of a slot."""
    codes = np.zeros((1, 12, 3, 3), np.uint8)
    codes.reshape(-1)[[3, 50, 99]] = 1
    codes.reshape(-1)[[7, 8, 107]] = 2
    form = Blocks.of(of_levels(codes.reshape(1, -1), 2), 1, 108)
    assert form.positions.tolist() == [3, 50, 99, 108, 7, 8, 107, 108]
    assert (form.quads.tolist(), form.slots.tolist()) == ([1, 1], [0, 1])
