"""Distance vectors: a published example, a loop in Python as reference, every refusal."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepchip.formats import distances
from deepchip.formats.distances import WIDTHS, best_width, encode, symbol_counts
from deepchip.formats.errors import InputError, InvalidModelError, UnsupportedError
from tests.formats.codec_checks import (
    check_damage,
    check_docstrings,
    check_equal,
    in_slices,
    joined,
    outcome,
    skip_without_compiler,
)
from tests.strategies import position_sets

SLICE = 2**16
both_decoders = pytest.mark.parametrize("compiled", [False, True], ids=["numpy", "numba"])
widths = st.sampled_from(WIDTHS)


def uint8(*values):
    return np.array(values, np.uint8)


def decode(symbols, width, size, count, *, compiled=False, slices=SLICE):
    parts = in_slices(symbols, slices)
    return joined(distances.decode(parts, width, size, count, compiled=compiled), np.int32)


def encode_in_a_loop(positions, width):
    symbols, at = [], 0
    for position in positions:
        while position - at >= 2**width - 1:
            symbols.append(2**width - 1)
            at += 2**width - 1
        symbols.append(int(position) - at)
        at = int(position) + 1
    return symbols


def test_docstrings():
    check_docstrings(distances)


def test_the_weights_of_han_et_al():
    """Deep Compression, Figure 2: nonzeros at 1, 4 and 15, in distances of three bits.

    There: 1, 3, filler, 3, with a filler after 8. Here zeros are counted, and an escape skips 7.
    """
    check_equal(encode(np.array([1, 4, 15]), 3), uint8(1, 2, 7, 3))
    check_equal(decode(uint8(1, 2, 7, 3), 3, 16, 3), np.array([1, 4, 15], np.int32))


@pytest.mark.parametrize(
    ("positions", "symbols"),
    [
        ([], []),
        ([0], [0]),
        ([2], [2]),
        ([3], [3, 0]),  # a gap as long as the escape
        ([6], [3, 3, 0]),
        ([0, 1, 2], [0, 0, 0]),
        ([0, 4, 5], [0, 3, 0, 0]),
    ],
)
def test_two_bits_by_hand(positions, symbols):
    size = positions[-1] + 1 if positions else 0
    check_equal(encode(np.array(positions, np.int64), 2), uint8(*symbols))
    found = decode(uint8(*symbols), 2, size, len(positions))
    check_equal(found, np.array(positions, np.int32))


@both_decoders
@given(case=position_sets(), width=widths, slices=st.integers(1, 40))
def test_agrees_with_the_loop_both_ways(compiled, case, width, slices):
    positions, size = case
    symbols = encode(positions, width)
    assert symbols.tolist() == encode_in_a_loop(positions, width)
    found = decode(symbols, width, size, positions.size, compiled=compiled, slices=slices)
    check_equal(found, positions.astype(np.int32))


@given(position_sets())
def test_best_width_takes_the_fewest_bits(case):
    positions, _ = case
    bits = {width: width * len(encode_in_a_loop(positions, width)) for width in WIDTHS}
    assert bits[best_width(positions)] == min(bits.values())


@pytest.mark.parametrize(
    ("gap", "width"), [(0, 2), (2, 2), (6, 3), (14, 4), (30, 5), (62, 6), (126, 7), (254, 8)]
)
def test_best_width_of_equal_gaps(gap, width):
    assert best_width(np.arange(1, 50) * (gap + 1) - 1) == width


@both_decoders
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [SLICE - 1, SLICE, SLICE + 1, 2 * SLICE + 3])
def test_sizes_around_a_slice(compiled, width, count):
    gaps = np.random.default_rng(count).geometric(1 / 2**width, count) - 1
    positions = np.cumsum(gaps + 1) - 1
    symbols, size = encode(positions, width), int(positions[-1]) + 1
    found = decode(symbols, width, size, count, compiled=compiled)
    check_equal(found, positions.astype(np.int32))


@both_decoders
def test_a_slice_of_escapes_only(compiled):
    position = np.array([3 * SLICE * 2 + 1], np.int64)
    parts = in_slices(encode(position, 2), SLICE)
    found = list(distances.decode(parts, 2, 2**31 - 1, 1, compiled=compiled))
    check_equal(joined(found), position.astype(np.int32))
    assert all(part.base is None for part in found)  # memory of the nonzeros, not of the symbols


@both_decoders
def test_the_last_position_that_fits(compiled):
    skip_without_compiler(compiled)
    position = np.array([2**31 - 2])
    symbols = encode(position, 8)
    check_equal(decode(symbols, 8, 2**31 - 1, 1, compiled=compiled), position.astype(np.int32))
    with pytest.raises(InvalidModelError, match="to 2147483647 positions, the matrix holds 214748"):
        decode(symbols, 8, 2**31 - 2, 1, compiled=compiled)


@given(position_sets(), widths)
def test_damage(case, width):
    positions, size = case
    positions = positions[:6]
    check_damage(
        partial(decode, width=width, size=size, count=positions.size), encode(positions, width)
    )


@given(st.lists(st.integers(0, 7), max_size=30), st.integers(0, 60))
def test_what_decodes_encodes_to_the_same_symbols(symbols, size):
    count = sum(symbol < 7 for symbol in symbols)
    try:
        positions = decode(uint8(*symbols), 3, size, count)
    except InvalidModelError:
        assert sum(symbols) + count > size or symbols[-1] == 7
    else:
        assert encode(positions, 3).tolist() == symbols
        assert (positions < size).all()


@pytest.mark.parametrize(
    ("symbols", "width", "size", "count", "message"),
    [
        ([1, 2, 7, 3, 0], 3, 15, 4, "distances decode to 17 positions, the matrix holds 15"),
        ([1, 2, 7, 3], 3, 15, 3, "distances decode to 16 positions, the matrix holds 15"),
        ([1, 2, 7, 3], 3, 16, 4, "distances hold 3 nonzeros, the matrix holds 4"),
        ([1, 2, 7, 3], 3, 16, 2, "distances hold 3 nonzeros, the matrix holds 2"),
        ([1, 2, 7], 3, 16, 2, "distances end with an escape"),
        ([7], 3, 16, 0, "distances end with an escape"),
        ([8], 3, 16, 1, "a distance of 8, but 3 bits end at 7"),
        ([0], 1, 16, 1, "distances of 1 bits, expected 2 to 8"),
        ([0], 9, 16, 1, "distances of 9 bits, expected 2 to 8"),
        ([], 3, 16, -1, "distances hold 0 nonzeros, the matrix holds -1"),
    ],
)
@pytest.mark.parametrize("slices", [1, 2, 9])
@both_decoders
def test_decode_refuses(compiled, slices, symbols, width, size, count, message):
    with pytest.raises(InvalidModelError, match=message):
        decode(uint8(*symbols), width, size, count, compiled=compiled, slices=slices)


@both_decoders
@given(
    symbols=st.lists(st.integers(0, 8) | st.just(255), max_size=30),
    size=st.integers(0, 2000),
    count=st.integers(0, 30),
    slices=st.integers(1, 31),
)
def test_no_position_beyond_the_matrix_is_given_out(compiled, symbols, size, count, slices):
    given_out = []
    parts = in_slices(np.array(symbols, np.uint8), slices)
    try:
        for part in distances.decode(parts, 3, size, count, compiled=compiled):
            given_out += part.tolist()
    except InvalidModelError:
        pass
    assert len(given_out) <= count
    assert given_out == sorted(set(given_out))
    assert all(0 <= position < size for position in given_out)


@given(
    st.lists(st.integers(0, 7), max_size=30), st.integers(0, 60), st.integers(0, 9),
    st.integers(1, 31),
)  # fmt: skip
def test_slices_and_decoders_change_nothing(symbols, size, count, slices):
    def found(**options):
        return outcome(partial(decode, width=3, size=size, count=count, **options), uint8(*symbols))

    assert found(compiled=True, slices=slices) == found(slices=slices) == found()


def test_decode_refuses_a_matrix_too_large_for_int32():
    with pytest.raises(UnsupportedError, match="fewer than 2147483648"):
        decode(uint8(0), 3, 2**31, 1)


@pytest.mark.parametrize("width", [1, 9])
def test_encode_refuses(width):
    with pytest.raises(InputError, match="2 to 8 are possible"):
        encode(np.array([1]), width)


@given(position_sets(), widths)
def test_symbols_are_counted_as_they_are_encoded(found, width):
    positions, _ = found
    symbols = encode(positions, width)
    check_equal(symbol_counts(positions, width), np.bincount(symbols, minlength=2**width))
