"""Fixed-width fields: hand-computed bytes, Python's integers as reference, every refusal."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepchip.formats import bitstream
from deepchip.formats.bitstream import pack
from deepchip.formats.errors import InputError, InvalidModelError
from tests.formats.codec_checks import (
    check_damage,
    check_docstrings,
    check_equal,
    check_round_trip,
    joined,
)

SLICE = 2**16


def unpack(data, width, count):
    return joined(bitstream.unpack(data, width, count))


def field_type(width):
    return np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint32


def random_fields(width, count):
    values = np.random.default_rng(width).integers(0, 2**width, count, dtype=np.uint64)
    return values.astype(field_type(width))


def test_docstrings():
    check_docstrings(bitstream)


@pytest.mark.parametrize(
    ("values", "width", "data"),
    [
        ([], 3, []),
        ([1, 0, 1, 1], 1, [0b1101]),
        ([1, 2, 3], 3, [0b11_010_001, 0b0]),
        ([0xABC, 0x123], 12, [0xBC, 0x3A, 0x12]),
        ([0x12345678], 32, [0x78, 0x56, 0x34, 0x12]),
        ([0, 0, 0], 0, []),
    ],
)
def test_bytes_are_those_computed_by_hand(values, width, data):
    fields = np.array(values, field_type(width))
    check_equal(pack(fields, width), np.array(data, np.uint8))
    check_equal(unpack(np.array(data, np.uint8), width, len(values)), fields)


@given(st.integers(0, 32).flatmap(lambda width: st.tuples(st.just(width), fields(width))))
def test_stream_is_the_little_endian_number_of_all_fields(case):
    width, values = case
    number = sum(value << i * width for i, value in enumerate(values))
    data = number.to_bytes(-(-len(values) * width // 8), "little")
    assert pack(np.array(values, np.int64), width).tobytes() == data
    found = unpack(np.frombuffer(data, np.uint8), width, len(values))
    check_equal(found, np.array(values, field_type(width)))


def fields(width):
    return st.lists(st.integers(0, 2**width - 1), max_size=40)


@pytest.mark.parametrize("width", range(1, 33))
@pytest.mark.parametrize("count", [SLICE - 1, SLICE, SLICE + 1, SLICE + 8])
def test_sizes_around_a_slice(width, count):
    values = random_fields(width, count)
    check_round_trip(partial(pack, width=width), partial(unpack, width=width, count=count), values)


@pytest.mark.parametrize("width", [0, 3, 32])
def test_a_slice_at_a_time(width):
    data = pack(np.zeros(2 * SLICE + 1, np.uint8), width)
    slices = bitstream.unpack(data, width, 2 * SLICE + 1)
    assert [part.size for part in slices] == [SLICE, SLICE, 1]


@pytest.mark.parametrize("width", range(1, 33))
def test_slices_meet_without_a_gap(width):
    values = random_fields(width, SLICE + 9)
    number = int.from_bytes(pack(values, width).tobytes(), "little")
    for i in range(SLICE - 9, SLICE + 9):
        assert number >> i * width & 2**width - 1 == values[i]


@pytest.mark.parametrize(("width", "count"), [(1, 13), (3, 7), (5, 8), (12, 3), (32, 2)])
def test_damage(width, count):
    check_damage(
        partial(unpack, width=width, count=count), pack(random_fields(width, count), width)
    )


@pytest.mark.parametrize(
    ("data", "width", "count", "message"),
    [
        ([0], 3, 3, "1 bytes for 3 fields of 3 bits, which take 2"),
        ([0, 0, 0], 3, 3, "3 bytes for 3 fields of 3 bits, which take 2"),
        ([0], 0, 5, "1 bytes for 5 fields of 0 bits, which take 0"),
        ([0, 2], 3, 3, "the last byte is 0x02, but 7 padding bits must be zero"),
        ([], 33, 0, "0 fields of 33 bits"),
        ([], 8, -1, "-1 fields of 8 bits"),
    ],
)
def test_unpack_refuses(data, width, count, message):
    """Before the first value is given."""
    with pytest.raises(InvalidModelError, match=message):
        next(bitstream.unpack(np.array(data, np.uint8), width, count))


def test_a_huge_count_is_refused_before_memory_is_taken():
    with pytest.raises(InvalidModelError, match="which take"):
        unpack(np.zeros(8, np.uint8), 1, 2**60)


@pytest.mark.parametrize(
    ("values", "width", "message"),
    [
        ([0, 8], 3, "values from 0 to 8 do not fit 3 bits"),
        ([1], 0, "do not fit 0 bits"),
        ([-1], 8, "values from -1 to -1 do not fit"),
        ([0], 33, "fields of 33 bits; 0 to 32"),
    ],
)
def test_pack_refuses(values, width, message):
    with pytest.raises(InputError, match=message):
        pack(np.array(values, np.int64), width)
