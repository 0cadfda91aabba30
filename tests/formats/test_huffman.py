"""Huffman codes: RFC 1951's example, heapq and brute force as reference, both decoders, damage."""

from __future__ import annotations

import heapq
import itertools
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepchip.formats import huffman
from deepchip.formats.errors import InputError, InvalidModelError
from deepchip.formats.huffman import (
    canonical_codes,
    code_lengths,
    encode,
    read_lengths,
    symbol_counts,
    write_lengths,
)
from tests.formats.codec_checks import (
    check_damage,
    check_docstrings,
    check_equal,
    check_round_trip,
    damaged,
    joined,
    outcome,
)
from tests.strategies import symbol_streams

RFC_LENGTHS = np.array([3, 3, 3, 3, 3, 2, 4, 4], np.uint8)
RFC_CODES = ["010", "011", "100", "101", "110", "00", "1110", "1111"]
FIBONACCI = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597]

both_decoders = pytest.mark.parametrize("compiled", [False, True], ids=["numpy", "numba"])


def uint8(*values):
    return np.array(values, np.uint8)


def decode(payload, lengths, count, *, compiled):
    return joined(huffman.decode(payload, lengths, count, compiled=compiled))


def table_of(symbols, n):
    return code_lengths(symbol_counts(symbols, n))


def cost(counts, lengths):
    return sum(int(count) * int(length) for count, length in zip(counts, lengths, strict=True))


def huffman_cost(counts):
    """The bits of an unlimited Huffman code: the sum of all merged weights (Huffman, 1952)."""
    heap = [int(count) for count in counts if count]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        bits += merged
        heapq.heappush(heap, merged)
    return bits


def brute_force_cost(counts, limit):
    """The least bits over all lengths that satisfy Kraft's inequality."""
    return min(
        cost(counts, lengths)
        for lengths in itertools.product(range(1, limit + 1), repeat=len(counts))
        if sum(2 ** (limit - length) for length in lengths) <= 2**limit
    )


def test_docstrings():
    check_docstrings(huffman)


def test_codes_of_rfc_1951():
    """Section 3.2.2: the alphabet ABCDEFGH with lengths (3, 3, 3, 3, 3, 2, 4, 4)."""
    codes = canonical_codes(RFC_LENGTHS)
    assert codes.dtype == np.uint16
    pairs = zip(codes, RFC_LENGTHS, strict=True)
    assert [format(code, f"0{length}b") for code, length in pairs] == RFC_CODES


@both_decoders
def test_payload_by_hand(compiled):
    """A 010, F 00, H 1111, A 010: the bits 01000111 and 1010, each byte from its low bit on."""
    symbols, payload = uint8(0, 5, 7, 0), uint8(0b1110_0010, 0b0101)
    check_equal(encode(symbols, RFC_LENGTHS), payload)
    check_equal(decode(payload, RFC_LENGTHS, 4, compiled=compiled), symbols)


@given(symbol_streams())
def test_payload_is_the_codes_end_to_end(case):
    symbols, n = case
    lengths = table_of(symbols, n)
    if np.count_nonzero(lengths) <= 1:
        assert encode(symbols, lengths).size == 0
        return
    codes = canonical_codes(lengths)
    text = "".join(format(codes[symbol], f"0{lengths[symbol]}b") for symbol in symbols)
    expected = np.packbits(np.array(list(text), np.uint8), bitorder="little")
    check_equal(encode(symbols, lengths), expected)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=256))
def test_lengths_form_a_complete_code_near_the_entropy(counts):
    lengths = code_lengths(np.array(counts)).astype(int)
    assert ((lengths > 0) == (np.array(counts) > 0)).all()
    if np.count_nonzero(lengths) < 2:
        return
    assert sum(2.0 ** -lengths[lengths > 0]) == 1
    share = np.array([count for count in counts if count]) / sum(counts)
    entropy = -(share * np.log2(share)).sum()
    a_symbol = cost(counts, lengths) / sum(counts)
    assert entropy - 1e-9 <= a_symbol
    if lengths.max() < 12:  # the limit took no part
        assert a_symbol <= entropy + 1


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=13) | st.just(FIBONACCI[:13]))
def test_lengths_are_optimal_where_the_limit_does_not_bind(counts):
    """Codes of 13 symbols have up to 12 bits."""
    if np.count_nonzero(counts) > 1:
        assert cost(counts, code_lengths(np.array(counts))) == huffman_cost(counts)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 200), min_size=2, max_size=6), st.integers(1, 4))
def test_lengths_are_optimal_where_the_limit_binds(counts, limit):
    if len(counts) > 2**limit:
        return
    lengths = code_lengths(np.array(counts), limit)
    assert lengths.max() <= limit
    assert cost(counts, lengths) == brute_force_cost(counts, limit)


def test_fibonacci_counts_meet_the_limit():
    """Unlimited, 17 Fibonacci counts take codes of up to 16 bits."""
    lengths = code_lengths(np.array(FIBONACCI))
    assert lengths.max() == 12
    assert sum(2.0 ** -lengths.astype(int)) == 1


def test_lengths_of_few_symbols():
    check_equal(code_lengths(np.array([0, 0, 0])), uint8(0, 0, 0))
    check_equal(code_lengths(np.array([0, 9, 0])), uint8(0, 1, 0))
    check_equal(code_lengths(np.array([5, 0, 1])), uint8(1, 0, 1))
    check_equal(code_lengths(np.ones(256, np.int64)), np.full(256, 8, np.uint8))
    assert code_lengths(np.zeros(0, np.int64)).size == 0


@pytest.mark.parametrize(("n", "limit"), [(257, 12), (5, 2), (2, 0), (2, 13)])
def test_code_lengths_refuses(n, limit):
    with pytest.raises(InputError, match=f"{n} symbols in codes of at most {limit} bits"):
        code_lengths(np.ones(n, np.int64), limit)


@both_decoders
@given(case=symbol_streams())
def test_round_trip(compiled, case):
    symbols, n = case
    lengths = table_of(symbols, n)
    check_round_trip(
        partial(encode, lengths=lengths),
        partial(decode, lengths=lengths, count=symbols.size, compiled=compiled),
        symbols,
    )


@both_decoders
@pytest.mark.parametrize("count", range(20))
def test_every_small_count(compiled, count):
    symbols = (np.arange(count) * 5 % 8).astype(np.uint8)
    payload = encode(symbols, RFC_LENGTHS)
    check_equal(decode(payload, RFC_LENGTHS, count, compiled=compiled), symbols)


def longest_codes(count):
    """Symbols of which many have codes of twelve bits."""
    lengths = code_lengths(np.array(FIBONACCI))
    return np.random.default_rng(count).integers(0, 17, count).astype(np.uint8), lengths


@both_decoders
@pytest.mark.parametrize("count", [2**16 - 1, 2**16, 2**16 + 1, 2**17 + 5])
def test_counts_around_a_slice(compiled, count):
    """Symbols are encoded and decoded 2**16 at a time."""
    symbols, lengths = longest_codes(count)
    payload = encode(symbols, lengths)
    check_equal(decode(payload, lengths, count, compiled=compiled), symbols)


@both_decoders
@settings(max_examples=30)
@given(case=symbol_streams(), size=st.integers(1, 40))
def test_a_slice_begins_at_any_bit(compiled, case, size):
    symbols, n = case
    lengths = table_of(symbols, n)
    payload = encode(symbols, lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huffman, "_SLICE", size)
        parts = list(huffman.decode(payload, lengths, symbols.size, compiled=compiled))
    assert [part.size for part in parts[:-1]] == [size] * (len(parts) - 1)
    check_equal(joined(parts), symbols)


@both_decoders
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda payload: payload[:-1], "end before 131079 symbols are read"),
        (lambda payload: np.append(payload, np.uint8(0)), "but 131079 symbols end in"),
        (
            lambda payload: (
                payload | np.eye(1, payload.size, payload.size - 1, dtype=np.uint8)[0] << 7
            ),
            "padding bits must be zero",
        ),
    ],
)
def test_faults_of_the_end_are_raised_after_whole_slices(compiled, fault, message):
    symbols, lengths = np.zeros(2**17 + 7, np.uint8), uint8(1, 1)
    slices = huffman.decode(fault(encode(symbols, lengths)), lengths, 2**17 + 7, compiled=compiled)
    found = [next(slices), next(slices)]
    assert [part.size for part in found] == [2**16, 2**16]
    with pytest.raises(InvalidModelError, match=message):
        list(slices)


@both_decoders
@pytest.mark.parametrize("n", [2, 3, 256])
def test_payloads_around_a_slice_of_bytes(compiled, n):
    """NumPy decodes 2**11 bytes at a time; here codes lie across the end of such a slice."""
    for size in (2**11 - 1, 2**11, 2**11 + 1):
        bits = {2: 1, 3: 5 / 3, 256: 8}[n]
        symbols = (np.arange(int(8 * size / bits)) % n).astype(np.uint8)
        lengths = code_lengths(np.array([4, 2, 2] if n == 3 else [1] * n))
        payload = encode(symbols, lengths)
        check_equal(decode(payload, lengths, symbols.size, compiled=compiled), symbols)


@both_decoders
def test_an_alphabet_of_one_symbol_takes_no_bits(compiled):
    symbols = np.full(1000, 3, np.uint8)
    lengths = table_of(symbols, 8)
    assert encode(symbols, lengths).size == 0
    check_equal(decode(uint8(), lengths, 1000, compiled=compiled), symbols)
    with pytest.raises(InvalidModelError, match="1 Huffman bytes for 1000 symbols"):
        decode(uint8(0), lengths, 1000, compiled=compiled)


@both_decoders
def test_an_empty_alphabet_has_no_symbols(compiled):
    none = np.zeros(5, np.uint8)
    assert encode(uint8(), none).size == 0
    check_equal(decode(uint8(), none, 0, compiled=compiled), uint8())
    with pytest.raises(InvalidModelError, match="0 Huffman bytes for 1 symbols"):
        decode(uint8(), none, 1, compiled=compiled)


@both_decoders
@pytest.mark.parametrize(
    ("payload", "count", "message"),
    [
        ([0b11100010], 4, "1 Huffman bytes end before 4 symbols are read"),
        ([], 1, "0 Huffman bytes end before 1 symbols are read"),
        ([0b11100010, 0b0101], 9, "2 Huffman bytes end before 9 symbols are read"),
        ([0b11100010, 0b0101], 2**62, "2 Huffman bytes end before"),
        ([0b11100010, 0b0101, 0], 4, "3 Huffman bytes, but 4 symbols end in 2"),
        ([0b11100010, 0b0101], 2, "2 Huffman bytes, but 2 symbols end in 1"),
        ([0], 0, "1 Huffman bytes, but 0 symbols end in 0"),
        ([0b11100010, 0b1000_0101], 4, "the last byte is 0x85, but 4 padding bits must be zero"),
        ([], -1, "-1 Huffman symbols, expected 0 or more"),
    ],
)
def test_decode_refuses(compiled, payload, count, message):
    with pytest.raises(InvalidModelError, match=message):
        decode(uint8(*payload), RFC_LENGTHS, count, compiled=compiled)


BAD_TABLES = [
    ([1, 1, 1], "over-subscribed: its codes fill 6144 of 4096 places"),
    ([1, 2], "under-subscribed: its codes fill 3072 of 4096 places"),
    ([1, 2, 3, 13], "4 symbols and codes up to 13 bits"),
    ([0, 2, 0], "one symbol has length 2, expected 1"),
    ([8] * 256 + [1], "257 symbols"),
]


@both_decoders
@pytest.mark.parametrize(("lengths", "message"), BAD_TABLES)
def test_a_wrong_table_is_refused(compiled, lengths, message):
    for use in (
        partial(decode, uint8(0), count=1, compiled=compiled),
        partial(encode, uint8(0)),
        write_lengths,
        canonical_codes,
    ):
        with pytest.raises(InvalidModelError, match=message):
            use(lengths=uint8(*lengths))


@settings(max_examples=50)
@given(symbol_streams(max_count=20, min_alphabet=2))
def test_damage_gives_the_same_in_both_decoders(case):
    symbols, n = case
    lengths = table_of(symbols, n)
    payload = encode(symbols, lengths)
    numpy, numba = (
        partial(decode, lengths=lengths, count=symbols.size, compiled=compiled)
        for compiled in (False, True)
    )
    check_damage(numpy, payload)
    for bad in damaged(payload):
        assert outcome(numba, bad) == outcome(numpy, bad)


@given(st.binary(max_size=40), st.integers(0, 330))
def test_any_bytes_give_the_same_in_both_decoders(data, count):
    payload = np.frombuffer(data, np.uint8)  # read-only, as from a mapped file
    lengths = code_lengths(np.array(FIBONACCI))
    numpy, numba = (
        outcome(partial(decode, lengths=lengths, count=count, compiled=compiled), payload)
        for compiled in (False, True)
    )
    assert numba == numpy


@pytest.mark.parametrize(
    ("lengths", "data"),
    [
        (RFC_LENGTHS, [0x33, 0x33, 0x23, 0x44]),
        (uint8(1, 2, 2), [0x21, 0x02]),
        (uint8(0, 1, 0, 1, 0, 0, 0), [0x10, 0x10]),
        (uint8(0, 0), []),
    ],
)
def test_table_bytes_by_hand(lengths, data):
    check_equal(write_lengths(lengths), uint8(*data))
    check_equal(read_lengths(uint8(*data), lengths.size), lengths)


@given(symbol_streams())
def test_table_round_trip(case):
    symbols, n = case
    check_round_trip(write_lengths, partial(read_lengths, n=n), table_of(symbols, n))


@pytest.mark.parametrize("n", [2, 3, 17, 256])
def test_table_damage(n):
    counts = np.array((FIBONACCI * 16)[:n])
    check_damage(partial(read_lengths, n=n), write_lengths(code_lengths(counts)))


@pytest.mark.parametrize(
    ("data", "n", "message"),
    [
        ([0x21, 0x02, 0], 5, "ends with a zero byte"),
        ([0x21, 0x22], 3, "holds 4 symbols, expected 3"),
        ([0x21, 0x02], 2, "2 symbols in 2 bytes"),
        ([], 257, "257 symbols in 0 bytes"),
        ([0x21], 3, "under-subscribed"),
        ([0x11, 0x01], 3, "over-subscribed"),
        ([0xE1, 0x02], 3, "codes up to 14 bits"),
    ],
)
def test_read_lengths_refuses(data, n, message):
    with pytest.raises(InvalidModelError, match=message):
        read_lengths(uint8(*data), n)


def test_encode_refuses_symbols_without_a_code():
    with pytest.raises(InputError, match="symbol 1 has no code"):
        encode(uint8(0, 1), uint8(1, 0, 1))
    with pytest.raises(InputError, match="symbol 3 in an alphabet of 3"):
        encode(uint8(0, 3), uint8(1, 0, 1))


def test_numpy_decoder_does_not_import_numba():
    program = (
        "import sys, numpy as np\n"
        "from deepchip.formats.huffman import decode\n"
        "data, lengths = np.array([100], np.uint8), np.array([1, 2, 2], np.uint8)\n"
        "assert next(decode(data, lengths, 6, compiled=False)).tolist() == [0, 0, 1, 0, 2, 0]\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
