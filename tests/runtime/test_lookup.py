"""Fully connected layers whose sums are looked up: tables and weights by hand, sizes at edges."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepchip.formats.graph import Graph, Quantization
from deepchip.runtime.assemble import assemble
from deepchip.runtime.kernels.compiled import fully_connected_codes, lookup, nibbles, simd
from deepchip.runtime.program import Program

from .one_node import (
    BACKENDS,
    biases,
    check_same_bits,
    compute,
    one_node,
    quantizations,
    random_codes,
    reals,
    seeds,
    weights_of,
)


def test_the_sizes_below_are_made_for_these():
    """Blocks are of 8 units, on NEON of 4, and 2 for codes of more bits; turns of 16 or more."""
    assert (nibbles.ROWS, nibbles.GROUP, nibbles.LEAST) == (16, 16, 2)
    assert (fully_connected_codes.NARROW, fully_connected_codes.WIDE) in ((8, 8), (4, 2))
    assert fully_connected_codes.TURN == 16
    tables = fully_connected_codes.SEGMENT_TABLES
    assert tables // fully_connected_codes.GROUP_TABLES * nibbles.GROUP == 2048


def test_a_table_holds_the_sum_of_each_subset_by_hand():
    """The subsets of 1, 2, 4, 8 sum to 0, 1, ... 15; of 15, 15, 15, 15 to 15 for each bit set."""

    @numba.njit("void(int64, int64)")
    def tables(codes, target):
        simd.store(target, lookup.subset_sums(simd.load_u8(simd.w16(), codes)))

    codes = np.array([1, 2, 4, 8, 15, 15, 15, 15, 10, 0, 0, 1, 0, 0, 0, 0], np.uint8)
    found = np.zeros((4, 16), np.uint8)
    tables(codes.ctypes.data, found.ctypes.data)
    assert found[0].tolist() == list(range(16))
    assert found[1].tolist() == [0, 15, 15, 30, 15, 30, 30, 45, 15, 30, 30, 45, 30, 45, 45, 60]
    assert found[2].tolist() == [0, 10] * 4 + [1, 11] * 4
    assert not found[3].any()


@pytest.mark.parametrize("width", ["w16", "w32", "w64", "w128"])
def test_bytes_are_looked_up_in_registers_of_any_width(width):
    lanes, width = int(width[1:]), getattr(simd, width)

    @numba.njit("void(int64, int64, int64)")
    def look_up(table, index, target):
        x, t = simd.load_u8(width(), index), simd.load_u8(simd.w16(), table)
        simd.store(target, lookup.look_up(t, lookup.low_nibbles(x)))
        simd.store(target + lanes, lookup.look_up(t, lookup.high_nibbles(x)))

    random = np.random.default_rng(lanes)
    table = random.integers(0, 256, 16, np.uint8)
    for index in (np.arange(lanes, dtype=np.uint8), random.integers(0, 256, lanes, np.uint8)):
        found = np.zeros((2, lanes), np.uint8)
        look_up(table.ctypes.data, index.ctypes.data, found.ctypes.data)
        np.testing.assert_array_equal(found, [table[index % 16], table[index // 16]])


def test_weights_become_nibbles_by_hand():
    """Two levels of two rows of five inputs, in a block of two units: 16 bytes a quad.

    Row 0 is at level 1 where the inputs are 0 and 3 (bits 1001 of quad 0), at level 2 at 1 (0010)
    and 4 (0001 of quad 1): the low and the high nibbles of byte 0. Row 1 is at level 1 at input 2:
    0100 in byte 1 * 4, as each fourth byte belongs to one row and the next.
    """
    weight = weights_of([[1, 2, 0, 1, 2], [0, 0, 1, 0, 0]], [-1, 1])
    packed, counts = nibbles.pack(weight, 2)
    expected = np.zeros((4, 16), np.uint8)
    expected[0, 0], expected[1, 0], expected[0, 4] = 0b0010_1001, 0b0001_0000, 0b0000_0100
    np.testing.assert_array_equal(packed.reshape(4, 16), expected)
    assert counts.shape == (1, 2, 16)
    assert counts[0, :, :3].tolist() == [[2, 1, 0], [2, 0, 0]]


def test_weights_of_a_partly_filled_block_by_hand():
    """Three levels of one row make three units, in a block of eight: 64 bytes a quad.

    The low nibbles hold units 0 to 3: row 0 of unit u is in byte u. The fifth row of unit 1 is in
    byte 4 * 4 + 1.
    """
    rows = np.zeros((5, 16))
    rows[0, :8] = [1, 2, 3, 3, 0, 0, 0, 3]
    rows[4, 15] = 2
    packed, _ = nibbles.pack(weights_of(rows, [1, 2, 3]), 8)
    expected = np.zeros((4, 64), np.uint8)
    expected[0, :3] = 0b0001, 0b0010, 0b1100
    expected[1, 2] = 0b1000
    expected[3, 17] = 0b1000
    np.testing.assert_array_equal(packed.reshape(4, 64), expected)


@pytest.mark.parametrize("block", [2, 4, 8])
@pytest.mark.parametrize("outputs", [1, 16, 17, 32, 33, 48, 64, 65, 100])
def test_every_weight_has_a_place_of_its_own(outputs, block):
    """Of single weights, all bits are different; of all weights, they are all the bits there are.

    Blocks that are not full leave the others free: the bits are counted.
    """
    inputs = 20
    dense = np.ones((outputs, inputs))
    packed, counts = nibbles.pack(weights_of(dense, [1.0]), block)
    assert np.unpackbits(packed).sum() == dense.size == counts.sum()
    units = -(-outputs // 16)
    last = units % block or block
    assert packed.size == (units - last + (2 if last <= 2 else block)) * 2 * 32
    found = np.zeros_like(packed)
    for row in {0, outputs // 2, outputs - 1}:
        for column in {0, 7, inputs - 1}:
            single = np.zeros((outputs, inputs))
            single[row, column] = 1
            one, _ = nibbles.pack(weights_of(single, [1.0]), block)
            assert np.unpackbits(one).sum() == 1
            assert not (found & one).any()
            found |= one


def layer(
    random: np.random.Generator,
    outputs: int,
    inputs: int,
    levels: int,
    reads: Quantization,
    gives: Quantization | None = None,
    least: int = 0,
) -> Graph:
    """A layer of which one in `levels` + 1 weights is 0, or none where `least` is 1."""
    codes = random.integers(least, levels + 1, (outputs, inputs))
    bias = random.standard_normal(outputs).astype(np.float32)
    tensors = {"weight": weights_of(codes, np.arange(levels) - 0.75), "bias": bias}
    return one_node("FullyConnected", [(inputs,)], {}, tensors, reads=reads, gives=gives)


def kernels(graph: Graph) -> list[str]:
    """Names of the kernels of the node 'y'."""
    operations = assemble(graph).operations
    return [operation.kernel.__name__ for operation in operations if operation.name == "y"]


def check(graph: Graph, x: np.ndarray, threads: int = 1) -> None:
    """The plain backend's bits, from sums that are looked up."""
    assert kernels(graph)[0] == "make_tables"
    check_same_bits(compute(graph, "numba", x, threads=threads), compute(graph, "numpy", x))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    "levels, outputs",
    [(1, n) for n in (3, 15, 16, 17, 32, 33, 64, 65, 128, 129, 255, 256, 257)]
    + [(2, n) for n in (15, 16, 17, 32, 33, 63, 64, 65, 128, 129)]
    + [(3, n) for n in (16, 17, 128, 257)]
    + [(15, n) for n in (16, 48, 129)],
)
def test_rows_straddle_units_blocks_and_turns(levels, outputs, bits):
    random = np.random.default_rng(outputs)
    reads = Quantization(0.5, 3, bits)
    for gives in (None, Quantization(16.0, 100, 8)):
        graph = layer(random, outputs, 70, levels, reads, gives)
        check(graph, reals(random_codes(random, reads, 2, 70), reads))


@pytest.mark.parametrize("largest", [False, True], ids=["random", "largest codes"])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("inputs", [16, 17, 63, 64, 65, 1023, 1024, 1025, 2047, 2048, 2049, 4385])
def test_inputs_straddle_groups_and_segments(inputs, bits, largest):
    """The largest sums in 8-bit lanes are of 16 codes, in 16-bit lanes of 1024 or 2048.

    4369 codes of 15 are 65535: one more in a lane would show as a sum that is 2**16 too small.
    """
    random = np.random.default_rng(inputs)
    reads = Quantization(0.5, 1, bits)
    codes = random_codes(random, reads, 2, inputs)
    if largest:
        codes[:] = reads.maximum
    for levels in (1, 2):
        check(layer(random, 17, inputs, levels, reads, least=int(largest)), reals(codes, reads))


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_of_more_than_four_bits_have_two_tables(bits):
    graph = layer(np.random.default_rng(bits), 16, 16, 2, Quantization(0.5, 0, bits))
    assert kernels(graph)[1] == ("look_up_wide" if bits > 4 else "look_up_narrow")


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("outputs, levels", [(10, 2), (600, 2), (400, 3)])
def test_threads_share_turns_and_tables(outputs, levels, threads, monkeypatch):
    """600 rows are 76 units: 5 turns. Three threads also share 10 rows, of which two get none."""
    monkeypatch.setattr(Program, "WORTH_WAKING", 0)
    random = np.random.default_rng(outputs)
    for bits in (4, 8):
        reads = Quantization(0.5, 2, bits)
        graph = layer(random, outputs, 500, levels, reads, Quantization(64.0, 100, 8))
        check(graph, reals(random_codes(random, reads, 5, 500), reads), threads)


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 150)), st.sampled_from([1, 2, 3, 15]),
    quantizations(), st.none() | quantizations(), st.sampled_from([0, 1, 3]), seeds, st.data(),
)  # fmt: skip
@settings(max_examples=60)
def test_any_shape(shape, levels, reads, gives, batch, seed, data):
    """Whether sums are looked up or nonzeros are added one by one, the bits are the same."""
    random = np.random.default_rng(seed)
    weight = weights_of(random.integers(1, levels + 1, shape), np.arange(levels) - 0.75)
    tensors = {"weight": weight, **data.draw(biases(shape[0]))}
    graph = one_node("FullyConnected", [shape[1:]], {}, tensors, reads=reads, gives=gives)
    x = reals(random_codes(random, reads, batch, shape[1]), reads)
    check_same_bits(*(compute(graph, backend, x) for backend in BACKENDS))


@pytest.mark.parametrize("nonzeros", [415, 416])
def test_few_nonzeros_are_added_one_by_one(nonzeros):
    """Eight bytes a nonzero: a level of four rows and 50 groups takes two units of 1600 and 128.

    So many that a file may declare any shape, and never get more memory than its size accounts for.
    """
    random = np.random.default_rng(nonzeros)
    codes = np.zeros(4 * 800, np.uint8)
    codes[random.choice(codes.size, nonzeros, replace=False)] = 1
    weight = weights_of(codes.reshape(4, 800), [0.75])
    reads = Quantization(0.5, 1, 4)
    graph = one_node("FullyConnected", [(800,)], {}, {"weight": weight}, reads=reads)
    assert (kernels(graph) == ["add_codes"]) == (nonzeros == 415)
    x = reals(random_codes(random, reads, 2, 800), reads)
    check_same_bits(*(compute(graph, backend, x) for backend in BACKENDS))
